"""The ledger in PostgreSQL, in a schema of its own: for several machines, and with the company's own back-ups."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
import psycopg
from psycopg import AsyncConnection, Connection, conninfo, errors, sql

from tieline.errors import ConfigurationError, LedgerUnavailable, Mistake, TielineError
from tieline.ledgers.base import Again, SqlLedger
from tieline.ledgers.dialect import Merge, Row, Session

_FEW: Final = 200  # rows up to which one JSON value is quicker than COPY
_PLAIN: Final = (str, int, bool, bytes)
_RETRY: Final = 1.0  # seconds between attempts to listen again
_CONNECTION: Final = {
    "application_name": "tieline",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# The server, too, must notice that a cable is cut: by itself it would wait for hours.
_AT_THE_SERVER: Final = {
    "keepalives_idle": "tcp_keepalives_idle",
    "keepalives_interval": "tcp_keepalives_interval",
    "keepalives_count": "tcp_keepalives_count",
    "tcp_user_timeout": "tcp_user_timeout",
}
_SETTINGS: Final = {
    "synchronous_commit": "on",
    "lock_timeout": "40s",
    # A worker frozen inside a transaction holds its locks no longer than this.
    "idle_in_transaction_session_timeout": "30s",
    "client_min_messages": "warning",
    "jit": "off",
}


class PostgresqlSession(Session):
    """One connection to a PostgreSQL database, in its schema."""

    among = "= any(?)"
    lock = " for update"
    share = " for share"
    looks_back = True
    migrations = "postgresql"

    def __init__(self, conninfo: str, schema: str) -> None:
        # Statements are planned each time: a plan made for an empty table would outlive its emptiness.
        self.connection: Connection[Row] = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
        self._cursor = self.connection.cursor(binary=True)
        self._channel = notification_channel(schema)
        path = f'"{schema.replace(chr(34), chr(34) * 2)}"'
        for setting in ({**_SETTINGS, "search_path": path} | _kept_alive(conninfo)).items():
            self._cursor.execute("select set_config(%s, %s, false)", setting)

    @property
    def synced(self) -> bool:
        """Whether a commit of this server reaches the disk before it is acknowledged."""
        return self.rows("select current_setting('fsync') = 'on'") == [(True,)]

    def begin(self, *, fresh: bool = False) -> None:
        # Who writes what another one has changed since its transaction began is refused, and runs again.
        self._cursor.execute("begin isolation level " + ("read committed" if fresh else "repeatable read"))

    def commit(self, topics: Iterable[str]) -> None:
        if topics := list(topics):
            notify = "select pg_notify(%s, topic) from unnest(%s::text[]) as t(topic)"
            self._cursor.execute(notify, (self._channel, topics))
        self._cursor.execute("commit")

    def rollback(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._cursor.execute("rollback")

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.connection.close()

    def rows(self, text: str, *values: Any) -> list[Row]:
        return self._cursor.execute(_statement(text), values or None).fetchall()

    def run(self, text: str, *values: Any) -> int:
        return self._cursor.execute(_statement(text), values or None).rowcount

    def many(self, text: str, rows: Sequence[Row]) -> int:
        if not rows:
            return 0
        if len(rows) == 1:
            return self.run(text, *rows[0])
        self._cursor.executemany(_statement(text), rows)
        return self._cursor.rowcount

    def merge(self, merge: Merge, rows: Sequence[Row]) -> None:
        if len(rows) > 1:
            # One statement may touch a row once.
            rows = list({tuple([row[place] for place in merge.places]): row for row in rows}.values())
        columns = ", ".join(merge.names)
        into = f"insert into {merge.table} ({columns}) select"
        if len(rows) > _FEW:
            source, shared = self._staged(merge, rows)
            self._cursor.execute(f"{into} {source} {merge.conflict}".encode(), shared)
        elif rows:
            data = msgspec.json.encode(rows).decode()  # bytes become base64
            source = f"{into} {_from_json(merge.types)} from json_array_elements(%s::json) as r(v)"
            self._cursor.execute(f"{source} {merge.conflict}".encode(), (data,))

    def _staged(self, merge: Merge, rows: Sequence[Row]) -> tuple[str, list[Any]]:
        """Columns and FROM of a temporary table with these rows; what all rows share is a parameter, sent once."""
        stage, cursor = f"new_{merge.table}", self._cursor
        kinds = dict(zip(merge.names, merge.types.split(), strict=True))
        given = dict(zip(merge.names, zip(*rows, strict=True), strict=True))
        shared = {name: column[0] for name, column in given.items() if _is_one_value(column)}
        varying = [name for name in merge.names if name not in shared]
        made = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        cursor.execute(f"create temporary table if not exists {stage} ({made})".encode())
        cursor.execute(f"truncate {stage}".encode())
        with cursor.copy(f"copy {stage} ({', '.join(varying)}) from stdin".encode()) as copy:
            for row in zip(*(given[name] for name in varying), strict=True):
                copy.write_row(row)
        chosen = ", ".join(f"%s::{kinds[name]}" if name in shared else name for name in merge.names)
        return f"{chosen} from {stage}", list(shared.values())

    def listed(self, values: Iterable[str] | Iterable[int]) -> list[Any]:
        return list(values)

    def join(self, given: str, columns: str, table: str, where: str, index: str = "") -> str:
        # "offset 0" keeps the planner from turning the look-up inside out while it has no statistics.
        return (
            f"select s.* from {given} cross join lateral (select {columns} from {table} where {where} offset 0) as s"
        )

    def walk(self) -> None:
        self._cursor.execute(
            "select set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)"
        )

    def wanted(self, values: Iterable[str]) -> tuple[str, tuple[Any, ...]]:
        return "unnest(?::text[]) as w(v)", (_array(list(dict.fromkeys(values))),)

    def pairs(self, pairs: Iterable[tuple[int, int]]) -> tuple[str, tuple[Any, ...]]:
        columns = [list(column) for column in zip(*pairs, strict=True)]
        return "unnest(?::bigint[], ?::bigint[]) as w(a, b)", tuple(columns)

    def now(self) -> float:
        return float(self.rows("select extract(epoch from clock_timestamp())::float8")[0][0])

    def script(self, text: str) -> None:
        self.connection.execute(text.encode())

    def own_schema(self, schema: str) -> None:
        """Keep other processes out until the commit, and make the schema if it is not there."""
        self.rows("select pg_advisory_xact_lock(?)", _number(f"tieline {schema}"))
        if not self.rows("select 1 from pg_namespace where nspname = ?", schema):
            self.connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))


class PostgresqlLedger(SqlLedger):
    """A ledger at ``postgresql://user@host/database?schema=name`` (the schema is `tieline` if not given)."""

    failures = psycopg.Error

    def __init__(self, url: str) -> None:
        base, _, query = url.partition("?")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        self._schema = parameters.pop("schema", "tieline")
        plain = base + (f"?{urlencode(parameters, quote_via=quote)}" if parameters else "")
        try:
            self._conninfo = conninfo.make_conninfo(plain, **{**_CONNECTION, **_given(plain)})
        except psycopg.ProgrammingError as error:
            what = f"the address is not one of PostgreSQL: {error}"
            raise ConfigurationError(
                Mistake("store", what, "write postgresql://user@host:5432/database?schema=tieline")
            ) from None
        if not 0 < len(self._schema.encode()) <= 63 or "\0" in self._schema:
            raise ConfigurationError(
                Mistake("store", f"{self._schema[:80]!r} cannot name a schema", "give one of 1 to 63 bytes")
            )
        super().__init__(without_password(url))
        self._listener: asyncio.Task[None] | None = None

    async def wait(self, topics: Sequence[str], seconds: float, since: int | None = None) -> None:
        self._begin_to_listen()
        await super().wait(topics, seconds, since)

    def listen(self, topics: Sequence[str], heard: Callable[[], None]) -> Callable[[], None]:
        self._begin_to_listen()
        return super().listen(topics, heard)

    def _begin_to_listen(self) -> None:
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen())

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        await super().close()

    async def _listen(self) -> None:
        """Ring what other sessions notify; after each gap ring everything, for what was missed in it."""
        listen = sql.SQL("listen {}").format(sql.Identifier(notification_channel(self._schema)))
        while True:
            with contextlib.suppress(psycopg.Error, OSError):
                connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
                async with connection:
                    for setting in _kept_alive(self._conninfo).items():
                        await connection.execute("select set_config(%s, %s, false)", setting)
                    await connection.execute(listen)
                    self._bell.ring(None)
                    async for notification in connection.notifies():
                        if notification.pid != self._pid:  # our own have been rung
                            self._bell.ring([notification.payload])
            await asyncio.sleep(_RETRY)

    @property
    def _pid(self) -> int:
        session = self._session
        return session.connection.info.backend_pid if isinstance(session, PostgresqlSession) else 0

    def _connect(self) -> PostgresqlSession:
        session = PostgresqlSession(self._conninfo, self._schema)
        try:
            session.migrate(lambda: session.own_schema(self._schema), self.url)
            self.durable = session.synced
        except errors.InsufficientPrivilege as error:
            session.close()
            raise ConfigurationError(
                Mistake(self.url, str(error).strip(), f"let this user create the schema {self._schema!r}, or own it")
            ) from error
        except BaseException:
            session.close()
            raise
        return session

    def _named(self, error: Exception) -> TielineError | None:
        if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure):
            return Again(f"ledger {self.url}: {_first_line(error)}")
        session = self._session
        lost = isinstance(session, PostgresqlSession) and session.connection.closed
        moved = isinstance(error, errors.ReadOnlySqlTransaction)  # this server became a standby
        if lost or moved or session is None:
            self._disconnect()
        elif not isinstance(error, psycopg.OperationalError):
            return None
        return LedgerUnavailable(f"ledger {self.url}: {_first_line(error)}")


def _array(texts: list[str]) -> Any:
    """Plain texts as an array's literal, which is much faster than the driver's own way."""
    inside = '","'.join(texts)
    if texts and "\\" not in inside and inside.count('"') == 2 * (len(texts) - 1):
        return f'{{"{inside}"}}'
    return texts


def notification_channel(schema: str) -> str:
    """The name under which sessions of one schema notify each other."""
    return f"tieline_{blake2b(schema.encode(), digest_size=8).hexdigest()}"


def _is_one_value(column: Sequence[Any]) -> bool:
    """Whether a column holds the same in every row, of a type in which equal is the same."""
    first = column[0]
    if type(first) not in _PLAIN or column[-1] != first:
        return False
    return len(set(column)) == 1 and len(set(map(type, column))) == 1


def without_password(url: str) -> str:
    """The address as it may be shown."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, credentials = head.partition("://")
    user, colon, password = credentials.partition(":")
    shown = f"{scheme}{slashes}{user}{colon}{'•••' if password else ''}{at}{tail}" if at else url
    base, question, query = shown.partition("?")
    parameters = [pair if not pair.startswith("password=") else "password=•••" for pair in query.split("&")]
    return base + question + "&".join(parameters)


def _kept_alive(info: str) -> dict[str, str]:
    """The server's settings for what the address says of a connection's end at this side."""
    said = conninfo.conninfo_to_dict(info)
    return {setting: str(said[name]) for name, setting in _AT_THE_SERVER.items() if name in said}


def _given(plain: str) -> dict[str, Any]:
    return {name: value for name, value in conninfo.conninfo_to_dict(plain).items() if name in _CONNECTION}


@lru_cache(maxsize=512)
def _statement(text: str) -> bytes:
    return text.replace("?", "%s").encode()


@lru_cache(maxsize=64)
def _from_json(types: str) -> str:
    return ", ".join(
        f"decode(v->>{place}, 'base64')" if kind == "bytea" else f"(v->>{place})::{kind}"
        for place, kind in enumerate(types.split())
    )


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
