"""Publishing and taking on a cluster whose brokers fail one by one: the mock in the client library."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.buses.kafka_mock import (
    FETCH,
    NOT_ENOUGH_REPLICAS,
    NOT_LEADER,
    PRODUCE,
    REQUEST_TIMED_OUT,
    TOPIC_AUTHORIZATION_FAILED,
    MockCluster,
)
from tests.conftest import missing

from tieline.buses.kafka.address import read_address
from tieline.buses.kafka.clients import Clients
from tieline.buses.kafka.failures import Failures
from tieline.buses.kafka.reader import Kept, Reader, Topic
from tieline.buses.kafka.topics import Topics
from tieline.buses.kafka.writer import Record, Writer
from tieline.errors import AccessRefused, Unavailable

TOPIC = Topic("channel", (0,))


@dataclass
class Ends:
    """Both ends of a topic on a cluster."""

    cluster: MockCluster
    writer: Writer
    reader: Reader

    def taken(self, count: int, after: int = 0) -> list[bytes]:
        """So many bodies that follow a position."""
        return [one.body for one in self.kept(count, after)]

    def kept(self, count: int, after: int = 0) -> list[Kept]:
        """The same, with their places: one behind the other."""
        found: list[Kept] = []
        while len(found) < count:
            more = self.reader.take({0: after}, count - len(found), 10.0, threading.Event())
            assert more, f"{len(found)} of {count}, and no more"
            found += more
            after = more[-1].position
        first = found[0].position
        assert [one.position for one in found] == list(range(first, first + count))
        return found


@pytest.fixture
def ends() -> Iterator[Ends]:
    try:
        cluster = MockCluster(3)
    except ImportError as error:
        missing(str(error), "install confluent-kafka from a wheel")
        raise
    cluster.make(TOPIC.name, 1)
    address = read_address(f"kafka://{cluster.servers}?timeout=8", Path())
    failures = Failures(address)
    clients = Clients(address, failures)
    topics = Topics(address, clients, failures)
    reader = Reader(TOPIC, clients, topics, failures, address.timeout)
    yield Ends(cluster, Writer(clients, failures, 1_000_000), reader)
    reader.close()
    topics.close()
    cluster.close()


def written(ends: Ends, count: int, meanwhile: Callable[[int], None], at_once: int = 4) -> None:
    """Publish batches, so many on their way at a time, while things happen."""

    async def publish() -> None:
        async with asyncio.timeout(60):
            for number in range(0, count, at_once):
                meanwhile(number)
                await asyncio.gather(
                    *(
                        ends.writer.write(TOPIC.name, [Record(0, b"{%d}" % n, messages=1)])
                        for n in range(number, number + at_once)
                    )
                )
            await ends.writer.close()

    asyncio.run(publish())


def in_order(count: int) -> list[bytes]:
    return [b"{%d}" % number for number in range(count)]


def test_leaders_that_move_lose_nothing_and_change_no_order(ends):
    """Each move is met with errors of the old leader; the library asks again, and knows what it has sent."""

    def move(number: int) -> None:
        ends.cluster.lead(TOPIC.name, 0, 1 + (number // 4) % 3)

    written(ends, 40, move)
    assert ends.taken(40) == in_order(40)


@pytest.mark.parametrize("error", [NOT_LEADER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS])
def test_errors_that_pass_lose_nothing_and_change_no_order(ends, error):
    """Too few copies, among others: it is not acknowledged until there are enough.

    One at a time, as the relay does it: the mock takes a second batch although it has refused the one before,
    which no broker does, and the library takes that for a sign that the first one is there.
    """

    def fail(number: int) -> None:
        if number % 12 == 0:
            ends.cluster.fail(PRODUCE, error, error)

    written(ends, 36, fail, at_once=1)
    ends.cluster.fail(FETCH, NOT_LEADER, NOT_LEADER)
    assert ends.taken(36) == in_order(36)


def test_a_broker_that_falls_is_replaced_by_the_next_leader(ends):
    def fall(number: int) -> None:
        if number == 8:
            ends.cluster.lead(TOPIC.name, 0, 2)
            ends.cluster.down(1)

    ends.cluster.lead(TOPIC.name, 0, 1)
    written(ends, 24, fall)
    assert ends.taken(24) == in_order(24)


def test_a_cluster_without_its_leader_is_unavailable(ends):
    """Until somebody leads again; then it goes on."""
    ends.cluster.lead(TOPIC.name, 0, 1)
    written(ends, 4, lambda _: None)
    ends.cluster.down(1)
    with pytest.raises(Unavailable):
        written(ends, 4, lambda _: None)
    ends.cluster.up(1)
    assert ends.taken(4) == in_order(4)


def test_what_is_let_go_of_is_passed_over(ends):
    """Whoever begins before it gets what is still there, also where it goes while somebody reads."""
    written(ends, 12, lambda _: None)
    ends.cluster.trim(TOPIC.name, 0, 5)
    assert ends.taken(3) == in_order(12)[5:8]
    ends.cluster.trim(TOPIC.name, 0, 10)
    assert ends.taken(2, after=6) == in_order(12)[10:]
    assert [one.position for one in ends.kept(2, after=6)] == [11, 12]


def test_a_right_that_is_missing_is_told(ends):
    ends.cluster.fail(PRODUCE, *[TOPIC_AUTHORIZATION_FAILED] * 8)
    with pytest.raises(AccessRefused, match=r"channel: .*TOPIC_AUTHORIZATION_FAILED"):
        written(ends, 4, lambda _: None)
