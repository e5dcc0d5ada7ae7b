"""What a worker with many legs asks the ledger for, it asks for all of them at once."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from tests.runner.cells import in_virtual_time, order
from tests.runner.company import Company, Order

from tieline.ledger import Fence, Stores
from tieline.ledgers.memory import MemoryLedger
from tieline.ledgers.stores.leases import SqlLeases
from tieline.testing import Trial

LEGS = 30


def company_of(legs: int) -> Company:
    """One source and so many legs of it."""
    company = Company()
    for number in range(legs):
        company.scene.flow(Order, "shop", "erp", name=f"orders{number}")
    return company


def counted(ledger: MemoryLedger, names: list[str]) -> None:
    """Note what a ledger is asked for, from now on."""
    real = ledger.transact

    async def transact(work: Callable[[Stores], Any], fences: Sequence[Fence] = ()) -> Any:
        names.append(getattr(work, "__qualname__", repr(work)))
        return await real(work, fences)

    ledger.transact = transact  # type: ignore[method-assign]


@in_virtual_time
async def test_whether_all_is_quiet_is_asked_for_all_legs_at_once() -> None:
    """A look takes a handful of transactions, however many legs there are."""
    company = company_of(LEGS)
    async with Trial(company.scene.landscape()) as trial:
        worker = trial.start()
        order(company, "1", 1)
        await trial.settle()
        await asyncio.sleep(10.25)  # at a time at which nobody else looks
        names: list[str] = []
        counted(trial.ledger, names)
        assert await worker.runner._quiet()
        assert 1 < len(names) < LEGS


@in_virtual_time
async def test_ways_are_settled_for_all_legs_at_once() -> None:
    """Moves are looked up in one transaction, and ways settled in another one."""
    company = company_of(LEGS)
    async with Trial(company.scene.landscape()) as trial:
        names: list[str] = []
        counted(trial.ledger, names)
        trial.start()
        await trial.settle()
        before_legs = next(place for place, name in enumerate(names) if name.startswith(("Leg.", "Shares.of")))
        assert 1 < before_legs < LEGS


@in_virtual_time
async def test_a_leg_looks_at_its_own_leases_and_nobody_else_s() -> None:
    """Or each of thousands would read thousands, every second."""
    company = company_of(LEGS)
    longest, real = 0, SqlLeases.holders

    def holders(self: SqlLeases, beginning: str = "") -> dict[str, str]:
        nonlocal longest
        found = real(self, beginning)
        longest = max(longest, len(found))
        return found

    async with Trial(company.scene.landscape()) as trial:
        trial.start()
        await trial.settle()
        SqlLeases.holders = holders  # type: ignore[method-assign]
        try:
            order(company, "1", 1)
            await asyncio.sleep(10)
        finally:
            SqlLeases.holders = real  # type: ignore[method-assign]
    assert 0 < longest < LEGS
