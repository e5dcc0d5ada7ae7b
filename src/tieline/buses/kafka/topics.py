"""Topics as such: making them, seeing that they keep what is unread, their ends, and letting go of what is read.

Everything here blocks until the cluster has answered, and so belongs on a thread.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from tieline.buses.kafka.address import REPLICATED, Address
from tieline.buses.kafka.clients import Clients
from tieline.buses.kafka.failures import GONE, LEADERLESS, Failures, Gone
from tieline.errors import ConfigurationError, Mistake, TielineError

T = TypeVar("T")

KEEPS: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""Nothing goes by age, size or key: we let go of it ourselves, where everybody has read it."""
COMPACTED: Final = {"cleanup.policy": "compact"}
_LIMIT: Final = 1_048_588  # bytes; Kafka's own, where it does not tell
_AGAIN: Final = 0.1  # seconds between attempts while a partition has no leader


class Topics:
    """The topics of one cluster. Thread-safe."""

    def __init__(self, address: Address, clients: Clients, failures: Failures) -> None:
        self._address = address
        self._failures = failures
        self._admin: AdminClient = clients.administrator()

    def make(self, topic: str, partitions: int, settings: Mapping[str, str]) -> None:
        """Make the topic where it is not there, and wait until it can be used."""
        wanted = dict(settings)
        if self._address.replicas >= REPLICATED:
            wanted |= {"min.insync.replicas": str(self._address.in_sync), "unclean.leader.election.enable": "false"}
        new = NewTopic(topic, num_partitions=partitions, replication_factor=self._address.replicas, config=wanted)
        try:
            self._call(lambda: self._admin.create_topics([new], **self._within())[topic], topic)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._named(error, topic) from None
        self._until_led(topic)

    def partitions(self, topic: str) -> int | None:
        """How many partitions it has; None where it is not there."""
        found = self._described(topic)
        return None if found is None else len(found)

    def check(self, topic: str, settings: Mapping[str, str]) -> int:
        """See that the topic keeps what it is for, as safely as the address says; gives its limit in bytes.

        Raises:
            ConfigurationError: with each setting that would lose messages, and what mends it.
        """
        resource = ConfigResource(ResourceType.TOPIC, topic)
        found = self._ask(lambda: self._admin.describe_configs([resource], **self._within())[resource], topic)
        facts = {name: entry.value for name, entry in found.items() if entry.value is not None}
        wanted = dict(settings)
        mistakes = []
        if self._address.replicas >= REPLICATED:
            wanted["unclean.leader.election.enable"] = "false"
            copies = min(self._described(topic) or [0])
            if copies < self._address.replicas:
                what = f"is kept {copies} times, and the address says replicas={self._address.replicas}"
                mistakes.append((what, "reassign its partitions to more brokers, or lower replicas in the address"))
            if int(facts.get("min.insync.replicas", 1)) < self._address.in_sync:
                what = f"has min.insync.replicas={facts.get('min.insync.replicas', 1)}"
                mistakes.append((what, _alter(topic, "min.insync.replicas", str(self._address.in_sync))))
        for name, value in wanted.items():
            if facts.get(name, value) != value:
                mistakes.append((f"has {name}={facts[name]}, which loses messages", _alter(topic, name, value)))
        if mistakes:
            raise ConfigurationError(*(Mistake(f"topic {topic}", *mistake) for mistake in mistakes))
        return int(facts.get("max.message.bytes", _LIMIT))

    def first(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The first offset of each partition that is still kept."""
        return self._offsets(topic, partitions, OffsetSpec.earliest())

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset that the next message of each partition will have."""
        return self._offsets(topic, partitions, OffsetSpec.latest())

    def trim(self, topic: str, before: Mapping[int, int]) -> None:
        """Let go of what stands before these offsets."""
        places = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        futures = self._admin.delete_records(places, **self._within())
        for future in futures.values():
            self._ask(lambda future=future: future, topic)  # type: ignore[misc]

    def delete(self, topic: str) -> None:
        """The topic with everything in it; none is as good."""
        try:
            self._ask(lambda: self._admin.delete_topics([topic], **self._within())[topic], topic)
        except Gone:
            return

    def close(self) -> None:
        """Let go of the connections; nothing can be asked any more."""
        del self._admin

    def _offsets(self, topic: str, partitions: Iterable[int], spec: OffsetSpec) -> dict[int, int]:
        places = {TopicPartition(topic, partition): spec for partition in partitions}
        until = time.monotonic() + self._address.timeout
        while True:
            try:
                found = self._admin.list_offsets(places, **self._within())
                offsets = {place.partition: int(future.result().offset) for place, future in found.items()}
            except KafkaException as error:
                code = error.args[0].code()
                if code in GONE or (code in LEADERLESS and self._described(topic) is None):
                    raise Gone(topic) from None
                if code not in LEADERLESS or time.monotonic() > until:
                    raise self._named(error, topic) from None
                time.sleep(_AGAIN)
            else:
                # What the library could not find out in time it gives as a negative number.
                if all(offset >= 0 for offset in offsets.values()):
                    self._failures.answered()
                    return offsets
                if time.monotonic() > until:
                    raise self._silent(topic)
                time.sleep(_AGAIN)

    def _until_led(self, topic: str) -> None:
        until = time.monotonic() + self._address.timeout
        while not self._described(topic):
            if time.monotonic() > until:
                raise self._silent(topic)
            time.sleep(_AGAIN)

    def _described(self, topic: str) -> list[int] | None:
        """How many copies each partition has; none at all while one of them has no leader, None without topic."""
        names = TopicCollection([topic])
        try:
            found = self._ask(lambda: self._admin.describe_topics(names, **self._within())[topic], topic)
        except Gone:
            return None
        led = all(one.leader is not None and one.leader.id >= 0 for one in found.partitions)
        return [len(one.replicas) for one in found.partitions] if led else []

    def _ask(self, call: Callable[[], "Future[Any]"], topic: str) -> Any:
        try:
            return self._call(call, topic)
        except KafkaException as error:
            raise self._named(error, topic) from None

    def _call(self, call: Callable[[], "Future[Any]"], topic: str) -> Any:
        try:
            found = call().result()
        except KafkaException as error:
            if error.args[0].code() in GONE:
                raise Gone(topic) from None
            raise
        self._failures.answered()
        return found

    def _named(self, error: KafkaException, topic: str) -> TielineError:
        self._admin.poll(0)  # why there was no answer was told by the way
        return self._failures.named(error.args[0], topic)

    def _silent(self, topic: str) -> TielineError:
        self._admin.poll(0)
        return self._failures.silent(topic, self._address.timeout)

    def _within(self) -> dict[str, float]:
        return {"request_timeout": self._address.timeout}


def _alter(topic: str, name: str, value: str) -> str:
    return f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config {name}={value}"
