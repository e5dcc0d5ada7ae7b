"""What is delivered again after an outage or a crash is counted as what it became the first time."""

import pytest
from tests.runner.cells import Interrupt, books, order, pay, receipts, run_in_virtual_time, sales
from tests.runner.company import CREATING, MERGING, STEPPING, Company, Kind, Order, Payment

from tieline.connector import Change
from tieline.errors import TielineError, Unavailable
from tieline.testing import Trial

CLAIMED = (MERGING, CREATING, STEPPING)


class Outage:
    """The target goes away, once, at one of its records."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.over = False

    def __call__(self, system: str, resource: str, change: Change) -> TielineError | None:
        """See `Spoil`."""
        if self.over or (change.record or {}).get("reference") != self.reference:
            return None
        self.over = True
        return Unavailable("the line is dead")


@pytest.mark.parametrize("kind", CLAIMED, ids=lambda kind: kind.name)
def test_what_was_confirmed_before_an_outage_counts_as_done(kind: Kind) -> None:
    """Of a batch of 120 the target takes 70; all of it is delivered again, and nothing of it was there before."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp")
        outage = Outage("70")
        async with Trial(company.scene.landscape(), spoil=outage) as trial:
            for number in range(120):
                order(company, f"{number:02}", number)
            trial.start()
            await trial.settle()
            assert outage.over
            assert len(sales(company)) == 120
            assert await books(trial) == (120, {"done": 120}, 0)

    run_in_virtual_time(check)


@pytest.mark.parametrize("kind", CLAIMED, ids=lambda kind: kind.name)
def test_events_that_were_confirmed_before_an_outage_count_as_done(kind: Kind) -> None:
    """They stay in order, too."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Payment, "shop", "erp")
        async with Trial(company.scene.landscape(), spoil=Outage("p3")) as trial:
            for number in range(6):
                pay(company, number)
            trial.start()
            await trial.settle()
            assert receipts(company, "erp") == [f"p{number}" for number in range(6)]
            assert await books(trial, "payments>erp") == (6, {"done": 6}, 0)

    run_in_virtual_time(check)


@pytest.mark.parametrize("kind", CLAIMED, ids=lambda kind: kind.name)
def test_what_was_confirmed_before_a_crash_counts_as_done(kind: Kind) -> None:
    """Also by the worker that takes over."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp")
        cut = Interrupt("CONFIRMED")
        cut.armed = True
        async with Trial(company.scene.landscape(), faults=cut) as trial:
            order(company, "1", 1)
            await trial.start().over()
            trial.start()
            await trial.settle()
            assert await books(trial) == (1, {"done": 1}, 0)

    run_in_virtual_time(check)


def test_a_backfill_of_what_the_target_has_is_unchanged_all_the_same() -> None:
    """It comes with a batch of its own."""

    async def check() -> None:
        company = Company(erp=MERGING)
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape()) as trial:
            order(company, "1", 1)
            worker = trial.start()
            await trial.settle()
            await worker.runner.backfill("orders")
            await trial.settle()
            assert await books(trial) == (2, {"done": 1, "unchanged": 1}, 0)

    run_in_virtual_time(check)
