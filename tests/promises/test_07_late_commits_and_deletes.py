"""Promise 7: late commits and deletes are not missed, and nothing is deleted that is only not shown."""

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import psycopg
from tests.connectors.sql_databases import Database
from tests.promises.checks import sales_history
from tests.runner.cells import books, order, run_in_virtual_time, sales
from tests.runner.company import Company, Order

from tieline import Adapter, Money
from tieline.buses.sql import SqlBus
from tieline.connector import Record
from tieline.connectors import memory, sql
from tieline.connectors.memory import Table
from tieline.errors import Unavailable
from tieline.ledgers.memory import MemoryLedger
from tieline.runner import Runner
from tieline.system import SourceSettings, System
from tieline.testing import Trial

MISSED: Final = "missed"
STILL_THERE: Final = "deleted in the shop, and still there"
WRONGLY_GONE: Final = "deleted, though it is still in the shop"
UNBRAKED: Final = "many were deleted, and nobody was asked"

AT_EACH_READING: Final = 1e-6  # seconds between sweeps


def test_a_transaction_that_commits_late_with_an_older_stamp_is_not_missed(database: Database) -> None:
    asyncio.run(a_late_commit(SqlShop(database)))


def test_a_delete_in_a_database_is_found_by_a_sweep(database: Database) -> None:
    asyncio.run(a_delete(SqlShop(database)))


def test_what_commits_later_than_the_overlap_is_found_by_a_sweep() -> None:
    run_in_virtual_time(a_very_late_commit)


def test_what_the_list_does_not_show_is_looked_up_before_it_is_deleted() -> None:
    run_in_virtual_time(an_order_that_the_list_hides)


def test_where_nobody_can_be_asked_two_sweeps_must_agree() -> None:
    run_in_virtual_time(an_order_that_one_sweep_misses)


def test_a_source_that_fails_in_the_middle_of_a_sweep_deletes_nothing() -> None:
    run_in_virtual_time(half_a_sweep)


def test_many_deletes_at_once_wait_for_a_person_while_the_rest_flows() -> None:
    run_in_virtual_time(many_deletes)


def test_an_answer_holds_for_as_many_deletes_as_the_question_was_about() -> None:
    run_in_virtual_time(a_question_that_grows)


def test_a_source_that_was_empty_by_accident_takes_its_question_back() -> None:
    run_in_virtual_time(an_accident)


# -- a shop in a database -----------------------------------------------------------------------------------


class SqlShop:
    """Orders in a database, read by the stamp of their last change; `read` lets them go to an ERP in memory."""

    def __init__(self, database: Database) -> None:
        memory.forget()
        self._database = database
        self._table = f"{database.prefix}orders"
        database.run(f"create table {self._table} (number text primary key, total text, changed timestamp)")
        self._adapter = Adapter(sql.Sql(orders=sql.Table(self._table, key="number", cursor="changed")))
        self._adapter.source(Order, "orders", name="order")(_order_of)
        self._company = Company()
        self._company.scene.flow(Order, "shop", "erp")
        self._ledger = MemoryLedger()

    def put(self, number: str) -> None:
        """Write an order down."""
        self._database.run(self._stamped(number))

    def drop(self, number: str) -> None:
        """Delete one."""
        self._database.run(f"delete from {self._table} where number = '{number}'")

    @contextmanager
    def putting_slowly(self, number: str) -> Iterator[None]:
        """A transaction that stamps its order at once, and commits when the block is left."""
        statement = self._stamped(number)
        if self._database.kind == "postgresql":
            with psycopg.connect(self._database.system.url or "") as transaction:
                transaction.execute(statement.encode())
                yield
        else:  # which has one transaction at a time: this one waits for its turn
            yield
            self._database.run(statement)

    def _stamped(self, number: str) -> str:
        return f"insert into {self._table} values ('{number}', '1', '{datetime.now(UTC).isoformat(' ')}')"

    async def read(self, sweep: float = 0.0) -> set[str]:
        """Read once and deliver; gives the numbers that the ERP has then."""
        self._company.scene.systems["shop"] = System(
            name="shop",
            adapter=self._adapter,
            settings=self._database.settings(name="shop"),
            sources={"order": SourceSettings(sweep=sweep)},
        )
        bus = SqlBus(self._ledger, shared=True)
        await Runner(self._company.scene.landscape(), self._ledger, {"direct": bus}).run(once=True)
        return set(sales(self._company))


def _order_of(record: Record) -> Order:
    return Order(number=record["number"], total=Money(record["total"], "EUR"))


async def a_late_commit(shop: SqlShop) -> None:
    """It was stamped before another one that has been read already. There are no sweeps."""
    shop.put("first")
    assert await shop.read() == {"first"}
    with shop.putting_slowly("late"):
        shop.put("early")
        assert await shop.read() == {"first", "early"}
    assert await shop.read() == {"first", "early", "late"}, MISSED


async def a_delete(shop: SqlShop) -> None:
    """A row that is gone has no stamp."""
    for number in "123":
        shop.put(number)
    assert await shop.read(AT_EACH_READING) == {"1", "2", "3"}
    shop.drop("2")
    assert await shop.read(AT_EACH_READING) == {"1", "3"}, STILL_THERE


# -- a shop in memory, in virtual time -------------------------------------------------------------------------


async def a_very_late_commit() -> None:
    """Its stamp is below the cursor, and no overlap reaches back to it."""
    company = _company()
    async with Trial(company.scene.landscape()) as trial:
        trial.start()
        await trial.settle()
        record = {"number": "late", "total": 4}
        company.scene.store("shop").put("orders", record, id="number", counter=1)
        await trial.settle()
        assert sales(company).keys() == {"1", "2", "3", "late"}, MISSED


async def an_order_that_the_list_hides() -> None:
    """It is there for whoever asks for it by its number; then it is really deleted."""
    company = _company()
    hiding = Hiding(company, "1")
    async with Trial(company.scene.landscape()) as trial:
        history = sales_history(company, trial)
        trial.start()
        await trial.settle()
        hiding.begins()
        await trial.settle()
        await trial.settle()
        assert history.of("1") == [1], WRONGLY_GONE
        assert hiding.found, "no sweep missed it"
        hiding.ends()
        company.scene.store("shop").drop("orders", "1")
        await trial.settle()
        assert sales(company).keys() == {"2", "3"}, STILL_THERE


async def an_order_that_one_sweep_misses() -> None:
    """And the next one shows again; one that stays away for two sweeps is gone."""
    company = _company(Table(id="number", lookup=False))
    hiding = Hiding(company, "1")
    async with Trial(company.scene.landscape()) as trial:
        history = sales_history(company, trial)
        trial.start()
        await trial.settle()
        hiding.begins()
        await trial.settle()
        hiding.ends()
        await trial.settle()
        await trial.settle()
        assert history.of("1") == [1], WRONGLY_GONE
        company.scene.store("shop").drop("orders", "2")
        await trial.settle()
        await trial.settle()
        assert sales(company).keys() == {"1", "3"}, STILL_THERE


async def half_a_sweep() -> None:
    """It is away for a while, each time after the first page, and then shows all orders again."""
    company = _company(Table(id="number", page=1, lookup=False))
    store = company.scene.store("shop")
    pages = 0

    async def fail_after_a_page(moment: str) -> None:
        nonlocal pages
        pages += moment == "orders.read"
        if moment == "orders.read" and pages % 2 == 0:
            raise Unavailable("the shop is restarting")

    async with Trial(company.scene.landscape()) as trial:
        history = sales_history(company, trial)
        trial.start()
        await trial.settle()
        store.hook = fail_after_a_page
        await asyncio.sleep(60)
        assert pages > 6
        store.hook = None
        await trial.settle()
        assert [history.of(number) for number in "123"] == [[1], [2], [3]], WRONGLY_GONE


async def many_deletes() -> None:
    """Two thirds of the orders are gone at once, and one of the others has changed."""
    company = _company(count=30, brake=0.2)
    async with Trial(company.scene.landscape()) as trial:
        trial.start()
        await trial.settle()
        for number in range(1, 21):
            company.scene.store("shop").drop("orders", str(number))
        order(company, "30", 31)
        await trial.settle()
        assert len(sales(company)) == 30, UNBRAKED
        assert sales(company)["30"] == (31, "")
        (question,) = await trial.parked("shop.order")
        assert "20 of 30 keys (67 %)" in question.error
        assert "tieline parked replay shop.order '*deletes*'" in question.error
        await trial.decide(question, "replay")
        await trial.settle()
        assert sales(company).keys() == {str(number) for number in range(21, 31)}, STILL_THERE
        assert await trial.parked() == []
        assert await books(trial) == (51, {"done": 51}, 0)


async def a_question_that_grows() -> None:
    """Many more are gone when a person answers; asked again, the person says no."""
    company = _company(count=60, brake=0.2)
    store = company.scene.store("shop")
    async with Trial(company.scene.landscape()) as trial:
        trial.start()
        await trial.settle()
        for number in range(1, 51):
            store.drop("orders", str(number))
            if number == 20:
                await trial.settle()
                (question,) = await trial.parked("shop.order")
        await trial.decide(question, "replay")
        await trial.settle()
        assert len(sales(company)) == 60, UNBRAKED
        (question,) = await trial.parked("shop.order")
        assert "50 of 60 keys (83 %)" in question.error
        await trial.decide(question, "drop")
        readings = store.calls["orders.read"]
        await asyncio.sleep(60)
        assert len(sales(company)) == 60, UNBRAKED
        assert store.calls["orders.read"] - readings < 70


async def an_accident() -> None:
    """Nobody has answered yet when all orders are there again."""
    company = _company(count=30, brake=0.2)
    store = company.scene.store("shop")
    async with Trial(company.scene.landscape()) as trial:
        history = sales_history(company, trial)
        trial.start()
        await trial.settle()
        rows = store.contents.tables.pop("orders")
        await trial.settle()
        assert [row.key for row in await trial.parked("shop.order")] == ["*deletes*"], UNBRAKED
        store.contents.tables["orders"] = rows
        await trial.settle()
        assert await trial.parked() == []
        assert [history.of(number) for number in history.now()] == [[n] for n in range(1, 31)], WRONGLY_GONE


def _company(orders: Table | None = None, count: int = 3, brake: float = 1.0) -> Company:
    """A shop with so many orders."""
    company = Company(orders=orders or Table(id="number"))
    company.scene.flow(Order, "shop", "erp")
    shop = company.scene.systems["shop"]
    settings = dataclasses.replace(shop.source_settings("order"), brake=brake)
    company.scene.systems["shop"] = dataclasses.replace(shop, sources={"order": settings})
    for number in range(1, count + 1):
        order(company, str(number), number)
    return company


class Hiding:
    """An order that is not in the list for a while, and can be looked up all the time."""

    def __init__(self, company: Company, number: str) -> None:
        self.found = False
        self._store = company.scene.store("shop")
        self._number = number

    def begins(self) -> None:
        """From now on it is not listed."""
        self._store.hook = self._at
        self._take()

    def ends(self) -> None:
        """It is listed again."""
        self._store.hook = None
        self._put_back()

    async def _at(self, moment: str) -> None:
        if moment == "orders.lookup":
            self._put_back()
            self.found = True
        elif moment == "orders.read":
            self._take()

    def _take(self) -> None:
        rows = self._store.contents.table("orders")
        if self._number in rows.by_id:
            self._hidden = rows.by_id.pop(self._number), rows.changed.pop(self._number)

    def _put_back(self) -> None:
        rows = self._store.contents.table("orders")
        rows.by_id[self._number], rows.changed[self._number] = self._hidden
