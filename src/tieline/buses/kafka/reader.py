"""Taking: one consumer that reads on from where its taker is. It blocks, and so belongs on a thread."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tieline.buses._pieces import Joiner
from tieline.buses.kafka.clients import Clients
from tieline.buses.kafka.failures import GONE, LEADERLESS, Failures, Gone
from tieline.buses.kafka.topics import Topics
from tieline.errors import Hold

_AT_ONCE: Final = 256  # engine messages fetched from what the library has read ahead
_SLICE: Final = 0.5  # seconds after which a waiting taker looks whether it is still wanted
_BELIEVED: Final = 5.0  # seconds for which silence is taken for "nothing new", without asking
_PASSING: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._PARTITION_EOF,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.GROUP_AUTHORIZATION_FAILED,  # of a group that nobody needs
        *LEADERLESS,
    }
)
_OUT_OF_RANGE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})


class Topic(NamedTuple):
    """A channel's topic, and the positions that earlier lives of the channel have used up, by partition."""

    name: str
    base: tuple[int, ...]

    def offset(self, partition: int, position: int) -> int:
        """The offset of what follows a position."""
        return max(0, position - self.base[partition])

    def position(self, partition: int, offset: int) -> int:
        """The position of the message at an offset."""
        return self.base[partition] + offset + 1


class Kept(NamedTuple):
    """A batch in the channel, packed, with its place and how many messages it has."""

    partition: int
    position: int
    messages: int
    body: bytes


class Reader:
    """Reads one topic for whoever takes from it next; one taker at a time."""

    def __init__(self, topic: Topic, clients: Clients, topics: Topics, failures: Failures, timeout: float) -> None:
        self.topic = topic
        self.at: dict[int, int] = {}  # where its last taker stands behind what it was given
        self._topics = topics
        self._failures = failures
        self._timeout = timeout
        self._consumer: Consumer = clients.consumer()
        self._next: dict[int, int] = {}  # the offset to be read next
        self._seen: dict[int, int] = {}  # the last position that was put into line
        self._joiners: dict[int, Joiner] = {}
        self._tried: set[tuple[int, int, int]] = set()
        self._line: deque[Kept] = deque()
        self._heard = 0.0

    def take(self, after: Mapping[int, int], most: int, wait: float, stop: threading.Event) -> list[Kept]:
        """What follows, about `most` messages. Nothing only where there is nothing, or `stop` is set.

        Raises:
            Gone: where the topic is not there.
        """
        if dict(after) != self.at:
            self._place(after)
        until = time.monotonic() + wait
        self._read(0.0)
        while not self._line and not stop.is_set() and (left := until - time.monotonic()) > 0:
            self._read(min(left, _SLICE))
        if not self._line and (wait <= 0 or time.monotonic() - self._heard > _BELIEVED):
            self._make_sure(stop)
        return self._given(most)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _given(self, most: int) -> list[Kept]:
        found: list[Kept] = []
        count = 0
        while self._line and (not found or count + self._line[0].messages <= most):
            kept = self._line.popleft()
            found.append(kept)
            count += kept.messages
            self.at[kept.partition] = kept.position
        return found

    def _place(self, after: Mapping[int, int]) -> None:
        self.at = {}
        self._line.clear()
        wanted = {p: self.topic.offset(p, at) for p, at in after.items() if p < len(self.topic.base)}
        first = self._topics.first(self.topic.name, wanted)
        ends = self._topics.ends(self.topic.name, wanted)
        for partition, offset in wanted.items():
            if offset > ends[partition]:
                position, end = after[partition], self.topic.base[partition] + ends[partition]
                raise Hold(
                    f"topic {self.topic.name}, partition {partition} ends at {end}, and {position} was taken before: "
                    "messages are lost, or another cluster answers; to go on from what is there: tieline recover"
                )
        self._next = {p: max(offset, first[p]) for p, offset in wanted.items()}
        self._seen = {p: self.topic.position(p, offset - 1) for p, offset in self._next.items()}
        self._joiners = {partition: Joiner() for partition in wanted}
        self._tried.clear()
        self._assign()
        self._heard = time.monotonic()
        self.at = dict(after)

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(self.topic.name, p, offset) for p, offset in self._next.items()])

    def _make_sure(self, stop: threading.Event) -> None:
        """Silence may be an outage: ask where the topic ends, and read until there."""
        ends = self._topics.ends(self.topic.name, self._next)
        until = time.monotonic() + self._timeout
        while not self._line and any(self._next[p] < end for p, end in ends.items()) and not stop.is_set():
            if time.monotonic() > until:
                self.at = {}
                raise self._failures.silent(self.topic.name, self._timeout)
            self._read(_SLICE)
        self._heard = time.monotonic()

    def _read(self, wait: float) -> None:
        """Put into line what has come; what is in line already is enough."""
        if self._line or not self._next:
            if wait and not self._next:
                time.sleep(wait)
            return
        found = self._consumer.consume(1, wait)
        found += self._consumer.consume(_AT_ONCE, 0) if found else []
        if found:
            self._heard = time.monotonic()
        self._put(found)

    def _put(self, found: Iterable[Message]) -> None:
        for message in found:
            error = message.error()
            if error is not None:
                self._failed(error)
                continue
            partition, offset, body = message.partition(), message.offset(), message.value() or b""
            if partition is None or offset is None or offset < self._next[partition]:
                continue
            if self._looked_back(partition, offset, body):
                return  # the rest is read again
            self._next[partition] = offset + 1
            whole = self._joiners[partition].add(body)
            position = self.topic.position(partition, offset)
            if whole is not None and position > self._seen[partition]:
                self._seen[partition] = position
                self._line.append(Kept(partition, position, _messages(message), whole))

    def _looked_back(self, partition: int, offset: int, body: bytes) -> bool:
        """Whether a batch has begun before the place that is read from, and is read from its beginning now."""
        before = self._joiners[partition].misses(body)
        if not before:
            return False
        first = self._topics.first(self.topic.name, [partition])[partition]
        # Another publisher's messages may stand between, so once more from the very beginning if need be.
        for start in (max(first, offset - before), first):
            if start < self._next[partition] and (partition, offset, start) not in self._tried:
                self._tried.add((partition, offset, start))
                self._next[partition] = start
                self._assign()
                return True
        return False

    def _failed(self, error: KafkaError) -> None:
        self._failures.heard(error)
        if error.code() in _PASSING:
            return
        self.at = {}  # whatever comes next begins anew
        if error.code() in GONE:
            raise Gone(self.topic.name)
        if error.code() not in _OUT_OF_RANGE:
            raise self._failures.named(error, self.topic.name)


def _messages(message: Message) -> int:
    """How many messages a batch says it has."""
    value = dict(message.headers() or ()).get("messages")
    return int(value) if isinstance(value, bytes) and value.isdigit() else 1
