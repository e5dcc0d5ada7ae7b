"""Readers: a partition as it comes, from a position on, a little ahead of whoever takes from it.

A reader asks the server for messages once for many seconds; while nothing comes, nothing is sent but a sign of life
now and then. It leans on nothing that the server remembers: if its consumer is gone, it makes another one behind the
last batch that it has.
"""

import asyncio
import secrets
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tieline.bus import Delivery
from tieline.buses._pieces import Joiner
from tieline.buses.nats.line import PATIENCE, Line, status_of
from tieline.buses.nats.register import COUNT, WHOLE_BEFORE, check_position, number_in
from tieline.buses.nats.streams import Stream
from tieline.errors import LedgerUnavailable, TielineError
from tieline.message import unpack

_AT_ONCE: Final = 64  # messages of one request
_BYTES: Final = 4_000_000  # of one request, where a single message may not be longer
_EXPIRES: Final = 30.0  # seconds until a request is made again
_SIGN: Final = 3.0  # seconds between signs of life
_DEAD: Final = 2.5 * _SIGN  # seconds without one
UNUSED: Final = 60.0  # seconds until a reader is dropped, here and by the server
_SCANNED: Final = 1_000  # headers of one request
_NANOSECONDS: Final = 1_000_000_000
_ALIVE: Final = "100"
_ENDED: Final = {"404", "408"}


class Reader:
    """One partition from a position on. `position` is behind what was given to its user, who is one at a time."""

    def __init__(self, line: Line, stream: Stream, partition: int, position: int) -> None:
        self.line = line
        self.partition = partition
        self.position = position
        self.busy = False
        self.used = _now()
        self.came = asyncio.Event()
        self.buffer: deque[Delivery] = deque()
        self.seen = position  # the last sequence that came
        self.pending = 0  # how many more there were then
        self._stream = stream
        self._read = position  # behind the last whole batch that came
        self._failure: TielineError | None = None
        self._tail: _Tail | None = None
        self._lost = False  # nothing more is taken from this consumer: the next `ready` makes another one
        self._joiner = Joiner()
        self._count = 0  # of the consumer's own, without a gap
        self._left = 0  # messages that the request under way may still bring
        self._heard = 0.0

    @property
    def is_filling(self) -> bool:
        """Whether the server has said that more is there, and was asked for it."""
        return self.pending > 0 and self._left > 0 and not self._lost

    async def ready(self) -> None:
        """See that messages are on their way, or asked for.

        Raises:
            ConfigurationError: where the stream is gone, or holds what is no batch.
            LedgerUnavailable: where the line is lost.
        """
        self.used = _now()
        if self._failure is not None:
            if self.buffer:
                return  # what came before it is good
            failure, self._failure = self._failure, None
            raise failure
        self.line.check()
        if self._tail is not None and (self._lost or (self._left and _now() - self._heard > _DEAD)):
            await self._drop_tail()
        if self._tail is None:
            await self._begin()
        if not self._left and len(self.buffer) < _AT_ONCE:
            await self._pull()

    async def close(self) -> None:
        """Let the server forget it."""
        await self._drop_tail()

    async def _begin(self) -> None:
        await check_position(self.line, self._stream, self._read)
        self._joiner, self._count, self._lost = Joiner(), 0, False
        self.seen = self._read
        tail = _Tail(self.line, self._stream)
        self.pending = await tail.open(
            self._came,
            {"filter_subject": self._stream.partition(self.partition), "opt_start_seq": self._read + 1},
        )
        self._tail = tail

    async def _drop_tail(self) -> None:
        tail, self._tail, self._left = self._tail, None, 0
        if tail is not None:
            await tail.close()

    async def _pull(self) -> None:
        assert self._tail is not None
        self._left, self._heard = _AT_ONCE, _now()
        await self._tail.pull(
            batch=_AT_ONCE,
            max_bytes=max(_BYTES, self.line.max_payload + 100_000),
            expires=int(_EXPIRES * _NANOSECONDS),
            idle_heartbeat=int(_SIGN * _NANOSECONDS),
        )

    async def _came(self, message: Msg) -> None:
        if self._lost or self._tail is None or not self._tail.owns(message):
            return
        self._heard = _now()
        try:
            if message.reply:
                self._take_in(message)
            else:
                self._told(status_of(message), message)
            if not self._left and self._is_wanted():
                await self._pull()
        except (msgspec.MsgspecError, ValueError, struct.error) as error:
            subject, self._lost = self._stream.partition(self.partition), True
            what = f"holds something at {self.seen} that no Tieline published: {error}"
            self._failure = self._stream.mistake(what, f"see who publishes to {subject}, and delete that message")
        except TielineError as error:
            self._failure, self._lost = error, True
        self.came.set()

    def _is_wanted(self) -> bool:
        return not self._lost and len(self.buffer) < _AT_ONCE // 2 and _now() - self.used < UNUSED

    def _told(self, status: str, message: Msg) -> None:
        said = str((message.headers or {}).get("Description", ""))
        if status == _ALIVE or status in _ENDED:
            self.pending = 0  # or it would have come
        if status in _ENDED or "MaxBytes" in said or "Batch Completed" in said:
            self._left = 0
        elif status == _ALIVE:
            return
        else:  # its consumer is gone, or its server is going
            self._lost = True

    def _take_in(self, message: Msg) -> None:
        sequence, count, self.pending = _places(message.reply)
        if count != self._count + 1:  # something was lost on the way
            self._lost = True
            return
        self._count, self._left = count, max(0, self._left - 1)
        is_first, self.seen = self.seen == self._read, sequence
        headers = message.headers or {}
        if is_first and (whole_before := number_in(headers, WHOLE_BEFORE, sequence)) < self._read:
            # In the middle of a batch: it begins behind the whole one before it.
            self._read, self.pending = whole_before, 1
            self._lost = True
            return
        if (whole := self._joiner.add(message.data)) is None:
            return
        self.buffer.append(Delivery(self.partition, sequence, unpack(whole)))
        self._read = sequence


class _Tail:
    """A consumer without a name of its own, and where its messages come in."""

    def __init__(self, line: Line, stream: Stream) -> None:
        self._line = line
        self._stream = stream
        self._name = f"t{secrets.token_hex(8)}"
        self._inbox = f"_INBOX.{self._name}"
        self._coming: Subscription | None = None

    async def open(self, call: Any, config: dict[str, Any]) -> int:
        """Make the consumer; gives how many messages wait for it."""
        self._coming = await self._line.listen(self._inbox, call)
        whole = {
            "deliver_policy": "by_start_sequence",
            "inactive_threshold": int(UNUSED * _NANOSECONDS),
            "max_deliver": 1,
            **config,
        }
        try:
            return await self._stream.consumer(self._line, self._name, whole)
        except BaseException:
            await self.close()
            raise

    def owns(self, message: Msg) -> bool:
        """Whether it comes from this consumer, or speaks of it."""
        return f".{self._name}." in message.reply or message.subject == self._inbox

    async def pull(self, **which: Any) -> None:
        """Ask for the next messages."""
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream.name}.{self._name}"
        await self._line.send(subject, msgspec.json.encode(which), self._inbox)

    async def close(self) -> None:
        """Have the server forget it, without waiting for that."""
        coming, self._coming = self._coming, None
        if coming is None:
            return
        await self._line.stop_listening(coming)
        with suppress(TielineError):
            await self._line.send(f"$JS.API.CONSUMER.DELETE.{self._stream.name}.{self._name}", b"")


async def count_after(line: Line, stream: Stream, after: dict[int, int]) -> int:
    """How many messages stand behind these positions, by their headers alone."""
    partitions = {stream.partition(p): at for p, at in after.items()}
    total = missing = 0
    came = asyncio.Event()

    async def add(message: Msg) -> None:
        nonlocal total, missing
        if message.reply.startswith("$JS.ACK."):
            missing -= 1
            if _places(message.reply)[0] > partitions[message.subject]:
                total += number_in(message.headers or {}, COUNT, 0)
        came.set()

    tail = _Tail(line, stream)
    start = min(after.values()) + 1
    missing = await tail.open(
        add, {"filter_subjects": list(partitions), "opt_start_seq": start, "headers_only": True}
    )
    try:
        while missing > 0:
            came.clear()
            before = missing
            await tail.pull(batch=min(missing, _SCANNED), no_wait=True)
            while before - missing < min(before, _SCANNED):
                came.clear()
                async with asyncio.timeout(PATIENCE):
                    await came.wait()
    except TimeoutError:
        raise LedgerUnavailable(f"channel {stream.channel}: its messages could not be counted") from None
    finally:
        await tail.close()
    return total


async def first_of(readers: Iterable[Reader], until: float) -> None:
    """Wait until something comes to one of them, at most until that time of the loop's clock."""
    chosen = list(readers)
    rung = asyncio.Event()
    for reader in chosen:
        reader.came = rung
    with suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            await rung.wait()


def _places(reply: str) -> tuple[int, int, int]:
    """Sequence in the stream, number at the consumer, and how many follow, as every delivery says them."""
    words = reply.split(".")
    base = 5 if len(words) == 9 else 7  # a domain and an account come first where there are any
    return int(words[base]), int(words[base + 1]), int(words[base + 3])


def _now() -> float:
    return asyncio.get_running_loop().time()
