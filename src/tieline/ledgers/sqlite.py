"""The ledger in one SQLite file: nothing to install; several processes of one machine may share it."""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from tieline.errors import ConfigurationError, LedgerUnavailable, Mistake, TielineError
from tieline.ledgers.base import SqlLedger
from tieline.ledgers.dialect import Merge, Row, Session

_OLDEST: Final = (3, 37, 0)  # strict tables
_PATIENCE: Final = 5.0  # seconds to wait for another process's transaction
_POLL: Final = 0.01  # seconds between looks for other processes' commits, while someone waits
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_PLACE: Final = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


class SqliteSession(Session):
    """One connection to a SQLite database."""

    among = "in (select value from json_each(?))"
    lock = ""  # a transaction begins by locking the whole file
    share = ""
    looks_back = False
    migrations = "sqlite"

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(
            path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        self._version = 0
        self._rung = 0
        self._own: dict[str, int] = {}
        settings = (
            "synchronous = full",
            "wal_autocheckpoint = 8000",  # pages: a batch with random keys touches thousands
            "cache_size = -8192",
            "temp_store = memory",
            "secure_delete = fast",
        )
        self._connection.execute("pragma page_size = 8192")  # before there is a table
        self._write_ahead()
        for setting in settings:
            self._connection.execute(f"pragma {setting}")

    def _write_ahead(self) -> None:
        """Switch to the write-ahead log; SQLite does not wait here for others who do the same."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self._connection.execute("pragma journal_mode = wal")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > until:
                    raise
                time.sleep(_POLL)
            else:
                return

    def begin(self, *, fresh: bool = False) -> None:
        self._connection.execute("begin immediate")

    def commit(self, topics: Iterable[str]) -> None:
        rung = {topic: self._connection.execute(_RING, (topic,)).fetchone()[0] for topic in topics}
        self._connection.execute("commit")
        self._own |= rung

    def rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("rollback")

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def rows(self, text: str, *values: Any) -> list[Row]:
        return self._connection.execute(text, values).fetchall()

    def run(self, text: str, *values: Any) -> int:
        return self._connection.execute(text, values).rowcount

    def many(self, text: str, rows: Sequence[Row]) -> int:
        return self._connection.executemany(text, rows).rowcount if rows else 0

    def merge(self, merge: Merge, rows: Sequence[Row]) -> None:
        places = ", ".join("?" * len(merge.names))
        self.many(f"insert into {merge.table} ({', '.join(merge.names)}) values ({places}) {merge.conflict}", rows)

    def listed(self, values: Iterable[str] | Iterable[int]) -> str:
        return msgspec.json.encode(list(values)).decode()

    def join(self, given: str, columns: str, table: str, where: str, index: str = "") -> str:
        # SQLite keeps the order of a cross join.
        by = f" indexed by {index}" if index else ""
        return f"select {columns} from {given} cross join {table}{by} where {where}"

    def walk(self) -> None:
        return

    def wanted(self, values: Iterable[str]) -> tuple[str, tuple[Any, ...]]:
        return "(select value as v from json_each(?)) as w", (self.listed(dict.fromkeys(values)),)

    def pairs(self, pairs: Iterable[tuple[int, int]]) -> tuple[str, tuple[Any, ...]]:
        listed = list(pairs)
        table = "(select json_extract(value, '$[0]') as a, json_extract(value, '$[1]') as b from json_each(?)) as w"
        return table, (msgspec.json.encode(listed).decode(),) if listed else ()

    def now(self) -> float:
        return time.time()

    def script(self, text: str) -> None:
        statement = ""
        for line in text.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self._connection.execute(statement)
                statement = ""
        if statement.strip():
            self._connection.execute(statement)

    def dump(self) -> bytes:
        """The whole database, as it would stand in a file."""
        return self._connection.serialize()

    def load(self, database: bytes) -> None:
        """Have this database, which is in memory, be as it was when it was dumped."""
        self._connection.deserialize(database)

    def rung_elsewhere(self) -> list[str]:
        """Topics that other connections rang since the last call; cheap where nothing was committed."""
        version = self._connection.execute("pragma data_version").fetchone()[0]
        if version == self._version:
            return []
        self._version = version
        rows = self.rows("select topic, rung from topic where rung > ?", self._rung)
        self._rung = max((rung for _, rung in rows), default=self._rung)
        return [topic for topic, rung in rows if self._own.get(topic) != rung]


_RING: Final = (
    "insert into topic (topic, rung) values (?, (select coalesce(max(rung), 0) + 1 from topic))"
    " on conflict (topic) do update set rung = excluded.rung returning rung"
)


class SqliteLedger(SqlLedger):
    """A ledger at ``sqlite:///relative/path.db`` (to `folder`) or ``sqlite:////absolute/path.db``."""

    failures = sqlite3.Error

    def __init__(self, url: str, folder: Path = Path()) -> None:
        super().__init__(url)
        scheme, _, path = url.partition(":///")
        if scheme != "sqlite" or not path:
            raise ConfigurationError(
                Mistake("store", f"{url!r} names no SQLite file", "write sqlite:///path/to/tieline.db")
            )
        self._path = folder / unquote(path)
        self._poll: asyncio.Task[None] | None = None

    async def wait(self, topics: Sequence[str], seconds: float, since: int | None = None) -> None:
        self._begin_to_watch()
        await super().wait(topics, seconds, since)

    def listen(self, topics: Sequence[str], heard: Callable[[], None]) -> Callable[[], None]:
        self._begin_to_watch()
        return super().listen(topics, heard)

    def _begin_to_watch(self) -> None:
        if self._poll is None or self._poll.done() or self._poll.get_loop() is not asyncio.get_running_loop():
            self._poll = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
        await super().close()

    async def _watch(self) -> None:
        """Look for what other processes rang, as long as someone waits."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while self._bell.awaited:
            await loop.run_in_executor(self._thread, self._listen)
            await asyncio.sleep(_POLL)

    def _listen(self) -> None:
        with contextlib.suppress(TielineError, sqlite3.Error):  # the next transaction says what is wrong
            self._open()
            if isinstance(self._session, SqliteSession) and (topics := self._session.rung_elsewhere()):
                self._bell.ring(topics)

    def _connect(self) -> SqliteSession:
        if sqlite3.sqlite_version_info < _OLDEST:
            here, needed = sqlite3.sqlite_version, ".".join(map(str, _OLDEST))
            raise ConfigurationError(
                Mistake("store", f"SQLite {here} is too old", f"use a Python with SQLite {needed} or newer")
            )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds business data
        except OSError as error:
            raise LedgerUnavailable(f"ledger {self._path}: {error.strerror}") from error
        session = SqliteSession(str(self._path))
        try:
            session.migrate(lambda: None, self.url)
            session.rung_elsewhere()
        except BaseException:
            session.close()
            raise
        return session

    def _named(self, error: Exception) -> TielineError | None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            held = f"locked by another program for more than {_PATIENCE:.0f} s"
            return LedgerUnavailable(f"ledger {self._path}: {held}")
        if code == sqlite3.SQLITE_NOTADB:
            return ConfigurationError(
                Mistake("store", f"{self._path} is not a SQLite database", "name another file, or move this one away")
            )
        if code in _PLACE:
            self._disconnect()
            remedy = "; make room" if code == sqlite3.SQLITE_FULL else ""
            return LedgerUnavailable(f"ledger {self._path}: {error}{remedy}")
        return None
