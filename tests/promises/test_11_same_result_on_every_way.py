"""Promise 11: the same flow gives the same result on every way, and may change over while messages are under way."""

import asyncio
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from tests.promises.checks import BACK, BOOKS, LOST, TWICE, sales_history
from tests.promises.once import run_once
from tests.runner.cells import order, pay, receipts, run_in_virtual_time, sales
from tests.runner.company import CREATING, SQL, Company, Kind, Order, Payment

from tieline.connector import Change, Record
from tieline.connectors import memory
from tieline.connectors.memory import Memory
from tieline.errors import InDoubt, RetryLater, TielineError, Unavailable
from tieline.message import Reason
from tieline.system import Landscape
from tieline.testing import Scene, Trial, Worker, clock
from tieline.testing.oracle import Account, accounts, out_of_order, twice

OTHERWISE: Final = "another result than direct"

Result = dict[str, Any]


class Stores(NamedTuple):
    """Where the ledger is, and another bus."""

    ledger: str
    night: str


IN_MEMORY: Final = ["direct", "bus", "far"]
"""With the ledger in memory, where the bus is; far is an engine of its own."""

KEEPERS: Final = [
    ("direct", "sqlite", "sqlite"),
    ("bus", "sqlite", "sqlite"),
    ("night", "sqlite", "sqlite"),
    pytest.param("direct", "postgresql", "sqlite", marks=pytest.mark.services),
    pytest.param("bus", "postgresql", "sqlite", marks=pytest.mark.services),
    pytest.param("night", "sqlite", "postgresql", marks=pytest.mark.services),
]
"""The way, where the ledger is with the bus in it, and where the bus is that is called night."""


@pytest.fixture
def stores(request: pytest.FixtureRequest, ledger: str, night: str, tmp_path: Path) -> Stores:
    """The addresses of empty stores of these kinds."""

    def address(kind: str, name: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / name}"
        return str(request.getfixturevalue("postgresql_database"))

    return Stores(address(ledger, "ledger.db"), address(night, "night.db"))


@pytest.mark.parametrize("via", ["bus", "far"])
def test_over_a_bus_in_memory_the_result_is_the_same_as_direct(via: str) -> None:
    run_in_virtual_time(lambda: the_same_as_direct(via))


@pytest.mark.parametrize(("via", "ledger", "night"), KEEPERS)
def test_over_databases_the_result_is_the_same_as_direct_in_memory(via: str, stores: Stores) -> None:
    assert results_on(stores, via) == clock.run(results("direct")), OTHERWISE


@pytest.mark.parametrize(("before", "after"), list(permutations(IN_MEMORY, 2)))
@pytest.mark.parametrize("kind", [SQL, CREATING], ids=lambda kind: kind.name)
def test_a_flow_changes_over_with_a_backlog_and_with_messages_that_are_parked_and_in_doubt(
    kind: Kind, before: str, after: str
) -> None:
    run_in_virtual_time(lambda: a_change_over(kind, before, after))


@pytest.mark.parametrize(("via", "ledger", "night"), [KEEPERS[0], KEEPERS[3]])
def test_a_flow_changes_over_on_real_keepers(via: str, stores: Stores) -> None:
    changes_with_a_backlog(stores, [via, "night", "bus"])


# -- the same result -----------------------------------------------------------------------------------------


def phases(company: Company) -> Iterator[str]:
    """What happens in the shop; at each yield, what has happened so far is delivered before it goes on."""
    shop = company.scene.store("shop")
    for number in range(20):
        order(company, str(number), number)
    for number in range(1, 7):
        pay(company, number, "ab"[number % 2])
    yield "orders and payments came in"
    for number in range(5):
        order(company, str(number), 100 + number)
    for number in range(5, 9):
        shop.drop("orders", str(number))
    order(company, "9", 9, "bad")
    shop.put("orders", {"number": "10", "total": 10, "customer": "unknown"}, id="number")
    shop.put("orders", {"number": "11", "total": 0.5}, id="number")
    pay(company, 7, "a")
    yield "some changed, some are gone, one is refused, one lacks its customer, one is not exact"
    for number in range(5):
        order(company, str(number), number)
    order(company, "5", 5)
    order(company, "9", 9, "mended")
    pay(company, 8, "a")
    yield "some are what they were, one is back again, one is mended"


def a_company(via: str, erp: Kind = CREATING) -> Company:
    """Orders and payments go to an ERP, which refuses bad ones, and to a warehouse with transactions."""
    memory.forget()
    company = Company(erp=erp, bi=SQL, scene=Scene(sweep=1e-6))
    company.scene.flow(Order, "shop", "erp", "bi", via=via)
    company.scene.flow(Payment, "shop", "erp", "bi", via=via)
    connector = company.scene.systems["erp"].adapter.connector
    assert isinstance(connector, Memory)
    refusing = dataclasses.replace(connector.resources["sales"], refuses=_is_bad)
    connector.resources = {**connector.resources, "sales": refusing}
    return company


def _is_bad(record: Record) -> str | None:
    return "it is bad" if record.get("note") == "bad" else None


def result_of(company: Company, books: Sequence[Account]) -> Result:
    """What each target has, events in the order of their subjects, and each leg's books."""
    events: dict[str, list[str]] = {}
    for row in company.scene.store("erp").rows("receipts").values():
        events.setdefault(row["account"], []).append(row["reference"])
    return {
        "erp": sales(company, "erp"),
        "bi": sales(company, "bi"),
        "receipts": events,
        "books": {one.leg: (one.entered, _counted(one.outcomes), _counted(one.parked)) for one in books},
    }


def _counted(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items() if count}


async def results(via: str) -> list[Result]:
    """What each phase comes to with two workers, and with ledger and engine in memory."""
    company = a_company(via)
    found = []
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        trial.start()
        for _ in phases(company):
            await asyncio.sleep(10)
            found.append(result_of(company, await trial.look(accounts)))
    return found


async def the_same_as_direct(via: str) -> None:
    """Target by target, and message by message as the books count them."""
    found = await results(via)
    assert found == await results("direct"), OTHERWISE


def results_on(stores: Stores, via: str) -> list[Result]:
    """What each phase comes to in databases, with a worker that ends after each."""
    company = a_company(via)
    landscape = _on(stores, company)
    return [result_of(company, run_once(landscape).accounts) for _ in phases(company)]


def _on(stores: Stores, company: Company) -> Landscape:
    return dataclasses.replace(company.scene.landscape(), store=stores.ledger, buses={"night": stores.night})


# -- changing over ---------------------------------------------------------------------------------------------


class Trouble:
    """What keeps messages under way: a call in doubt, an order that is in use, an order that is refused."""

    def __init__(self) -> None:
        self.slow = False  # the engine of the bus
        self._lost = False

    def faults(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        return 15.0 if self.slow and place == "publish" else 0.0

    def spoil(self, system: str, resource: str, change: Change) -> TielineError | None:
        """See `Spoil`."""
        return RetryLater("in use") if (change.record or {}).get("note") == "in use" else None

    def blur(self, system: str, resource: str, change: Change) -> TielineError | None:
        """See `Blur`."""
        if self._lost or change.key != "doubt":
            return None
        self._lost = True
        return InDoubt("the answer was lost")


async def a_change_over(kind: Kind, before: str, after: str) -> None:
    """The word is changed while an ERP is down, and everybody is started anew; then the ERP comes back."""
    company = a_company(before, kind)
    erp = company.scene.store("erp")
    trouble = Trouble()
    async with Trial(
        company.scene.landscape(), faults=trouble.faults, spoil=trouble.spoil, blur=trouble.blur, foreign=["far"]
    ) as trial:
        history = sales_history(company, trial)
        workers = [trial.start(), trial.start()]
        for number in range(4):
            order(company, str(number), 1)
        order(company, "bad", 1, "bad")
        order(company, "busy", 1, "in use")
        order(company, "doubt", 1)
        pay(company, 1)
        await asyncio.sleep(3)
        waiting = {row.key: row.reason for row in await trial.parked("orders>erp")}
        assert waiting.keys() >= {"bad", "busy"}
        assert kind is SQL or waiting["doubt"] is Reason.DOUBT
        erp.failure = Unavailable("down")
        for number in range(2, 6):
            _another_round(company, number)
            trouble.slow = number > 3  # what comes later has not reached the engine yet
            await asyncio.sleep(1)
        for worker in workers:
            worker.crash("for a new version")
        for flow in ("orders", "payments"):
            company.scene.change(flow, via=after)
        trial.landscape = company.scene.landscape()
        trial.start()
        trial.start()
        for number in range(6, 9):
            _another_round(company, number)
            await asyncio.sleep(1)
        erp.failure = None
        await asyncio.sleep(5)
        trouble.slow = False
        for number, note in (("bad", "mended"), ("busy", ""), ("doubt", "")):
            order(company, number, 2, note)
        await asyncio.sleep(60)
        told = "\n".join(trial.trace[-80:])
        now = {**{str(n): (8, "") for n in range(4)}, "bad": (2, "mended"), "busy": (2, ""), "doubt": (2, "")}
        assert sales(company, "erp") == sales(company, "bi") == now, f"{LOST} {told}"
        paid = [f"p{number}" for number in range(1, 9)]
        assert sorted(receipts(company, "erp")) == sorted(receipts(company, "bi")) == paid, f"{LOST} {told}"
        assert receipts(company, "erp") == receipts(company, "bi") == paid, f"{BACK} {told}"
        for number in range(4):
            effects = history.of(str(number))
            assert out_of_order(list(range(9)), effects) is None, f"{BACK} {effects} {told}"
            assert not twice(effects), f"{TWICE} {effects} {told}"
        for account in await trial.look(accounts):
            assert account.balanced, f"{BOOKS}: {account} {told}"
            assert not account.parked, f"{LOST} {account} {told}"
        assert {row.ways[0].bus for row in await trial.look(lambda s: s.legs.all())} == {_BUS.get(after, after)}


_BUS: Final = {"bus": "main"}


def _another_round(company: Company, number: int) -> None:
    """Each order changes, and a payment comes in."""
    for key in range(4):
        order(company, str(key), number)
    pay(company, number)


def changes_with_a_backlog(stores: Stores, vias: Sequence[str]) -> None:
    """Runs that end by themselves; at each change the ERP has been down for the whole of the last run."""
    company = a_company(vias[0])
    erp = company.scene.store("erp")
    number = 0
    for via in vias:
        for flow in ("orders", "payments"):
            company.scene.change(flow, via=via)
        landscape = _on(stores, company)
        for down in (False, True):
            number += 1
            _another_round(company, number)
            erp.failure = Unavailable("down") if down else None
            run_once(landscape, paused=["orders>erp", "payments>erp"] if down else [])
            assert len(receipts(company, "erp")) == number - down
    erp.failure = None
    ended = run_once(landscape)
    assert sales(company, "erp") == sales(company, "bi") == {str(n): (number, "") for n in range(4)}, LOST
    assert receipts(company, "erp") == receipts(company, "bi") == [f"p{n}" for n in range(1, number + 1)], BACK
    for account in ended.accounts:
        assert account.balanced, f"{BOOKS}: {account}"
        assert not account.parked, f"{LOST} {account}"
