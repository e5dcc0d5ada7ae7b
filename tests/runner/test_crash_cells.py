"""Crash cells: one process ends, or stands still, between two given commits; the books and the target come out right.

Each is the shortest trace of a defect that the models found or that seeded play cannot be sure to meet.
"""

import asyncio

import pytest
from tests.runner.cells import (
    Interrupt,
    bad_notes,
    books,
    edited,
    in_virtual_time,
    only_row,
    order,
    pay,
    receipts,
    run_in_virtual_time,
    sales,
)
from tests.runner.company import CREATING, MERGING, Company, Order, Payment

from tieline.connector import Change
from tieline.errors import Reject, RetryLater, TielineError
from tieline.testing import Trial, Worker
from tieline.testing.oracle import watch


@in_virtual_time
async def test_a_dead_message_is_healed_by_a_newer_one_also_where_the_process_ends_before_the_ledger_hears() -> None:
    """Crash between the target's commit of the newer message and the ledger's: the dead row goes, once counted."""
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("COMMITTED")
    async with Trial(company.scene.landscape(), faults=cut, spoil=bad_notes) as trial:
        first = trial.start()
        order(company, "1", 1, "bad")
        await trial.settle()
        assert await books(trial) == (1, {}, 1)
        cut.armed = True
        order(company, "1", 2)
        await first.over()
        trial.start()
        await trial.settle()
        assert sales(company) == {"1": (2, "")}
        assert await books(trial) == (2, {"done": 1, "superseded": 1}, 0)


@in_virtual_time
async def test_a_parked_message_that_comes_again_beside_a_newer_one_is_counted_once() -> None:
    """Parked, then cut off before the target's commit; meanwhile the next version has entered the channel."""
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    parked = asyncio.Event()

    def faults(worker: Worker, place: str) -> float:
        if worker.name != "w1":
            return 0.0
        if place == "PARKED":
            order(company, "1", 2)
            parked.set()
            return 4.0  # the reader of the same process goes on and publishes
        if place == "erp.move" and parked.is_set():
            worker.crash("before the target's commit")
        return 0.0

    async with Trial(company.scene.landscape(), faults=faults, spoil=bad_notes) as trial:
        first = trial.start()
        order(company, "1", 1, "bad")
        await first.over()
        assert await trial.look(lambda s: s.legs.get("orders>erp").entered) == 2  # type: ignore[union-attr]
        assert sales(company) == {}
        trial.start()
        await trial.settle()
        assert sales(company) == {"1": (2, "")}
        assert await books(trial) == (2, {"done": 1, "superseded": 1}, 0)


@in_virtual_time
async def test_an_edit_that_lands_while_its_original_is_being_applied_takes_its_place_and_counts_once() -> None:
    """The target has committed the retry, the ledger not yet; a person edits the row that still stands there."""
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    refuses = True
    edits: list[asyncio.Task[bool]] = []

    def faults(worker: Worker, place: str) -> float:
        if place == "COMMITTED" and not refuses and not edits:
            edits.append(asyncio.ensure_future(edit()))
            return 1.0
        return 0.0

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        return bad_notes(system, resource, change) if refuses else None

    async with Trial(company.scene.landscape(), faults=faults, spoil=spoil) as trial:

        async def edit() -> bool:
            row = await only_row(trial)
            return await trial.decide(row, "replay", edited(row, note="corrected"))

        trial.start()
        order(company, "1", 1, "bad")
        await trial.settle()
        refuses = False
        assert await trial.decide(await only_row(trial), "replay")
        await trial.settle()
        assert [task.result() for task in edits] == [True]
        assert sales(company) == {"1": (1, "corrected")}
        assert await books(trial) == (1, {"done": 1}, 0)


@in_virtual_time
async def test_a_retry_that_was_confirmed_counts_once_where_the_process_ends_before_the_position_moves() -> None:
    """A target without transactions: held says that it is done, and whoever takes over counts nothing more."""
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("CONFIRMED")
    refuses = True

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        return bad_notes(system, resource, change) if refuses else None

    async with Trial(company.scene.landscape(), faults=cut, spoil=spoil) as trial:
        first = trial.start()
        order(company, "1", 1, "bad")
        await trial.settle()
        refuses = False
        cut.armed = True
        await trial.decide(await only_row(trial), "replay")
        await first.over()
        trial.start()
        await trial.settle()
        assert sales(company) == {"1": (1, "bad")}
        assert await books(trial) == (1, {"done": 1}, 0)


@in_virtual_time
async def test_a_worker_that_thaws_cannot_apply_what_its_successor_has_parked() -> None:
    """Frozen before its target commit; the successor parks the message and dies before it commits anything."""
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    refuses, begun = False, 0

    def faults(worker: Worker, place: str) -> float:
        nonlocal refuses, begun
        if (worker.name, place) == ("w1", "erp.begin"):
            begun += 1
            if begun == 2:  # the first transaction only shows its token
                refuses = True
                worker.freeze(40.0)
        if (worker.name, place) == ("w2", "PARKED"):
            refuses = False
            worker.crash("right after parking")
        return 0.0

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        return Reject("not for the moment") if refuses else None

    async with Trial(company.scene.landscape(), faults=faults, spoil=spoil) as trial:
        trial.start("w1")
        order(company, "1", 1)
        await asyncio.sleep(5)
        await trial.start("w2").over()
        await asyncio.sleep(60)  # w1 thaws, and the target would take the message now
        assert "w1 thaws" in " ".join(trial.trace)
        await trial.settle()
        assert sales(company) == {}
        assert await books(trial) == (1, {}, 1)
        await trial.decide(await only_row(trial), "replay")
        await trial.settle()
        assert sales(company) == {"1": (1, "")}
        assert await books(trial) == (1, {"done": 1}, 0)


@in_virtual_time
async def test_a_leg_leaves_an_engine_only_when_its_outbox_has_been_relayed() -> None:
    """The flow goes direct while the slow engine has not been given the last batches: they arrive all the same."""
    company = Company()
    company.scene.flow(Order, "shop", "erp", via="far")
    slow = False

    def faults(worker: Worker, place: str) -> float:
        return 30.0 if place == "publish" and slow else 0.0

    async with Trial(company.scene.landscape(), faults=faults, foreign=["far"]) as trial:
        first = trial.start()
        order(company, "1", 1)
        await trial.settle()
        slow = True
        order(company, "1", 2)
        order(company, "2", 2)
        await asyncio.sleep(5)
        first.crash("with its batches in the outbox")
        assert sales(company) == {"1": (1, "")}
        company.scene.change("orders", via="direct")
        trial.landscape = company.scene.landscape()
        trial.start()
        await asyncio.sleep(20)
        assert sales(company) == {"1": (1, "")}, "the engine was to be slow"
        slow = False
        order(company, "3", 3)
        await trial.settle()
        assert sales(company) == {"1": (2, ""), "2": (2, ""), "3": (3, "")}
        assert await books(trial) == (4, {"done": 4}, 0)


@in_virtual_time
async def test_an_event_that_is_first_in_line_and_decided_about_is_tried_once_and_counts_once() -> None:
    """The worker ends when what it waited behind is done; a person decides before another one comes."""
    company = Company()
    company.scene.flow(Payment, "shop", "bi")
    cut = Interrupt("MOVED")
    refused = "p1"

    def not_now(system: str, resource: str, change: Change) -> TielineError | None:
        return RetryLater("not now") if change.key == refused else None

    async with Trial(company.scene.landscape(), faults=cut, spoil=not_now) as trial:
        first = trial.start()
        for number in (1, 2, 3):
            pay(company, number)
        await asyncio.sleep(3)
        refused, cut.armed = "p2", True
        await first.over()
        (second,) = [row for row in await trial.parked() if row.key == "p2"]
        await trial.decide(second, "replay")
        trial.start()
        await asyncio.sleep(5)
        refused = ""
        await trial.settle()
        assert receipts(company, "bi") == ["p1", "p2", "p3"]
        assert await books(trial, "payments>bi") == (3, {"done": 3}, 0)


@in_virtual_time
async def test_a_new_target_of_events_gets_all_of_them_in_order_and_each_once() -> None:
    """Live events wait until the history of their subject has been sent."""
    company = Company()
    company.scene.flow(Payment, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        first = trial.start()
        for number in (1, 2, 3):
            pay(company, number)
            await trial.settle()
        await first.stop()
        company.scene.flow(Payment, "shop", "erp", "bi")
        trial.landscape = company.scene.landscape()
        pay(company, 4)
        trial.start()
        await asyncio.sleep(0.5)
        pay(company, 5)
        await trial.settle()
        assert receipts(company, "erp") == ["p1", "p2", "p3", "p4", "p5"]
        assert receipts(company, "bi") == ["p1", "p2", "p3", "p4", "p5"]
        assert await books(trial, "payments>erp") == (5, {"done": 5}, 0)
        entered, outcomes, waiting = await books(trial, "payments>bi")
        assert (outcomes["done"], entered - 5, waiting) == (5, outcomes.get("unchanged", 0), 0)


@pytest.mark.parametrize("decision", ["drop", "edit"])
def test_a_decision_that_lands_while_the_call_is_under_way_is_carried_out_on_what_is_there(decision: str) -> None:
    """A target without transactions has taken the retry. A drop comes too late; an edit is one more change of it."""
    refuses = True
    decided: list[asyncio.Task[bool]] = []

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        return RetryLater("not now") if refuses else None

    async def check() -> None:
        nonlocal refuses
        company = Company(erp=CREATING)
        company.scene.flow(Order, "shop", "erp")

        async def decide() -> bool:
            row = await only_row(trial)
            if decision == "drop":
                return await trial.decide(row, "drop")
            return await trial.decide(row, "replay", edited(row, note="corrected"))

        def faults(worker: Worker, place: str) -> float:
            if place != "CALLED" or refuses or decided:
                return 0.0
            decided.append(asyncio.ensure_future(decide()))
            return 1.0

        async with Trial(company.scene.landscape(), faults=faults, spoil=spoil) as trial:
            trial.start()
            order(company, "1", 1)
            await asyncio.sleep(3)
            refuses = False
            await trial.settle()
            assert [task.result() for task in decided] == [True]
            assert sales(company) == {"1": (1, "corrected" if decision == "edit" else "")}
            assert await books(trial) == (1, {"done": 1}, 0)

    run_in_virtual_time(check)


@in_virtual_time
async def test_what_is_parked_stays_away_where_something_newer_was_written_and_its_worker_died() -> None:
    company = Company(erp=MERGING)
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("CALLED")
    refusing = True

    def not_now(system: str, resource: str, change: Change) -> TielineError | None:
        return RetryLater("not now") if refusing and (change.record or {}).get("total") == 1 else None

    async with Trial(company.scene.landscape(), faults=cut, spoil=not_now) as trial:
        history = watch(
            company.scene.store("erp"), trial.note, sales=(lambda r: r["reference"], lambda r: r["total"])
        )
        first = trial.start()
        order(company, "1", 1)
        await asyncio.sleep(1)
        cut.armed = True
        order(company, "1", 2)
        await first.over()
        refusing = False
        await asyncio.sleep(10)
        trial.start()
        await trial.settle()
        assert set(history["sales"].of("1")) == {2}, history["sales"].of("1")
        assert await books(trial) == (2, {"superseded": 1, "done": 1}, 0)
