"""Promise 8: a system that is down is left alone, and no message is blamed for it."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from starlette.types import Receive, Scope, Send
from tests.badinput import company as real
from tests.badinput.test_rest_target import Desk
from tests.connectors.rest_server import Fault, answering, never, serving
from tests.promises.checks import BOOKS, LOST
from tests.runner.cells import order, run_in_virtual_time, sales
from tests.runner.company import CREATING, MERGING, SQL, STEPPING, Company, Kind, Order

from tieline.connector import Change
from tieline.errors import AccessRefused, RetryLater, Throttled, TielineError, Unavailable
from tieline.message import Reason
from tieline.system import System
from tieline.testing import Scene, Trial
from tieline.testing.oracle import accounts

BLAMED: Final = "a message is blamed"
PESTERED: Final = "it is not left alone"
HELD_UP: Final = "others are held up"

OUTAGE: Final = 150.0  # seconds; a message that fails by itself is given up after 60
PROBES: Final = 12  # at most, in that time: they are 1, 2, 4 … 60 seconds apart

DOWN: Final = Unavailable("connection refused")
OUTAGES: Final = [
    *((kind, DOWN) for kind in (SQL, CREATING, MERGING, STEPPING)),
    (SQL, AccessRefused("401")),
    (CREATING, Throttled("429", after=20.0)),
]


COUNT: Final = 4  # orders
FAULTS: Final[dict[str, Fault]] = {
    "throttling": answering(429, "slowly", Retry_After="2"),
    "failing": answering(500, "oops"),
    "hanging": never,
    "refusing": never,  # nobody listens
}


@pytest.mark.parametrize(("kind", "error"), OUTAGES, ids=lambda one: getattr(one, "name", type(one).__name__))
def test_a_target_that_is_down_for_long_is_probed_and_gets_everything_when_it_is_back(
    kind: Kind, error: TielineError
) -> None:
    run_in_virtual_time(lambda: a_target_is_down(kind, error))


@pytest.mark.parametrize("kind", [CREATING, MERGING, STEPPING], ids=lambda kind: kind.name)
def test_a_target_that_answers_everything_with_an_error_of_its_own_is_down(kind: Kind) -> None:
    run_in_virtual_time(lambda: a_target_is_unwell(kind))


def test_what_waits_for_another_attempt_is_not_attempted_while_its_target_is_down() -> None:
    run_in_virtual_time(retries_in_an_outage)


def test_a_source_that_is_down_is_probed_and_holds_nobody_up() -> None:
    run_in_virtual_time(a_source_is_down)


def test_where_every_target_is_down_reading_waits() -> None:
    run_in_virtual_time(every_target_is_down)


def test_desks_behind_http_that_throttle_fail_hang_and_refuse_are_left_alone(tmp_path: Path) -> None:
    asyncio.run(desks_are_down(tmp_path))


async def a_target_is_down(kind: Kind, error: TielineError) -> None:
    """It is away for minutes, and the warehouse is not."""
    company = _company(kind)
    erp = company.scene.store("erp")
    async with Trial(company.scene.landscape()) as trial:
        trial.start()
        order(company, "before", 1)
        await asyncio.sleep(5)
        erp.failure = error
        order(company, "meanwhile", 2)
        await asyncio.sleep(5)
        assert sales(company, "bi").keys() == {"before", "meanwhile"}, HELD_UP
        assert await trial.parked() == [], BLAMED
        (leg,) = [row for row in await trial.look(lambda s: s.legs.all()) if row.target == "erp"]
        assert leg.paused == str(error)
        calls = sum(erp.calls.values())
        await _an_outage(company)
        assert sum(erp.calls.values()) - calls <= PROBES, PESTERED
        assert sales(company, "bi").keys() == {"before", "meanwhile", "0", "1", "2"}, HELD_UP
        await _all_is_well(company, trial)


async def a_target_is_unwell(kind: Kind) -> None:
    """Its server runs, and answers 500 whatever it is asked."""
    company = _company(kind)
    erp = company.scene.store("erp")
    unwell = False

    async def hook(moment: str) -> None:
        if unwell and moment == "check":
            raise Unavailable("answered 500")

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        return RetryLater("answered 500") if unwell and system == "erp" else None

    erp.hook = hook
    async with Trial(company.scene.landscape(), spoil=spoil) as trial:
        trial.start()
        order(company, "before", 1)
        await asyncio.sleep(5)
        unwell = True
        order(company, "meanwhile", 2)
        await _an_outage(company)
        assert await trial.parked() == [], BLAMED
        unwell = False
        await _all_is_well(company, trial)


async def retries_in_an_outage() -> None:
    """One order was refused for the moment when the outage began."""
    company = _company(CREATING)
    busy = True

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        held = busy and system == "erp" and company.scene.store("erp").failure is None and change.key == "busy"
        return RetryLater("a colleague has opened it") if held else None

    async with Trial(company.scene.landscape(), spoil=spoil) as trial:
        trial.start()
        order(company, "before", 1)
        await asyncio.sleep(5)
        order(company, "busy", 1)
        await asyncio.sleep(5)
        (row,) = await trial.parked()
        company.scene.store("erp").failure = DOWN
        await asyncio.sleep(OUTAGE)
        (later,) = await trial.parked()
        assert later.attempt <= row.attempt + 1, f"{BLAMED}: {later}"
        busy = False
        order(company, "meanwhile", 2)
        await _an_outage(company)
        await _all_is_well(company, trial)


async def a_source_is_down() -> None:
    """Nobody takes its silence for an empty list."""
    company = _company(SQL)
    shop = company.scene.store("shop")
    async with Trial(company.scene.landscape()) as trial:
        trial.start()
        order(company, "before", 1)
        await asyncio.sleep(5)
        shop.failure = DOWN
        order(company, "meanwhile", 2)
        calls = sum(shop.calls.values())
        await _an_outage(company)
        assert sum(shop.calls.values()) - calls <= PROBES, PESTERED
        assert sales(company).keys() == {"before"}
        shop.failure = None
        await _all_is_well(company, trial)


async def every_target_is_down() -> None:
    """There is nobody to read for: what is read would only fill the ledger."""
    company = _company(SQL)
    async with Trial(company.scene.landscape()) as trial:
        trial.start()
        order(company, "before", 1)
        await asyncio.sleep(5)
        for name in ("erp", "bi"):
            company.scene.store(name).failure = DOWN
        order(company, "meanwhile", 2)
        await asyncio.sleep(60)
        entered = [account.entered for account in await trial.look(accounts)]
        await _an_outage(company)
        assert [account.entered for account in await trial.look(accounts)] == entered
        company.scene.store("bi").failure = None
        await _all_is_well(company, trial)


async def desks_are_down(folder: Path) -> None:
    """Four desks are down, each in its own way; an office takes every order meanwhile."""
    shop, office = real.make_shop(folder / "shop.db", COUNT), real.make_office(folder / "office.db")
    desks = {name: Shaky(Desk(folder / f"{name}.db"), fault) for name, fault in FAULTS.items()}
    with ExitStack() as servers, ExitStack() as refusing:
        for name, desk in desks.items():
            (refusing if name == "refusing" else servers).enter_context(serving(desk))
        systems = [real.office_system(f"sqlite:///{office}"), *(desk.system(name) for name, desk in desks.items())]
        landscape = real.landscape(f"sqlite:///{folder / 'ledger.db'}", real.shop_system(shop), *systems)
        async with real.working(landscape) as work:
            await work.until_level(COUNT)
            refusing.close()
            for desk in desks.values():
                desk.down = True
            real.put_orders(shop, range(COUNT, 2 * COUNT))
            everything = real.each_once(range(2 * COUNT))
            await work.until(f"not {HELD_UP}", lambda: real.history_of(office) == everything)

            async def paused() -> bool:
                return {leg.leg for leg in await work.legs() if leg.paused} == {f"orders>{name}" for name in desks}

            await work.until("every desk's leg is paused", paused)
            calls = {name: desk.refused for name, desk in desks.items()}
            await asyncio.sleep(3.0)
            assert all(desk.refused - calls[name] <= 3 for name, desk in desks.items()), PESTERED
            waiting = {(row.leg, row.reason) for row in await work.parked()}
            assert waiting <= {("orders>hanging", Reason.DOUBT)}, BLAMED
            servers.enter_context(serving(desks["refusing"], desks["refusing"].port))
            for desk in desks.values():
                desk.down = False
            await work.until_level(2 * COUNT)
    assert all(real.history_of(folder / f"{name}.db") == everything for name in desks), LOST


class Shaky:
    """A desk that meets every call with one fault while it is down; `refused` counts those."""

    def __init__(self, desk: Desk, fault: Fault) -> None:
        self.port = 0
        self.down = False
        self.refused = 0
        self._desk = desk
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.refused += self.down
        await (self._fault if self.down else self._desk)(scope, receive, send)

    def system(self, name: str) -> System:
        """The desk as a target of this name."""
        self._desk.port = self.port
        return self._desk.system(name)


def _company(erp: Kind) -> Company:
    """Orders go to an ERP and to a warehouse."""
    company = Company(erp=erp, scene=Scene(sweep=1e6))
    company.scene.flow(Order, "shop", "erp", "bi")
    return company


async def _an_outage(company: Company) -> None:
    """As long as it lasts, orders come in."""
    for number in range(3):
        order(company, str(number), number)
        await asyncio.sleep(OUTAGE / 3)


async def _all_is_well(company: Company, trial: Trial) -> None:
    """Everything is up again: soon each target has what the shop has, and every message is done."""
    for name in ("shop", "erp", "bi"):
        company.scene.store(name).failure = None
    assert await trial.parked(reason=Reason.DEAD) == [], BLAMED
    await asyncio.sleep(90)
    wanted = {number: (int(row["total"]), "") for number, row in company.scene.store("shop").rows("orders").items()}
    assert sales(company, "erp") == sales(company, "bi") == wanted, LOST
    for account in await trial.look(accounts):
        assert account.balanced, f"{BOOKS}: {account}"
        assert set(account.outcomes) <= {"done"}, account
        assert not account.parked, f"{BLAMED}: {account}"
