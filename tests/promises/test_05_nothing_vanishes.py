"""Promise 5: in = done + unchanged + stale + superseded + filtered + echo + dropped + parked + in flight. Always."""

import asyncio

import pytest
from tests.promises.books import AuditedTrial
from tests.promises.checks import BOOKS, POINTS, Meet, crash, freeze, one_interruption
from tests.runner import play
from tests.runner.cells import bad_notes, edited, in_virtual_time, only_row, order
from tests.runner.company import CREATING, INTERNAL, SQL, Company, Kind, Order

from tieline.connector import Change, Record
from tieline.entity import Money
from tieline.errors import Reject, RetryLater, TielineError, Unavailable
from tieline.landscape.status import status
from tieline.testing import Trial, Worker, clock


async def balance(trial: Trial, leg: str = "orders>erp") -> str:
    """The leg's books, as `tieline status` shows them."""
    legs = await trial.look(lambda s: status(trial.landscape, s).legs)
    return next(one.balance for one in legs if one.leg == leg)


def named(value: Kind | Meet) -> str:
    """For a test's id."""
    return value.name if isinstance(value, Kind) else value.__name__


@in_virtual_time
async def test_every_message_has_its_place_in_the_books() -> None:
    company = Company()
    erp, shop = company.scene.store("erp"), company.scene.store("shop")
    company.scene.flow(Order, "shop", "erp", "bi")

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        return bad_notes(system, resource, change) if system == "erp" else None

    async with AuditedTrial(company.scene.landscape(), spoil=spoil) as trial:
        worker = trial.start()
        for number in "123":
            order(company, number, 1)
        order(company, "4", 1, INTERNAL)
        await trial.settle()
        assert await balance(trial) == "in 4 = 3 done + 1 filtered"

        order(company, "5", 1, "bad")
        await trial.settle()
        assert await balance(trial) == "in 5 = 3 done + 1 filtered + 1 parked"
        row = await only_row(trial)
        await trial.decide(row, "edit", edited(row, note="mended by hand"))
        await trial.settle()
        assert await balance(trial) == "in 5 = 4 done + 1 filtered"

        await worker.runner.backfill("orders")  # order 5 as the shop has it is older than its edit
        await trial.settle()
        assert await balance(trial) == "in 10 = 4 done + 4 unchanged + 1 stale + 1 filtered"

        order(company, "6", 1, "bad")
        await trial.settle()
        await trial.decide(await only_row(trial), "drop")
        await trial.settle()
        assert await balance(trial) == "in 11 = 4 done + 4 unchanged + 1 stale + 1 filtered + 1 dropped"

        erp.failure = Unavailable("it is down")
        for total in (2, 3):
            order(company, "1", total)
            await asyncio.sleep(2)
        shop.drop("orders", "2")
        await asyncio.sleep(5)
        assert (await balance(trial)).endswith("1 dropped + 3 in flight")
        erp.failure = None
        await trial.settle()
        assert await balance(trial) == (
            "in 14 = 6 done + 4 unchanged + 1 stale + 1 superseded + 1 filtered + 1 dropped"
        )
        assert not trial.wrong, f"{BOOKS}: {trial.wrong}"


@in_virtual_time
async def test_what_returns_to_where_it_came_from_is_in_the_books_too() -> None:
    company = Company()
    systems = company.scene.systems

    @systems["erp"].adapter.source(Order, "sales")
    def sold(record: Record) -> Order:
        return Order(number=record["reference"], total=Money(record["total"], "EUR"))

    @systems["shop"].adapter.sink(Order, "orders")
    def back(order: Order) -> Record:
        return {"number": order.number, "total": order.total.amount}

    company.scene.flow(Order, "shop", "erp")
    company.scene.flow(Order, "erp", "shop", name="back")
    async with AuditedTrial(company.scene.landscape()) as trial:
        trial.start()
        order(company, "1", 1)
        await trial.settle()
        await trial.settle()  # the ERP is read again
        assert await balance(trial) == "in 1 = 1 done"
        assert await balance(trial, "back>shop") == "in 1 = 1 echo"
        assert not trial.wrong, f"{BOOKS}: {trial.wrong}"


class FailsOnce:
    """The first attempt at the order's second total does not succeed."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, system: str, resource: str, change: Change) -> TielineError | None:
        """See `Spoil`."""
        if self.failed or is_bad(system, resource, change) is None:
            return None
        self.failed = True
        return RetryLater("not now")


def is_bad(system: str, resource: str, change: Change) -> TielineError | None:
    """The order's second total is refused for good."""
    return Reject("it is bad") if (change.record or {}).get("total") == 2 else None


@pytest.mark.parametrize(("kind", "meet"), [(SQL, crash), (SQL, freeze), (CREATING, crash)], ids=named)
def test_a_message_that_fails_is_counted_once_wherever_its_worker_stops(kind: Kind, meet: Meet) -> None:
    """Between parking it and passing it, between applying it later and taking its row away."""
    for number in POINTS:
        for fails in (FailsOnce(), is_bad):
            clock.run(one_interruption(number, kind, meet, spoil=fails, calm=False))


@in_virtual_time
async def test_a_message_that_is_parked_when_its_target_goes_down_is_counted_once() -> None:
    """Its batch comes again when the target is back; the retry that has become due meanwhile waits for that."""
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    erp = company.scene.store("erp")

    def faults(worker: Worker, place: str) -> float:
        if place == "PARKED" and not erp.calls.get("check"):
            erp.failure = Unavailable("it went down")
            asyncio.get_running_loop().call_later(5, setattr, erp, "failure", None)
        return 0.0

    async with AuditedTrial(company.scene.landscape(), faults=faults, spoil=FailsOnce()) as trial:
        trial.start()
        order(company, "1", 2)
        order(company, "2", 5)
        await asyncio.sleep(30)
        assert erp.calls.get("check"), "the leg was to be paused"
        assert not trial.wrong, f"{BOOKS}: {trial.wrong}"
        assert await balance(trial) == "in 2 = 2 done", BOOKS


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_the_books_hold_at_every_commit_of_many_lives(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crashes, freezes, outages, decisions, healing, backfills and changes of way, over several kinds of target."""
    monkeypatch.setattr(play, "Trial", AuditedTrial)
    for seed in range(first, first + 10):
        life = play.Play(seed)
        clock.run(life.run())
        assert not life.trial.wrong, "\n".join([f"{BOOKS} of seed {seed}: {life.about}", *life.trial.wrong])
