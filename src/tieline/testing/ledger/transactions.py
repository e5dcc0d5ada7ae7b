"""All of a transaction or nothing of it, and only for who still holds the lease."""

import asyncio
import time
from functools import partial

import pytest

from tieline.errors import Fenced
from tieline.ledger import Fence, SourceState, Stores
from tieline.testing.ledger.bench import Bench, Suite
from tieline.testing.ledger.samples import held, leg, parked, seen


class Oops(Exception):
    """Something went wrong in the middle."""


def _everywhere(stores: Stores) -> None:
    """Write into every part."""
    stores.sources.put("shop.order", SourceState(counter=7))
    stores.seen.put("shop.order", [seen("a")])
    stores.seen.sweep_mark("shop.order", ["r"])
    stores.channels.declare("c", 2, ["s"])
    stores.channels.append("c", [(0, 1, 1, b"x")])
    stores.legs.put(leg())
    stores.legs.count("orders→erp", 1, {"done": 1})
    stores.held.put("erp", "Order", [held("a")])
    stores.parked.put([parked("a")])
    stores.inbox.append("shop.order", [("r", b"x", "")])
    stores.notes.put("n", 1)


def _all_there_is(stores: Stores) -> list[object]:
    """What `_everywhere` writes, as far as it is there."""
    return [
        stores.sources.all(),
        stores.seen.by_key("shop.order", ["a"]),
        stores.channels.ends("c"),
        stores.channels.read("c", {0: 0, 1: 0}, 10),
        stores.legs.all(),
        stores.legs.totals("orders→erp"),
        stores.held.get("erp", "Order", ["a"]),
        stores.parked.list(),
        stores.inbox.read("shop.order", 10),
        stores.notes.starting(""),
    ]


def _note(stores: Stores, name: str) -> None:
    stores.notes.put(name, 0)


class Transactions(Suite):
    """What `Ledger.transact` promises."""

    def test_it_gives_what_the_work_gives(self, bench: Bench) -> None:
        """The result of the work is the result of the transaction."""
        assert bench(lambda stores: ["what", "ever"]) == ["what", "ever"]

    def test_an_error_undoes_all_of_it(self, bench: Bench) -> None:
        """Where the work raises, every part is as it was before, and the error comes through; leases may pass."""
        before = bench(_all_there_is)

        def work(stores: Stores) -> None:
            _everywhere(stores)
            raise Oops

        with pytest.raises(Oops):
            bench(work)
        assert bench(_all_there_is) == before

    def test_what_was_undone_can_be_done_again(self, bench: Bench) -> None:
        """Nothing of an undone transaction is remembered, such as a name's number that was taken back."""

        def work(stores: Stores) -> None:
            _everywhere(stores)
            raise Oops

        with pytest.raises(Oops):
            bench(work)
        bench(lambda stores: stores.seen.put("another source", [seen("b")]))
        bench(_everywhere)
        assert all(bench(_all_there_is))
        assert [row.key for row in bench(lambda stores: stores.seen.living("another source", "", 9))] == ["b"]

    def test_it_sees_its_own_writes(self, bench: Bench) -> None:
        """Inside a transaction what was written is there to read."""

        def work(stores: Stores) -> list[object]:
            _everywhere(stores)
            return _all_there_is(stores)

        assert all(bench(work))

    def test_it_is_there_after_reopening(self, bench: Bench) -> None:
        """What was committed is there when the store is opened again."""
        if not bench.ledger.durable:
            pytest.skip("this ledger promises nothing beyond its process")
        bench(_everywhere)
        before = bench(_all_there_is)
        bench.reopen()
        assert bench(_all_there_is) == before

    def test_another_worker_sees_it(self, bench: Bench, sharing: None) -> None:
        """What one worker committed, another one reads, in all parts."""
        bench(_everywhere)
        assert bench.another()(_all_there_is) == bench(_all_there_is)

    def test_closing_twice_is_no_trouble(self, bench: Bench) -> None:
        """Whoever comes second has nothing to do."""
        bench(lambda stores: stores.notes.get("n"))
        bench.run(bench.ledger.close())
        bench.run(bench.ledger.close())

    def test_many_at_once_lose_nothing(self, bench: Bench) -> None:
        """Transactions of many tasks run one after the other: none overwrites what another one added."""

        def add(stores: Stores) -> None:
            stores.notes.put("n", (stores.notes.get("n") or 0) + 1)

        async def all_of_them() -> None:
            await asyncio.gather(*(bench.ledger.transact(add) for _ in range(50)))

        bench.run(all_of_them())
        assert bench(lambda stores: stores.notes.get("n")) == 50

    def test_workers_that_change_the_same_thing_lose_nothing(self, bench: Bench, sharing: None) -> None:
        """What a transaction has read, nobody changes before it writes; else it runs again."""
        workers = [bench.another() for _ in range(4)]

        def add(stores: Stores) -> None:
            number = stores.notes.get("n") or 0
            time.sleep(0.001)
            stores.notes.put("n", number + 1)

        async def work(worker: Bench) -> None:
            for _ in range(10):
                await worker.ledger.transact(add)

        async def all_at_once() -> None:
            await asyncio.gather(*(work(worker) for worker in workers))

        bench.run(all_at_once())
        assert bench(lambda stores: stores.notes.get("n")) == 40

    def test_a_transaction_sees_one_state(self, bench: Bench, sharing: None) -> None:
        """What others commit in the meantime is not seen half-way through."""
        other = bench.another()
        for name in "ab":
            bench(partial(_note, name=name))

        def look(stores: Stores) -> tuple[object, object]:
            first = stores.notes.get("a")
            time.sleep(0.02)
            return first, stores.notes.get("b")

        def change(stores: Stores) -> None:
            for name in "ba":
                stores.notes.put(name, stores.notes.get(name) + 1)

        async def both() -> list[tuple[object, object]]:
            async def keep_changing() -> None:
                for _ in range(30):
                    await other.ledger.transact(change)

            changing = asyncio.create_task(keep_changing())
            looks = [await bench.ledger.transact(look) for _ in range(10)]
            await changing
            return looks

        assert all(a == b for a, b in bench.run(both()))

    def test_workers_open_an_empty_store_together(self, bench: Bench, sharing: None) -> None:
        """Its tables are made once, whoever comes first."""
        workers = [bench.another() for _ in range(4)]

        async def all_at_once() -> None:
            await asyncio.gather(*(worker.ledger.transact(_everywhere) for worker in workers))

        bench.run(all_at_once())
        assert bench(lambda stores: stores.channels.ends("c")) == {0: 4, 1: 0}

    def test_a_lease_lets_its_holder_through(self, bench: Bench) -> None:
        """Work behind leases that are held is done."""
        fences = self._acquire(bench, "w1", ["a", "b"])
        bench(lambda stores: stores.notes.put("n", 1), *fences)
        assert bench(lambda stores: stores.notes.get("n")) == 1

    def test_a_worker_that_was_replaced_changes_nothing(self, bench: Bench) -> None:
        """Once another worker has taken over, the first is Fenced before its work begins."""
        fences = self._acquire(bench, "w1", ["a"], seconds=0)
        self._acquire(bench, "w2", ["a"])
        begun = []

        def work(stores: Stores) -> None:
            begun.append(1)
            stores.notes.put("n", 1)

        with pytest.raises(Fenced, match="w2"):
            bench(work, *fences)
        assert not begun
        assert bench(lambda stores: stores.notes.get("n")) is None

    def test_a_thawed_worker_goes_on_where_nobody_took_over(self, bench: Bench) -> None:
        """A lease whose time is over still stands until somebody else takes it."""
        fences = self._acquire(bench, "w1", ["a"], seconds=0)
        bench(lambda stores: stores.notes.put("n", 1), *fences)
        assert bench(lambda stores: stores.notes.get("n")) == 1

    def test_one_lost_lease_among_many_stops_all(self, bench: Bench) -> None:
        """Every fence must hold."""
        fences = self._acquire(bench, "w1", ["a", "b", "c"], seconds=0)
        self._acquire(bench, "w2", ["b"])
        with pytest.raises(Fenced, match="'b'"):
            bench(lambda stores: stores.notes.put("n", 1), *fences)

    def test_a_lease_given_back_lets_nobody_through(self, bench: Bench) -> None:
        """After its release a token is worth nothing, also after the same worker took the lease again."""
        fences = self._acquire(bench, "w1", ["a"])
        bench(lambda stores: stores.leases.release(["a"], "w1"))
        with pytest.raises(Fenced):
            bench(lambda stores: None, *fences)
        again = self._acquire(bench, "w1", ["a"])
        with pytest.raises(Fenced):
            bench(lambda stores: None, *fences)
        bench(lambda stores: None, *again)

    def test_a_lease_nobody_was_given_lets_nobody_through(self, bench: Bench) -> None:
        """A fence with an unknown name is Fenced."""
        with pytest.raises(Fenced):
            bench(lambda stores: None, Fence("never heard of", 1))

    def test_a_takeover_waits_for_a_running_transaction(self, bench: Bench, sharing: None) -> None:
        """A transaction that passed its fence ends before another worker has the lease."""
        other = bench.another()
        other(lambda stores: stores.leases.beat("w2", 60))
        fences = self._acquire(bench, "w1", ["a"], seconds=0)

        def slow(stores: Stores) -> None:
            stores.notes.put("begun", 1)
            time.sleep(0.4)
            stores.notes.put("n", "written by w1")

        def take_over(stores: Stores) -> object:
            assert stores.leases.acquire(["a"], "w2") == {"a": 2}
            return stores.notes.get("n")

        async def both() -> object:
            first = asyncio.create_task(bench.ledger.transact(slow, fences))
            await asyncio.sleep(0.1)
            seen_by_w2 = await other.ledger.transact(take_over)
            await first
            return seen_by_w2

        assert bench.run(both()) == "written by w1"

    @staticmethod
    def _acquire(bench: Bench, owner: str, names: list[str], seconds: float = 60) -> list[Fence]:
        def work(stores: Stores) -> dict[str, int]:
            stores.leases.beat(owner, seconds)
            return stores.leases.acquire(names, owner)

        tokens = bench(work)
        assert tokens.keys() == set(names)
        return [Fence(name, token) for name, token in tokens.items()]
