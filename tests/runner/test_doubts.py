"""Calls of which nobody knows whether they took effect: settled by a look, or by a person, and never twice there."""

import asyncio
from decimal import Decimal

import pytest
from tests.runner.cells import (
    Interrupt,
    bad_notes,
    books,
    cannot_be_asked,
    edited,
    in_virtual_time,
    only_row,
    order,
    run_in_virtual_time,
    sales,
)
from tests.runner.company import CREATING, MERGING, SQL, Company, Customer, Kind, Order

from tieline.adapter import Adapter
from tieline.connector import Change, Record
from tieline.connectors.memory import Table
from tieline.entity import Money
from tieline.errors import InDoubt, TielineError, Unavailable
from tieline.message import Reason
from tieline.testing import Trial


class LostAnswer:
    """The first call takes effect, and its answer is lost."""

    def __init__(self) -> None:
        self.lost = False

    def __call__(self, system: str, resource: str, change: Change) -> TielineError | None:
        """See `Blur`."""
        if self.lost:
            return None
        self.lost = True
        return InDoubt("the answer was lost")


@in_virtual_time
async def test_a_delete_after_a_create_in_doubt_looks_first_and_takes_away_what_is_there() -> None:
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape(), blur=LostAnswer()) as trial:
        trial.start()
        order(company, "1", 1)
        await asyncio.sleep(3)
        assert (await only_row(trial)).reason is Reason.DOUBT
        company.scene.store("shop").drop("orders", "1")
        await trial.settle()
        assert sales(company) == {}
        assert await books(trial) == (2, {"superseded": 1, "done": 1}, 0)


@in_virtual_time
async def test_a_delete_after_a_create_that_never_arrived_asks_nothing_of_the_target() -> None:
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("CLAIMED")
    cut.armed = True
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        first = trial.start()
        order(company, "1", 1)
        await first.over()
        trial.start()
        await asyncio.sleep(6)  # taken over, and not settled yet
        company.scene.store("shop").drop("orders", "1")
        await trial.settle()
        assert sales(company) == {}
        assert await books(trial) == (2, {"superseded": 1, "unchanged": 1}, 0)
        assert " CALLED" not in "".join(trial.trace)


@in_virtual_time
async def test_a_doubt_outlives_an_attempt_to_settle_it_that_the_target_did_not_answer() -> None:
    """The delete took effect, and was to be repeated during an outage: what comes next finds no row to change."""
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp", "bi")
    cut = Interrupt("CALLED")
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        first = trial.start()
        order(company, "1", 1)
        await trial.settle()
        cut.armed = True
        company.scene.store("shop").drop("orders", "1")
        await first.over()
        company.scene.store("erp").failure = Unavailable("down")
        trial.start()
        await asyncio.sleep(6)
        order(company, "1", 2)
        await asyncio.sleep(3)
        company.scene.store("erp").failure = None
        await trial.settle()
        assert sales(company) == {"1": (2, "")}
        assert await books(trial, "orders>erp") == (3, {"done": 2, "superseded": 1}, 0)


@in_virtual_time
async def test_a_message_dropped_while_in_doubt_counts_as_done_where_it_turns_out_to_be_there() -> None:
    """A drop waits until the call can land no more; the next change is a change of that row, not a second one."""
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape(), blur=LostAnswer()) as trial:
        trial.start()
        order(company, "1", 1)
        await asyncio.sleep(3)
        await trial.decide(await only_row(trial), "drop")
        await asyncio.sleep(3)
        assert (await only_row(trial)).decision == "drop"
        await trial.settle()
        assert await books(trial) == (1, {"done": 1}, 0)
        order(company, "1", 2)
        await trial.settle()
        assert sales(company) == {"1": (2, "")}
        assert await books(trial) == (2, {"done": 2}, 0)


@pytest.mark.parametrize("decision", ["replay", "edit"])
def test_a_decision_about_a_message_in_doubt_waits_until_the_call_can_land_no_more(decision: str) -> None:
    """Were the doubt over with it, the call could land on top of what comes after."""

    async def check() -> None:
        company = Company(erp=MERGING)
        company.scene.flow(Order, "shop", "erp")
        delays = iter([6.0])
        async with Trial(company.scene.landscape(), late=lambda system, resource: next(delays, 0.0)) as trial:
            trial.start()
            order(company, "1", 1)
            await asyncio.sleep(2)
            row = await only_row(trial)
            await trial.decide(row, decision, edited(row, note="looked at") if decision == "edit" else b"")
            await asyncio.sleep(1)
            order(company, "1", 2)
            await asyncio.sleep(10)  # the call has landed, late
            await trial.settle()
            assert sales(company) == {"1": (2, "")}

    run_in_virtual_time(check)


@in_virtual_time
async def test_where_nobody_can_be_asked_a_persons_replay_says_that_it_is_not_there() -> None:
    company = Company(erp=CREATING)
    cannot_be_asked(company)
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("CLAIMED")
    cut.armed = True
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        first = trial.start()
        order(company, "1", 1)
        await first.over()
        trial.start()
        await asyncio.sleep(60)
        row = await only_row(trial)
        assert row.reason is Reason.DOUBT
        assert "cannot be asked" in row.error
        assert sales(company) == {}
        await trial.decide(row, "replay")
        await trial.settle()
        assert sales(company) == {"1": (1, "")}
        assert await books(trial) == (1, {"done": 1}, 0)


@in_virtual_time
async def test_where_nobody_can_be_asked_a_change_after_a_drop_is_in_doubt_again_and_never_a_second_row() -> None:
    company = Company(erp=CREATING)
    cannot_be_asked(company)
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("CALLED")
    cut.armed = True
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        first = trial.start()
        order(company, "1", 1)
        await first.over()
        trial.start()
        await asyncio.sleep(60)
        await trial.decide(await only_row(trial), "drop")
        await asyncio.sleep(10)
        order(company, "1", 2)
        await asyncio.sleep(60)
        assert sales(company) == {"1": (1, "")}
        assert (await only_row(trial)).reason is Reason.DOUBT
        assert await books(trial) == (2, {"dropped": 1}, 1)


@pytest.mark.parametrize("then", [2, None], ids=["changed", "deleted"])
def test_where_rows_go_by_our_keys_a_row_proves_nothing_of_a_call_in_doubt(then: int | None) -> None:
    """It may have been there before the call: what is newer waits until the call can land no more."""

    async def check() -> None:
        company = Company(erp=MERGING)
        company.scene.flow(Order, "shop", "erp")
        company.scene.store("erp").put("sales", {"id": "1", "reference": "1", "total": 0, "note": ""})
        delays = iter([6.0])
        async with Trial(company.scene.landscape(), late=lambda system, resource: next(delays, 0.0)) as trial:
            trial.start()
            order(company, "1", 1)
            await asyncio.sleep(3)
            assert (await only_row(trial)).reason is Reason.DOUBT
            if then is None:
                company.scene.store("shop").drop("orders", "1")
            else:
                order(company, "1", then)
            await asyncio.sleep(10)  # the call has landed, late
            await trial.settle()
            assert sales(company) == ({} if then is None else {"1": (then, "")})
            assert await books(trial) == (2, {"superseded": 1, "done": 1}, 0)

    run_in_virtual_time(check)


@pytest.mark.parametrize("kind", [SQL, CREATING], ids=str)
def test_a_key_whose_message_was_dropped_is_no_reference(kind: Kind) -> None:
    """The order waits on until its customer is really there, and then has the target's own id of it."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp")
        company.scene.flow(Customer, "shop", "erp")
        shop = company.scene.store("shop")
        async with Trial(company.scene.landscape(), spoil=bad_notes) as trial:
            trial.start()
            shop.put("customers", {"email": "c", "name": "N", "note": "bad"}, id="email")
            shop.put("orders", {"number": "1", "total": Decimal(1), "customer": "c"}, id="number")
            await asyncio.sleep(10)
            (dead,) = await trial.parked("customers>erp")
            await trial.decide(dead, "drop")
            await asyncio.sleep(90)
            assert sales(company) == {}
            assert await books(trial, "orders>erp") == (1, {}, 1)
            shop.put("customers", {"email": "c", "name": "N", "note": ""}, id="email")
            await trial.settle()
            (party,) = company.scene.store("erp").rows("parties").values()
            (sale,) = company.scene.store("erp").rows("sales").values()
            assert sale["party"] == party["id"]
            assert await books(trial, "orders>erp") == (1, {"done": 1}, 0)

    run_in_virtual_time(check)


@in_virtual_time
async def test_a_call_in_doubt_of_another_source_makes_nothing_stale() -> None:
    """The point of sale has counted far, the shop has not; both give order 1, which is one row."""
    company = Company(erp=CREATING)
    _point_of_sale(company.scene.system("pos", orders=Table(id="number")))
    company.scene.flow(Order, "shop", "erp")
    company.scene.flow(Order, "pos", "erp", name="pos")
    cut = Interrupt("CALLED")
    pos = company.scene.store("pos")
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        first = trial.start()
        for total in (1, 2, 3):
            pos.put("orders", {"number": "9", "total": Decimal(total)}, id="number")
            await trial.settle()
        cut.armed = True
        pos.put("orders", {"number": "1", "total": Decimal(7)}, id="number")
        await first.over()
        order(company, "1", 2)
        trial.start(only={"orders"})
        await asyncio.sleep(30)
        trial.start()
        await trial.settle()
        assert set(sales(company)) == {"1", "9"}
        assert await books(trial, "orders>erp") == (1, {"done": 1}, 0)


def _point_of_sale(pos: Adapter) -> None:
    @pos.source(Order, "orders", name="sold")
    def sold(record: Record) -> Order:
        return Order(number=record["number"], total=Money(record["total"], "EUR"))
