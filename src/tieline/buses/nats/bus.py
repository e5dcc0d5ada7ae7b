"""The bus itself: what the port asks for, in terms of lines, streams, registers and readers."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tieline.bus import BusCapabilities, Delivery, Guarantee
from tieline.buses._pieces import cut
from tieline.buses.nats import register as registers
from tieline.buses.nats.address import Address
from tieline.buses.nats.line import PATIENCE, Line, open_line
from tieline.buses.nats.local import LocalServer
from tieline.buses.nats.reader import UNUSED, Reader, count_after, first_of
from tieline.buses.nats.register import COUNT, PIECE, WHOLE_BEFORE
from tieline.buses.nats.streams import WRONG_LAST, Refused, Stream
from tieline.errors import LedgerUnavailable
from tieline.message import Batch, pack, split

_HEADERS: Final = 1_000  # bytes that what stands before a body may take
_MOST_TRIES: Final = 30  # times that another publisher may come between the pieces of a batch
_FILLING: Final = 0.2  # seconds for what is on its way to come as well
_LOOK: Final = 1.0  # seconds between looks whether what is waited on still lives
_STRONGER: Final = (
    "give it sync_interval: always and say ?sync=always in its address, or a cluster and ?replicas=3,"
    " or use nats://local"
)


@dataclass(slots=True)
class _Channel:
    """What is known of a channel on the present line."""

    stream: Stream
    partitions: int = 0
    readers: list[Reader] = field(default_factory=list)
    locks: dict[int, asyncio.Lock] = field(default_factory=dict)


class NatsBus:
    """Channels in JetStream."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._local = None if address.servers else LocalServer(address.folder, address.program)
        self._line: Line | None = None
        self._opening = asyncio.Lock()
        self._channels: dict[str, _Channel] = {}
        self._guarantees: dict[str, Guarantee] = {}

    @property
    def capabilities(self) -> BusCapabilities:
        """By the streams as they are, where they were declared; until then by what the address says."""
        known = self._guarantees.values()
        guarantee = min(known) if known else self._address.guarantee(self._address.replicas)
        return BusCapabilities(guarantee=guarantee, stronger=_STRONGER)

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        line = await self._connected()
        stream = Stream(self._address.prefix, channel)
        replicas = self._address.replicas
        register, there = await registers.declare(line, stream, partitions, subscriptions, replicas)
        self._guarantees[channel] = self._address.guarantee(there.config["num_replicas"])
        self._channel(channel).partitions = register.partitions

    # -- publishing ----------------------------------------------------------------------------------

    async def publish(self, channel: str, batch: Batch) -> None:
        line = await self._connected()
        there = self._channel(channel)
        if not there.partitions:
            register, _ = await registers.read(line, there.stream)
            if register is None or not register.done:
                raise there.stream.not_declared()
            there.partitions = register.partitions
        parts = split(batch, there.partitions)
        # All are waited for, also after a failure: what comes next must not overtake what is under way.
        done = await asyncio.gather(
            *(self._put(line, there, p, one) for p, one in parts.items()), return_exceptions=True
        )
        for failure in done:
            if isinstance(failure, BaseException):
                there.partitions = 0
                raise failure

    async def _put(self, line: Line, there: _Channel, partition: int, part: Batch) -> None:
        body, count = pack(part), len(part.messages)
        try:
            if len(body) <= line.max_payload - _HEADERS:
                await there.stream.append(line, there.stream.partition(partition), body, {COUNT: str(count)})
            else:
                async with there.locks.setdefault(partition, asyncio.Lock()):
                    await self._put_pieces(line, there.stream, partition, body, count)
        except Refused as refused:
            raise there.stream.failure(refused) from None

    async def _put_pieces(self, line: Line, stream: Stream, partition: int, body: bytes, count: int) -> None:
        """Publish a long batch so that its pieces follow each other: each says which message it must come behind."""
        subject = stream.partition(partition)
        for _ in range(_MOST_TRIES):
            last = await stream.last(line, subject)
            place = last.seq if last else 0
            whole = registers.last_whole(last.headers, last.seq) if last else 0
            pieces = cut(body, line.max_payload - _HEADERS)
            try:
                for number, piece in enumerate(pieces, 1):
                    headers = {
                        COUNT: str(count if number == len(pieces) else 0),
                        PIECE: f"{number}/{len(pieces)}",
                        WHOLE_BEFORE: str(whole),
                        "Nats-Expected-Last-Subject-Sequence": str(place),
                    }
                    place = await stream.append(line, subject, piece, headers)
            except Refused as refused:
                if refused.code not in WRONG_LAST:
                    raise
                await asyncio.sleep(random.uniform(0.0, 0.1))  # noqa: S311
            else:
                return
        raise LedgerUnavailable(f"channel {stream.channel}: others publish between the pieces of a long batch")

    # -- taking --------------------------------------------------------------------------------------

    async def take(
        self, channel: str, after: Mapping[int, int], *, most: int, wait: float, subscription: str = ""
    ) -> list[Delivery]:
        if not after:
            return []
        line = await self._connected()
        readers = await self._readers(line, self._channel(channel), after)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            while True:
                for failure in await asyncio.gather(*(r.ready() for r in readers), return_exceptions=True):
                    if isinstance(failure, BaseException):
                        raise failure
                if clock() < began + _FILLING and _may_be_fuller(readers, most):
                    await first_of(readers, began + _FILLING)
                elif found := _in_turn(readers, most):
                    return found
                elif clock() < began + wait:
                    await first_of(readers, min(began + wait, clock() + _LOOK))
                elif wait > 0 or not await self._comes(line, self._channel(channel).stream, readers):
                    return []
        finally:
            for reader in readers:
                reader.busy = False

    async def _comes(self, line: Line, stream: Stream, readers: Sequence[Reader]) -> bool:
        """Whether something is there that the readers have not got yet; then it is waited for a moment."""
        if not any(reader.pending for reader in readers):
            nexts = await asyncio.gather(*(stream.next(line, stream.partition(r.partition), r.seen) for r in readers))
            if not any(nexts):
                return False
        await first_of(readers, asyncio.get_running_loop().time() + PATIENCE)
        return True

    async def _readers(self, line: Line, there: _Channel, after: Mapping[int, int]) -> list[Reader]:
        """A reader at each position: one that stands there and is free, or a new one."""
        chosen: list[Reader] = []
        now = asyncio.get_running_loop().time()
        for reader in [r for r in there.readers if not r.busy and now - r.used > UNUSED]:
            there.readers.remove(reader)
            await reader.close()
        free = {(r.partition, r.position): r for r in there.readers if not r.busy}
        for place in after.items():
            if place not in free:
                free[place] = Reader(line, there.stream, *place)
                there.readers.append(free[place])
            free[place].busy = True
            chosen.append(free[place])
        return chosen

    # -- what is kept --------------------------------------------------------------------------------

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        line = await self._connected()
        stream = self._channel(channel).stream

        def further(register: registers.Register) -> registers.Register:
            return register.finished(subscription, dict(positions)) if subscription in register.done else register

        await registers.change(line, stream, further)

    async def ends(self, channel: str) -> dict[int, int]:
        line = await self._connected()
        stream = self._channel(channel).stream
        register, _ = await registers.read(line, stream)
        return {} if register is None or not register.done else await registers.ends_of(line, stream, register)

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        line = await self._connected()
        stream = self._channel(channel).stream
        if not after or await stream.info(line) is None:
            return 0
        if counted := await count_after(line, stream, dict(after)):
            return counted
        # The consumer that counts may be at a server that is a little behind the one that leads.
        nexts = await asyncio.gather(*(stream.next(line, stream.partition(p), at) for p, at in after.items()))
        return sum(registers.number_in(one.headers, COUNT, 0) for one in nexts if one)

    async def forget(self, channel: str, subscription: str) -> None:
        line = await self._connected()
        there = self._channel(channel)
        there.partitions = 0
        await registers.forget(line, there.stream, subscription)

    # -- the line ------------------------------------------------------------------------------------

    async def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            for there in self._channels.values():
                for reader in there.readers:
                    await reader.close()
            await line.close()
        self._channels.clear()
        if self._local is not None:
            await self._local.leave()

    def _channel(self, channel: str) -> _Channel:
        if channel not in self._channels:
            self._channels[channel] = _Channel(Stream(self._address.prefix, channel))
        return self._channels[channel]

    async def _connected(self) -> Line:
        """The line, or another one where it is lost: with it goes whatever was read ahead."""
        if self._line is not None and not self._line.lost:
            return self._line
        async with self._opening:
            if self._line is not None and self._line.lost:
                lost, self._line = self._line, None
                await lost.close()
            if self._line is None:
                for there in self._channels.values():
                    there.readers.clear()
                    there.partitions = 0
                servers, token = self._address.servers, ""
                if self._local is not None:
                    server, token = await self._local.join()
                    servers = (server,)
                self._line = await open_line(self._address, servers, token)
                self._line.when_lost(self._wake)
            return self._line

    def _wake(self) -> None:
        """Whoever waits for messages learns that none will come."""
        for there in self._channels.values():
            for reader in there.readers:
                reader.came.set()


def _may_be_fuller(readers: Sequence[Reader], most: int) -> bool:
    """Whether more is on its way, and there is room for it in what is taken."""
    ahead = sum(len(delivery.batch.messages) for reader in readers for delivery in reader.buffer)
    return ahead < most and any(reader.is_filling for reader in readers)


def _in_turn(readers: Sequence[Reader], most: int) -> list[Delivery]:
    """What has come, partition by partition in turn, until there is enough."""
    found: list[Delivery] = []
    messages = 0
    left = list(readers)
    while left:
        for reader in list(left):
            if not reader.buffer:
                left.remove(reader)
                continue
            delivery = reader.buffer[0]
            if found and messages + len(delivery.batch.messages) > most:
                return found
            found.append(reader.buffer.popleft())
            reader.position = delivery.position
            messages += len(delivery.batch.messages)
    return found
