"""An older ledger, put back from a back-up: it is noticed before anything is lost by it."""

import asyncio

import pytest
from tests.runner.cells import in_virtual_time, order, sales
from tests.runner.company import SQL, Company, Order

from tieline.errors import Unavailable
from tieline.flow import Target
from tieline.testing import Trial


async def lose(company: Company, trial: Trial, *orders: tuple[str, int]) -> None:
    """What happens after the back-up is made by one worker that has run all the time; then the ledger is lost."""
    order(company, "1", 1)
    worker = trial.start()
    await trial.settle()
    backup = trial.ledger.back_up()
    for number, total in orders:
        order(company, number, total)
        await trial.settle()
    await worker.stop()
    trial.restore(backup)


async def paused(trial: Trial) -> str:
    """Why the leg to the ERP stands still."""
    leg = await trial.look(lambda s: s.legs.get("orders>erp"))
    assert leg is not None
    return leg.paused


@pytest.mark.parametrize("via", ["direct", "bus"])
def test_a_target_that_has_batches_which_the_ledger_never_made_holds_its_leg(via: str) -> None:
    @in_virtual_time
    async def check() -> None:
        company = Company(erp=SQL)
        company.scene.flow(Order, "shop", "erp", via=via)
        async with Trial(company.scene.landscape()) as trial:
            await lose(company, trial, ("2", 2), ("3", 3), ("1", 4))
            order(company, "1", 5)
            trial.start()
            await asyncio.sleep(30)
            assert "the ledger is an older copy" in await paused(trial)
            assert sales(company)["1"] == (4, "")

    check()


@in_virtual_time
async def test_a_batch_of_the_same_number_and_place_is_not_taken_for_the_one_that_the_target_has() -> None:
    company = Company(erp=SQL)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        await lose(company, trial, ("2", 2))
        order(company, "3", 3)
        company.scene.store("erp").failure = Unavailable("down")
        trial.start()
        await asyncio.sleep(10)
        company.scene.store("erp").failure = None
        await asyncio.sleep(70)
        assert "the ledger is an older copy" in await paused(trial)


@in_virtual_time
async def test_a_leg_does_not_pass_over_what_is_for_others_before_it_has_met_its_target() -> None:
    company = Company(erp=SQL)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        await lose(company, trial, ("2", 2))
        company.scene.store("shop").drop("orders", "2")
        company.scene.change("orders", targets=(Target("erp"), Target("bi")))
        trial.landscape = company.scene.landscape()
        trial.start()
        await asyncio.sleep(30)
        assert sales(company, "bi") == {"1": (1, "")}
        assert "the ledger is an older copy" in await paused(trial)
