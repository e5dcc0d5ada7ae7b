"""The ledger in a SQLite file."""

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest

from tieline.errors import ConfigurationError, Unavailable
from tieline.ledgers import sqlite
from tieline.ledgers.sqlite import SqliteLedger
from tieline.testing.ledger import LedgerSuite
from tieline.testing.ledger.samples import held, leg, parked, seen


class TestSqliteLedger(LedgerSuite):
    keeper = SqliteLedger

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/ledger.db"


def open_and(work, url, folder=Path()):
    async def main():
        ledger = SqliteLedger(url, folder)
        try:
            return await ledger.transact(work)
        finally:
            await ledger.close()

    return asyncio.run(main())


def touch(stores):
    stores.notes.put("n", 1)


def test_the_file_is_made_for_its_owner_alone(tmp_path):
    """A relative address is one in the project's folder; what is missing is made; nobody else may read it."""
    open_and(touch, "sqlite:///.tieline/tieline.db", tmp_path)
    assert stat.S_IMODE((tmp_path / ".tieline" / "tieline.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "tieline.db", "postgresql://localhost/x"])
def test_an_address_that_names_no_file_is_a_mistake(url):
    """The remedy shows how it is written."""
    with pytest.raises(ConfigurationError, match="sqlite:///path"):
        SqliteLedger(url)


def test_a_file_that_is_no_database_is_a_mistake(tmp_path):
    """It is not touched."""
    (tmp_path / "x.db").write_text("These are my notes, and nobody shall overwrite them. " * 20)
    with pytest.raises(ConfigurationError, match=r"x\.db is not a SQLite database"):
        open_and(touch, f"sqlite:///{tmp_path}/x.db")
    assert (tmp_path / "x.db").read_text().startswith("These are my notes")


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path):
    """The path is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file/ledger"):
        open_and(touch, f"sqlite:///{tmp_path}/file/ledger.db")


def test_what_an_earlier_version_held_is_still_held(tmp_path):
    """Held rows of before the second migration came with no batch that is known, and at no known time."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    open_and(lambda stores: stores.held.put("erp", "Order", [held("a")]), url)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("alter table held drop column sequence")
        connection.execute("alter table held drop column at")
        connection.execute("delete from migration where number = 2")
    connection.close()
    (row,) = open_and(lambda stores: stores.held.get("erp", "Order", ["a"]), url)
    assert row == held("a", sequence=0, at=0.0)


def test_a_store_of_a_newer_version_is_refused(tmp_path):
    """It says what is there, what is known, and what to do; nothing is changed."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    open_and(touch, url)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("insert into migration (number, name, at) values (999, '0999_later.sql', '')")
    connection.close()
    with pytest.raises(ConfigurationError, match=r"migration 999.*newer"):
        open_and(touch, url)


def test_a_file_locked_by_another_program_is_unavailable(tmp_path, monkeypatch):
    """After some patience the ledger says so; once the lock is gone it goes on."""
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.1)
    url = f"sqlite:///{tmp_path}/ledger.db"

    async def main():
        ledger = SqliteLedger(url)
        await ledger.transact(touch)
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("begin immediate")
        with pytest.raises(Unavailable, match="locked by another program"):
            await ledger.transact(touch)
        other.close()
        await ledger.transact(touch)
        await ledger.close()

    asyncio.run(main())


def test_a_full_disk_is_unavailable_and_undoes_all(tmp_path):
    """Nothing of the transaction is left; with room again it goes on."""
    url = f"sqlite:///{tmp_path}/ledger.db"

    def much(stores):
        stores.notes.put("much", "x" * 5_000_000)

    async def main():
        ledger = SqliteLedger(url)
        await ledger.transact(touch)
        await ledger.transact(lambda stores: limit(ledger, 100))
        with pytest.raises(Unavailable, match="full"):
            await ledger.transact(much)
        assert await ledger.transact(lambda stores: stores.notes.get("much")) is None
        await ledger.transact(much)
        await ledger.close()

    def limit(ledger, pages):
        ledger._session._connection.execute(f"pragma max_page_count = {pages}")

    asyncio.run(main())


def test_a_commit_waits_for_the_disk(tmp_path):
    """A write-ahead log, written through at each commit."""
    ledger = SqliteLedger(f"sqlite:///{tmp_path}/ledger.db")
    session = ledger._connect()
    assert session.rows("pragma journal_mode") == [("wal",)]
    assert session.rows("pragma synchronous") == [(2,)]  # full
    session.close()


BIG = ("seen", "sweep", "kept", "held", "parked", "inbox", "odd_text")


def _look_up_everything(stores):
    stores.legs.put(leg())
    keys = [f"{n}" for n in range(3)]
    stores.seen.put("s", [seen(key) for key in keys])
    stores.seen.by_key("s", keys)
    stores.seen.by_record("s", keys)
    stores.seen.living("s", "a", 10)
    stores.seen.count("s")
    stores.channels.declare("c", 2, ["a"])
    stores.channels.append("c", [(0, 1, 1, b"x"), (1, 1, 1, b"x")])
    stores.channels.read("c", {0: 0, 1: 0}, 10)
    stores.channels.depth("c", {0: 0, 1: 0})
    stores.channels.done("c", "a", {0: 1})
    stores.held.put("erp", "Order", [held(key) for key in keys])
    stores.held.get("erp", "Order", keys)
    stores.held.claimed("erp", "Order")
    stores.parked.put([parked(key) for key in keys])
    stores.parked.by_key("orders→erp", keys)
    stores.parked.by_subject("orders→erp", keys)
    stores.parked.due("orders→erp", 1.0, 10)
    stores.parked.waiting("orders→erp", 10)
    stores.parked.wake("erp", "Customer", keys)
    stores.parked.counts("orders→erp")
    stores.parked.decide("orders→erp", "1", b"", "drop", "ann")
    stores.parked.remove("orders→erp", [("1", b"")])
    stores.inbox.append("s", [("r", b"x", "")])
    stores.inbox.read("s", 10)
    stores.inbox.depth("s")
    stores.inbox.remove("s", 10)


def test_no_look_up_walks_through_a_big_table(tmp_path):
    """The plan of every statement of daily work finds its rows by an index."""
    statements: set[str] = set()
    ledger = SqliteLedger(f"sqlite:///{tmp_path}/ledger.db")

    def work(stores):
        _look_up_everything(stores)  # names are known from now on
        session = ledger._session
        original, session._connection = session._connection, _Recorder(session._connection, statements)
        _look_up_everything(stores)
        session._connection = original

    async def main():
        await ledger.transact(work)
        await ledger.close()

    asyncio.run(main())
    connection = sqlite3.connect(tmp_path / "ledger.db")
    assert len(statements) > 30
    walks = [
        f"{step}: {text}"
        for text in sorted(statements)
        for *_, step in connection.execute(f"explain query plan {text}", (None,) * text.count("?"))
        for table in BIG
        if step == f"SCAN {table}" or step.startswith(f"SCAN {table} ") or _by_source_alone(step, table)
    ]
    connection.close()
    assert not walks, "\n".join(walks)


def _by_source_alone(step, table):
    """Whether a look-up goes through all rows of a source; in order and to count them, it may."""
    return (
        table != "inbox"
        and step.startswith(f"SEARCH {table} USING")
        and step.endswith("(source=?)")
        and "COVERING" not in step
    )


class _Recorder:
    def __init__(self, connection, statements):
        self._connection = connection
        self._statements = statements

    def execute(self, text, values=()):
        self._statements.add(text)
        return self._connection.execute(text, values)

    def executemany(self, text, rows):
        self._statements.add(text)
        return self._connection.executemany(text, rows)
