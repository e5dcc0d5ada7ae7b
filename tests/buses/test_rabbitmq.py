"""The bus in RabbitMQ, on a server of the tests' own that is killed, filled up and misconfigured."""

import asyncio
import re
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import aiormq
import msgspec
import pytest

from tieline.buses.rabbitmq import bus as rabbitmq_bus
from tieline.buses.rabbitmq import open_bus, taking
from tieline.buses.rabbitmq.names import Names
from tieline.errors import AccessRefused, ConfigurationError, Unavailable
from tieline.testing.bus import OUT, BusSuite, after, batch, keys_of, take_all

pytestmark = pytest.mark.services

LONG = 30.0  # seconds: what ends long before did not wait


@pytest.fixture
def prefix():
    return f"t{uuid4().hex[:8]}"


@pytest.fixture
def url(rabbitmq_node, prefix):
    """The server, and names of this test's own in it."""
    return f"{rabbitmq_node.url}?prefix={prefix}"


class TestRabbitBus(BusSuite):
    @pytest.fixture
    def url(self, rabbitmq_node, prefix):
        return f"{rabbitmq_node.url}?prefix={prefix}"

    def open(self, url):
        return open_bus(url, Path())


@asynccontextmanager
async def opened(url):
    bus = open_bus(url, Path())
    try:
        yield bus
    finally:
        await bus.close()


async def until_it_works(work, seconds=120.0):
    """What a worker does: try again while the engine is not to be had."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await work()
            except Unavailable:
                await asyncio.sleep(0.1)


async def take(bus, since, wait=LONG, partitions=None, subscription="s"):
    return await bus.take(OUT, since, most=1_000, wait=wait, subscription=subscription)


# -- outages ---------------------------------------------------------------------------------------------------


async def publish_while_killed(node, url, count=60, kills=2):
    """Publish and take while the server dies and comes back; gives the keys as they came."""
    found = []
    async with opened(url) as publisher, opened(url) as taker:
        await publisher.declare(OUT, 1, ["s"])

        async def publish():
            for number in range(1, count + 1):
                await until_it_works(partial(publisher.publish, OUT, batch(number, f"{number}")))
                await asyncio.sleep(0.01)

        async def follow():
            since = {0: 0}
            while len(found) < count:
                taken = await until_it_works(partial(take, taker, since, wait=1.0))
                found.extend(keys_of(taken))
                since = after(taken, since)
                if len(found) % 3 == 0:
                    await until_it_works(partial(taker.done, OUT, "s", since))

        async def kill():
            for _ in range(kills):
                await asyncio.sleep(0.25)
                await asyncio.to_thread(node.kill)
                await asyncio.to_thread(node.start_again)

        async with asyncio.timeout(200), asyncio.TaskGroup() as tasks:
            for work in (publish, follow, kill):
                tasks.create_task(work())
    return found


def test_a_server_that_is_killed_and_comes_back_loses_nothing(rabbitmq_node, url):
    """In the middle of publishing and taking: what was confirmed is there, in order, and nothing twice."""
    found = asyncio.run(publish_while_killed(rabbitmq_node, url))
    assert found == [f"{number}" for number in range(1, 61)]


def test_a_server_that_is_away_is_unavailable(url):
    """Whatever is asked of it, and it says where it should be."""

    async def ask():
        async with opened(re.sub(r":\d+/", ":9/", url)) as bus:
            for work in (
                bus.declare(OUT, 1, ["s"]),
                bus.publish(OUT, batch(1, "1")),
                take(bus, {0: 0}),
                bus.ends(OUT),
                bus.forget(OUT, "s"),
            ):
                with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
                    await work

    asyncio.run(ask())


def test_an_alarm_is_told_and_waited_out(rabbitmq_node, url):
    """A server short of memory takes nothing: that is said at once, what is there can be taken, and it goes on."""

    async def fill_up():
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            await bus.publish(OUT, batch(1, "1"))
            await asyncio.to_thread(rabbitmq_node.control, "set_vm_memory_high_watermark", "0.00001")
            try:
                async with asyncio.timeout(LONG):
                    for _ in range(2):
                        with pytest.raises(Unavailable, match="alarm"):
                            await bus.publish(OUT, batch(2, "2"))
                assert keys_of(await take(bus, {0: 0})) == ["1"]
                await bus.done(OUT, "s", {0: 1})
            finally:
                await asyncio.to_thread(rabbitmq_node.control, "set_vm_memory_high_watermark", "0.8")
            await until_it_works(lambda: bus.publish(OUT, batch(2, "2")))
            await until_it_works(lambda: bus.publish(OUT, batch(3, "3")))
            assert keys_of(await take_all(bus, {0: 1})) == ["2", "3"]

    asyncio.run(fill_up())


def test_a_subscription_that_is_not_done_for_too_long_loses_nothing(rabbitmq_node, url):
    """The server closes the channel of who has not acknowledged for long: what is not done comes again, in order."""

    async def be_slow():
        rabbitmq_node.evaluate("application:set_env(rabbit, consumer_timeout, 1000).")
        try:
            async with opened(url) as bus:
                await bus.declare(OUT, 1, ["s"])
                for number in range(1, 6):
                    await bus.publish(OUT, batch(number, f"{number}"))
                assert len(await take_all(bus, {0: 0})) == 5
                channel = bus._subscribers[OUT, "s"].consumers[0]._channel
                async with asyncio.timeout(LONG):
                    while not channel.is_closed:
                        await asyncio.sleep(0.1)
                await bus.done(OUT, "s", {0: 2})
                await bus.publish(OUT, batch(6, "6"))
                assert keys_of(await take(bus, {0: 5})) == ["6"]
                assert keys_of(await take_all(bus, {0: 0})) == ["3", "4", "5", "6"]
                await bus.done(OUT, "s", {0: 6})
            async with opened(url) as bus:
                assert await take(bus, {0: 0}, wait=0) == []
        finally:
            rabbitmq_node.evaluate("application:set_env(rabbit, consumer_timeout, 1800000).")

    asyncio.run(be_slow())


def test_who_stands_still_is_taken_over_from(url, monkeypatch):
    """What nobody takes is given back after a while, and comes to whoever waits for it, oldest first."""
    monkeypatch.setattr(rabbitmq_bus, "LET_GO", 0.5)

    async def take_over():
        async with opened(url) as first, opened(url) as second:
            await first.declare(OUT, 1, ["s"])
            for number in range(1, 200):
                await first.publish(OUT, batch(number, f"{number}"))
            found = await take_all(first, {0: 0})
            await first.done(OUT, "s", {0: 3})
            assert len(found) > 3
            again = []
            while len(again) < 196:
                taken = await until_it_works(partial(take, second, {0: 3 + len(again)}, wait=1.0), LONG)
                again += keys_of(taken)
                await second.done(OUT, "s", {0: 3 + len(again)})
            assert again == [f"{number}" for number in range(4, 200)]
            # The first one comes back late: what it is done with changes nothing, and it gets what is new.
            await first.done(OUT, "s", {0: 150})
            await second.close()
            await first.publish(OUT, batch(200, "200"))
            assert keys_of(await take_all(first, {0: 150})) == ["200"]

    asyncio.run(take_over())


def test_who_waits_asks_nothing(rabbitmq_node, url):
    """A take that waits costs the server its heartbeats and nothing else."""

    def received(prefix):
        told = rabbitmq_node.control("list_connections", "recv_oct", "state").splitlines()
        return sum(int(line.split()[0]) for line in told if line.endswith("running"))

    async def wait():
        async with opened(url) as bus:
            await bus.declare(OUT, 4, ["s"])
            since = dict.fromkeys(range(4), 0)
            assert await take(bus, since, wait=0.1) == []
            waiting = asyncio.create_task(take(bus, since, wait=8.0))
            await asyncio.sleep(1.0)
            before = await asyncio.to_thread(received, url)
            await asyncio.sleep(4.0)
            assert await asyncio.to_thread(received, url) - before <= 4 * 8  # a heartbeat is eight bytes long
            assert await waiting == []

    asyncio.run(wait())


# -- pieces ----------------------------------------------------------------------------------------------------


def test_a_batch_of_more_pieces_than_may_come_ahead_is_whole_all_the_same(url, monkeypatch):
    """And so are those before and behind it."""
    monkeypatch.setattr(taking, "_AHEAD", 3)
    large = batch(2, "2")
    data = msgspec.Raw(msgspec.json.encode("x" * 3_000_000))
    large = msgspec.structs.replace(large, messages=[msgspec.structs.replace(large.messages[0], data=data)])

    async def send():
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            sent = [batch(1, "1"), large, batch(3, "3")]
            for one in sent:
                await bus.publish(OUT, one)
            first = await take(bus, {0: 0})
            assert [delivery.batch for delivery in first] == sent[:1]
            rest = await take(bus, {0: 1})
            rest += await take_all(bus, after(rest, {}))
            assert [delivery.batch for delivery in rest] == sent[1:]

    asyncio.run(send())


def test_pieces_that_were_cut_off_are_left_out(url, monkeypatch):
    """A publisher that dies in the middle leaves pieces behind; whoever repeats the batch brings it whole."""
    monkeypatch.setattr(rabbitmq_bus, "_LONGEST", 300)

    async def send():
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            names, sent = Names(bus._prefix, OUT), batch(2, *"abcdefghij")
            await bus.publish(OUT, batch(1, "1"))
            letters = rabbitmq_bus._letters(names.exchange, "0", sent)
            assert len(letters) > 3
            await bus._publisher.publish(OUT, letters[:-1])
            await bus.publish(OUT, sent)
            await bus.publish(OUT, batch(3, "3"))
            assert [delivery.batch for delivery in await take_all(bus, {0: 1})] == [sent, batch(3, "3")]
            await bus.done(OUT, "s", {0: 2})
        async with opened(url) as bus:
            assert keys_of(await take_all(bus, {0: 0})) == ["3"]

    asyncio.run(send())


# -- what is set up otherwise ----------------------------------------------------------------------------------


def test_refused_credentials_are_told(url):
    """User, password and virtual host; none of it shows the password."""

    async def ask(address):
        async with opened(address) as bus:
            with pytest.raises(AccessRefused) as refused:
                await bus.declare(OUT, 1, ["s"])
        return str(refused.value)

    told = asyncio.run(ask(url.replace("guest:guest", "guest:wrong-one")))
    assert "refuses this user and password" in told
    assert "wrong-one" not in told
    assert "virtual host 'nowhere'" in asyncio.run(ask(url.replace("/?", "/nowhere?")))


def test_a_user_without_rights_is_told_which(rabbitmq_node, url):
    """The server's own words name what may not be done."""
    rabbitmq_node.control("add_user", "narrow", "narrow")
    rabbitmq_node.control("set_permissions", "narrow", "^$", "^$", "^$")

    async def ask():
        async with opened(url.replace("guest:guest", "narrow:narrow")) as bus:
            with pytest.raises(AccessRefused, match="access to"):
                await bus.declare(OUT, 1, ["s"])

    try:
        asyncio.run(ask())
    finally:
        rabbitmq_node.control("delete_user", "narrow")


def test_a_queue_that_is_declared_otherwise_is_a_mistake_with_a_remedy(url, prefix):
    """Somebody made a queue of that name by hand."""

    async def ask():
        connection = await aiormq.connect(url)
        try:
            channel = await connection.channel()
            await channel.queue_declare(Names(prefix, OUT).queue(0, "s"), durable=True)
        finally:
            await connection.close()
        async with opened(url) as bus:
            with pytest.raises(
                ConfigurationError, match=r"declared otherwise.*inequivalent.*→ let its queues run empty"
            ):
                await bus.declare(OUT, 1, ["s"])

    asyncio.run(ask())


def test_what_a_policy_drops_is_told_at_the_next_start(rabbitmq_node, url, prefix):
    """An age limit that somebody set for all queues: which it was, and what to do."""

    async def lose():
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            rabbitmq_node.control(
                "set_policy", prefix, f"^{prefix}#.*#s$", '{"message-ttl": 1}', "--apply-to", "queues"
            )
            try:
                await bus.publish(OUT, batch(1, "1"))
                async with asyncio.timeout(LONG):
                    while True:
                        await asyncio.sleep(0.2)
                        try:
                            await bus.declare(OUT, 1, ["s"])
                        except ConfigurationError as error:
                            return str(error)
            finally:
                rabbitmq_node.control("clear_policy", prefix)

    told = asyncio.run(lose())
    assert "dropped them (expired)" in told
    assert "message-ttl" in told
    assert "tieline backfill" in told


def test_a_delivery_limit_that_drops_is_told_too(rabbitmq_node, url, prefix):
    """As version 4 has one for every queue that does not say otherwise."""

    async def lose():
        rabbitmq_node.control(
            "set_policy", prefix, f"^{prefix}#.*#s$", '{"delivery-limit": 1}', "--apply-to", "queues"
        )
        try:
            async with opened(url) as bus:
                await bus.declare(OUT, 1, ["s"])
                await bus.publish(OUT, batch(1, "1"))
            for _ in range(3):
                async with opened(url) as bus:
                    await take(bus, {0: 0}, wait=0)
            async with opened(url) as bus:
                with pytest.raises(
                    ConfigurationError, match=r"dropped them \(delivery_limit\).*→ take delivery-limit"
                ):
                    await bus.declare(OUT, 1, ["s"])
        finally:
            rabbitmq_node.control("clear_policy", prefix)

    asyncio.run(lose())


def test_a_queue_that_was_deleted_is_missed_by_who_takes_and_who_publishes(url, prefix):
    """A message that no queue takes is an error, never silence."""

    async def lose():
        async with opened(url) as bus:
            await bus.declare(OUT, 1, ["s"])
            waiting = asyncio.create_task(take(bus, {0: 0}))
            await asyncio.sleep(0.5)
            async with bus._asking.asking("it") as asked:
                await asked.queue_delete(Names(prefix, OUT).queue(0, "s"))
            with pytest.raises(ConfigurationError, match="is not there"):
                await waiting
            with pytest.raises(ConfigurationError, match="no queue that takes"):
                await bus.publish(OUT, batch(1, "1"))

    asyncio.run(lose())


@pytest.mark.parametrize("address", ["amqp://", "amqp://:5672/", "amqp://host:port/"])
def test_an_address_without_a_host_is_a_mistake(address):
    """It shows how one is written."""
    with pytest.raises(ConfigurationError, match="write amqp://"):
        open_bus(address, Path())


def test_names_are_told_apart_and_fit():
    """Whatever a channel or subscription is called."""
    texts = ["a", "a#0", "a#0#b", "長" * 100, "a" * 300, "a" * 299 + "b", "orders>erp", "@3e", ">", ""]
    names = [Names("p", text) for text in texts]
    made = [
        name for one in names for name in (one.exchange, one.dropped, one.end(0), *(one.queue(0, t) for t in texts))
    ]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[A-Za-z0-9_.:@#,/+ -]{1,127}", name) for name in made)
