"""Promise 9: polls run once, however many workers."""

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import pytest
from tests.badinput.company import working
from tests.promises.checks import BOOKS, LOST
from tests.runner.cells import order, run_in_virtual_time, sales
from tests.runner.company import Company, Order

from tieline.connectors import memory
from tieline.testing import Scene, Trial, Worker
from tieline.testing.oracle import accounts

EVERY: Final = 1.0  # seconds
TAKEOVER: Final = 5.0  # seconds: a lease, a look at it once a second, and the reading itself

POLLED_TWICE: Final = "polled by two"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_source_is_read_once_at_a_time_however_many_workers_there_are(workers: int) -> None:
    run_in_virtual_time(lambda: polls(workers))


@pytest.mark.parametrize("interrupt", [Worker.crash, lambda worker: worker.freeze(20.0)], ids=["killed", "frozen"])
@pytest.mark.parametrize("place", ["shop.orders.read", "READ", "PUBLISHED"])
def test_another_worker_takes_over_from_one_that_is_gone_and_reads_alone(
    interrupt: Callable[[Worker], None], place: str
) -> None:
    run_in_virtual_time(lambda: a_takeover(interrupt, place))


def test_polls_run_once_on_a_real_ledger(ledger_url: str) -> None:
    asyncio.run(polls_on(ledger_url))


@dataclasses.dataclass(slots=True)
class Readings:
    """Who read, and when; whoever comes to `place` once it is armed meets the interruption."""

    place: str = ""
    interrupt: Callable[[Worker], None] = lambda worker: None
    armed: bool = False
    moments: list[tuple[float, str]] = dataclasses.field(default_factory=list)

    def __call__(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        if place == "shop.orders.read":
            self.moments.append((asyncio.get_running_loop().time(), worker.name))
        if self.armed and place == self.place:
            self.armed = False
            self.interrupt(worker)
        return 0.0

    def since(self, moment: float) -> list[tuple[float, str]]:
        """The readings from then on."""
        return [one for one in self.moments if one[0] >= moment]


async def polls(workers: int) -> None:
    """A minute of a quiet source."""
    company = Company(scene=Scene(every=EVERY, sweep=1e6))
    company.scene.flow(Order, "shop", "erp", via="bus")
    readings = Readings()
    async with Trial(company.scene.landscape(), faults=readings) as trial:
        for _ in range(workers):
            trial.start()
            await asyncio.sleep(0.3)
        order(company, "1", 1)
        await asyncio.sleep(60)
        _one_reader(readings.moments, 60)
        assert sales(company) == {"1": (1, "")}, LOST


async def a_takeover(interrupt: Callable[[Worker], None], place: str) -> None:
    """The reader is gone while it reads a change; the change arrives, once, and so does the next one."""
    company = Company(scene=Scene(every=EVERY, sweep=1e6))
    company.scene.flow(Order, "shop", "erp", via="bus")
    readings = Readings(place, interrupt)
    async with Trial(company.scene.landscape(), faults=readings) as trial:
        for _ in range(3):
            trial.start()
        await asyncio.sleep(10)
        order(company, "1", 1)
        readings.armed = True
        await asyncio.sleep(TAKEOVER + EVERY)
        assert not readings.armed
        assert sales(company) == {"1": (1, "")}, LOST
        order(company, "1", 2)
        await asyncio.sleep(30)  # who was frozen has thawed long since
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(30)
        _one_reader(readings.since(begun), 30)
        assert sales(company) == {"1": (2, "")}, LOST
        (account,) = await trial.look(accounts)
        assert (account.balanced, account.entered) == (True, 2), f"{BOOKS}: {account}"


def _one_reader(moments: list[tuple[float, str]], seconds: float) -> None:
    assert len({name for _, name in moments}) == 1, f"{POLLED_TWICE}: {moments}"
    assert abs(len(moments) - seconds / EVERY) <= 2, moments


async def polls_on(ledger_url: str) -> None:
    """Three workers of their own connections to one ledger, for some seconds."""
    memory.forget()
    company = Company(scene=Scene(every=0.5, sweep=1e6))
    company.scene.flow(Order, "shop", "erp", via="bus")
    landscape = dataclasses.replace(company.scene.landscape(), store=ledger_url)
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(working(landscape)) for _ in range(3)]
        order(company, "1", 1)
        await workers[0].until("it arrives", lambda: sales(company) == {"1": (1, "")})
        store = company.scene.store("shop")
        before = store.calls["orders.read"]
        await asyncio.sleep(3.0)
        polled = store.calls["orders.read"] - before
        assert 4 <= polled <= 7, f"{POLLED_TWICE}: {polled} times in 3 s"
