"""What the promises are checked by; the mutants must turn these red."""

import asyncio
from collections.abc import Callable

from tests.runner.cells import order
from tests.runner.company import CREATING, SQL, Company, Kind, Order

from tieline.connectors import memory
from tieline.testing import Scene, Trial, Worker
from tieline.testing.oracle import accounts, out_of_order, twice, watch

Meet = Callable[[Worker], None]
POINTS = range(1, 41)


def crash(worker: Worker) -> None:
    """It is killed."""
    worker.crash()


def freeze(worker: Worker) -> None:
    """It stands still for longer than its lease lasts."""
    worker.freeze(12.0)


async def one_interruption(number: int, kind: Kind, meet: Meet, *, calm: bool = True) -> None:
    """The first worker meets it at its n-th point from the page with a change on, and a second one takes over.

    Sweeps are off: what the cursor has passed is not read again. `calm` asks that nothing is written twice.
    """
    memory.forget()
    company = Company(erp=kind, scene=Scene(sweep=1e6))
    company.scene.flow(Order, "shop", "erp")
    armed, passed = False, 0

    def faults(worker: Worker, place: str) -> float:
        nonlocal passed
        if armed and worker.name == "w1" and (passed or place == "shop.orders.page"):
            passed += 1
            if passed == number:
                meet(worker)
        return 0.0

    async with Trial(company.scene.landscape(), faults=faults) as trial:
        history = watch(
            company.scene.store("erp"), trial.note, sales=(lambda r: r["reference"], lambda r: int(r["total"]))
        )["sales"]
        trial.start("w1")
        order(company, "1", 1)
        await asyncio.sleep(3)
        armed = True
        order(company, "1", 2)
        order(company, "2", 5)
        await asyncio.sleep(0.5)
        trial.start("w2")
        await asyncio.sleep(5)
        order(company, "1", 3)
        await asyncio.sleep(40)
        told = f"point {number}:\n" + "\n".join(trial.trace[-60:])
        assert history.now() == {"1": 3, "2": 5}, told
        assert not history.doubles, told
        assert out_of_order([1, 2, 3], history.of("1")) is None, told
        if calm:
            assert not twice(history.of("1")) + twice(history.of("2")), told
        (account,) = await trial.look(accounts)
        assert account.balanced, f"{account}\n{told}"
        assert not account.parked, f"{account}\n{told}"
        assert account.entered in {3, 4}, f"{account}\n{told}"


async def nothing_is_lost() -> None:
    """Killed at any point, with a target that commits and with one that only creates."""
    for number in POINTS:
        await one_interruption(number, SQL, crash)
        await one_interruption(number, CREATING, crash, calm=False)


async def order_is_kept() -> None:
    """Frozen at any point, taken over, and thawed."""
    for number in POINTS:
        await one_interruption(number, SQL, freeze)
