"""What the memory connector does beyond the shipped suite."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tieline.connector import Capabilities, Change, HeldRow, LegState, Page, Result
from tieline.connectors import memory
from tieline.connectors.memory import Memory, MemoryConnector, Store, Table
from tieline.errors import ConfigurationError, Fenced, InDoubt, Reject, Unavailable
from tieline.message import Version
from tieline.settings import SystemSettings
from tieline.testing.connector import ConnectorSuite, Counterpart

URL = "memory://shop"


@pytest.fixture(autouse=True)
def store() -> Iterator[Store]:
    memory.forget()
    yield memory.store(URL)
    memory.forget()


def opened(**switches: Any) -> MemoryConnector:
    return Memory(orders=Table(id="number", **switches)).open(SystemSettings("shop", URL))


def change(key: str, record: dict[str, Any] | None, target_id: str | None = None) -> Change:
    return Change(key, key.encode().ljust(16), record, target_id)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def pages(connector: MemoryConnector, since: Any = None) -> list[Page]:
    return [page async for page in connector.read("orders", since)]


def test_store_is_shared_by_url(store: Store) -> None:
    """Two connectors with one url see the same rows; a test sees them too."""
    run(opened().write("orders", [change("1", {"number": "1", "total": 5})]))
    assert store.rows("orders") == {"1": {"number": "1", "total": 5}}
    assert run(opened().lookup("orders", ["1"])) == [{"number": "1", "total": 5}]


def test_reads_in_order_of_change_from_a_checkpoint(store: Store) -> None:
    """A changed row comes after the checkpoint of its last reading, with a checkpoint on every page."""
    for number in ("1", "2", "3"):
        store.put("orders", {"number": number}, "number")
    found = run(pages(opened(page=2)))
    assert [page.ids for page in found] == [["1", "2"], ["3"]]
    assert all(page.checkpoint for page in found)
    store.put("orders", {"number": "1", "total": 7}, "number")
    again = run(pages(opened(page=2), found[-1].checkpoint))
    assert [(page.ids, page.records) for page in again] == [(["1"], [{"number": "1", "total": 7}])]


def test_snapshot_gives_no_checkpoint(store: Store) -> None:
    """A table that is not incremental shows everything each time and gives nothing to store."""
    for number in ("2", "1", "3"):
        store.put("orders", {"number": number}, "number")
    found = run(pages(opened(incremental=False, page=2), since=99))
    assert [page.ids for page in found] == [["1", "2"], ["3"]]
    assert [page.checkpoint for page in found] == [None, None]


@pytest.mark.parametrize("rows", [3, 4])
def test_unordered_reading_has_its_checkpoint_at_the_end(store: Store, rows: int) -> None:
    """Paging by id shows what changed, and only its last page says how far that came."""
    for number in range(rows):
        store.put("orders", {"number": str(number)}, "number")
    found = run(pages(opened(ordered=False, page=2)))
    assert [page.checkpoint for page in found] == [None, rows]
    assert run(pages(opened(ordered=False, page=2), rows)) == []


def test_deletes_are_told_where_the_table_does(store: Store) -> None:
    """With `tells_deletes`, a dropped id stands in a page's `gone`."""
    store.put("orders", {"number": "1"}, "number")
    store.drop("orders", "1")
    assert [page.gone for page in run(pages(opened(tells_deletes=True)))] == [["1"]]
    assert run(pages(opened())) == []


def test_numbered_creates_only_table_makes_a_row_each_time(store: Store) -> None:
    """An interface that only creates makes two rows of a change that is written twice."""
    connector = opened(numbered=True, upsert=False)
    first, second = (run(connector.write("orders", [change("a", {"total": 1})])) for _ in range(2))
    assert [first[0].target_id, second[0].target_id] == ["1", "2"]
    assert run(connector.write("orders", [change("a", {"total": 9}, "2")]))[0].error is None
    assert store.rows("orders")["2"] == {"number": "2", "total": 9}
    (missing,) = run(connector.write("orders", [change("a", {"total": 9}, "7")]))
    assert isinstance(missing.error, Reject)


def test_transaction_leaves_nothing_when_it_fails(store: Store) -> None:
    """Rows, held rows and fence of a transaction that raises are as they were."""

    async def fail() -> None:
        async with opened().transaction() as transaction:
            await transaction.fence("leg", {0: 3})
            await transaction.write("orders", [change("1", {"number": "1"})])
            await transaction.keep("Order", [HeldRow("1", "shop", Version(1, 1), b"x" * 16)])
            await transaction.move("leg", {0: LegState(position=5, token=3)})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail())
    assert (store.rows("orders"), store.held("Order"), store.legs("leg")) == ({}, [], {})


def test_what_others_change_during_a_transaction_stays(store: Store) -> None:
    """A commit carries over only what its transaction touched."""

    async def work() -> None:
        async with opened().transaction() as transaction:
            await transaction.write("orders", [change("1", {"number": "1"})])
            store.put("orders", {"number": "2"}, "number")
            assert "1" not in store.rows("orders")

    run(work())
    assert sorted(store.rows("orders")) == ["1", "2"]


def test_writers_take_turns_and_a_dropped_one_stands_down(store: Store) -> None:
    """A second transaction waits for the first; when the server drops the first, its next use fails."""

    async def work() -> list[str]:
        events = []
        connector = opened()

        async def frozen(thaw: asyncio.Event) -> None:
            async with connector.transaction() as transaction:
                await transaction.fence("leg", {0: 1})
                await thaw.wait()
                with pytest.raises(Unavailable):
                    await transaction.write("orders", [change("1", {"number": "1", "by": "frozen"})])
                events.append("frozen stood down")
                raise Fenced("stand down")

        async def second() -> None:
            async with connector.transaction() as transaction:
                await transaction.fence("leg", {0: 2})
                await transaction.write("orders", [change("1", {"number": "1", "by": "second"})])
            events.append("second committed")

        thaw = asyncio.Event()
        first = asyncio.create_task(frozen(thaw))
        await asyncio.sleep(0)
        other = asyncio.create_task(second())
        await asyncio.sleep(0)
        assert events == []
        store.kill()
        await other
        thaw.set()
        with pytest.raises(Fenced):
            await first
        return events

    assert run(work()) == ["second committed", "frozen stood down"]
    assert store.rows("orders") == {"1": {"number": "1", "by": "second"}}
    assert store.legs("leg")[0].token == 2


def test_cancelled_waiter_passes_its_turn_on() -> None:
    """A writer that is cancelled while it waits, or at the moment of its turn, blocks nobody."""

    async def work(cancel_after: Callable[[asyncio.Task[None], asyncio.Event], None]) -> None:
        connector = opened()
        hold = asyncio.Event()

        async def holding() -> None:
            async with connector.transaction():
                await hold.wait()

        async def waiting() -> None:
            async with connector.transaction():
                pass

        holder, victim, other = (asyncio.create_task(one()) for one in (holding, waiting, waiting))
        await asyncio.sleep(0)
        cancel_after(victim, hold)
        await asyncio.wait_for(other, 5)
        await holder
        assert victim.cancelled()

    def at_once(victim: asyncio.Task[None], hold: asyncio.Event) -> None:
        victim.cancel()
        hold.set()

    def at_its_turn(victim: asyncio.Task[None], hold: asyncio.Event) -> None:
        hold.set()
        asyncio.get_running_loop().call_soon(victim.cancel)  # right after it was given the turn

    run(work(at_once))
    run(work(at_its_turn))


def test_a_cut_off_call_took_effect_and_says_so(store: Store) -> None:
    """A hook after the effect plays a lost answer: the row is there and the results are in doubt."""

    async def lose(moment: str) -> None:
        if moment == "orders.write.done":
            raise InDoubt("the answer was lost")

    store.hook = lose
    results: list[Result] = run(opened().write("orders", [change("1", {"number": "1"})]))
    assert isinstance(results[0].error, InDoubt)
    assert "1" in store.rows("orders")


def test_actions_change_a_row(store: Store) -> None:
    """An action's function gives the row's next state; one that is not declared is a mistake."""
    store.put("orders", {"number": "1", "state": "draft"}, "number")
    connector = opened(actions={"confirm": lambda record: record | {"state": "sale"}})
    assert connector.capabilities("orders").actions == {"confirm"}
    done, missing = run(connector.call("orders", "confirm", ["1", "2"]))
    assert done.error is None
    assert isinstance(missing.error, Reject)
    assert store.rows("orders")["1"]["state"] == "sale"
    with pytest.raises(ConfigurationError, match="no action 'post'"):
        run(connector.call("orders", "post", ["1"]))


def test_switches_show_in_the_capabilities() -> None:
    """What a table is told not to be able to do, its capabilities do not claim."""
    plain = opened().capabilities("orders")
    assert plain == Capabilities(
        incremental=True,
        ordered=True,
        keys=True,
        lookup=True,
        writes=True,
        deletes=True,
        upsert=True,
        transactional=True,
        bulk=2_000,
    )
    less = opened(transactional=False, upsert=False, incremental=False, lookup=False, lists_keys=False)
    facts = less.capabilities("orders")
    assert not any((facts.transactional, facts.upsert, facts.incremental, facts.ordered, facts.lookup, facts.keys))


def counterpart_of(**switches: Any) -> Counterpart:
    """Orders in memory, in pages of forty."""
    behind = memory.store(URL)

    def refused(record: dict[str, Any]) -> str | None:
        return "this note is not allowed" if record.get("note") == "spoiled" else None

    class Gone(Memory):
        def open(self, system: SystemSettings) -> MemoryConnector:
            connector = super().open(system)
            if system.url == "memory://gone":
                connector.store.failure = Unavailable("nobody is there")
            return connector

    return Counterpart(
        connector=Gone(orders=Table(id="number", page=40, refuses=refused, **switches)),
        system=SystemSettings("shop", URL),
        put=lambda record: behind.put("orders", record, "number"),
        drop=lambda id: behind.drop("orders", id),
        rows=lambda: behind.rows("orders"),
        gone=SystemSettings("shop", "memory://gone"),
        spoil=lambda record: record | {"note": "spoiled"},
    )


class TestMemory(ConnectorSuite):
    @pytest.fixture
    def counterpart(self) -> Counterpart:
        return counterpart_of()


class TestMemoryThatOnlyCreatesFromSnapshots(ConnectorSuite):
    @pytest.fixture
    def counterpart(self) -> Counterpart:
        return counterpart_of(incremental=False, upsert=False, transactional=False, lookup=False)


class TestMemoryThatTellsDeletesWithoutOrder(ConnectorSuite):
    @pytest.fixture
    def counterpart(self) -> Counterpart:
        return counterpart_of(ordered=False, tells_deletes=True, lists_keys=False)
