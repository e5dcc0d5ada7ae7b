"""What is SQLite's own: its loose types, its one file, its one writer."""

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.sql_databases import Database, put

from tieline.connector import Connector
from tieline.connectors.sql import Child, Sql, Table
from tieline.errors import AccessRefused, ConfigurationError, Reject, Unavailable
from tieline.settings import SystemSettings


def test_declared_types_say_what_a_value_is(sqlite: Database) -> None:
    """Decimals whether stored as text, integer or binary; times with and without zone; dates, flags, JSON."""
    sqlite.run("""
        create table t (id integer primary key, a decimal(12, 2), b numeric, c decimaltext, d real,
                        at timestamp, zoned datetime, day date, flag boolean, data json, blob blob, plain);
        insert into t values (1, 12.5, 12, '12345678901234567.890', 0.1, '2026-01-31 10:00:00',
            '2026-01-31T10:00:00.5+02:00', '2026-01-31', 1, '{"price": 0.1, "n": [1]}', x'00ff', 'x');
        insert into t values (2, 'twelve', '1e2', '', 1, 'yesterday',
            '2026-01-31T10:00:00Z', '31.1.', 7, '{', 'x', 5);
        insert into t values (3, null, null, null, null, null, null, null, null, null, null, null)
    """)
    first, second, third = sqlite.records(Table("t", key="id"))
    assert first == {
        "id": 1,
        "a": Decimal("12.5"),
        "b": Decimal(12),
        "c": Decimal("12345678901234567.890"),
        "d": 0.1,
        "at": datetime(2026, 1, 31, 10),  # noqa: DTZ001
        "zoned": datetime(2026, 1, 31, 10, 0, 0, 500_000, timezone(timedelta(hours=2))),
        "day": date(2026, 1, 31),
        "flag": True,
        "data": {"price": Decimal("0.1"), "n": [1]},
        "blob": b"\x00\xff",
        "plain": "x",
    }
    assert first["at"].tzinfo is None
    assert str(first["c"]) == "12345678901234567.890"
    assert second["zoned"] == datetime(2026, 1, 31, 10, tzinfo=UTC)
    odd = {name: second[name] for name in ("a", "c", "at", "day", "flag", "data", "blob")}
    assert odd == {"a": "twelve", "c": "", "at": "yesterday", "day": "31.1.", "flag": 7, "data": "{", "blob": "x"}
    assert second["b"] == Decimal(100)
    assert set(third.values()) == {3, None}


def test_what_is_written_comes_back_as_it_was(sqlite: Database) -> None:
    """Every kind of value survives a write and a reading."""
    sqlite.run("""
        create table t (id integer primary key, a decimal(12, 2), c decimaltext, at timestamp, day date, flag boolean,
                        data json, blob blob, real real)
    """)
    record = {
        "id": 1,
        "a": Decimal("99.95"),
        "c": Decimal("12345678901234567.89"),
        "at": datetime(2026, 1, 31, 10, 30, 1, 5, UTC),
        "day": date(2026, 1, 31),
        "flag": False,
        "data": {"price": Decimal("12345678901234567.89"), "list": [1, None, "x"]},
        "blob": b"\x00'\xff",
        "real": 0.1,
    }
    table = Table("t", key="id")
    assert sqlite.write(table, put(record))[0].error is None
    assert sqlite.records(table) == [record]


@pytest.mark.parametrize(
    "value", [float("nan"), 2**63, Decimal("NaN"), [1], {"a": 1}, Decimal("0.12345678901234567890")]
)
def test_what_sqlite_would_change_is_rejected(sqlite: Database, value: Any) -> None:
    """A NaN that would be NULL, a number that would not fit, digits that would go: its change alone fails."""
    sqlite.run("create table t (id integer primary key, amount numeric)")
    results = sqlite.write(Table("t", key="id"), put({"id": 1, "amount": value}), put({"id": 2, "amount": 1}))
    assert isinstance(results[0].error, Reject)
    assert "amount" in str(results[0].error)
    assert sqlite.run("select * from t") == [(2, 1)]


@pytest.mark.parametrize(
    "amount", ["0.1", "0.30", "-0.01", "9999999999999.99", "12345678901234567", "1E+18", "0.000001"]
)
def test_a_numeric_column_gives_back_the_last_digit(sqlite: Database, amount: str) -> None:
    """What a column of NUMERIC affinity takes, it gives back exactly, though it keeps it in binary."""
    sqlite.run("create table t (id integer primary key, amount numeric(20, 6))")
    table = Table("t", key="id")
    assert sqlite.write(table, put({"id": 1, "amount": Decimal(amount)}))[0].error is None
    assert sqlite.records(table)[0]["amount"] == Decimal(amount)


def test_a_text_in_an_old_encoding_stops_nothing(sqlite: Database) -> None:
    """Bytes that are no UTF-8 come as lone surrogates; the rest of the page is as ever."""
    sqlite.run("create table t (id integer primary key, note text)")
    sqlite.run("insert into t values (1, 'good'), (2, cast(x'47fc6e746572' as text)), (3, 'Günter')")
    assert [record["note"] for record in sqlite.records(Table("t", key="id"))] == ["good", "G\udcfcnter", "Günter"]


def test_a_name_that_is_gone_is_no_text(sqlite: Database) -> None:
    """SQLite takes an unknown name in double quotes for a text; the connector's names are never that."""
    sqlite.run("create table t (id integer primary key, note text);\ninsert into t values (1, 'x')")

    async def work(connector: Connector) -> None:
        await connector.lookup("rows", ["1"])
        sqlite.run("alter table t rename column note to remark")
        with pytest.raises(ConfigurationError, match="note"):
            await connector.lookup("rows", ["1"])

    sqlite.using(Table("t", key="id"), work)


def test_backticks_in_names(sqlite: Database) -> None:
    """A name may hold the very quotes that names are written in."""
    sqlite.run('create table "t`""`" ("`id`" integer primary key, "``" text)')
    table = Table('"t`""`"', key="`id`")
    assert sqlite.write(table, put({"`id`": 1, "``": "x"}))[0].error is None
    assert sqlite.records(table) == [{"`id`": 1, "``": "x"}]


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A missing file is an outage that names it; nothing appears in its place."""
    system = SystemSettings("erp", "sqlite:///erp.db", folder=tmp_path)

    async def work() -> None:
        connector = Sql(rows=Table("t", key="id")).open(system)
        with pytest.raises(Unavailable, match=r"there is no file .*erp\.db"):
            await connector.check()
        await connector.close()

    asyncio.run(work())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_comes_back_is_used(sqlite: Database) -> None:
    """After an outage the same connector goes on."""
    sqlite.run("create table t (id integer primary key);\ninsert into t values (1)")
    file = sqlite.system.folder / "test.db"

    async def work(connector: Connector) -> None:
        hidden = file.rename(file.with_suffix(".away"))
        with pytest.raises(Unavailable):
            await connector.check()
        hidden.rename(file)
        await connector.check()
        assert await connector.lookup("rows", ["1"]) == [{"id": 1}]

    sqlite.using(Table("t", key="id"), work)


def test_a_file_that_is_no_database_is_a_mistake(tmp_path: Path) -> None:
    """A text file is not opened, and the error says so."""
    (tmp_path / "erp.db").write_text("Dear customer, " * 1_000)
    system = SystemSettings("erp", "sqlite:///erp.db", folder=tmp_path)

    async def work() -> None:
        connector = Sql(rows=Table("t", key="id")).open(system)
        with pytest.raises(ConfigurationError, match="is no SQLite database"):
            await connector.check()
        await connector.close()

    asyncio.run(work())


def test_a_locked_file_is_an_outage(sqlite: Database) -> None:
    """Where another program holds the file for longer than the timeout, nothing is parked: it is unavailable."""
    sqlite.run("create table t (id integer primary key)")
    table = Table("t", key="id")
    with closing(sqlite3.connect(sqlite.system.folder / "test.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        (result,) = sqlite.write(table, put({"id": 1}), timeout=0.2)
        assert isinstance(result.error, Unavailable)
        assert "locked by another program" in str(result.error)
        assert sqlite.ids(table) == []
        other.execute("rollback")
    assert sqlite.write(table, put({"id": 1}))[0].error is None


def test_a_full_file_is_an_outage(sqlite: Database) -> None:
    """A database that may not grow says that the disk is full, and keeps what it had."""
    sqlite.run("create table t (id integer primary key, note text)")
    table = Table("t", key="id")

    async def work(connector: Connector) -> list[Any]:
        await connector.write("rows", [put({"id": 1, "note": "x"})])
        session = connector._writing._session  # type: ignore[attr-defined]
        session.run("pragma max_page_count = 20")  # on its own connection: no other limits what it may write
        return list(await connector.write("rows", [put({"id": n, "note": "x" * 10_000}) for n in range(2, 30)]))

    results = sqlite.using(table, work)
    assert {type(result.error) for result in results} == {Unavailable}
    assert "is full; make room" in str(results[0].error)
    assert sqlite.ids(table) == ["1"]


def test_a_database_that_may_not_be_written_is_read(sqlite: Database) -> None:
    """Where the engine refuses writing, reading works and writing says that access is refused."""
    sqlite.run("create table t (id integer primary key, note text);\ninsert into t values (1, 'x')")
    table = Table("t", key="id")

    async def work(connector: Connector) -> None:
        await connector.write("rows", [])
        pages = [page async for page in connector.read("rows")]
        assert pages[0].ids == ["1"]
        session = connector._writing._session  # type: ignore[attr-defined]
        session.run("pragma query_only = on")
        with pytest.raises(AccessRefused, match="may not be written"):
            await connector.write("rows", [put({"id": 2})])

    sqlite.using(table, work)


def test_reading_leaves_no_lock(sqlite: Database) -> None:
    """Between two pages of a reading, whoever owns the database writes without waiting."""
    sqlite.run("pragma journal_mode = delete")
    sqlite.run("create table t (id integer primary key);\ncreate table c (t integer, n integer, primary key (t, n))")
    sqlite.run("insert into t values " + ", ".join(f"({n})" for n in range(50)))
    table = Table("t", key="id", page=10, children={"c": Child("c", "t", ("t", "n"))})

    async def work(connector: Connector) -> int:
        pages = 0
        with closing(sqlite3.connect(sqlite.system.folder / "test.db", timeout=0, isolation_level=None)) as owner:
            async for _ in connector.read("rows"):
                owner.execute("insert into t values (?)", (1_000 + pages,))
                pages += 1
        return pages

    assert sqlite.using(table, work) == 6


def test_the_event_loop_goes_on_while_the_database_works(sqlite: Database) -> None:
    """A writer that waits for a lock does not stop the process: reading and other tasks go on."""
    sqlite.run("create table t (id integer primary key);\ninsert into t values (1)")

    async def work(connector: Connector) -> tuple[float, int]:
        with closing(sqlite3.connect(sqlite.system.folder / "test.db", isolation_level=None)) as other:
            other.execute("begin immediate")
            waiting = asyncio.create_task(connector.write("rows", [put({"id": 2})]))
            longest, last, found = 0.0, time.monotonic(), 0
            for _ in range(20):
                await asyncio.sleep(0.01)
                found += sum(record is not None for record in await connector.lookup("rows", ["1"]))
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            other.execute("rollback")
            assert (await waiting)[0].error is None
        return longest, found

    longest, found = sqlite.using(Table("t", key="id"), work)
    assert found == 20
    assert longest < 2.0
