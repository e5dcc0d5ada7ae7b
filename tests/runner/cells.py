"""What tests of single interleavings share: a shop to play with, ways to interrupt, books to check."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from functools import wraps
from typing import Any

import msgspec
from tests.runner.company import Company

from tieline.connector import Change
from tieline.connectors import memory
from tieline.connectors.memory import Memory
from tieline.errors import Reject, TielineError
from tieline.ledger import ParkedRow
from tieline.message import message_id, pack_message, unpack_message
from tieline.testing import Trial, Worker, clock
from tieline.testing.oracle import accounts

Check = Callable[[], Coroutine[Any, Any, None]]


def run_in_virtual_time(check: Check) -> None:
    """Run it on the virtual clock, on systems that nobody has used."""
    memory.forget()
    clock.run(check())


def in_virtual_time(check: Check) -> Callable[[], None]:
    """An asynchronous test, run by `run_in_virtual_time`."""

    @wraps(check)
    def run() -> None:
        run_in_virtual_time(check)

    del run.__wrapped__  # pytest must not see the coroutine function behind it
    return run


class Interrupt:
    """Crashes the worker that comes to `place` once it is armed."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.armed = False

    def __call__(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        if self.armed and place == self.place:
            self.armed = False
            worker.crash(f"at {place}")
        return 0.0


def order(company: Company, number: str, total: int, note: str = "") -> None:
    """A user of the shop writes an order down."""
    record = {"number": number, "total": Decimal(total), "note": note}
    company.scene.store("shop").put("orders", record, id="number")


def pay(company: Company, number: int, account: str = "a") -> None:
    """Money comes in."""
    record = {"id": f"p{number}", "account": account, "amount": Decimal(number)}
    company.scene.store("shop").put("payments", record, id="id")


def sales(company: Company, target: str = "erp") -> dict[str, tuple[int, str]]:
    """What a target has of each order: total and note. A second row of an order is an error."""
    rows = list(company.scene.store(target).rows("sales").values())
    assert len({row["reference"] for row in rows}) == len(rows), f"twice at {target}: {rows}"
    return {row["reference"]: (int(row["total"]), row["note"]) for row in rows}


def receipts(company: Company, target: str) -> list[str]:
    """Which payments a target has, in the order in which they came."""
    return [row["reference"] for row in company.scene.store(target).rows("receipts").values()]


def bad_notes(system: str, resource: str, change: Change) -> TielineError | None:
    """A target that refuses records whose note is "bad"."""
    return Reject("it is bad", field="note") if (change.record or {}).get("note") == "bad" else None


def cannot_be_asked(company: Company) -> None:
    """An ERP that shows nobody its orders."""
    connector = company.scene.systems["erp"].adapter.connector
    assert isinstance(connector, Memory)
    tables = dict(connector.resources)
    tables["sales"] = replace(tables["sales"], lookup=False)
    connector.resources = tables


async def books(trial: Trial, leg: str = "orders>erp") -> tuple[int, dict[str, int], int]:
    """A leg's accounts: how many came in, what became of them, how many wait."""
    (account,) = [one for one in await trial.look(accounts) if one.leg == leg]
    assert account.balanced, str(account)
    outcomes = {str(outcome): count for outcome, count in account.outcomes.items() if count}
    return account.entered, outcomes, sum(account.parked.values())


async def only_row(trial: Trial) -> ParkedRow:
    """The one message that waits."""
    (row,) = await trial.parked()
    return row


def edited(row: ParkedRow, **fields: Any) -> bytes:
    """The parked message as a person corrects it: version n.1 with these fields."""
    message = unpack_message(row.message)
    data = msgspec.json.encode(msgspec.json.decode(message.data) | fields)
    return pack_message(
        msgspec.structs.replace(
            message,
            id=message_id("edit", message.key, message.id, data),
            version=message.version._replace(edit=message.version.edit + 1),
            data=msgspec.Raw(data),
        )
    )
