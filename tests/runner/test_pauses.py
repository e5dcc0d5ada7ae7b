"""A leg whose target is down says so in the ledger, where readers look, and says when that is over."""

import asyncio

from tests.runner.cells import in_virtual_time, order, sales
from tests.runner.company import SQL, Company, Order

from tieline.errors import Unavailable
from tieline.testing import Trial, Worker


@in_virtual_time
async def test_a_leg_goes_on_although_the_ledger_was_away_when_the_target_came_back() -> None:
    company = Company(erp=SQL)
    company.scene.flow(Order, "shop", "erp")
    erp = company.scene.store("erp")
    probed = False

    def faults(worker: Worker, place: str) -> float:
        nonlocal probed
        probed |= place == "erp.check" and erp.failure is None
        return 0.0

    lost = iter(["before"])
    async with Trial(
        company.scene.landscape(),
        faults=faults,
        ledger_fails=lambda worker: next(lost, "") if probed else "",
    ) as trial:
        trial.start()
        await asyncio.sleep(2)
        erp.failure = Unavailable("down")
        order(company, "1", 1)
        await asyncio.sleep(4)
        erp.failure = None
        await trial.settle()
        assert probed
        assert not list(lost)
        assert sales(company) == {"1": (1, "")}


@in_virtual_time
async def test_a_leg_goes_on_where_the_worker_that_saw_the_outage_is_gone_and_another_did_not_see_it() -> None:
    """Two workers share the partitions; only one had something to deliver while the target was down."""
    company = Company(erp=SQL)
    company.scene.flow(Order, "shop", "erp", via="bus")
    erp = company.scene.store("erp")
    probing: list[Worker] = []

    def faults(worker: Worker, place: str) -> float:
        if place == "erp.check":
            probing.append(worker)
        return 0.0

    async with Trial(company.scene.landscape(), faults=faults) as trial:
        trial.start()
        trial.start()
        await asyncio.sleep(5)
        erp.failure = Unavailable("down")
        order(company, "1", 1)
        await asyncio.sleep(2.5)
        (saw,) = set(probing)
        saw.crash()
        erp.failure = None
        await trial.settle()
        assert sales(company) == {"1": (1, "")}
