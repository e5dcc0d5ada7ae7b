"""Channels keep packed batches in order, with positions that have no gaps, until nobody needs them."""

import asyncio
from collections.abc import Callable

import pytest

from tieline.errors import ConfigurationError
from tieline.ledger import Kept, Stores
from tieline.testing.ledger.bench import Bench, Suite

OUT = "shop.order/out"


def _declare(bench: Bench, partitions: int = 1, *subscriptions: str) -> int:
    return bench(lambda stores: stores.channels.declare(OUT, partitions, subscriptions))


def _append(bench: Bench, *rows: tuple[int, int, int, bytes]) -> dict[int, int]:
    return bench(lambda stores: stores.channels.append(OUT, rows))


def _read(bench: Bench, after: dict[int, int], most: int = 10_000) -> list[Kept]:
    return bench(lambda stores: stores.channels.read(OUT, after, most))


def _done(bench: Bench, subscription: str, positions: dict[int, int]) -> None:
    bench(lambda stores: stores.channels.done(OUT, subscription, positions))


def _numbered(bench: Bench, number: int, partition: int = 0) -> None:
    """Append so many batches of one message."""
    _append(bench, *((partition, n, 1, f"batch {n}".encode()) for n in range(number)))


class ChannelsKept(Suite):
    """What `Stores.channels` promises."""

    def test_what_is_appended_is_read_in_order(self, bench: Bench) -> None:
        """Batches come back whole, in the order of their positions, which begin at one."""
        _declare(bench)
        assert _append(bench, (0, 7, 2, b"first"), (0, 8, 1, b"second")) == {0: 2}
        assert _append(bench, (0, 9, 3, b"\0third")) == {0: 3}
        expected = [Kept(0, 1, 7, 2, b"first"), Kept(0, 2, 8, 1, b"second"), Kept(0, 3, 9, 3, b"\0third")]
        assert _read(bench, {0: 0}) == expected
        assert _read(bench, {0: 1}) == expected[1:]
        assert _read(bench, {0: 3}) == []

    def test_reading_changes_nothing(self, bench: Bench) -> None:
        """From one position the same is read any number of times."""
        _declare(bench)
        _numbered(bench, 5)
        assert _read(bench, {0: 2}) == _read(bench, {0: 2})

    def test_each_partition_counts_for_itself(self, bench: Bench) -> None:
        """A partition has its own positions, and only those asked for are read."""
        _declare(bench, 4)
        assert _append(bench, (3, 1, 1, b"a"), (0, 1, 1, b"b"), (3, 2, 1, b"c")) == {3: 2, 0: 1}
        assert [(kept.partition, kept.position) for kept in _read(bench, {3: 0})] == [(3, 1), (3, 2)]
        assert [(kept.partition, kept.position) for kept in _read(bench, {0: 0, 3: 1, 2: 0})] == [(0, 1), (3, 2)]
        assert bench(lambda stores: stores.channels.ends(OUT)) == {0: 1, 1: 0, 2: 0, 3: 2}

    def test_channels_do_not_mix(self, bench: Bench) -> None:
        """Two channels share nothing but the store; one that is not there is empty."""
        _declare(bench)
        bench(lambda stores: stores.channels.declare("other", 1, []))
        _numbered(bench, 1)
        assert bench(lambda stores: stores.channels.read("other", {0: 0}, 10)) == []
        assert bench(lambda stores: stores.channels.read("nobody's", {0: 0}, 10)) == []
        assert bench(lambda stores: stores.channels.ends("nobody's")) == {}
        assert bench(lambda stores: stores.channels.depth("nobody's", {0: 0})) == 0

    def test_a_read_stops_after_about_so_many_messages(self, bench: Bench) -> None:
        """Not more than asked for, unless the first batch alone is more; never nothing where there is something."""
        _declare(bench)
        _append(bench, (0, 1, 500, b"a"), (0, 2, 500, b"b"), (0, 3, 2, b"c"))
        assert [kept.position for kept in _read(bench, {0: 0}, 1)] == [1]
        assert [kept.position for kept in _read(bench, {0: 0}, 999)] == [1]
        assert [kept.position for kept in _read(bench, {0: 0}, 1_000)] == [1, 2]
        assert [kept.position for kept in _read(bench, {0: 0}, 2_000)] == [1, 2, 3]

    def test_a_read_is_shared_out_over_the_partitions(self, bench: Bench) -> None:
        """A long partition does not keep the others waiting."""
        _declare(bench, 2)
        _numbered(bench, 100, partition=0)
        _numbered(bench, 5, partition=1)
        found = _read(bench, {0: 0, 1: 0}, 10)
        assert sorted(kept.partition for kept in found) == [0] * 5 + [1] * 5

    def test_a_read_stays_within_memory(self, bench: Bench) -> None:
        """Large batches are given a few at a time, whatever number of messages was asked for."""
        _declare(bench)
        for number in range(5):
            _append(bench, (0, number, 1, bytes(8_000_000)))
        positions: list[int] = []
        while found := _read(bench, {0: positions[-1] if positions else 0}):
            assert sum(len(kept.data) for kept in found) <= 32_000_000
            positions += [kept.position for kept in found]
        assert positions == [1, 2, 3, 4, 5]

    def test_a_channel_keeps_its_number_of_partitions(self, bench: Bench) -> None:
        """Declaring again gives the number it has, and changes nothing."""
        assert _declare(bench, 4) == 4
        _append(bench, (3, 1, 1, b"x"))
        assert _declare(bench, 8) == 4
        assert bench(lambda stores: stores.channels.ends(OUT)) == {0: 0, 1: 0, 2: 0, 3: 1}

    def test_appending_where_nothing_was_declared_is_a_mistake(self, bench: Bench) -> None:
        """It is told by name, and nothing is kept."""
        with pytest.raises(ConfigurationError, match=OUT):
            _append(bench, (0, 1, 1, b"x"))
        _declare(bench, 2)
        with pytest.raises(ConfigurationError, match="partition 2"):
            _append(bench, (0, 1, 1, b"x"), (2, 1, 1, b"x"))
        assert _read(bench, {0: 0, 1: 0}) == []

    def test_depth_counts_messages(self, bench: Bench) -> None:
        """Messages, not batches, after the given positions of the given partitions, also when some are dropped."""
        _declare(bench, 2, "s")
        _append(bench, (0, 1, 500, b"a"), (0, 2, 20, b"b"), (1, 2, 7, b"c"), (0, 3, 1, b"d"))
        assert self._depth(bench, {0: 0, 1: 0}) == 528
        assert self._depth(bench, {0: 1}) == 21
        assert self._depth(bench, {0: 3, 1: 0}) == 7
        assert self._depth(bench, {0: 3, 1: 1}) == 0
        _done(bench, "s", {0: 2, 1: 1})
        assert self._depth(bench, {0: 0, 1: 0}) == 1
        _done(bench, "s", {0: 3})
        assert self._depth(bench, {0: 0, 1: 0}) == 0

    @staticmethod
    def _depth(bench: Bench, after: dict[int, int]) -> int:
        return bench(lambda stores: stores.channels.depth(OUT, after))

    def test_what_every_subscription_has_passed_is_dropped(self, bench: Bench) -> None:
        """The slowest of them decides; positions go on."""
        _declare(bench, 1, "a", "b")
        _numbered(bench, 5)
        _done(bench, "a", {0: 4})
        assert len(_read(bench, {0: 0})) == 5
        _done(bench, "b", {0: 2})
        assert [kept.position for kept in _read(bench, {0: 0})] == [3, 4, 5]
        _done(bench, "b", {0: 5})
        assert [kept.position for kept in _read(bench, {0: 0})] == [5]
        assert _append(bench, (0, 9, 1, b"x")) == {0: 6}

    def test_a_subscription_never_goes_back(self, bench: Bench) -> None:
        """An older position that comes late, as from a thawed worker, changes nothing."""
        _declare(bench, 1, "a", "b")
        _numbered(bench, 5)
        _done(bench, "a", {0: 4})
        _done(bench, "a", {0: 1})
        _done(bench, "b", {0: 4})
        assert [kept.position for kept in _read(bench, {0: 0})] == [5]

    def test_who_never_subscribed_drops_nothing(self, bench: Bench) -> None:
        """Only declared subscriptions count; without one, all is kept."""
        _declare(bench, 1)
        _numbered(bench, 2)
        _done(bench, "stranger", {0: 2})
        assert len(_read(bench, {0: 0})) == 2

    def test_much_is_dropped_in_several_steps(self, bench: Bench) -> None:
        """A long backlog is dropped a bounded part at a time, until all of it is gone."""
        _declare(bench, 1, "s")
        _numbered(bench, 3_000)
        steps = 0
        while _read(bench, {0: 0}):
            _done(bench, "s", {0: 3_000})
            steps += 1
            assert steps <= 100
        assert _append(bench, (0, 1, 1, b"x")) == {0: 3_001}

    def test_a_new_subscription_keeps_what_comes_from_now_on(self, bench: Bench) -> None:
        """What was there before is not kept for it; what is published afterwards is."""
        _declare(bench, 1, "a")
        _numbered(bench, 3)
        _declare(bench, 1, "a", "b")
        _done(bench, "a", {0: 3})
        assert _read(bench, {0: 0}) == []
        _numbered(bench, 1)
        _done(bench, "a", {0: 4})
        assert [kept.position for kept in _read(bench, {0: 0})] == [4]

    def test_declaring_a_subscription_again_keeps_its_position(self, bench: Bench) -> None:
        """What a subscription still needs is not lost by a restart."""
        _declare(bench, 1, "a", "b")
        _numbered(bench, 3)
        _declare(bench, 1, "a", "b")
        _done(bench, "a", {0: 3})
        assert len(_read(bench, {0: 0})) == 3

    def test_a_forgotten_subscription_holds_up_nothing(self, bench: Bench) -> None:
        """The others' next step drops what only the forgotten one needed."""
        _declare(bench, 1, "a", "b")
        _numbered(bench, 3)
        _done(bench, "a", {0: 2})
        bench(lambda stores: stores.channels.forget(OUT, "b"))
        _done(bench, "a", {0: 3})
        assert _read(bench, {0: 0}) == []

    def test_with_the_last_subscription_goes_the_channel(self, bench: Bench) -> None:
        """Its batches are dropped; declared again, its positions go on, so that nobody skips what is new."""
        _declare(bench, 2, "a")
        _numbered(bench, 3)
        bench(lambda stores: stores.channels.forget(OUT, "a"))
        assert bench(lambda stores: stores.channels.ends(OUT)) == {}
        with pytest.raises(ConfigurationError):
            _append(bench, (0, 1, 1, b"x"))
        assert _declare(bench, 2, "a") == 2
        assert _read(bench, {0: 0, 1: 0}) == []
        assert _append(bench, (0, 1, 1, b"x")) == {0: 4}

    def test_forgetting_what_is_not_there_does_nothing(self, bench: Bench) -> None:
        """Neither an unknown subscription nor an unknown channel is trouble."""
        _declare(bench, 1, "a")
        bench(lambda stores: stores.channels.forget(OUT, "b"))
        bench(lambda stores: stores.channels.forget("nobody's", "b"))
        assert _declare(bench, 1, "a") == 1

    def test_publishers_at_once_leave_no_gaps(self, bench: Bench, sharing: None) -> None:
        """While several workers append, a reader that follows the positions misses nothing and sees no gap."""
        _declare(bench, 2, "s")
        workers = [bench.another() for _ in range(3)]

        def append(worker: int, number: int) -> Callable[[Stores], object]:
            partitions = (0, 1) if worker % 2 else (1, 0)
            data = f"{worker}:{number}".encode()
            return lambda stores: stores.channels.append(OUT, [(p, number, 1, data) for p in partitions])

        async def publish(worker: int) -> None:
            for number in range(30):
                await workers[worker].ledger.transact(append(worker, number))

        async def follow() -> dict[int, list[bytes]]:
            after, found = {0: 0, 1: 0}, {0: [b""] * 0, 1: [b""] * 0}
            while len(found[0]) + len(found[1]) < 180:
                for kept in await bench.ledger.transact(lambda stores: stores.channels.read(OUT, after, 50)):
                    assert kept.position == after[kept.partition] + 1
                    after[kept.partition] = kept.position
                    found[kept.partition].append(kept.data)
            return found

        async def all_at_once() -> dict[int, list[bytes]]:
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                following = tasks.create_task(follow())
                for worker in range(3):
                    tasks.create_task(publish(worker))
            return following.result()

        for data in bench.run(all_at_once()).values():
            assert len(set(data)) == 90
            for worker in range(3):
                own = [item for item in data if item.startswith(f"{worker}:".encode())]
                assert own == [f"{worker}:{number}".encode() for number in range(30)]
