"""Workers that run some flows only take no share of the others."""

import asyncio

from tests.runner.cells import in_virtual_time, order, sales
from tests.runner.company import Company, Customer, Order

from tieline.testing import Trial


@in_virtual_time
async def test_a_worker_of_other_flows_takes_no_share_of_a_flow() -> None:
    """Its partitions are all held by those who run it."""
    company = Company()
    company.scene.flow(Order, "shop", "erp", via="bus")
    company.scene.flow(Customer, "shop", "erp", via="bus")
    async with Trial(company.scene.landscape()) as trial:
        trial.start("w1", only={"orders"})
        trial.start("w2", only={"customers"})
        await asyncio.sleep(10)
        for number in range(20):
            order(company, str(number), number)
        await asyncio.sleep(20)
        assert len(sales(company)) == 20
