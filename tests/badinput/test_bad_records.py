"""Records that make no entity: the good ones arrive, each bad one is parked by itself and says what to do."""

import csv
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.badinput.company import OFFICE
from typer.testing import CliRunner

from tieline.cli import app
from tieline.cli.options import WAITS

ENTITIES = """
from datetime import datetime
from tieline import Entity, Money

class Order(Entity, key="number"):
    number: str
    total: Money
    placed_at: datetime | None = None
    quantity: int = 1
    note: str = ""

class Invoice(Entity, key="number"):
    number: str
    total: Money
    placed_at: datetime | None = None
    quantity: int = 1
    note: str = ""
"""

WEB = """
from datetime import datetime
from entities import Order
from tieline import Adapter, Money
from tieline.connectors.files import Csv, Files

web = Adapter(Files(orders=Csv("orders-*.csv", id="row")))

@web.source(Order, "orders")
def order(record):
    return Order(
        number=record["number"],
        total=Money(record["total"], "EUR"),
        placed_at=datetime.fromisoformat(record["placed_at"]),
        quantity=int(record["quantity"]) if record["quantity"].isdigit() else record["quantity"],
        note=record["note"],
    )
"""

BOOKS = """
from datetime import datetime
from entities import Invoice
from tieline import Adapter, Money
from tieline.connectors.sql import Sql, Table

books = Adapter(Sql(invoices=Table("invoices", key="row")))

@books.source(Invoice, "invoices")
def invoice(record):
    return Invoice(
        number=record["number"],
        total=Money(record["total"], "EUR"),
        placed_at=datetime.fromisoformat(record["placed_at"]),
        quantity=record["quantity"],
        note=record["note"],
    )
"""

DESK = """
from entities import Invoice, Order
from tieline import Adapter
from tieline.connectors.sql import Sql, Table

office = Adapter(Sql(orders=Table("orders", key="number"), invoices=Table("invoices", key="number")))

@office.sink(Order, "orders")
def order(order):
    return {"number": order.number, "total": order.total.amount, "note": order.note}

@office.sink(Invoice, "invoices")
def invoice(invoice):
    return {"number": invoice.number, "total": invoice.total.amount, "note": invoice.note}
"""

PROJECT = """
[tieline]
name = "company"
store = "sqlite:///ledger.db"

[systems.web]
adapter = "adapters.web"
url = "web"
owner = "a@company.example"

[systems.books]
adapter = "adapters.books"
url = "sqlite:///books.db"
owner = "a@company.example"

[systems.office]
adapter = "adapters.desk"
url = "sqlite:///office.db"
owner = "a@company.example"

[flows.orders]
entity = "Order"
from = "web"
to = "office"
owner = "a@company.example"

[flows.invoices]
entity = "Invoice"
from = "books"
to = "office"
owner = "a@company.example"
"""

FIELDS = ("row", "number", "total", "placed_at", "quantity", "note")
ZONED = "2026-11-02T09:15:00+01:00"
INJECTION = "1'; drop table orders; --"
HOSTILE = {
    "quotes": """it's "so" called \\ `x` %s ?1 :x $1""",
    "emoji": "naïve 漢字 🧾👩‍👩‍👧",
    "long": "x" * 1_000_000,
    "lines": "one\nand\r\nanother",
    "formula": "=cmd|' /C calc'!A0",
}


@dataclass
class Project:
    """A project with a folder of CSV files, a book-keeping database, and an office."""

    folder: Path

    def run(self, *arguments: str, code: int) -> str:
        """Run a command; `code` is the exit code that is right. Gives what it prints."""
        result = CliRunner().invoke(app, [*arguments, "--project", str(self.folder)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def parked(self) -> dict[tuple[str, str], str]:
        """Why each record or message waits, by source or leg, and id or key."""
        listed = json.loads(self.run("parked", "list", "--each", "--json", code=0))
        return {(one["leg"], one["key"]): one["error"] for one in listed}

    def orders(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Write a CSV file of orders."""
        with (self.folder / "web" / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)

    def invoices(self, *rows: Mapping[str, Any]) -> None:
        """Put invoices into the book-keeping's database."""
        with closing(sqlite3.connect(self.folder / "books.db")) as books, books:
            books.executemany(
                "insert or replace into invoices values (:row, :number, :total, :placed_at, :quantity, :note)", rows
            )

    def office(self, table: str) -> dict[str, tuple[str, str]]:
        """Total and note by number."""
        with closing(sqlite3.connect(self.folder / "office.db")) as office:
            rows = office.execute(f"select number, total, note from {table}").fetchall()
        return {number: (total, note) for number, total, note in rows}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The project, all its stores empty."""
    for name, text in {
        "tieline.toml": PROJECT,
        "entities.py": ENTITIES,
        "adapters/web.py": WEB,
        "adapters/books.py": BOOKS,
        "adapters/desk.py": DESK,
        "adapters/__init__.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "web").mkdir()
    with closing(sqlite3.connect(tmp_path / "books.db")) as books:
        books.execute(
            "create table invoices (row integer primary key, number, total, placed_at text, quantity, note text)"
        )
    with closing(sqlite3.connect(tmp_path / "office.db")) as office:
        office.executescript(OFFICE)
        office.execute("create table invoices (number text not null primary key, total decimaltext, note text)")
    return Project(tmp_path)


def row(at: int, **changes: Any) -> dict[str, Any]:
    """A good record, but for these changes."""
    good = {"row": at, "number": f"N{at}", "total": "10.50", "placed_at": ZONED, "quantity": 2, "note": ""}
    return good | changes


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "thousands": ({"total": "1,234.50"}, ("amount", "1,234.50", "plain decimal number such as 1234.50")),
    "no number": ({"total": "12.5x"}, ("amount", "12.5x", "plain decimal number such as 1234.50")),
    "nothing": ({"total": ""}, ("amount", "''", "plain decimal number such as 1234.50")),
    "not finite": ({"total": "NaN"}, ("amount", "NaN", "finite")),
    "no zone": (
        {"placed_at": "2026-11-02T09:15:00"},
        ("placed_at", "2026-11-02 09:15:00", "attach the system's zone in the mapping"),
    ),
    "no time": ({"placed_at": "yesterday"}, ("ValueError", "yesterday")),
    "no key": ({"number": ""}, ("key", "''", "not empty")),
    "long key": ({"number": "x" * 2_000}, ("key", "at most 1000 bytes")),
    "type": ({"quantity": "three"}, ("quantity", "'three'", "Expected `int`")),
}
"""What is wrong with a record, and what its reason must name: field, value, remedy."""

ONLY_IN_A_DATABASE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "float": ({"total": 12.5}, ("amount", "12.5", "a float is not exact; read it as text or Decimal")),
    "null key": ({"number": None}, ("key", "None", "not empty")),
    "key of bytes": ({"number": b"\xff"}, ("key", r"\xff", "text or a whole number")),
    "fraction": ({"quantity": 2.5}, ("quantity", "2.5", "Expected `int`")),
    "key of another type": ({"number": 17}, ("number", "17", "Expected `str`")),
    "NUL in a key": ({"number": "k\0ey"}, ("key", r"k\x00ey", "no NUL character")),
}


def test_good_records_arrive_and_each_bad_one_is_parked_by_itself(project: Project) -> None:
    """From a folder of CSV files and from a database, in one run, which says that people have to decide."""
    bad = {100 + at: kind for at, kind in enumerate({**BAD, **ONLY_IN_A_DATABASE})}
    wrong = {**BAD, **ONLY_IN_A_DATABASE}
    rows = [row(1), *(row(at, **wrong[kind][0]) for at, kind in bad.items()), row(2)]
    project.orders("orders-1.csv", *[one for one in rows if bad.get(one["row"]) not in ONLY_IN_A_DATABASE])
    project.invoices(*rows)

    said = project.run("run", "--once", code=WAITS)

    expected = {("books.invoice", str(at)): wrong[kind][1] for at, kind in bad.items()}
    expected |= {("web.order", str(at)): wrong[kind][1] for at, kind in bad.items() if kind in BAD}
    parked = project.parked()
    assert parked.keys() == expected.keys()
    for place, names in expected.items():
        assert all(name in parked[place] for name in names), (place, parked[place])
    assert f"web.order: {len(BAD) + 2} records read, 2 messages, {len(BAD)} parked" in said
    assert project.office("orders").keys() == project.office("invoices").keys() == {"N1", "N2"}


def test_lines_that_are_no_records_are_parked_by_file_and_line(project: Project) -> None:
    """Where there is no record to name, the file and the line are; what stands around them arrives."""
    (project.folder / "web" / "orders-1.csv").write_bytes(
        b"row,number,total,placed_at,quantity,note\n"
        b"1,N1,1.00,2026-11-02T09:15:00Z,1,fine\n"
        b"2,N2,1.00,2026-11-02T09:15:00Z,1,a\0b\n"
        b"3,N3,1.00\n"
        b"4,N4,1.00,2026-11-02T09:15:00Z,1,\xff\xfe\n"
        b"5,N5,1.00,2026-11-02T09:15:00Z,1,fine,and,more\n"
        b"6,N6,1.00,2026-11-02T09:15:00Z,1,fine\n"
    )
    project.run("run", "--once", code=WAITS)
    parked = {key: error for (source, key), error in project.parked().items() if source == "web.order"}
    for line, names in {3: ("NUL", "→"), 4: ("3", "6"), 5: ("utf-8",), 6: ("8", "6")}.items():
        [error] = [error for error in parked.values() if error.startswith(f"orders-1.csv:{line}: ")]
        assert all(name.lower() in error.lower() for name in names), error
    assert len(parked) == 4
    assert project.office("orders").keys() == {"N1", "N6"}


def test_of_two_records_that_give_one_key_the_second_is_parked(project: Project) -> None:
    """It names the first, and takes its place once the first has gone."""
    project.orders("orders-1.csv", row(1), row(2, number="N1", total="99.00"), row(3))
    project.run("run", "--once", code=WAITS)
    said = project.parked()["web.order", "2"]
    assert said == "key 'N1' is given by record '1' already; correct one of the two in the source system"
    assert project.office("orders") == {"N1": ("10.50", ""), "N3": ("10.50", "")}

    project.orders("orders-1.csv", row(1, number="N7"), row(2, number="N1", total="99.00"), row(3))
    project.run("run", "--once", code=0)
    assert project.parked() == {}
    assert project.office("orders") == {"N1": ("99.00", ""), "N3": ("10.50", ""), "N7": ("10.50", "")}


def test_hostile_texts_arrive_as_they_are(project: Project) -> None:
    """Quotes, SQL, other scripts, line ends and a megabyte, as text and as keys: data, and nothing else."""
    notes = [row(at, note=text) for at, text in enumerate(HOSTILE.values(), 10)]
    keys = [row(at, number=text[:300]) for at, text in enumerate([*HOSTILE.values(), INJECTION], 20)]
    wide = ("orders-1.csv:4", "12")  # the standard library reads no field of a megabyte
    project.orders("orders-1.csv", *notes, *keys)
    project.invoices(*notes, *keys, row(30, note="a\0b"))
    project.run("run", "--once", code=WAITS)

    expected = {f"N{one['row']}": ("10.50", one["note"]) for one in notes}
    expected |= {one["number"]: ("10.50", "") for one in keys}
    assert project.office("invoices") == expected | {"N30": ("10.50", "a\0b")}
    parked = project.parked()
    assert len(parked) == 1
    [((source, key), error)] = parked.items()
    assert source == "web.order"
    assert key in wide
    assert error.startswith("orders-1.csv:4: ")
    assert project.office("orders") == {number: at for number, at in expected.items() if number != "N12"}


def test_a_repaired_record_heals_its_parked_row(project: Project) -> None:
    """Corrected in the source, it arrives with the next reading, and nothing waits any more."""
    bad = [row(at, **wrong) for at, (wrong, _) in enumerate(BAD.values(), 10)]
    project.orders("orders-1.csv", row(1), *bad)
    project.invoices(row(1), *bad)
    project.run("run", "--once", code=WAITS)
    assert len(project.parked()) == 2 * len(BAD)

    repaired = [row(at) for at, _ in enumerate(bad, 10)]
    project.orders("orders-1.csv", row(1), *repaired)
    project.invoices(*repaired)
    project.run("run", "--once", code=0)
    assert project.parked() == {}
    assert len(project.office("orders")) == len(project.office("invoices")) == len(BAD) + 1


def test_a_record_that_is_again_what_it_was_is_not_bad_any_more(project: Project) -> None:
    """A slip that is taken back leaves nothing to decide, although nothing is to be sent either."""
    for table, put in (
        ("orders", lambda *rows: project.orders("orders-1.csv", *rows)),
        ("invoices", project.invoices),
    ):
        put(row(1), row(2))
        project.run("run", "--once", code=0)
        put(row(1), row(2, total="1,000.00"))
        project.run("run", "--once", code=WAITS)
        assert project.office(table)["N2"] == ("10.50", "")
        put(row(1), row(2))
        project.run("run", "--once", code=0)
        assert project.parked() == {}
        assert project.office(table)["N2"] == ("10.50", "")


def test_a_bad_record_that_has_gone_is_settled_by_a_replay(project: Project) -> None:
    """The person who removed it in the source says so, and the row goes."""
    project.orders("orders-1.csv")
    project.invoices(row(1), row(2, total="x"))
    project.run("run", "--once", code=WAITS)
    with closing(sqlite3.connect(project.folder / "books.db")) as books, books:
        books.execute("delete from invoices where row = 2")
    project.run("parked", "replay", "books.invoice", "2", code=0)
    project.run("run", "--once", code=0)
    assert project.parked() == {}
