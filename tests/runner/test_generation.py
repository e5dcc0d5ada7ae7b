"""A system that is replaced under its name: its generation goes up, and what it holds begins anew."""

import asyncio
import copy
from dataclasses import replace

import msgspec
import pytest
from tests.runner.cells import (
    bad_notes,
    books,
    cannot_be_asked,
    in_virtual_time,
    only_row,
    order,
    pay,
    run_in_virtual_time,
    sales,
)
from tests.runner.company import CREATING, KINDS, SQL, Company, Kind, Order, Payment

from tieline.connector import Change
from tieline.connectors.memory import Store, store
from tieline.errors import ConfigurationError, InDoubt, TielineError
from tieline.testing import Trial, Worker

ANOTHER = "memory://another/erp"


def swap(company: Company, trial: Trial, generation: int = 2, url: str | None = ANOTHER) -> Store:
    """Another system stands behind the ERP's name, or the same one has a new generation; gives its store."""
    old = company.scene.systems["erp"]
    url = url or old.settings.url
    settings = msgspec.structs.replace(old.settings, url=url, generation=generation)
    company.scene.systems["erp"] = replace(old, settings=settings)
    trial.landscape = company.scene.landscape()
    return store(url)


def totals(there: Store) -> dict[str, int]:
    """The orders that a system has; a second row of one is an error."""
    rows = there.rows("sales").values()
    assert len({row["reference"] for row in rows}) == len(rows)
    return {row["reference"]: int(row["total"]) for row in rows}


async def delivered(company: Company, trial: Trial, spoiled: str = "") -> None:
    """The first generation has two orders and a changed one, and its worker has ended."""
    order(company, "1", 1)
    order(company, "2", 2, spoiled)
    worker = trial.start()
    await trial.settle()
    order(company, "1", 3)
    await trial.settle()
    await worker.stop()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("via", ["direct", "bus", "far"])
def test_a_new_generation_gets_the_current_values_and_its_books_add_up(kind: Kind, via: str) -> None:
    @in_virtual_time
    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp", via=via)
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            await delivered(company, trial)
            there = swap(company, trial)
            trial.start()
            await trial.settle()
            assert totals(there) == {"1": 3, "2": 2}
            order(company, "2", 4)
            await trial.settle()
            assert totals(there) == {"1": 3, "2": 4}
            assert await books(trial) == (6, {"done": 6}, 0)

    check()


@in_virtual_time
async def test_what_an_earlier_generation_held_in_the_same_database_is_not_held_by_the_next() -> None:
    company = Company(erp=SQL)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        await delivered(company, trial)
        for number in ("1", "2"):
            company.scene.store("erp").drop("sales", number)
        swap(company, trial, url=None)
        trial.start()
        await trial.settle()
        assert sales(company) == {"1": (3, ""), "2": (2, "")}
        assert await books(trial) == (5, {"done": 5}, 0)


class KilledAt:
    """Kills the worker "new" at its n-th point."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        if worker.name == "new":
            self.left -= 1
            if not self.left:
                worker.crash(f"at {place}")
        return 0.0


@pytest.mark.parametrize("kind", [SQL, CREATING], ids=lambda kind: kind.name)
def test_a_new_generation_begins_right_wherever_its_worker_is_killed(kind: Kind) -> None:
    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape(), faults=killed) as trial:
            await delivered(company, trial)
            there = swap(company, trial)
            trial.start("new")
            trial.start("next")
            await trial.settle()
            told = "\n".join(trial.trace[-80:])
            assert totals(there) == {"1": 3, "2": 2}, told
            entered, outcomes, waiting = await books(trial)
            assert (outcomes["done"], waiting, entered) == (5, 0, sum(outcomes.values())), told

    for number in range(1, 60):
        killed = KilledAt(number)
        run_in_virtual_time(check)
        assert killed.left <= 0


@in_virtual_time
async def test_a_call_that_nobody_knows_the_end_of_is_made_at_the_next_generation() -> None:
    def cut(system: str, resource: str, change: Change) -> TielineError | None:
        return InDoubt("the line was cut") if (change.record or {}).get("note") == "cut" else None

    company = Company(erp=CREATING)
    cannot_be_asked(company)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape(), blur=cut) as trial:
        order(company, "1", 1, "cut")
        worker = trial.start()
        await asyncio.sleep(2 * company.scene.settling)
        assert "cannot be asked" in (await only_row(trial)).error
        await worker.stop()
        trial.blur = lambda system, resource, change: None
        there = swap(company, trial)
        trial.start()
        await trial.settle()
        assert totals(there) == {"1": 1}
        assert (await books(trial))[2] == 0


@in_virtual_time
async def test_events_of_a_subject_reach_a_new_generation_in_order() -> None:
    company = Company(erp=SQL)
    company.scene.flow(Payment, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        for number in (1, 2, 3):
            pay(company, number)
        worker = trial.start()
        await trial.settle()
        await worker.stop()
        pay(company, 4)
        there = swap(company, trial)
        trial.start()
        await trial.settle()
        assert [row["reference"] for row in there.rows("receipts").values()] == ["p1", "p2", "p3", "p4"]
        await books(trial, "payments>erp")


@in_virtual_time
async def test_events_that_would_overtake_earlier_ones_refuse_a_new_generation() -> None:
    company = Company(erp=SQL)
    company.scene.flow(Payment, "shop", "erp")
    async with Trial(company.scene.landscape(), spoil=bad_notes) as trial:
        record = {"id": "p1", "account": "a", "amount": 1, "note": "bad"}
        company.scene.store("shop").put("payments", record, id="id")
        worker = trial.start()
        await trial.settle()
        await worker.stop()
        swap(company, trial)
        with pytest.raises(ConfigurationError, match=r"systems\.erp: .*payments>erp.* → write generation = 1"):
            await trial.once()


@in_virtual_time
async def test_a_generation_does_not_go_down_again() -> None:
    company = Company(erp=SQL)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        await delivered(company, trial)
        swap(company, trial)
        await trial.once()
        swap(company, trial, generation=1, url=None)
        with pytest.raises(ConfigurationError, match="write generation = 3"):
            await trial.once()


@in_virtual_time
async def test_the_books_add_up_after_a_target_was_put_back_from_an_older_copy() -> None:
    company = Company(erp=SQL)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        worker = trial.start()
        await trial.settle()
        older = copy.deepcopy(company.scene.store("erp").contents)
        order(company, "2", 2)
        await trial.settle()
        await worker.stop()
        company.scene.store("erp").contents = older
        trial.start()
        order(company, "3", 3)
        await trial.settle()
        assert sales(company) == {"1": (1, ""), "3": (3, "")}
        assert await books(trial) == (3, {"done": 3}, 0)
