"""The bus itself: a topic for each channel, partitions and positions of ours, nothing gone before it is read."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from tieline.bus import BusCapabilities, Delivery
from tieline.buses._pieces import cut
from tieline.buses.kafka.address import Address
from tieline.buses.kafka.clients import Clients
from tieline.buses.kafka.failures import Failures, Gone
from tieline.buses.kafka.names import register_of, topic_of
from tieline.buses.kafka.reader import Kept, Reader, Topic
from tieline.buses.kafka.readers import Readers
from tieline.buses.kafka.register import Channel, Register
from tieline.buses.kafka.topics import KEEPS, Topics
from tieline.buses.kafka.writer import Record, Writer
from tieline.errors import ConfigurationError, Hold, LedgerUnavailable, Mistake, TielineError
from tieline.message import Batch, pack, split, unpack

log = structlog.get_logger()
T = TypeVar("T")

_THREADS: Final = 256  # takers that may wait at the same time; each has its thread only while it waits
_OVERHEAD: Final = 1_000  # bytes of a message beside its body
_SMALL: Final = 1_000_000  # bytes; the register's records are far below
_STRONGER: Final = "add replicas=3 to its address (Kafka acknowledges before its disk has it: copies make it safe)"
_TRIM_AGAIN: Final = 60.0  # seconds, where the cluster would not let go


@dataclass(frozen=True, slots=True)
class _Place:
    """A declared channel as it is used: its topic, and how long a message may be there."""

    topic: Topic
    limit: int


class KafkaBus:
    """Channels in topics of a Kafka cluster. Belongs to one event loop; connects when it is first used."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._failures = Failures(address)
        self._clients = Clients(address, self._failures)
        self._threads = ThreadPoolExecutor(_THREADS, "tieline-kafka")
        self._running: set[asyncio.Future[Any]] = set()
        self._closing = threading.Event()
        self._opening = asyncio.Lock()
        self._declaring = asyncio.Lock()
        self._opened: _Cluster | None = None
        self._places: dict[str, _Place] = {}
        self._trimmed: dict[Topic, dict[int, int]] = {}
        self._trim_from: dict[Topic, float] = {}

    @property
    def capabilities(self) -> BusCapabilities:
        """As the address says; `declare` sees that the cluster agrees."""
        return BusCapabilities(guarantee=self._address.guarantee, stronger=_STRONGER)

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        cluster = await self._cluster()
        async with self._declaring:
            await cluster.register.make()
            await cluster.register.read()
            there = cluster.register.channel(channel)
            if there is None or not there.declared:
                there = await self._begin(cluster, channel, partitions, there)
            if len(there.base) != partitions:
                raise _other_number(channel, len(there.base), partitions)
            place = await self._look(cluster, channel, there)
            known = cluster.register.positions(channel)
            for subscription in subscriptions:
                if len(known.get(subscription, {})) != partitions:
                    await self._subscribe(cluster, channel, place.topic, subscription)

    async def _begin(self, cluster: "_Cluster", channel: str, partitions: int, before: Channel | None) -> Channel:
        """The channel's first life, or another one, whose positions go on from the last one's."""
        if before is not None:  # whoever forgot it may have been cut off
            await self._run(partial(cluster.topics.delete, topic_of(self._address.prefix, channel, before.life)))
        used = before.base if before is not None else ()
        base = tuple(used[n] if n < len(used) else 0 for n in range(partitions))
        there = Channel(life=1 if before is None else before.life + 1, base=base)
        topic = topic_of(self._address.prefix, channel, there.life)
        found = await self._run(partial(cluster.topics.partitions, topic))
        if found is None:
            await self._run(partial(cluster.topics.make, topic, partitions, KEEPS))
        elif found != partitions:
            raise _other_number(channel, found, partitions, f" (topic {topic})")
        await cluster.register.put_channel(channel, there)
        return there

    async def _subscribe(self, cluster: "_Cluster", channel: str, topic: Topic, subscription: str) -> None:
        """From the ends on. Until they are known everything is kept, so that nobody lets go of what comes after."""
        known = cluster.register.positions(channel).get(subscription, {})
        new = [n for n in range(len(topic.base)) if n not in known]
        await cluster.register.put_positions(channel, subscription, dict.fromkeys(new, 0))
        ends = await self._ends(cluster, topic)
        await cluster.register.put_positions(channel, subscription, {n: ends[n] for n in new})

    async def publish(self, channel: str, batch: Batch) -> None:
        cluster = await self._cluster()
        for again in (True, True, False):
            place = await self._declared(cluster, channel)
            if place is None:
                what, remedy = "is not declared", "declare it before the first publish"
                raise ConfigurationError(Mistake(f"channel {channel}", what, remedy))
            records = [
                record
                for partition, part in split(batch, len(place.topic.base)).items()
                for record in _records(partition, part, place.limit - _OVERHEAD)
            ]
            try:
                await cluster.writer(place.limit).write(place.topic.name, records)
            except Gone:
                await self._went(cluster, channel, place, again)
            else:
                if await self._still(cluster, channel, place):
                    return
        raise LedgerUnavailable(f"channel {channel} was forgotten and declared again while it was published to")

    async def _still(self, cluster: "_Cluster", channel: str, place: _Place) -> bool:
        """Whether the channel has this topic even now that it was written to.

        A broker may make a topic anew that was deleted, and acknowledge what nobody will ever take from there.
        """
        await cluster.register.read()
        there = cluster.register.channel(channel)
        if there is not None and there.declared and self._topic(channel, there) == place.topic:
            return True
        self._places.pop(channel, None)
        return False

    async def take(
        self, channel: str, after: Mapping[int, int], *, most: int, wait: float, subscription: str = ""
    ) -> list[Delivery]:
        cluster = await self._cluster()
        for again in (True, False):
            place = await self._declared(cluster, channel)
            if place is None or not after:
                break
            try:
                found = await self._take(cluster, place.topic, after, most, wait)
            except Gone:
                await self._went(cluster, channel, place, again)
            else:
                return [Delivery(kept.partition, kept.position, unpack(kept.body)) for kept in found]
        await asyncio.sleep(max(0.0, wait))
        return []

    async def _take(
        self, cluster: "_Cluster", topic: Topic, after: Mapping[int, int], most: int, wait: float
    ) -> list[Kept]:
        unwanted = threading.Event()

        def work() -> list[Kept]:
            reader = cluster.readers.lend(topic, after)
            try:
                return reader.take(after, most, wait, _Either(unwanted, self._closing))
            finally:
                cluster.readers.give_back(reader)

        try:
            return await self._run(work)
        finally:
            unwanted.set()

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        cluster = await self._cluster()
        place = await self._declared(cluster, channel)
        if place is None:
            return
        await cluster.register.read()
        known = cluster.register.positions(channel).get(subscription)
        if known is None:
            return
        further = {n: at for n, at in positions.items() if at > known.get(n, at)}
        if further:
            await cluster.register.put_positions(channel, subscription, further)
            await self._trim(cluster, channel, place.topic)

    async def _trim(self, cluster: "_Cluster", channel: str, topic: Topic) -> None:
        """Let go of what nobody needs. Where that fails, it is only kept longer."""
        clock = asyncio.get_running_loop().time
        if clock() < self._trim_from.get(topic, 0.0):
            return
        everybody = cluster.register.positions(channel).values()
        trimmed = self._trimmed.setdefault(topic, {})
        before = {
            n: topic.offset(n, min(own.get(n, 0) for own in everybody)) for n in range(len(topic.base)) if everybody
        }
        before = {n: offset for n, offset in before.items() if offset > trimmed.get(n, 0)}
        if not before:
            return
        try:
            await self._run(partial(cluster.topics.trim, topic.name, before))
        except (TielineError, Gone) as error:
            self._trim_from[topic] = clock() + _TRIM_AGAIN
            log.warning("what is read is kept", channel=channel, topic=topic.name, reason=str(error))
        else:
            trimmed.update(before)

    async def ends(self, channel: str) -> dict[int, int]:
        cluster = await self._cluster()
        place = await self._declared(cluster, channel)
        return {} if place is None else await self._ends(cluster, place.topic)

    async def _ends(self, cluster: "_Cluster", topic: Topic) -> dict[int, int]:
        try:
            ends = await self._run(partial(cluster.topics.ends, topic.name, range(len(topic.base))))
        except Gone:
            raise _lost(topic) from None
        return {n: topic.base[n] + offset for n, offset in ends.items()}

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        """Reads what stands there: Kafka counts batches, and the messages in a batch stand in its header."""
        cluster = await self._cluster()
        place = await self._declared(cluster, channel)
        if place is None:
            return 0
        topic, at, count = place.topic, dict(after), 0
        ends = await self._ends(cluster, topic)
        while found := await self._take(cluster, topic, at, 100_000, 0.0):
            count += sum(kept.messages for kept in found if kept.position <= ends[kept.partition])
            at |= {kept.partition: kept.position for kept in found}
            if all(position >= ends[n] for n, position in at.items() if n in ends):
                break
        return count

    async def forget(self, channel: str, subscription: str) -> None:
        cluster = await self._cluster()
        async with self._declaring:
            await cluster.register.read()
            there = cluster.register.channel(channel)
            if there is None or subscription not in cluster.register.positions(channel):
                return
            await cluster.register.forget(channel, subscription)
            if cluster.register.positions(channel):
                return
            topic = self._topic(channel, there)
            self._places.pop(channel, None)
            try:
                ends = await self._ends(cluster, topic)
            except Hold:
                ends = dict(enumerate(topic.base))  # it is gone already
            base = tuple(ends[n] for n in range(len(topic.base)))
            await cluster.register.put_channel(channel, Channel(there.life, base, declared=False))
            await self._run(partial(cluster.readers.drop, topic))
            await self._run(partial(cluster.topics.delete, topic.name))

    async def close(self) -> None:
        self._closing.set()
        while self._running:
            await asyncio.wait(self._running)
        if self._opened is not None:
            cluster, self._opened = self._opened, None
            for writer in cluster.writers.values():
                await writer.close()
            await self._run(cluster.close)
            del cluster
        self._threads.shutdown()

    # -- what is known of channels -----------------------------------------------------------------

    async def _declared(self, cluster: "_Cluster", channel: str) -> _Place | None:
        place = self._places.get(channel)
        if place is not None:
            return place
        await cluster.register.read()
        there = cluster.register.channel(channel)
        return None if there is None or not there.declared else await self._look(cluster, channel, there)

    async def _look(self, cluster: "_Cluster", channel: str, there: Channel) -> _Place:
        """See how the channel's topic is set up.

        Raises:
            ConfigurationError: where it would lose what is not read yet.
            Hold: where it is gone.
        """
        topic = self._topic(channel, there)
        found = await self._run(partial(cluster.topics.partitions, topic.name))
        if found is None:
            raise _lost(topic)
        if found and found != len(topic.base):
            raise _other_number(channel, found, len(topic.base), f" (topic {topic.name})")
        limit = await self._run(partial(cluster.topics.check, topic.name, KEEPS))
        place = self._places[channel] = _Place(topic, limit)
        return place

    async def _went(self, cluster: "_Cluster", channel: str, place: _Place, again: bool) -> None:
        """A topic is not there: the channel may have been forgotten, and perhaps declared again, elsewhere."""
        self._places.pop(channel, None)
        await self._run(partial(cluster.readers.drop, place.topic))
        await cluster.register.read()
        there = cluster.register.channel(channel)
        if not again or (there is not None and there.declared and self._topic(channel, there) == place.topic):
            raise _lost(place.topic)

    def _topic(self, channel: str, there: Channel) -> Topic:
        return Topic(topic_of(self._address.prefix, channel, there.life), there.base)

    # -- threads ----------------------------------------------------------------------------------------

    async def _cluster(self) -> "_Cluster":
        if self._opened is None:
            async with self._opening:
                if self._opened is None:
                    self._opened = await self._run(self._open)
        return self._opened

    def _open(self) -> "_Cluster":
        return _Cluster(self._address, self._clients, self._failures, self._run)

    async def _run(self, work: Callable[[], T]) -> T:
        """What blocks, on a thread that is waited for at the end even where its caller is gone."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._running.add(future)
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._running.discard(future)
        if not future.cancelled():
            future.exception()  # whoever wanted to know of it may be gone


class _Cluster:
    """The clients of one bus."""

    def __init__(self, address: Address, clients: Clients, failures: Failures, run: Callable[..., object]) -> None:
        self.topics = Topics(address, clients, failures)
        self.writers: dict[int, Writer] = {}
        self.readers = Readers(lambda topic: Reader(topic, clients, self.topics, failures, address.timeout))
        self._make_writer = partial(Writer, clients, failures)
        name = register_of(address.prefix)
        self.register = Register(name, clients, self.topics, failures, self.writer(_SMALL), run)  # type: ignore[arg-type]

    def writer(self, limit: int) -> Writer:
        """The one for topics whose messages may be so long."""
        if limit not in self.writers:
            self.writers[limit] = self._make_writer(limit)
        return self.writers[limit]

    def close(self) -> None:
        """Blocks; the writers are closed by then."""
        self.readers.close()
        self.register.close()
        self.topics.close()


class _Either(threading.Event):
    """Set when one of two is."""

    def __init__(self, *events: threading.Event) -> None:
        super().__init__()
        self._events = events

    def is_set(self) -> bool:
        return any(event.is_set() for event in self._events)


def _records(partition: int, part: Batch, most: int) -> list[Record]:
    """A part of a batch as engine messages; its last one says how many messages are whole with it."""
    *pieces, last = cut(pack(part), most)
    return [*(Record(partition, piece) for piece in pieces), Record(partition, last, messages=len(part.messages))]


def _other_number(channel: str, there: int, wanted: int, where: str = "") -> ConfigurationError:
    what = f"exists with {there} partitions{where} and is declared with {wanted}"
    remedy = f"declare it with {there}: the place of a key follows from the number"
    return ConfigurationError(Mistake(f"channel {channel}", what, remedy))


def _lost(topic: Topic) -> Hold:
    return Hold(f"topic {topic.name} is gone, and what was unread with it; to go on without it: tieline recover")
