"""A connection to PostgreSQL."""

import json
from collections.abc import Hashable, Sequence
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.adapt import Dumper
from psycopg.types.array import ListDumper
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

from tieline.connectors.sql.dialect import Row
from tieline.connectors.sql.postgresql_values import NESTED, Array, as_moment
from tieline.connectors.sql.shape import Column, Relation, listed

# psycopg would turn a month into 30 days, and give ranges and addresses as classes of its own.
_AS_TEXT: Final = (
    *("interval", "inet", "cidr", "int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange"),
    *("int4multirange", "int8multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange"),
)
_ALIVE: Final = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}  # seconds, seconds, times
_MOMENTS: Final = ("date", "timestamp", "timestamptz")  # "infinity" and years BC have no Python value


class _NoArray(Dumper):
    """Refuses a list that is not on its way into an array column."""

    def dump(self, obj: Any) -> bytes:
        raise psycopg.DataError(NESTED)


class PostgresqlSession:
    """One connection, used by one thread; transactions are begun and ended by hand."""

    def __init__(self, target: dict[str, Any], timeout: float, *, writing: bool) -> None:
        usual: dict[str, Any] = {
            "application_name": "tieline",
            "connect_timeout": max(2, int(timeout)),
            "tcp_user_timeout": int(timeout * 1_000),
            **_ALIVE,
        }
        self._connection = psycopg.connect(
            autocommit=True, cursor_factory=psycopg.RawCursor, **(usual | target), client_encoding="utf-8"
        )
        self._writing = writing
        adapters = self._connection.adapters
        for name in _AS_TEXT:
            adapters.register_loader(name, TextLoader)
        set_json_loads(partial(json.loads, parse_float=Decimal), self._connection)
        # A statement of ours is short; compiling it, on a table without statistics, takes longer than it does.
        settings = "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'iso_8601'"
        settings += "; select set_config(name, 'off', false) from pg_settings where name = 'jit'"
        if writing:
            # A worker frozen inside a transaction must not keep its locks: the server drops it.
            limit = int(timeout * 1_000)
            settings += f"; set lock_timeout = {limit}; set idle_in_transaction_session_timeout = {limit}"
        for name in _ALIVE:
            # The server, too, must notice that a cable is cut: by itself it would wait for hours.
            value = {**usual, **target}[name]
            settings += f"; select set_config(name, '{int(value)}', false) from pg_settings where name = 'tcp_{name}'"
        try:
            self._connection.execute(settings)
        except BaseException:
            self._connection.close()
            raise
        self._loads: dict[Hashable, str] = {}  # the load table of each table, by what its columns are
        self._fresh_loads: list[Hashable] = []
        self._full_loads: set[str] = set()  # those that hold rows of this transaction; the commit empties them
        self._load_names = (f"tieline_load_{number}" for number in count())

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except psycopg.DataError as error:
            if error.sqlstate is not None:
                raise
        return self._rows_with_odd_moments(sql, parameters)

    def _rows_with_odd_moments(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        # One row from the year 12,026 must not stop its table: such a value comes as text.
        with self._connection.cursor() as cursor:
            for name in _MOMENTS:
                cursor.adapters.register_loader(name, TextLoader)
            rows = cursor.execute(sql, parameters).fetchall()
            types = self._connection.adapters.types
            oids = {types[name].oid for name in _MOMENTS}
            at = [n for n, column in enumerate(cursor.description or ()) if column.type_code in oids]
            days = {n for n in at if cursor.description and cursor.description[n].type_code == types["date"].oid}
        return [
            tuple(as_moment(value, date=n in days) if n in at else value for n, value in enumerate(row))
            for row in rows
        ]

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.execute(sql, parameters)

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row]:
        """Run a statement that gives one row for each row of values, and give those."""
        found = []
        with self._connection.cursor() as cursor:
            cursor.executemany(sql, rows, returning=True)
            while True:
                found += cursor.fetchall()
                if not cursor.nextset():
                    return found

    def load(self, relation: Relation, columns: Sequence[Column], rows: Sequence[Row]) -> str:
        """The temporary table that holds exactly these rows, made once per connection and table."""
        table = self._loads.get(relation.signature)
        if table is None:
            table = next(self._load_names)
            chosen = (
                f"select {listed(relation.columns.values())} from {relation.sql}"  # LIKE would bring NOT NULL along
            )
            self.run(f"create temp table {table} on commit delete rows as {chosen} with no data")
            self._loads[relation.signature] = table
            self._fresh_loads.append(relation.signature)
        elif table in self._full_loads:
            self.run(f"delete from {table}")
        self._full_loads.add(table)
        with self._connection.cursor() as cursor:
            cursor.adapters.register_dumper(list, _NoArray)
            cursor.adapters.register_dumper(tuple, _NoArray)
            cursor.adapters.register_dumper(Array, ListDumper)
            with cursor.copy(f"copy {table} ({listed(columns)}) from stdin") as copy:
                for row in rows:
                    copy.write_row(row)
        return table

    def forget_loads(self) -> None:
        """Forget the tables made in a transaction that is rolled back: they went with it."""
        for made in self._fresh_loads:
            self._loads.pop(made, None)
        self._fresh_loads.clear()

    def begin(self, *, writing: bool) -> None:
        self.rollback()
        plain = writing or self._writing
        self._connection.execute("begin" if plain else "begin isolation level repeatable read read only")

    def commit(self) -> None:
        if self._connection.info.transaction_status is pq.TransactionStatus.INERROR:
            # PostgreSQL would roll back, and call that a success.
            raise psycopg.errors.InFailedSqlTransaction("a statement failed, so the transaction cannot be committed")
        self._connection.execute("commit")
        self._fresh_loads.clear()
        self._full_loads.clear()

    def rollback(self) -> None:
        self.forget_loads()
        if self._connection.info.transaction_status is not pq.TransactionStatus.IDLE:
            self._connection.execute("rollback")
        self._full_loads.clear()

    def close(self) -> None:
        self._connection.close()
