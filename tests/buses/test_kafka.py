"""The bus on Kafka, against a broker that speaks its protocol.

The broker is Tansu, and keeps everything in memory: that a batch survives the broker cannot be seen here.
"""

import asyncio
import contextlib
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from tests.buses.kafka_broker import running
from tests.buses.kafka_proxy import Proxy
from tests.conftest import missing

from tieline.buses.kafka import open_bus, writer
from tieline.buses.kafka.bus import _records
from tieline.buses.kafka.names import topic_of
from tieline.errors import AccessRefused, ConfigurationError, Hold, Unavailable
from tieline.testing.bus import OUT, BusSuite, batch, from_the_start, keys_of, take_all

NUMBERS = count(1)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    with running(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def own_broker(tmp_path):
    """One that a test may stop."""
    with running(tmp_path) as broker:
        yield broker


@pytest.fixture
def proxied(own_broker):
    """A broker behind a proxy, and the proxy."""
    proxy = Proxy(own_broker.port)
    own_broker.end()
    own_broker.advertised = proxy.address
    own_broker.begin()
    proxy.begin()
    yield proxy
    proxy.cut()


@pytest.fixture
def prefix():
    return f"test{next(NUMBERS)}"


class TestKafkaBus(BusSuite):
    @pytest.fixture
    def url(self, broker, prefix):
        return f"kafka://{broker.address}/{prefix}"

    def open(self, url):
        return open_bus(url, Path())


@asynccontextmanager
async def opened(url: str):
    bus = open_bus(url, Path())
    try:
        yield bus
    finally:
        await bus.close()


def played(scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(100):
            return await scenario()

    return asyncio.run(within())


@pytest.fixture
def admin(broker):
    return AdminClient({"bootstrap.servers": broker.address})


def make_topic(admin: AdminClient, topic: str, partitions: int = 1, **settings: str) -> None:
    new = NewTopic(topic, num_partitions=partitions, config={k.replace("_", "."): v for k, v in settings.items()})
    admin.create_topics([new])[topic].result(10)


# -- topics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "mended"),
    [
        ({"cleanup_policy": "compact"}, "cleanup.policy=delete"),
        ({"cleanup_policy": "compact,delete"}, "cleanup.policy=delete"),
        ({"retention_ms": "604800000"}, "retention.ms=-1"),
        ({"retention_bytes": "1000000"}, "retention.bytes=-1"),
    ],
)
def test_a_topic_that_would_drop_what_is_unread_is_refused_with_what_mends_it(
    broker, admin, prefix, settings, mended
):
    make_topic(admin, topic_of(prefix, OUT), **settings)

    async def scenario() -> None:
        async with opened(f"kafka://{broker.address}/{prefix}") as bus:
            with pytest.raises(ConfigurationError, match=f"--add-config {mended}"):
                await bus.declare(OUT, 1, ["s"])

    played(scenario)


def test_a_topic_of_another_number_of_partitions_is_refused(broker, admin, prefix):
    make_topic(admin, topic_of(prefix, OUT), partitions=3)

    async def scenario() -> None:
        async with opened(f"kafka://{broker.address}/{prefix}") as bus:
            with pytest.raises(ConfigurationError, match=f"{OUT}: exists with 3 partitions"):
                await bus.declare(OUT, 4, ["s"])

    played(scenario)


def test_copies_that_are_promised_and_not_there_are_missed(broker, admin, prefix):
    """An address may say more than the topic was made with."""
    make_topic(admin, topic_of(prefix, OUT))

    async def scenario() -> None:
        async with opened(f"kafka://{broker.address}/{prefix}?replicas=3") as bus:
            with pytest.raises(
                ConfigurationError, match=r"(?s)replicas=3 → .* lower replicas .*min\.insync\.replicas=2"
            ):
                await bus.declare(OUT, 1, ["s"])

    played(scenario)


def test_positions_go_on_in_a_channels_next_life(broker, admin, prefix):
    """Its topic goes with the last subscription, and another one takes its place; another worker finds that."""
    url = f"kafka://{broker.address}/{prefix}"

    async def scenario() -> None:
        async with opened(url) as bus, opened(url) as other:
            await bus.declare(OUT, 2, ["s"])
            await other.publish(OUT, batch(1, *(f"{n}" for n in range(20))))
            before = await bus.ends(OUT)
            assert before == {0: 1, 1: 1}
            await bus.forget(OUT, "s")
            assert topic_of(prefix, OUT) not in admin.list_topics(timeout=10).topics
            assert await bus.ends(OUT) == {}
            await bus.declare(OUT, 2, ["s"])
            assert await bus.ends(OUT) == before
            await other.publish(OUT, batch(2, "again"))
            assert keys_of(await take_all(bus, before)) == ["again"]
            (found,) = await take_all(bus, {0: 0, 1: 0})
            assert found.position == 2

    played(scenario)


def test_a_cluster_that_lost_everything_holds_who_was_further(own_broker, prefix):
    """Begun again, the broker is empty: that is told, and not taken for a channel without news."""
    url = f"kafka://{own_broker.address}/{prefix}"

    async def before() -> dict[int, int]:
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            await bus.publish(OUT, batch(1, "1"))
            return await bus.ends(OUT)

    async def afterwards(positions: dict[int, int]) -> None:
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            with pytest.raises(Hold, match="tieline recover"):
                await bus.take(OUT, positions, most=10, wait=0)

    positions = played(before)
    own_broker.end()
    own_broker.begin()
    played(lambda: afterwards(positions))


# -- letting go of what is read ---------------------------------------------------------------------------


def test_what_every_subscription_is_past_is_let_go_of(proxied, prefix):
    """Up to the slowest one, in each partition; another worker's progress counts too."""
    url, topic = f"kafka://{proxied.address}/{prefix}", topic_of(prefix, OUT)

    async def scenario() -> None:
        async with opened(url) as bus, opened(url) as other:
            await bus.declare(OUT, 1, ["a", "b"])
            for number in range(1, 6):
                await bus.publish(OUT, batch(number, f"{number}"))
            await bus.done(OUT, "a", {0: 4})
            assert proxied.deleted == []
            await other.done(OUT, "b", {0: 2})
            assert proxied.deleted == [(topic, 0, 2)]
            await other.done(OUT, "b", {0: 1})
            await bus.done(OUT, "b", {0: 5})
            assert proxied.deleted == [(topic, 0, 2), (topic, 0, 4)]

    played(scenario)


def test_nothing_is_let_go_of_that_a_new_subscription_may_need(proxied, prefix):
    """While it is being declared, nobody knows yet where it begins."""

    async def scenario() -> None:
        url = f"kafka://{proxied.address}/{prefix}"
        async with opened(url) as bus, opened(url) as other:
            await bus.declare(OUT, 1, ["a"])
            await bus.publish(OUT, batch(1, "1"))
            ends = bus._ends

            async def and_meanwhile(*arguments: Any) -> dict[int, int]:
                found = await ends(*arguments)
                await other.publish(OUT, batch(2, "2"))
                await other.done(OUT, "a", {0: 2})
                return found

            bus._ends = and_meanwhile
            await bus.declare(OUT, 1, ["a", "b"])
            assert [before for _, _, before in proxied.deleted if before > 1] == []

    played(scenario)


def test_a_broker_that_does_not_let_go_loses_nothing_and_stops_nobody(broker, prefix):
    """Tansu in memory cannot: what is read is kept, and delivering goes on."""

    async def scenario() -> list[str]:
        async with opened(f"kafka://{broker.address}/{prefix}") as bus:
            await bus.declare(OUT, 1, ["s"])
            await bus.publish(OUT, batch(1, "1"))
            await bus.done(OUT, "s", {0: 1})
            await bus.publish(OUT, batch(2, "2"))
            return keys_of(await take_all(bus, {0: 1}))

    assert played(scenario) == ["2"]


# -- long batches ---------------------------------------------------------------------------------------------


def long(number: int) -> Any:
    return batch(number, f"{number}" * 3_000_000)


def test_a_long_batch_is_found_from_right_before_its_place(broker, prefix):
    """Its pieces begin before that: whoever asks whether a target stands at it, gets it."""

    async def scenario() -> None:
        async with opened(f"kafka://{broker.address}/{prefix}") as bus:
            await bus.declare(OUT, 1, ["s"])
            for number in (1, 2):
                await bus.publish(OUT, long(number))
            first, second = await take_all(bus, {0: 0})
            assert second.position - first.position > 2
            for one in (first, second):
                assert (await bus.take(OUT, {0: one.position - 1}, most=1, wait=0))[0] == one
            assert await bus.depth(OUT, {0: 0}) == 2
            assert await bus.depth(OUT, {0: first.position}) == 1

    played(scenario)


def test_a_long_batch_is_found_behind_what_was_published_between_its_pieces(broker, prefix):
    """A short one of another worker comes out first; whoever begins behind it still gets the long one."""
    url = f"kafka://{broker.address}/{prefix}"

    async def scenario() -> None:
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            place = await bus._declared(bus._opened, OUT)
            *pieces, last = _records(0, long(1), place.limit - 1_000)
            line = bus._opened.writer(place.limit)
            await line.write(place.topic.name, pieces)
            async with opened(url) as other:
                await other.publish(OUT, batch(2, "between"))
                assert keys_of(await take_all(other, {0: 0})) == ["between"]
            await line.write(place.topic.name, [last])
            between, late = await take_all(bus, {0: 0})
            assert between.batch.sequence == 2
            async with opened(url) as another:
                assert await take_all(another, {0: between.position}) == [late]

    played(scenario)


def test_a_long_batch_that_was_cut_off_holds_up_nobody(broker, prefix):
    """Its beginning is there and its end is not, or the other way round; what follows comes."""

    async def scenario() -> None:
        async with opened(f"kafka://{broker.address}/{prefix}") as bus:
            await bus.declare(OUT, 1, ["s"])
            place = await bus._declared(bus._opened, OUT)
            line = bus._opened.writer(place.limit)
            await line.write(place.topic.name, _records(0, long(1), place.limit - 1_000)[:-1])
            assert await take_all(bus, {0: 0}) == []
            await line.write(place.topic.name, _records(0, long(1), place.limit - 1_000)[1:])
            assert await take_all(bus, {0: 0}) == []
            await bus.publish(OUT, batch(2, "2"))
            assert keys_of(await take_all(bus, {0: 0})) == ["2"]

    played(scenario)


# -- outages -------------------------------------------------------------------------------------------------


async def publish_many(bus: Any, first: int, last: int) -> None:
    """As the relay does: one after the other, and again where it failed."""
    for number in range(first, last + 1):
        while True:
            try:
                await bus.publish(OUT, batch(number, f"{number}"))
                break
            except Unavailable:
                await asyncio.sleep(0.1)


def in_order(found: list[Any]) -> list[int]:
    """The numbers of the batches, less those that were published again."""
    numbers: list[int] = []
    for delivery in found:
        if not numbers or delivery.batch.sequence > numbers[-1]:
            numbers.append(delivery.batch.sequence)
    return numbers


def test_connections_that_are_cut_lose_nothing_and_change_no_order(proxied, prefix):
    """Again and again, while batches are published and taken."""
    url = f"kafka://{proxied.address}/{prefix}?timeout=3"

    async def follow(bus: Any) -> list[Any]:
        since, found = {0: 0}, []
        while not found or found[-1].batch.sequence < 60:
            try:
                taken = await bus.take(OUT, since, most=10, wait=0.5)
            except Unavailable:
                continue
            found += taken
            since = {0: found[-1].position} if found else since
        return found

    async def scenario() -> list[Any]:
        async with opened(url) as bus, opened(url) as other:
            await bus.declare(OUT, 1, ["s"])
            following = asyncio.create_task(follow(other))
            for cuts in range(3):
                publishing = asyncio.create_task(publish_many(bus, cuts * 20 + 1, cuts * 20 + 20))
                await asyncio.sleep(0.01)
                proxied.cut()
                await asyncio.sleep(0.2)
                proxied.begin()
                await publishing
            return await following

    found = played(scenario)
    positions = [delivery.position for delivery in found]
    assert positions == sorted(set(positions))
    assert in_order(found) == list(range(1, 61))


def test_a_broker_that_is_silent_is_unavailable_and_goes_on(own_broker, prefix):
    """It is frozen: nothing is acknowledged, everybody is told in time; afterwards all goes on by itself."""
    url = f"kafka://{own_broker.address}/{prefix}?timeout=2"

    async def unavailable(call: Coroutine[Any, Any, Any]) -> None:
        began = time.monotonic()
        with pytest.raises(Unavailable, match=rf"Kafka at {own_broker.address}"):
            await call
        assert time.monotonic() - began < 10

    async def scenario() -> None:
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            await bus.publish(OUT, batch(1, "1"))
            assert len(await take_all(bus, {0: 0})) == 1
            own_broker.signal(signal.SIGSTOP)
            try:
                await unavailable(bus.publish(OUT, batch(2, "2")))
                for _ in range(3):
                    await unavailable(bus.take(OUT, {0: 1}, most=10, wait=0))
                assert len(bus._opened.readers._idle) == 1  # each attempt takes the same connection
                await unavailable(bus.ends(OUT))
            finally:
                own_broker.signal(signal.SIGCONT)
            await publish_many(bus, 2, 4)
            assert in_order(await take_all(bus, {0: 0})) == [1, 2, 3, 4]

    played(scenario)


def test_who_waits_hears_of_an_outage_too(proxied, prefix, monkeypatch):
    """Silence is believed for a while only."""
    monkeypatch.setattr("tieline.buses.kafka.reader._BELIEVED", 0.5)

    async def scenario() -> None:
        async with opened(f"kafka://{proxied.address}/{prefix}?timeout=2") as bus:
            await bus.declare(OUT, 1, ["s"])
            assert await bus.take(OUT, {0: 0}, most=10, wait=0.1) == []
            proxied.cut()
            await asyncio.sleep(0.6)
            with pytest.raises(Unavailable):
                await bus.take(OUT, {0: 0}, most=10, wait=0.1)

    played(scenario)


def acknowledged_is_kept(proxied: Proxy, prefix: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """What does not get through to the broker is not acknowledged; as soon as it is there, it is."""

    async def scenario() -> None:
        async with opened(f"kafka://{proxied.address}/{prefix}") as bus:
            await bus.declare(OUT, 1, ["s"])
            await bus.publish(OUT, batch(1, "1"))
            meanwhile()
            proxied.lets_produce.clear()
            publishing = asyncio.create_task(bus.publish(OUT, batch(2, "2")))
            await asyncio.sleep(0.5)
            assert not publishing.done(), "acknowledged, and not there"
            proxied.lets_produce.set()
            await publishing
            assert await bus.ends(OUT) == {0: 2}

    played(scenario)


def test_nothing_is_acknowledged_that_the_broker_has_not_acknowledged(proxied, prefix):
    acknowledged_is_kept(proxied, prefix)


def test_a_publish_that_does_not_wait_for_the_report_would_be_found(proxied, prefix, monkeypatch):
    """The check above can fail: without the report, what is still on its way counts as kept."""

    class Hasty(writer._Reports):
        def __init__(self, count: int) -> None:
            super().__init__(count)
            self.all_in.set_result(None)

    with pytest.raises(AssertionError, match="acknowledged, and not there"):
        acknowledged_is_kept(proxied, prefix, lambda: monkeypatch.setattr(writer, "_Reports", Hasty))


# -- access ----------------------------------------------------------------------------------------------------

SECRET = "s3cr3t-of-the-bus"


def refused(url: str, what: str, caplog: Any, capfd: Any) -> None:
    """Whoever begins is told so, and nowhere is the secret seen."""

    async def scenario() -> None:
        async with opened(url) as bus:
            for call in (bus.declare(OUT, 1, ["s"]), bus.publish(OUT, batch(1, "1"))):
                with pytest.raises(AccessRefused, match=what) as raised:
                    await call
                assert SECRET not in f"{raised.value!r} {raised.value} {bus._address!r}"

    played(scenario)
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def test_a_user_whom_the_broker_does_not_know_is_refused(tmp_path, prefix, caplog, capfd):
    with running(tmp_path, "--authentication") as broker:
        url = f"kafka://tieline:{SECRET}@{broker.address}/{prefix}?security=sasl_plaintext&timeout=2"
        refused(url, "SASL authentication error", caplog, capfd)


def test_a_broker_whose_certificate_is_nobodys_is_refused(tmp_path, prefix, caplog, capfd):
    """No secret is sent to it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    try:
        subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        missing("nothing makes a certificate", "install openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as door:

        def shake_hands() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with contextlib.suppress(ssl.SSLError), door.accept()[0] as client:
                        context.wrap_socket(client, server_side=True).close()

        threading.Thread(target=shake_hands, daemon=True).start()
        url = f"kafka://tieline:{SECRET}@127.0.0.1:{door.getsockname()[1]}/{prefix}?timeout=2"
        refused(url, "certificate verify failed", caplog, capfd)
        door.shutdown(socket.SHUT_RDWR)


# -- threads -----------------------------------------------------------------------------------------------------


def threads() -> int:
    """Also those of the client library, which Python does not know of."""
    return len(list(Path("/proc/self/task").iterdir()))


def test_no_thread_is_left_after_closing(broker, prefix):
    """Not even where somebody was still waiting."""
    before = threads()

    async def scenario() -> int:
        bus = open_bus(f"kafka://{broker.address}/{prefix}", Path())
        await bus.declare(OUT, 2, ["s"])
        await bus.publish(OUT, batch(1, "1"))
        waiting = asyncio.create_task(bus.take(OUT, await bus.ends(OUT), most=10, wait=60))
        await asyncio.sleep(0.3)
        assert threads() > before
        waiting.cancel()
        began = time.monotonic()
        await bus.close()
        assert time.monotonic() - began < 5
        return threads()

    played(scenario)
    assert [one.name for one in threading.enumerate() if "kafka" in one.name] == []
    assert threads() <= before


def test_who_is_cancelled_while_taking_takes_nothing_away(broker, prefix):
    """What had come for it is there for the next one."""

    async def scenario() -> list[str]:
        async with opened(f"kafka://{broker.address}/{prefix}") as bus:
            await bus.declare(OUT, 1, ["s"])
            waiting = asyncio.create_task(bus.take(OUT, {0: 0}, most=10, wait=20))
            await asyncio.sleep(0.2)
            await bus.publish(OUT, batch(1, "1"))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            return keys_of(await take_all(bus, await from_the_start(bus)))

    assert played(scenario) == ["1"]


def test_a_topic_that_somebody_else_writes_to_is_left_alone(broker, prefix):
    """The prefix keeps two landscapes on one cluster apart."""
    Producer({"bootstrap.servers": broker.address}).list_topics(timeout=10)

    async def scenario() -> None:
        async with (
            opened(f"kafka://{broker.address}/{prefix}") as bus,
            opened(f"kafka://{broker.address}/{prefix}x") as other,
        ):
            await bus.declare(OUT, 1, ["s"])
            with pytest.raises(ConfigurationError, match="is not declared"):
                await other.publish(OUT, batch(1, "1"))

    played(scenario)
