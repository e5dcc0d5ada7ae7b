"""What the promises are checked by; the mutants must turn these red."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from tests.promises.books import AuditedTrial
from tests.runner.cells import order
from tests.runner.company import CREATING, SQL, Company, Kind, Order

from tieline.connectors import memory
from tieline.testing import Scene, Trial, Worker
from tieline.testing.harness import Spoil
from tieline.testing.oracle import Account, History, accounts, out_of_order, twice, watch

T = TypeVar("T")
Meet = Callable[[Worker], None]
POINTS = range(1, 31)  # from a page that is read to a position that is moved
SENT_AGAIN = 8  # messages at most, current values that make a late call good among them

_NO_OTHERS: Final = {"ledger done", "woken"}  # than the next point: nothing has an effect between

LOST: Final = "lost"
TWICE: Final = "done twice"
BACK: Final = "went back"
BOOKS: Final = "the books are out"
STUCK: Final = "waits for nothing"
"""How a check that fails begins: with the promise that is broken. A mutant is red for one of these."""


def crash(worker: Worker) -> None:
    """It is killed."""
    worker.crash()


def freeze(worker: Worker) -> None:
    """It stands still for longer than its lease lasts."""
    worker.freeze(12.0)


@dataclass(slots=True)
class AtPoint:
    """Lets the first worker meet something at its n-th point from the first page on that it reads once armed."""

    number: int
    meet: Meet
    page: str = "shop.orders.page"
    armed: bool = False
    passed: int = 0
    place: str = ""  # the point's name

    def __call__(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        begun = self.passed or place == self.page
        if self.armed and worker.name == "w1" and begun and place not in _NO_OTHERS:
            self.passed += 1
            if self.passed == self.number:
                self.place = place
                self.meet(worker)
        return 0.0


async def one_interruption(
    number: int, kind: Kind, meet: Meet, *, via: str = "direct", spoil: Spoil | None = None, calm: bool = True
) -> None:
    """The first worker meets it at its n-th point from the page with a change on, and a second one takes over.

    Sweeps are off: what the cursor has passed is not read again. `calm` asks that nothing is written twice.
    """
    memory.forget()
    company = Company(erp=kind, scene=Scene(sweep=1e6))
    company.scene.flow(Order, "shop", "erp", via=via)
    at = AtPoint(number, meet)
    async with AuditedTrial(company.scene.landscape(), faults=at, spoil=spoil, foreign=["far"]) as trial:
        history = sales_history(company, trial)
        trial.start("w1")
        order(company, "1", 1)
        await asyncio.sleep(3)
        at.armed = True
        order(company, "1", 2)
        order(company, "2", 5)
        await asyncio.sleep(0.5)
        trial.start("w2")
        await asyncio.sleep(5)
        order(company, "1", 3)
        await rest(trial, history, {"1": 3, "2": 5})
        told = f"at point {number}, {at.place}\n" + "\n".join(trial.trace[-60:])
        assert history.now() == {"1": 3, "2": 5}, f"{LOST} {told}"
        assert not history.doubles, f"{TWICE} {told}"
        assert out_of_order([1, 2, 3], history.of("1")) is None, f"{BACK} {told}"
        if calm:
            assert not twice(history.of("1")) + twice(history.of("2")), f"{TWICE} {told}"
        assert not trial.wrong, f"{BOOKS}: {trial.wrong[0]}, {told}"
        (account,) = await trial.look(accounts)
        assert settled(account, 3, 4 if calm else SENT_AGAIN), f"{BOOKS}: {account}, {told}"


def sales_history(company: Company, trial: Trial) -> History:
    """What becomes of the ERP's sales from now on: their totals, by reference."""
    sales = (lambda r: r["reference"], lambda r: int(r["total"]))
    return watch(company.scene.store("erp"), trial.note, sales=sales)["sales"]


def settled(account: Account, least: int, most: int = 0) -> bool:
    """Whether as many messages came in as may have, every one has its outcome, and none waits."""
    return account.balanced and not account.parked and least <= account.entered <= (most or least)


async def rest(trial: Trial, history: History, wanted: dict[str, int], seconds: int = 15) -> None:
    """Wait until everybody is awake, nothing waits, and the target has what is wanted; or the time is over."""
    for _ in range(seconds):
        await asyncio.sleep(1)
        (account,) = await trial.look(accounts)
        frozen = any(worker.frozen for worker in trial.workers)
        if not frozen and history.now() == wanted and settled(account, 0, account.entered):
            break
    await asyncio.sleep(2)


async def until(seconds: int, look: Callable[[], T], wanted: T) -> T:
    """What there is as soon as that is what is wanted, or else when the time is over."""
    while (found := look()) != wanted and seconds:
        seconds -= 1
        await asyncio.sleep(1)
    return found


async def nothing_is_lost() -> None:
    """Killed at any point, with a target that commits and with one that only creates."""
    for number in POINTS:
        await one_interruption(number, SQL, crash)
        await one_interruption(number, CREATING, crash, calm=False)


async def order_is_kept() -> None:
    """Frozen at any point, taken over, and thawed."""
    for number in POINTS:
        await one_interruption(number, SQL, freeze)
