"""Promise 12: bad input gets a clear error: where it stands, what is wrong, what to do; all mistakes at once."""

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Final, NamedTuple

from typer.testing import CliRunner, Result

from tieline.cli import app
from tieline.cli.options import WAITS

UNCLEAR: Final = "not clear"
HIDDEN: Final = "hidden behind another one"

MISTAKES: Final = {
    "tieline.toml": """
        [tieline]                               #! tieline.name is missing | [tieline] name = "…"
        nme = "acme"                            #! unknown key 'nme' | did you mean 'name'?

        [systems.shop]
        adapter = "adapters.shop"
        url     = "files"
        auth    = { bearer = "t0ken-in-the-open" }  #! a secret stands here in the open | write ${env:NAME}
        limits  = { per_second = -1 }           #! per_second is -1 | 0 or more
        owner   = "a@acme.example"
        [systems.shop.sources.order]
        trigger = "every now and then"          #! now and then | every 5m
        brake   = 20                            #! brake is 20 | from 0 to 1

        [systems.office]
        adapter = "adapters.offise"             #! adapters.offise | adapters/offise.py
        url     = "sqlite:///office.db"
        owner   = "a@acme.example"

        [flows.orders]
        entity     = "Order"
        from       = "shop"
        to         = "ofice"                    #! 'ofice' | did you mean 'office'?
        via        = "snail"                    #! 'snail' | use one of: bus, direct
        robustness = "exakt"                    #! 'exakt' | 'exact'
        owner      = "a@acme.example"
    """,
    "entities.py": """
        from tieline import Entity


        class Order(Entity, key="number"):
            number: str
            total: float                        #! Order.total: float is not exact | use Money
    """,
    "adapters/shop.py": """
        from tieline import Adapter
        from tieline.connectors.files import Csv, Files

        shop = Adapter(Files(orders=Csv("orders.csv", id="row"))  #! '(' was never closed | correct this line
    """,
}
"""A project. What stands behind #! must be said of its line: what is wrong, and what to do."""

GOOD: Final = {
    "tieline.toml": """
        [tieline]
        name  = "acme"
        store = "sqlite:///ledger.db"

        [systems.shop]
        adapter = "adapters.shop"
        url     = "."
        owner   = "a@acme.example"

        [systems.office]
        adapter = "adapters.office"
        url     = "sqlite:///office.db"
        owner   = "a@acme.example"

        [flows.orders]
        entity = "Order"
        from   = "shop"
        to     = "office"
        owner  = "a@acme.example"
    """,
    "entities.py": """
        from datetime import datetime

        from tieline import Entity, Money


        class Order(Entity, key="number"):
            number: str
            total: Money
            placed_at: datetime
            quantity: int
    """,
    "adapters/shop.py": """
        from datetime import datetime

        from entities import Order
        from tieline import Adapter, Money
        from tieline.connectors.files import Csv, Files

        shop = Adapter(Files(orders=Csv("orders.csv", id="row")))


        @shop.source(Order, "orders")
        def order(record):
            return Order(
                number=record["number"],
                total=Money(record["total"], "EUR"),
                placed_at=datetime.fromisoformat(record["placed_at"]),
                quantity=int(record["quantity"]),
            )
    """,
    "adapters/office.py": """
        from entities import Order
        from tieline import Adapter
        from tieline.connectors.sql import Sql, Table

        office = Adapter(Sql(orders=Table("orders", key="number")))


        @office.sink(Order, "orders")
        def order(order):
            return {"number": order.number, "total": order.total.amount, "quantity": order.quantity}
    """,
}
OFFICE: Final = """
    create table orders (
        number text not null primary key, total decimaltext, quantity integer check (quantity < 100)
    )
"""

SOURCE, LEG = "shop.order", "orders>office"
RECORDS: Final = {
    "1,A1,10.50,2026-11-02T09:15:00Z,2": (),
    '2,A2,"1,234.50",2026-11-02T09:15:00Z,2': (SOURCE, "2", "amount", "'1,234.50'", "plain decimal number such as"),
    "3,A3,10.50,2026-11-02T09:15:00,2": (SOURCE, "3", "placed_at", "2026-11-02 09:15", "attach the system's zone"),
    "4,,10.50,2026-11-02T09:15:00Z,2": (SOURCE, "4", "key", "''", "not empty"),
    "5,A5,10.50,2026-11-02T09:15:00Z,three": (SOURCE, "5", "int()", "'three'", "adapters/shop.py:16"),
    "6,A6,10.50,2026-11-02T09:15:00Z,2000": (LEG, "A6", "quantity", "'2000'", "quantity < 100"),
    "7,A7,10.50": (SOURCE, "7", "orders.csv:8", "3 of 5 fields", "look for a missing or unquoted delimiter"),
    "8,A8,10.50,2026-11-02T09:15:00Z,2": (),
}
"""Lines of a file, and what must be said of the bad ones: by whom, of which, and then field, value and remedy."""


def test_a_project_with_a_dozen_mistakes_shows_all_of_them_at_once(tmp_path: Path) -> None:
    a_dozen_mistakes(tmp_path)


def test_records_with_bad_values_say_what_is_wrong_and_the_others_arrive(tmp_path: Path) -> None:
    bad_records(tmp_path)


def a_dozen_mistakes(folder: Path) -> None:
    """By the command that checks, for people and for programs, and by the one that would have run it."""
    expected = write(folder, MISTAKES)
    found = [Said(**one) for one in json.loads(run(folder, "check", "--json", code=1).stdout)["mistakes"]]
    assert len(expected) == 12
    assert {one.where for one in expected} == {one.where for one in found}, HIDDEN
    for wanted, said in zip(sorted(expected), sorted(found), strict=True):
        assert wanted.what in said.what, UNCLEAR
        assert wanted.remedy in said.remedy, UNCLEAR
    table = run(folder, "check", code=1).stdout
    refused = run(folder, "run", "--once", code=1)
    for wanted in expected:
        assert wanted.where in table, HIDDEN
        assert wanted.where in refused.stdout + refused.stderr, HIDDEN
    assert "12 to correct" in table
    assert "t0ken" not in table + refused.stdout + refused.stderr
    assert not (folder / ".tieline").exists()


def bad_records(folder: Path) -> None:
    """From a file, by a mapping, and by the target; each in the list of what waits for a person."""
    write(folder, GOOD)
    lines = ["row,number,total,placed_at,quantity", *RECORDS]
    (folder / "orders.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with closing(sqlite3.connect(folder / "office.db")) as office:
        office.execute(OFFICE)
    run(folder, "run", "--once", code=WAITS)
    listed = json.loads(run(folder, "parked", "list", "--each", "--json").stdout)
    errors = {(one["leg"], one["key"]): one["error"] for one in listed}
    assert errors.keys() == {said[:2] for said in RECORDS.values() if said}
    for place, key, *wanted in filter(None, RECORDS.values()):
        assert all(part in errors[place, key] for part in wanted), f"{UNCLEAR}: {errors[place, key]}"
    with closing(sqlite3.connect(folder / "office.db")) as office:
        assert [number for (number,) in office.execute("select number from orders order by 1")] == ["A1", "A8"]


def run(folder: Path, *arguments: str, code: int = 0) -> Result:
    """Run a command; `code` is the exit code that is right."""
    result = CliRunner().invoke(app, [*arguments, "--project", str(folder)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result


class Said(NamedTuple):
    """What is said of a line, or must be part of it."""

    where: str
    what: str
    remedy: str


def write(folder: Path, files: Mapping[str, str]) -> list[Said]:
    """Write a project's files without their marks, which say what is expected of each line."""
    expected = []
    for name, text in files.items():
        lines = dedent(text).strip().splitlines()
        for number, line in enumerate(lines, 1):
            if mark := re.search(r"\s*#! (.*) \| (.*)$", line):
                expected.append(Said(f"{name}:{number}", *mark.groups()))
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(re.sub(r"\s*#! .*", "", line) for line in lines) + "\n", encoding="utf-8")
    return expected
