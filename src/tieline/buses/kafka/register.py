"""How far each subscription is, and which topic a channel has: a compacted topic of ours, beside the channels.

Its records are small, each stands for itself, and the newest of a key holds. Keys are JSON:
``["channel", channel]`` and ``["position", channel, subscription, partition]``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tieline.buses.kafka.clients import Clients
from tieline.buses.kafka.failures import Failures, Gone
from tieline.buses.kafka.topics import COMPACTED, Topics
from tieline.buses.kafka.writer import Record, Writer

T = TypeVar("T")

_AT_ONCE: Final = 1_000
_SLICE: Final = 0.5  # seconds
_PATIENCE: Final = 30  # slices without anything, although there is something to be read


class Channel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A channel in its n-th life; `base` are the positions that earlier ones have used up, by partition."""

    life: int
    base: tuple[int, ...]
    declared: bool = True


class Run(Protocol):
    """Runs what blocks on a thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What `work` gives."""


class Register:
    """The register of one prefix, as it was read last. Belongs to one event loop."""

    def __init__(
        self, topic: str, clients: Clients, topics: Topics, failures: Failures, writer: Writer, run: Run
    ) -> None:
        self._topic = topic
        self._clients = clients
        self._topics = topics
        self._failures = failures
        self._writer = writer
        self._run = run
        self._reading = asyncio.Lock()
        self._consumer: Consumer | None = None
        self._next = 0
        self._made = False
        self._channels: dict[str, Channel] = {}
        self._positions: dict[str, dict[str, dict[int, int]]] = {}

    async def make(self) -> None:
        """Make the register where it is not there, and see that it keeps what is written.

        Raises:
            ConfigurationError: where its topic would lose something.
        """
        if not self._made:
            await self._run(self._make)
            self._made = True

    def channel(self, name: str) -> Channel | None:
        """A channel that is declared or was, as far as that was read."""
        return self._channels.get(name)

    def positions(self, channel: str) -> Mapping[str, Mapping[int, int]]:
        """How far each subscription of a channel is, as far as that was read."""
        return self._positions.get(channel, {})

    async def read(self) -> None:
        """Read what was written by anybody until now."""
        async with self._reading:
            await self._run(self._read)

    async def put_channel(self, name: str, channel: Channel) -> None:
        """Say how it stands with a channel; returns when it is kept, and known here."""
        await self._write([Record(0, msgspec.json.encode(channel), _key("channel", name))])

    async def put_positions(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        """Say how far a subscription is; returns when it is kept, and known here."""
        keys = {partition: _key("position", channel, subscription, partition) for partition in positions}
        await self._write([Record(0, b"%d" % at, keys[partition]) for partition, at in positions.items()])

    async def forget(self, channel: str, subscription: str) -> None:
        """Drop a subscription."""
        known = self.positions(channel).get(subscription, {})
        await self._write([Record(0, None, _key("position", channel, subscription, p)) for p in known])

    async def _write(self, records: Sequence[Record]) -> None:
        await self._writer.write(self._topic, records)
        await self.read()

    def _make(self) -> None:
        if self._topics.partitions(self._topic) is None:
            self._topics.make(self._topic, 1, COMPACTED)
        self._topics.check(self._topic, COMPACTED)

    def _read(self) -> None:
        try:
            end = self._topics.ends(self._topic, [0])[0]
        except Gone:
            end = 0
        if end < self._next or self._consumer is None:
            self._begin()
        assert self._consumer is not None
        if end and not self._next:
            self._consumer.assign([TopicPartition(self._topic, 0, 0)])
        silence = 0
        while self._next < end:
            found = self._consumer.consume(1, _SLICE)
            found += self._consumer.consume(_AT_ONCE, 0) if found else []
            silence = 0 if found else silence + 1
            if silence > _PATIENCE:
                self.close()
                raise self._failures.silent(self._topic, _PATIENCE * _SLICE)
            for message in found:
                self._take(message)

    def _begin(self) -> None:
        """From the beginning; also where the register has been lost, and another one is there."""
        self.close()
        self._consumer = self._clients.consumer(tells_ends=True)
        self._next = 0
        self._channels.clear()
        self._positions.clear()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # the last ones may have been compacted away
                self._next = max(self._next, message.offset() or 0)
                return
            self._failures.heard(error)
            if not error.retriable() and error.code() not in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}:
                self.close()
                raise self._failures.named(error, self._topic)
            return
        self._next = (message.offset() or 0) + 1
        key: list[Any] = msgspec.json.decode(message.key() or b"[]")
        value = message.value()
        match key:
            case ["channel", str(name)] if value is not None:
                self._channels[name] = msgspec.json.decode(value, type=Channel)
            case ["position", str(channel), str(subscription), int(partition)]:
                subscriptions = self._positions.setdefault(channel, {})
                if value is None:
                    subscriptions.get(subscription, {}).pop(partition, None)
                    if not subscriptions.get(subscription):
                        subscriptions.pop(subscription, None)
                else:
                    own = subscriptions.setdefault(subscription, {})
                    own[partition] = max(own.get(partition, 0), int(value))
            case _:
                return  # of a later version

    def close(self) -> None:
        """Let go of the connection."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            consumer.close()


def _key(*parts: str | int) -> bytes:
    return msgspec.json.encode(parts)
