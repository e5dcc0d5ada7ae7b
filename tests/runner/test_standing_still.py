"""A worker that stood still inside a write begins no further call of it: somebody else has taken over."""

import asyncio

from tests.runner.cells import in_virtual_time, order, sales
from tests.runner.company import CREATING, Company, Order

from tieline.connector import before_call
from tieline.errors import Fenced
from tieline.testing import Trial, Worker

FROZEN = 60.0  # seconds; the settling time is 10, the lease 3


@in_virtual_time
async def test_a_worker_that_was_taken_over_inside_a_write_is_told_before_its_next_call() -> None:
    """One that was not is let through, however often it asks."""
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    erp = company.scene.store("erp")
    answers: list[str] = []

    async def ask(moment: str) -> None:
        if moment == "sales.write":
            try:
                await before_call()
            except Fenced:
                answers.append("taken over")
                raise
            answers.append("go on")

    def freeze(worker: Worker, place: str) -> float:
        if place == "erp.sales.write" and worker.name == "w1" and answers:
            worker.freeze(FROZEN)
        return 0.0

    erp.hook = ask
    async with Trial(company.scene.landscape(), faults=freeze) as trial:
        trial.start("w1")
        order(company, "1", 1)
        await trial.settle()
        order(company, "2", 2)
        await asyncio.sleep(3)
        trial.start("w2")
        await asyncio.sleep(2 * FROZEN)
        await trial.settle()
        assert answers == ["go on", "go on", "taken over"]
        assert sales(company) == {"1": (1, ""), "2": (2, "")}
