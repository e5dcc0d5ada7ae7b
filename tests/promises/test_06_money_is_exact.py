"""Promise 6: money is exact, from any source to any target; a float is refused at definition and by value."""

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.connectors.sql_databases import Database
from tests.promises.once import Ended, run_once
from tests.words.company import moneys

from tieline.adapter import Adapter
from tieline.connector import Record
from tieline.connectors.files import Csv, Files, JsonLines
from tieline.connectors.sql import Sql, Table
from tieline.entity import Entity, Money
from tieline.flow import Flow, Target
from tieline.settings import SystemSettings
from tieline.system import Landscape, SourceSettings, System

WRONG = "not to the last digit"


class Bill(Entity, key="number"):
    """What is to be paid."""

    number: str
    total: Money


def bill(record: Record) -> Bill:
    """A record of any source as a bill."""
    return Bill(number=record["number"], total=Money(record["total"], record["currency"]))


def row(bill: Bill) -> Record:
    """A bill as a row of any target."""
    return {"number": bill.number, "total": bill.total.amount, "currency": bill.total.currency}


class Company:
    """Bills in a CSV file, in a file of JSON lines and in a SQLite table; all of them go to one database."""

    def __init__(self, folder: Path, target: Database) -> None:
        self.folder = folder
        self.target = target
        self.table = f"{target.prefix}bills"
        decimal = "decimaltext" if target.kind == "sqlite" else "numeric"
        target.run(f"create table {self.table} (number text not null primary key, total {decimal}, currency text)")
        self.put({})

    def put(self, bills: Mapping[str, Money], kind: str = "decimaltext") -> None:
        """Have these bills, and no others, in each of the sources, under numbers of its own."""
        rows = [(number, format(total.amount, "f"), total.currency) for number, total in bills.items()]
        lines = [f"csv-{number},{total},{currency}" for number, total, currency in rows]
        texts = [f'{{"number":"json-{n}","total":{total},"currency":"{currency}"}}' for n, total, currency in rows]
        (self.folder / "bills.csv").write_text("\n".join(["number,total,currency", *lines, ""]))
        (self.folder / "bills.jsonl").write_text("\n".join([*texts, ""]))
        with closing(sqlite3.connect(self.folder / "office.db")) as office, office:
            office.execute("drop table if exists bills")
            office.execute(f"create table bills (number text not null primary key, total {kind}, currency text)")
            office.executemany("insert into bills values ('sql-' || ?, ?, ?)", rows)

    def run(self) -> Ended:
        """Bring everything to the target."""
        systems = [self._files(), self._office(), self._books()]
        return run_once(
            Landscape(
                name="company",
                store="sqlite:///ledger.db",
                folder=self.folder,
                systems={system.name: system for system in systems},
                flows={source: flow(source, system) for source, system in SOURCES.items()},
                entities={"Bill": Bill},
            )
        )

    def there(self) -> dict[str, Money]:
        """The target's bills."""
        rows = self.target.run(f"select number, total, currency from {self.table}")
        return {number: Money(total, currency) for number, total, currency in rows}

    def _files(self) -> System:
        adapter = Adapter(Files(csv=Csv("bills.csv", id="number"), json=JsonLines("bills.jsonl", id="number")))
        adapter.source(Bill, "csv", name="csv")(bill)
        adapter.source(Bill, "json", name="json")(bill)
        return self._system("files", adapter, f"file://{self.folder}")

    def _office(self) -> System:
        adapter = Adapter(Sql(bills=Table("bills", key="number")))
        adapter.source(Bill, "bills", name="sql")(bill)
        return self._system("office", adapter, f"sqlite:///{self.folder / 'office.db'}")

    def _books(self) -> System:
        adapter = Adapter(Sql(bills=Table(self.table, key="number")))
        adapter.sink(Bill, "bills")(row)
        return System(name="books", adapter=adapter, settings=self.target.settings(name="books"))

    def _system(self, name: str, adapter: Adapter, url: str) -> System:
        kept = dict.fromkeys(adapter.sources, SourceSettings(sweep=0))  # what is no longer there is no delete
        return System(name=name, adapter=adapter, settings=SystemSettings(name, url), sources=kept)


SOURCES: Final = {"csv": "files", "json": "files", "sql": "office"}
"""Each source, and the system that has it."""


def flow(source: str, system: str) -> Flow:
    """From a source to the books, under the source's name."""
    return Flow(source, "Bill", system, (Target("books"),), source_name=source)


def test_every_amount_arrives_to_the_last_digit(database: Database, tmp_path: Path) -> None:
    company = Company(tmp_path, database)
    examples = count(1)
    expected: dict[str, Money] = {}

    @settings(max_examples=5, deadline=None, database=None, phases=[Phase.generate])
    @given(st.lists(moneys, min_size=40, max_size=120))
    def arrives(amounts: list[Money]) -> None:
        example = next(examples)
        bills = {f"{example}-{n}": amount for n, amount in enumerate(amounts)}
        expected.update({f"{source}-{number}": total for source in SOURCES for number, total in bills.items()})
        company.put(bills)
        ended = company.run()
        assert not ended.parked, ended.parked
        assert company.there() == expected, WRONG

    arrives()


# -- a float ----------------------------------------------------------------------------------------------


def test_a_float_is_refused_where_an_entity_is_defined() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.total: float is not exact; use Money"):

        class Wrong(Entity, key="number"):
            number: str
            total: float


def test_a_float_is_refused_by_value_and_the_reason_says_what_to_do(database: Database, tmp_path: Path) -> None:
    """A column of binary fractions gives floats, also where one looks harmless; the other sources are exact."""
    company = Company(tmp_path, database)
    bills = {"1": Money("12.50", "EUR"), "2": Money(3, "EUR")}
    company.put(bills, kind="real")
    ended = company.run()
    assert {row.key for row in ended.parked} == {"sql-1", "sql-2"}
    said = "amount: a float is not exact; read it as text or Decimal"
    place = r"\(at promises/test_06_money_is_exact\.py:\d+\)"
    for amount in ("12.5", "3.0"):
        assert any(re.fullmatch(rf"{said} \(got '{amount}'\) {place}", row.error) for row in ended.parked)
    assert company.there() == {f"{name}-{n}": bill for name in ("csv", "json") for n, bill in bills.items()}, WRONG
    company.put(bills)
    assert not company.run().parked
    assert company.there() == {f"{name}-{n}": bill for name in SOURCES for n, bill in bills.items()}, WRONG
