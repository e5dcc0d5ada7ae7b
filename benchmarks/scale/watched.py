"""What a process and a ledger have used so far, as the kernel and the database tell it."""

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

from benchmarks.run import postgres_cpu

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Processor seconds of a process, its threads and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS


def memory_of(pid: int) -> float:
    """Resident megabytes of a process now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def written_by(pid: int) -> int:
    """Bytes that a process has had written to disk."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


@dataclass(frozen=True, slots=True)
class Used:
    """What a ledger's database has done so far; SQLite keeps no such counters."""

    transactions: int = 0
    rows_written: int = 0
    wal_bytes: int = 0
    cpu_s: float = 0.0

    def less(self, before: "Used") -> "Used":
        """What was used since."""
        return Used(
            self.transactions - before.transactions,
            self.rows_written - before.rows_written,
            self.wal_bytes - before.wal_bytes,
            self.cpu_s - before.cpu_s,
        )


class Watched(Protocol):
    """A ledger that is looked at from outside."""

    url: str

    def used(self) -> Used:
        """What its database has done so far."""

    def ask(self, query: str) -> int:
        """A number out of its tables; 0 where they are not there yet."""

    def close(self) -> None:
        """Look no more."""


class Postgresql:
    """A ledger in a database of its own on a server."""

    def __init__(self, dsn: str, schema: str = "scale") -> None:
        self._dsn = dsn
        self._schema = schema
        self.url = f"{dsn}{'&' if '?' in dsn else '?'}schema={schema}"
        self._db: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)
        self._db.execute(f"drop schema if exists {schema} cascade".encode())
        self._db.execute(f"set search_path = {schema}".encode())

    def used(self) -> Used:
        self._db.execute("select pg_stat_clear_snapshot()")
        row = self._db.execute(
            "select xact_commit + xact_rollback, tup_inserted + tup_updated + tup_deleted"
            " from pg_stat_database where datname = current_database()"
        ).fetchone()
        wal = self._db.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").fetchone()
        assert row is not None
        assert wal is not None
        return Used(int(row[0]), int(row[1]), int(wal[0]), postgres_cpu(self._dsn))

    def ask(self, query: str) -> int:
        try:
            row = self._db.execute(query.encode()).fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
        return 0 if row is None else int(row[0] or 0)

    def close(self) -> None:
        self._db.execute(f"drop schema if exists {self._schema} cascade".encode())
        self._db.close()


class Sqlite:
    """A ledger in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.url = f"sqlite:///{file}"

    def used(self) -> Used:
        return Used()

    def ask(self, query: str) -> int:
        try:
            db = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=30)
        except sqlite3.OperationalError:
            return 0
        try:
            row = db.execute(query).fetchone()
        except sqlite3.OperationalError:
            return 0
        finally:
            db.close()
        return 0 if row is None else int(row[0] or 0)

    def close(self) -> None:
        """Nothing is open."""
