"""The suite that proves a bus. A test file of a keeper is about this::

    import pytest
    from tieline.testing.bus import BusSuite
    from ours import OurBus

    class TestOurBus(BusSuite):
        @pytest.fixture
        def url(self, tmp_path):
            return f"ours:///{tmp_path}"  # the address of an engine without channels

        def open(self, url):
            return OurBus(url)

`shared = False` says that what one bus object publishes is not there for another one, as in memory.
What a bus that does not seek owes instead is asked of it where its capabilities say so.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TypeVar

import msgspec
import pytest

from tieline.bus import Bus, Delivery, Guarantee
from tieline.errors import ConfigurationError, Unavailable
from tieline.message import Batch, Message, Version, partition_of

T = TypeVar("T")

OUT: Final = "shop.order/out"
LONG: Final = 20.0  # seconds: what ends long before did not wait
SHORT: Final = 0.2

Play = Callable[[Callable[[Bus], Coroutine[Any, Any, T]]], T]


def batch(sequence: int, *keys: str, **more: Any) -> Batch:
    """A batch of one message per key."""
    made = Batch(
        source="shop.order",
        entity="Order",
        schema=1,
        sequence=sequence,
        time=datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
        messages=[
            Message(
                id=(sequence * 10_000 + ordinal).to_bytes(16, "big"),
                key=key,
                version=Version(1, sequence * 10_000 + ordinal),
                data=msgspec.Raw(msgspec.json.encode({"key": key, "total": "12.50"})),
                origin="erp" if ordinal % 2 else "",
            )
            for ordinal, key in enumerate(keys)
        ],
    )
    return msgspec.structs.replace(made, **more)


def keys_of(found: Iterable[Delivery]) -> list[str]:
    """The keys of all messages delivered, in order."""
    return [message.key for delivery in found for message in delivery.batch.messages]


def in_place(found: Iterable[Delivery]) -> list[Delivery]:
    """Partition by partition: in which order partitions take turns, nobody promises."""
    return sorted(found, key=lambda delivery: (delivery.partition, delivery.position))


def after(found: Iterable[Delivery], before: Mapping[int, int]) -> dict[int, int]:
    """The positions behind what was delivered."""
    return {**before, **{delivery.partition: delivery.position for delivery in found}}


async def take_all(
    bus: Bus, since: Mapping[int, int], channel: str = OUT, most: int = 1_000, subscription: str = "s"
) -> list[Delivery]:
    """Everything there is after these positions, for a subscription."""
    everything: list[Delivery] = []
    while found := await bus.take(channel, since, most=most, wait=0, subscription=subscription):
        since = after(found, since)
        everything += found
    return everything


async def from_the_start(bus: Bus, channel: str = OUT) -> dict[int, int]:
    """Position nought in each partition."""
    return dict.fromkeys(await bus.ends(channel), 0)


class BusSuite:
    """Every promise of `tieline.bus`, a test each."""

    shared: ClassVar[bool] = True

    @pytest.fixture
    def url(self) -> str:
        """The address of an engine without channels."""
        raise NotImplementedError("give the suite a fixture `url` with the address of an engine without channels")

    def open(self, url: str) -> Bus:
        """A bus of the kind under test."""
        raise NotImplementedError("give the suite a method `open` that opens a bus at an address")

    @pytest.fixture
    def play(self, url: str) -> Play[Any]:
        """Run a scenario on a new bus."""

        async def opened(scenario: Callable[[Bus], Coroutine[Any, Any, Any]]) -> Any:
            bus = self.open(url)
            try:
                async with asyncio.timeout(120):
                    return await scenario(bus)
            finally:
                await bus.close()

        return lambda scenario: asyncio.run(opened(scenario))

    def test_what_is_published_is_taken_whole(self, play: Play[Any]) -> None:
        """Every message with everything in it, and all that the batch says of them."""
        sent = batch(7, "a", "b", "a", to="orders→erp", force=True, trace="00-1-2-01")

        async def scenario(bus: Bus) -> list[Delivery]:
            await bus.declare(OUT, 1, ["s"])
            await bus.publish(OUT, sent)
            return await take_all(bus, {0: 0})

        (delivery,) = play(scenario)
        assert delivery.partition == 0
        assert delivery.position > 0
        assert delivery.batch == sent

    def test_a_partition_is_in_the_order_of_publishing(self, play: Play[Any]) -> None:
        """Positions rise, batches come in order, and so do the messages in them."""
        batches = [batch(n, f"{n}/1", f"{n}/2") for n in range(1, 40)]

        async def scenario(bus: Bus) -> list[Delivery]:
            await bus.declare(OUT, 1, ["s"])
            for one in batches:
                await bus.publish(OUT, one)
            return await take_all(bus, {0: 0}, most=7)

        found = play(scenario)
        assert [delivery.batch for delivery in found] == batches
        positions = [delivery.position for delivery in found]
        assert positions == sorted(set(positions))

    def test_a_key_has_its_partition(self, play: Play[Any]) -> None:
        """Each message is where its key belongs, an event where its subject does, in the order of the batch."""
        keys = [f"key {n}" for n in range(100)]
        events = batch(2, *keys)
        events = msgspec.structs.replace(
            events,
            messages=[msgspec.structs.replace(m, subject=f"meter {n % 3}") for n, m in enumerate(events.messages)],
        )

        async def scenario(bus: Bus) -> list[Delivery]:
            await bus.declare(OUT, 4, ["s"])
            await bus.publish(OUT, batch(1, *keys))
            await bus.publish(OUT, events)
            return await take_all(bus, await from_the_start(bus))

        found: list[Delivery] = play(scenario)
        assert {delivery.partition for delivery in found} == {0, 1, 2, 3}
        for delivery in found:
            for message in delivery.batch.messages:
                assert partition_of(message.subject or message.key, 4) == delivery.partition
        assert sorted(keys_of(found)) == sorted(keys * 2)
        for sequence in (1, 2):
            for delivery in found:
                if delivery.batch.sequence == sequence:
                    versions = [message.version for message in delivery.batch.messages]
                    assert versions == sorted(versions)

    def test_taking_starts_where_the_caller_says(self, play: Play[Any]) -> None:
        """Exactly what follows a position, any number of times, as long as somebody still needs it."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["s"])
            for number in range(1, 6):
                await bus.publish(OUT, batch(number, f"{number}"))
            everything = await take_all(bus, {0: 0})
            assert keys_of(everything) == ["1", "2", "3", "4", "5"]
            for delivery, following in zip(everything, range(1, 6), strict=True):
                for _ in range(2):
                    rest = await take_all(bus, {0: delivery.position})
                    assert keys_of(rest) == [f"{n}" for n in range(following + 1, 6)]

        play(scenario)

    def test_only_named_partitions_are_taken(self, play: Play[Any]) -> None:
        """What is not assigned is left alone."""

        async def scenario(bus: Bus) -> list[Delivery]:
            await bus.declare(OUT, 4, ["s"])
            await bus.publish(OUT, batch(1, *(f"{n}" for n in range(100))))
            return await take_all(bus, {1: 0, 3: 0})

        assert {delivery.partition for delivery in play(scenario)} == {1, 3}

    def test_about_so_many_are_taken(self, play: Play[Any]) -> None:
        """A small number gives little, but never nothing where there is something."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["s"])
            for number in range(1, 21):
                await bus.publish(OUT, batch(number, *(f"{number}/{n}" for n in range(10))))
            assert len(keys_of(await bus.take(OUT, {0: 0}, most=1, wait=LONG, subscription="s"))) == 10
            assert len(keys_of(await bus.take(OUT, {0: 0}, most=50, wait=LONG, subscription="s"))) <= 60

        play(scenario)

    def test_taking_waits_while_there_is_nothing(self, play: Play[Any]) -> None:
        """As long as it was told, and then it says so with an empty list."""

        async def scenario(bus: Bus) -> float:
            await bus.declare(OUT, 1, ["s"])
            await bus.take(OUT, {0: 0}, most=10, wait=SHORT, subscription="s")
            began = time.monotonic()
            assert await bus.take(OUT, {0: 0}, most=10, wait=SHORT, subscription="s") == []
            return time.monotonic() - began

        assert SHORT * 0.9 <= play(scenario) < LONG / 2

    def test_who_waits_is_woken_by_what_is_published(self, play: Play[Any]) -> None:
        """Promptly, each time, and everybody who waits."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["a", "b"])
            since = {0: 0}
            for number in range(1, 4):
                waiting = [
                    asyncio.create_task(bus.take(OUT, since, most=10, wait=LONG, subscription=subscription))
                    for subscription in ("a", "b")
                ]
                await asyncio.sleep(0.1)
                began = time.monotonic()
                await bus.publish(OUT, batch(number, f"{number}"))
                first, second = await asyncio.gather(*waiting)
                assert time.monotonic() - began < LONG / 2
                assert keys_of(first) == keys_of(second) == [f"{number}"]
                since = after(first, since)

        play(scenario)

    def test_ends_are_the_last_positions(self, play: Play[Any]) -> None:
        """Nought where nothing was published; nothing is after them."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 2, ["s"])
            assert await bus.ends(OUT) == {0: 0, 1: 0}
            for number in range(1, 4):
                await bus.publish(OUT, batch(number, "always the same key"))
            found = await take_all(bus, {0: 0, 1: 0})
            assert await bus.ends(OUT) == after(found, {0: 0, 1: 0})
            assert await bus.take(OUT, await bus.ends(OUT), most=10, wait=0, subscription="s") == []

        play(scenario)

    def test_depth_counts_messages(self, play: Play[Any]) -> None:
        """Messages, not batches, after the given positions; without seeking, whether there are any."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["s"])
            assert await bus.depth(OUT, {0: 0}) == 0
            for number, count in enumerate((3, 1, 7), start=1):
                await bus.publish(OUT, batch(number, *(f"{n}" for n in range(count))))
            found = await take_all(bus, {0: 0})
            depths = [await bus.depth(OUT, {0: delivery.position}) for delivery in found]
            depths.insert(0, await bus.depth(OUT, {0: 0}))
            if bus.capabilities.seeks:
                assert depths == [11, 8, 7, 0]
            else:
                assert [depth > 0 for depth in depths] == [True, True, True, False]

        play(scenario)

    def test_what_somebody_still_needs_is_kept(self, play: Play[Any]) -> None:
        """The slowest subscription decides what is let go of; positions go on."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["a", "b"])
            for number in range(1, 6):
                await bus.publish(OUT, batch(number, f"{number}"))
            everything = await take_all(bus, {0: 0}, subscription="a")
            await bus.done(OUT, "a", {0: everything[4].position})
            assert keys_of(await take_all(bus, {0: 0}, subscription="b")) == ["1", "2", "3", "4", "5"]
            await bus.done(OUT, "b", {0: everything[1].position})
            rest = await take_all(bus, {0: everything[1].position}, subscription="b")
            assert keys_of(rest) == ["3", "4", "5"]
            await bus.done(OUT, "b", {0: everything[4].position})
            await bus.publish(OUT, batch(6, "6"))
            (last,) = await take_all(bus, {0: everything[4].position}, subscription="b")
            assert keys_of([last]) == ["6"]
            assert last.position > everything[4].position

        play(scenario)

    def test_done_never_goes_back(self, play: Play[Any]) -> None:
        """An older position that comes late changes nothing for the others, and loses nothing."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["a", "b"])
            for number in range(1, 4):
                await bus.publish(OUT, batch(number, f"{number}"))
            everything = await take_all(bus, {0: 0}, subscription="a")
            await bus.done(OUT, "a", {0: everything[1].position})
            await bus.done(OUT, "a", {0: everything[0].position})
            await bus.done(OUT, "b", {0: everything[0].position})
            for subscription, left in (("a", ["3"]), ("b", ["2", "3"])):
                since = {0: everything[3 - len(left) - 1].position}
                assert keys_of(await take_all(bus, since, subscription=subscription)) == left

        play(scenario)

    def test_a_new_subscription_keeps_what_comes_from_now_on(self, play: Play[Any]) -> None:
        """From the ends at the time it was declared, nothing is missed, however fast the others are."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["a"])
            await bus.publish(OUT, batch(1, "1"))
            await bus.declare(OUT, 1, ["a", "b"])
            since = await bus.ends(OUT)
            await bus.publish(OUT, batch(2, "2"))
            await bus.done(OUT, "a", await bus.ends(OUT))
            assert keys_of(await take_all(bus, since, subscription="b")) == ["2"]

        play(scenario)

    def test_declaring_again_changes_nothing(self, play: Play[Any]) -> None:
        """A restart declares what is there already: nothing is lost by it."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 2, ["a", "b"])
            await bus.publish(OUT, batch(1, "1", "2", "3"))
            ends = await bus.ends(OUT)
            await bus.declare(OUT, 2, ["a", "b"])
            assert await bus.ends(OUT) == ends
            await bus.done(OUT, "a", ends)
            assert sorted(keys_of(await take_all(bus, {0: 0, 1: 0}, subscription="b"))) == ["1", "2", "3"]

        play(scenario)

    def test_the_number_of_partitions_is_fixed(self, play: Play[Any]) -> None:
        """Declaring another one is a mistake that names the channel: the place of every key hangs on it."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 2, ["s"])
            with pytest.raises(ConfigurationError, match=OUT):
                await bus.declare(OUT, 4, ["s"])

        play(scenario)

    def test_publishing_where_nothing_was_declared_is_a_mistake(self, play: Play[Any]) -> None:
        """It is told, and names the channel: a message is never dropped in silence."""

        async def scenario(bus: Bus) -> None:
            with pytest.raises(ConfigurationError, match="nobody's"):
                await bus.publish("nobody's", batch(1, "1"))

        play(scenario)

    def test_a_forgotten_subscription_holds_up_nothing(self, play: Play[Any]) -> None:
        """The others go on; with the last one goes the channel, and forgetting again is no trouble."""

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["a", "b"])
            await bus.publish(OUT, batch(1, "1"))
            await bus.forget(OUT, "b")
            assert keys_of(await take_all(bus, {0: 0}, subscription="a")) == ["1"]
            await bus.forget(OUT, "b")
            await bus.forget(OUT, "a")
            await bus.forget(OUT, "a")
            with pytest.raises(ConfigurationError):
                await bus.publish(OUT, batch(2, "2"))

        play(scenario)

    def test_channels_do_not_mix(self, play: Play[Any]) -> None:
        """Two channels share an engine and nothing else."""

        async def scenario(bus: Bus) -> None:
            for channel in (OUT, "erp.stock/out"):
                await bus.declare(channel, 1, ["s"])
                await bus.publish(channel, batch(1, channel))
            assert keys_of(await take_all(bus, {0: 0})) == [OUT]
            assert keys_of(await take_all(bus, {0: 0}, "erp.stock/out")) == ["erp.stock/out"]

        play(scenario)

    def test_a_batch_of_full_size_passes(self, play: Play[Any]) -> None:
        """2,000 messages and 4 MB arrive as they left, over one partition or several."""
        data = msgspec.Raw(msgspec.json.encode({"text": "x" * 1_980}))
        full = batch(1, *(f"key {n}" for n in range(2_000)))
        full = msgspec.structs.replace(full, messages=[msgspec.structs.replace(m, data=data) for m in full.messages])

        async def scenario(bus: Bus) -> None:
            for channel, partitions in ((OUT, 1), ("spread", 8)):
                await bus.declare(channel, partitions, ["s"])
                await bus.publish(channel, full)
                found = await take_all(bus, await from_the_start(bus, channel), channel, most=5_000)
                messages = [message for delivery in found for message in delivery.batch.messages]
                assert sorted(messages, key=lambda m: m.version) == full.messages

        play(scenario)

    def test_any_text_passes(self, play: Play[Any]) -> None:
        """Keys and subjects are nobody's syntax."""
        texts = ["O'Brien\"s; --", "Bäckerei 🥐", "長" * 10_000, "a\tb\nc\r", "a\0b", "% ? $1 * > .", "{}[]", " a "]

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 4, ["s"])
            await bus.publish(OUT, batch(1, *texts))
            found = await take_all(bus, await from_the_start(bus))
            assert sorted(keys_of(found)) == sorted(texts)

        play(scenario)

    def test_publishers_at_once_lose_nothing(self, play: Play[Any]) -> None:
        """Each one's batches stay in its order; a taker that follows the positions gets every one once."""

        async def publish(bus: Bus, publisher: int) -> None:
            for number in range(1, 31):
                await bus.publish(OUT, batch(number, f"{publisher}:{number}", source=f"source {publisher}"))

        async def follow(bus: Bus) -> list[str]:
            since = await from_the_start(bus)
            found: list[str] = []
            while len(found) < 120:
                taken = await bus.take(OUT, since, most=20, wait=LONG, subscription="s")
                since = after(taken, since)
                found += keys_of(taken)
            return found

        async def scenario(bus: Bus) -> list[str]:
            self._skip_unless(
                bus.capabilities.seeks, "positions are batch numbers, and a channel's one source gives them"
            )
            await bus.declare(OUT, 1, ["s"])
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(follow(bus))
                for publisher in range(4):
                    tasks.create_task(publish(bus, publisher))
            return following.result()

        found = play(scenario)
        assert len(found) == 120
        for publisher in range(4):
            own = [key for key in found if key.startswith(f"{publisher}:")]
            assert own == [f"{publisher}:{number}" for number in range(1, 31)]

    def test_another_worker_takes_what_was_published(self, url: str, play: Play[Any]) -> None:
        """A second bus object on the engine sees the first one's batches, also while it waits for them."""
        self._skip_unless(self.shared, "this bus belongs to one process")

        async def scenario(bus: Bus) -> None:
            await bus.declare(OUT, 1, ["s"])
            other = self.open(url)
            try:
                waiting = asyncio.create_task(other.take(OUT, {0: 0}, most=10, wait=LONG, subscription="s"))
                await asyncio.sleep(0.1)
                began = time.monotonic()
                await bus.publish(OUT, batch(1, "1"))
                assert keys_of(await waiting) == ["1"]
                assert time.monotonic() - began < LONG / 2
                await other.publish(OUT, batch(2, "2"))
            finally:
                await other.close()
            assert keys_of(await take_all(bus, {0: 0})) == ["1", "2"]

        play(scenario)

    def test_what_was_acknowledged_is_there_after_reopening(self, url: str, play: Play[Any]) -> None:
        """When the last bus object is gone, batches, positions and subscriptions are still kept."""

        async def first(bus: Bus) -> Sequence[Delivery] | None:
            await bus.declare(OUT, 2, ["s"])
            if bus.capabilities.guarantee < Guarantee.WRITTEN:
                return None
            await bus.publish(OUT, batch(1, "1", "2", "3"))
            await bus.publish(OUT, batch(2, "4", "5", "6"))
            return await take_all(bus, {0: 0, 1: 0})

        async def second(bus: Bus) -> Sequence[Delivery]:
            found = await take_all(bus, {0: 0, 1: 0})
            await bus.publish(OUT, batch(3, "7"))
            assert keys_of(await take_all(bus, after(found, {0: 0, 1: 0}))) == ["7"]
            return found

        before = play(first)
        self._skip_unless(before is not None, "this bus promises nothing beyond its process")
        assert in_place(play(second)) == in_place(before)

    # -- what a bus owes that does not seek -----------------------------------------------------------

    def test_a_batch_that_is_published_twice_is_there_once(self, url: str, play: Play[Any]) -> None:
        """A publisher that was cut off begins again, one that stood still goes on with what others published."""

        async def scenario(bus: Bus) -> tuple[list[Delivery], dict[int, int]]:
            self._skip_unless(not bus.capabilities.seeks, "what is published twice is known by its batch number")
            await bus.declare(OUT, 1, ["s"])
            other = self.open(url)
            try:
                for number in (1, 2, 3, 4):
                    await bus.publish(OUT, batch(number, f"{number}"))
                for number in (2, 3):
                    await other.publish(OUT, batch(number, f"{number}"))
                await bus.publish(OUT, batch(5, "5"))
            finally:
                await other.close()
            return await take_all(bus, {0: 0}), await bus.ends(OUT)

        found, ends = play(scenario)
        assert keys_of(found) == ["1", "2", "3", "4", "5"]
        assert [delivery.position for delivery in found] == [1, 2, 3, 4, 5]
        assert ends == {0: 5}

    def test_what_is_not_done_is_given_again_to_whoever_takes_next(self, url: str, play: Play[Any]) -> None:
        """In order, from the oldest, whatever was done with behind it."""

        async def scenario(bus: Bus) -> None:
            self._skip_unless(not bus.capabilities.seeks, "whoever takes says from where")
            await bus.declare(OUT, 2, ["s"])
            for number in range(1, 31):
                await bus.publish(OUT, batch(number, f"{number}/1", f"{number}/2"))
            first = self.open(url)
            try:
                found = await take_all(first, {0: 0, 1: 0})
                done = {p: [d.position for d in found if d.partition == p][2] for p in (0, 1)}
                await first.done(OUT, "s", done)
            finally:
                await first.close()
            again = await take_all(bus, {0: 0, 1: 0})
            for partition in (0, 1):
                expected = [d for d in found if d.partition == partition and d.position > done[partition]]
                assert [d for d in again if d.partition == partition] == expected

        play(scenario)

    def test_nobody_is_told_that_a_partition_is_empty_which_another_one_has(self, url: str, play: Play[Any]) -> None:
        """What is not acknowledged there would be taken for passed; it comes once the other one lets go."""

        async def scenario(bus: Bus) -> None:
            self._skip_unless(not bus.capabilities.seeks, "anybody may look anywhere")
            await bus.declare(OUT, 2, ["s"])
            other = self.open(url)
            try:
                await bus.publish(OUT, batch(1, "1", "2", "3", "4"))
                found = await take_all(other, {0: 0, 1: 0})
                assert len(keys_of(found)) == 4
                with pytest.raises(Unavailable):
                    await bus.take(OUT, {0: 0}, most=10, wait=SHORT, subscription="s")
                waiting = asyncio.create_task(bus.take(OUT, {0: 0}, most=10, wait=LONG, subscription="s"))
                await asyncio.sleep(0.1)
                await other.take(OUT, after(found, {1: 0}) | {}, most=10, wait=0, subscription="s")
                assert not waiting.done()
                await other.take(OUT, {1: 0}, most=10, wait=0, subscription="s")
                assert await waiting == [d for d in found if d.partition == 0]
            finally:
                await other.close()

        play(scenario)

    @staticmethod
    def _skip_unless(condition: bool, reason: str) -> None:
        if not condition:
            pytest.skip(reason)
