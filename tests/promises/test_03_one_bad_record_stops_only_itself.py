"""Promise 3: one bad record stops only itself; a newer one heals it, events wait in order, a decision is honoured."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from tests.connectors.sql_databases import Database
from tests.promises.checks import BOOKS, LOST, POINTS, STUCK, AtPoint, settled, until
from tests.promises.once import run_once
from tests.runner.cells import (
    bad_notes,
    edited,
    in_virtual_time,
    only_row,
    order,
    pay,
    receipts,
    run_in_virtual_time,
    sales,
)
from tests.runner.company import CREATING, SQL, Company, Customer, Kind, Order, Payment

from tieline.adapter import Adapter
from tieline.connector import Change, Record
from tieline.connectors import memory
from tieline.connectors.sql import Sql, Table
from tieline.errors import Reject, RetryLater, TielineError
from tieline.ledger import ParkedRow
from tieline.message import Reason
from tieline.system import System
from tieline.testing import Trial, Worker, clock
from tieline.testing.oracle import accounts

vias = pytest.mark.parametrize("via", ["direct", "bus", "far"])
kinds = pytest.mark.parametrize("kind", [SQL, CREATING], ids=lambda kind: kind.name)

Waiting = dict[tuple[str, str], Reason]


def waiting(rows: list[ParkedRow]) -> Waiting:
    """Why each message or record waits, by leg or source, and key."""
    return {(row.leg, row.key): row.reason for row in rows}


# -- others flow -----------------------------------------------------------------------------------------


@vias
@kinds
def test_a_batch_goes_on_without_its_bad_records_and_newer_ones_heal_them(via: str, kind: Kind) -> None:
    """One makes no entity, one is refused by the target, one lacks what it refers to; sixty are well."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp", via=via)
        company.scene.flow(Customer, "shop", "erp", via=via)
        shop = company.scene.store("shop")
        well = {str(number): (number, "") for number in range(60)}
        async with Trial(company.scene.landscape(), spoil=bad_notes, foreign=["far"]) as trial:
            for number in range(30):
                order(company, str(number), number)
            shop.put("orders", {"number": "60", "total": 60.0}, id="number")
            order(company, "61", 61, "bad")
            shop.put("orders", {"number": "62", "total": Decimal(62), "customer": "c"}, id="number")
            for number in range(30, 60):
                order(company, str(number), number)
            trial.start()
            await asyncio.sleep(5)
            assert sales(company) == well, LOST
            assert waiting(await trial.parked()) == {
                ("shop.order", "60"): Reason.DEAD,
                ("orders>erp", "61"): Reason.DEAD,
                ("orders>erp", "62"): Reason.REFERENCE,
            }
            order(company, "60", 60)
            order(company, "61", 61, "mended")
            shop.put("customers", {"email": "c", "name": "C"}, id="email")
            await trial.settle()
            assert sales(company) == {**well, "60": (60, ""), "61": (61, "mended"), "62": (62, "")}, LOST
            for account in await trial.look(accounts):
                assert settled(account, 1 if account.leg == "customers>erp" else 64), f"{BOOKS}: {account}"

    run_in_virtual_time(check)


@vias
@kinds
def test_events_of_a_subject_wait_in_order_behind_a_bad_one_and_other_subjects_do_not(via: str, kind: Kind) -> None:
    """Whether they come in its batch or later; a person lets it go, or has it tried again, and they follow."""

    async def check(decision: str) -> None:
        company = Company(erp=kind)
        company.scene.flow(Payment, "shop", "erp", via=via)
        bad = {"p2"}

        def spoil(system: str, resource: str, change: Change) -> TielineError | None:
            return Reject("not this one") if change.key in bad else None

        async with Trial(company.scene.landscape(), spoil=spoil, foreign=["far"]) as trial:
            for number, account in enumerate("aaabab", 1):
                pay(company, number, account)
            trial.start()
            await trial.settle()
            pay(company, 7, "a")
            pay(company, 8, "b")
            await trial.settle()
            assert receipts(company, "erp") == ["p1", "p4", "p6", "p8"], LOST
            leg = "payments>erp"
            reasons = waiting(await trial.parked())
            assert reasons == {(leg, "p2"): Reason.DEAD, **{(leg, f"p{n}"): Reason.ORDER for n in (3, 5, 7)}}
            bad.clear()
            (row,) = await trial.parked(reason=Reason.DEAD)
            await trial.decide(row, decision)
            await trial.settle()
            then = ["p3", "p5", "p7"] if decision == "drop" else ["p2", "p3", "p5", "p7"]
            assert receipts(company, "erp") == ["p1", "p4", "p6", "p8", *then], LOST
            (account_,) = await trial.look(accounts)
            assert settled(account_, 8), f"{BOOKS}: {account_}"

    for decision in ("drop", "replay"):
        run_in_virtual_time(lambda decision=decision: check(decision))


@in_virtual_time
async def test_a_bad_record_that_changes_and_stays_bad_is_shown_as_it_is_now() -> None:
    """A person looks at the newest reason and content, not at what was wrong with it first."""
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    shop = company.scene.store("shop")
    async with Trial(company.scene.landscape()) as trial:
        shop.put("orders", {"number": "1", "total": 60.5}, id="number")
        trial.start()
        await trial.settle()
        shop.put("orders", {"number": "1", "total": "much"}, id="number")
        await trial.settle()
        (row,) = await trial.parked()
        assert "'much'" in row.error
        assert b"much" in row.message
        order(company, "1", 1)
        await trial.settle()
        assert await trial.parked() == []


# -- decisions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "becomes"),
    [("edit", {"1": (1, "mended")}), ("drop", {}), ("replay", {"1": (1, "bad")})],
    ids=["edit", "drop", "replay"],
)
@kinds
def test_a_persons_decision_is_carried_out_and_stands(
    kind: Kind, decision: str, becomes: dict[str, tuple[int, str]]
) -> None:
    """Also where the original is sent again; only a newer value of the source counts more."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp")
        refuses = [True]

        def spoil(system: str, resource: str, change: Change) -> TielineError | None:
            return bad_notes(system, resource, change) if refuses else None

        async with Trial(company.scene.landscape(), spoil=spoil) as trial:
            worker = trial.start()
            order(company, "1", 1, "bad")
            await trial.settle()
            row = await only_row(trial)
            refuses.clear()
            await trial.decide(row, decision, edited(row, note="mended") if decision == "edit" else b"")
            await trial.settle()
            assert sales(company) == becomes, f"{LOST}: the decision, {sales(company)}"
            await worker.runner.backfill("orders")
            await trial.settle()
            assert sales(company) == becomes, f"{LOST}: the decision, {sales(company)}"
            order(company, "1", 2)
            await trial.settle()
            assert sales(company) == {"1": (2, "")}, f"{LOST}: {sales(company)}"

    run_in_virtual_time(check)


@pytest.mark.parametrize("decision", ["edit", "drop"])
@kinds
def test_a_decision_that_is_taken_while_a_retry_fails_is_not_written_over(kind: Kind, decision: str) -> None:
    """The attempt that was under way knows nothing of it, and parks its message once more."""
    run_in_virtual_time(lambda: decided_while_it_fails(kind, decision))


async def decided_while_it_fails(kind: Kind, decision: str) -> None:
    company = Company(erp=kind)
    company.scene.flow(Order, "shop", "erp")
    row: ParkedRow | None = None
    decisions: list[asyncio.Task[bool]] = []

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        return RetryLater("not now") if (change.record or {}).get("note") == "bad" else None

    def faults(worker: Worker, place: str) -> float:
        if row is None or decisions or place != "erp.sales.write":
            return 0.0
        new = edited(row, note="mended") if decision == "edit" else b""
        decisions.append(asyncio.ensure_future(trial.decide(row, decision, new)))
        return 0.5

    async with Trial(company.scene.landscape(), faults=faults, spoil=spoil) as trial:
        trial.start()
        order(company, "1", 1, "bad")
        await asyncio.sleep(3)
        row = await only_row(trial)
        await asyncio.sleep(10)
        assert [one.result() for one in decisions] == [True]
        (account,) = await trial.look(accounts)
        told = f"the decision; {sales(company)}, {account}"
        assert sales(company) == ({"1": (1, "mended")} if decision == "edit" else {}), f"{LOST}: {told}"
        assert settled(account, 1), f"{LOST}: {told}"


# -- what a record refers to -----------------------------------------------------------------------------


@kinds
def test_an_order_that_comes_before_its_customer_follows_it_whenever_that_comes(kind: Kind) -> None:
    """Also where it comes between the look for it and the parking."""
    for number in POINTS:
        clock.run(reference_arrives(number, kind, patience=15))


async def reference_arrives(number: int, kind: Kind, patience: int) -> None:
    """The customer is put, and brought by another worker, at the n-th point of the order's own."""
    memory.forget()
    company = Company(erp=kind)
    company.scene.flow(Order, "shop", "erp")
    company.scene.flow(Customer, "shop", "erp")
    shop = company.scene.store("shop")

    def arrive(worker: Worker) -> None:
        shop.put("customers", {"email": "c", "name": "C"}, id="email")
        worker.freeze(2.0)

    at = AtPoint(number, arrive, armed=True)
    async with Trial(company.scene.landscape(), faults=at) as trial:
        trial.start("w2", only={"customers"})
        await asyncio.sleep(1)
        shop.put("orders", {"number": "1", "total": Decimal(1), "customer": "c"}, id="number")
        trial.start("w1", only={"orders"})
        await until(patience, lambda: sales(company), {"1": (1, "")})
        assert company.scene.store("erp").rows("parties")
        found = f"at point {number}, {at.place}: {waiting(await trial.parked())}\n" + "\n".join(trial.trace)
        assert sales(company) == {"1": (1, "")}, f"{STUCK} {found}"


# -- on real databases -----------------------------------------------------------------------------------


def test_a_database_takes_a_large_batch_without_the_rows_that_its_own_rules_refuse(
    database: Database, tmp_path: Path
) -> None:
    memory.forget()
    company = Company()
    table = f"{database.prefix}sales"
    rule = "total numeric not null check (total < 1000)"
    database.run(f"create table {table} (reference text not null primary key, {rule})")
    erp = Adapter(Sql(sales=Table(table, key="reference")))

    @erp.sink(Order, "sales")
    def sale(order: Order) -> Record:
        return {"reference": order.number, "total": order.total.amount}

    company.scene.systems["erp"] = System(name="erp", adapter=erp, settings=database.settings(name="erp"))
    company.scene.flow(Order, "shop", "erp")
    landscape = replace(company.scene.landscape(), store="sqlite:///ledger.db", folder=tmp_path)
    refused = {"7", "1000", "1001", "1999"}
    for number in range(2_000):
        order(company, str(number), 5_000 if str(number) in refused else 5)
    ended = run_once(landscape)
    assert {row.key for row in ended.parked} == refused
    assert all(row.reason is Reason.DEAD for row in ended.parked)
    there = {key for (key,) in database.run(f"select reference from {table}")}
    assert there == {str(number) for number in range(2_000)} - refused, LOST
    (account,) = ended.accounts
    assert account.balanced, f"{BOOKS}: {account}"
    for key in refused:
        order(company, key, 6)
    ended = run_once(landscape)
    assert not ended.parked
    assert database.run(f"select count(*), sum(total) from {table}") == [(2_000, 1_996 * 5 + 4 * 6)], LOST
    (account,) = ended.accounts
    assert settled(account, 2_004), f"{BOOKS}: {account}"
