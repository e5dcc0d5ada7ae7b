"""The shipped suite, against folders: a state file of either kind, and a drop folder."""

import csv
import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.connectors.files_exchange import put, run

from tieline.connector import Change, Page, Record, Result
from tieline.connectors.files import Csv, Files, FilesConnector, JsonLines
from tieline.settings import SystemSettings
from tieline.testing.connector import AMOUNTS, ConnectorSuite, Counterpart, Names

MANY = 4500


@dataclass
class StateFile:
    """A system that renews its file by putting another in its place, as soon as anybody looks."""

    path: Path
    records: dict[str, Record] = field(default_factory=dict)
    behind: bool = False
    watched: bool = False

    def put(self, record: Record) -> None:
        self.records[record["number"]] = record
        self.change()

    def drop(self, one: str) -> None:
        self.records.pop(one, None)
        self.change()

    def change(self) -> None:
        self.behind = True
        if self.watched:
            self.renew()

    def renew(self) -> None:
        if self.behind:
            put(self.path.with_suffix(".new"), self.content()).replace(self.path)
        self.behind = False

    def content(self) -> bytes:
        raise NotImplementedError

    def rows(self) -> Mapping[str, Record]:
        raise NotImplementedError


class CsvFile(StateFile):
    def content(self) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["number", "note", "total"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(self.records.values())
        return text.getvalue().encode()

    def rows(self) -> Mapping[str, Record]:
        with self.path.open(newline="", encoding="utf-8") as file:
            return {row["number"]: row for row in csv.DictReader(file)}


class JsonFile(StateFile):
    def content(self) -> bytes:
        return msgspec.json.Encoder(decimal_format="number").encode_lines(self.records.values())

    def rows(self) -> Mapping[str, Record]:
        rows = msgspec.json.Decoder(float_hook=Decimal).decode_lines(self.path.read_bytes())
        return {row["number"]: row for row in rows}


class Watched(Files):
    """Has the file renewed before it is looked at, and while it is read: not 4,500 times for 4,500 rows."""

    def __init__(self, system: StateFile, **resources: Any) -> None:
        super().__init__(**resources)
        self._behind = system

    def open(self, system: SystemSettings) -> "WatchedConnector":
        connector = WatchedConnector(Path(system.url.removeprefix("file://")), self.resources, system.name)
        connector.behind = self._behind
        return connector


class WatchedConnector(FilesConnector):
    behind: StateFile

    async def read(self, *arguments: Any) -> AsyncIterator[Page]:
        self.behind.renew()
        self.behind.watched = True
        async for page in super().read(*arguments):
            yield page
        self.behind.watched = False

    async def keys(self, resource: str) -> AsyncIterator[list[str]]:
        self.behind.renew()
        async for ids in super().keys(resource):
            yield ids

    async def lookup(self, *arguments: Any, **options: Any) -> list[Record | None]:
        self.behind.renew()
        return await super().lookup(*arguments, **options)

    async def write(self, *arguments: Any) -> list[Result]:
        self.behind.renew()
        return await super().write(*arguments)


class TextCounterpart(Counterpart):
    """Reads amounts as the text that they are in a CSV file."""

    def order(self, id: str, text: str = "new", amount: str = "12.50", lines: int = 2) -> Record:
        return {"number": id, "note": text, "total": amount}


def spoilt(record: Record) -> Record:
    return {**record, "note": "\ud800"}


class TestJsonState(ConnectorSuite):
    @pytest.fixture
    def counterpart(self, tmp_path: Path) -> Counterpart:
        system = JsonFile(tmp_path / "orders.jsonl")
        put(system.path, "")
        return Counterpart(
            connector=Watched(system, orders=JsonLines("orders.jsonl", id="number")),
            system=SystemSettings(name="mine", url=f"file://{tmp_path}"),
            put=system.put,
            drop=system.drop,
            rows=system.rows,
            gone=SystemSettings(name="mine", url=f"file://{tmp_path}/gone"),
            spoil=spoilt,
            many=MANY,
        )


class TestCsvState(ConnectorSuite):
    """Every value is text: numbers are compared as what they are written as."""

    @pytest.fixture
    def counterpart(self, tmp_path: Path) -> Counterpart:
        system = CsvFile(tmp_path / "orders.csv")
        put(system.path, "number,note,total\n")
        return TextCounterpart(
            connector=Watched(system, orders=Csv("orders.csv", id="number")),
            system=SystemSettings(name="mine", url=f"file://{tmp_path}"),
            put=system.put,
            drop=system.drop,
            rows=system.rows,
            names=Names(lines=""),
            gone=SystemSettings(name="mine", url=f"file://{tmp_path}/gone"),
            spoil=spoilt,
            many=MANY,
        )

    @pytest.mark.parametrize("amount", AMOUNTS)
    def test_an_amount_is_exact_or_rejected(self, counterpart: Counterpart, amount: str) -> None:
        """An amount is written with all its digits, and read as that text."""
        change = Change("1", b"", {"number": "1", "total": Decimal(amount)})

        async def there_and_back() -> Record | None:
            async with counterpart.opened() as connector:
                assert [result.error for result in await connector.write("orders", [change])] == [None]
                return (await connector.lookup("orders", ["1"]))[0]

        assert run(there_and_back()) == {"number": "1", "note": "", "total": f"{Decimal(amount):f}"}


class TestDrop(ConnectorSuite):
    """Every record in a file of its own; one that changes is dropped again."""

    @pytest.fixture
    def counterpart(self, tmp_path: Path) -> Counterpart:
        numbers = iter(range(10**6))
        encoder = msgspec.json.Encoder(decimal_format="number")
        folder = tmp_path / "in"
        folder.mkdir()

        def drop_in(record: Record) -> None:
            put(folder / f"{next(numbers):06d}.jsonl", encoder.encode(record))

        def take_away(one: str) -> None:
            for path in folder.rglob("*.jsonl"):
                if msgspec.json.decode(path.read_bytes())["number"] == one:
                    path.unlink()

        return Counterpart(
            connector=Files(orders=JsonLines("in/*.jsonl", id="number", mode="drop")),
            system=SystemSettings(name="mine", url=f"file://{tmp_path}"),
            put=drop_in,
            drop=take_away,
            rows=dict,
            gone=SystemSettings(name="mine", url=f"file://{tmp_path}/gone"),
        )
