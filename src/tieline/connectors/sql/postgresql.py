"""PostgreSQL, through psycopg 3: rows go in by COPY into a temporary table and one merge."""

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import partial
from itertools import count
from typing import Any, Final

import msgspec
import psycopg
from psycopg import errors, pq
from psycopg.adapt import Dumper
from psycopg.types.array import ListDumper
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

from tieline.connector import Discovered, Record
from tieline.connectors.sql.dialect import Fit, LockTimeout, Row
from tieline.connectors.sql.names import Name, is_integer, is_utf8, is_uuid
from tieline.connectors.sql.shape import ChildShape, Column, Kind, Relation, listed
from tieline.errors import (
    AccessRefused,
    ConfigurationError,
    Mistake,
    Reject,
    RetryLater,
    TielineError,
    Unavailable,
)

_KINDS: Final = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), Kind.INTEGER),
    **dict.fromkeys(("numeric", "money"), Kind.DECIMAL),
    **dict.fromkeys(("float4", "float8"), Kind.FLOAT),
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "citext"), Kind.TEXT),
    **dict.fromkeys(("json", "jsonb"), Kind.JSON),
    "bool": Kind.BOOLEAN,
    "date": Kind.DATE,
    "timestamptz": Kind.ZONED,
    "timestamp": Kind.NAIVE,
    "uuid": Kind.UUID,
    "bytea": Kind.BYTES,
}
_LIMITS: Final = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_TYPES: Final = {
    Kind.TEXT: 'text collate "C"',
    Kind.INTEGER: "bigint not null default 0",
    Kind.BYTES: "bytea",
}

# psycopg would turn a month into 30 days, and give ranges and addresses as classes of its own.
_AS_TEXT: Final = (
    *("interval", "inet", "cidr", "int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange"),
    *("int4multirange", "int8multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange"),
)
_MOMENTS: Final = ("date", "timestamp", "timestamptz")  # "infinity" and years BC have no Python value

_FEW: Final = 8  # up to so many rows go along in the statement: one round trip where COPY takes four
_NESTED: Final = "a list or an object fits a child, an array or a JSON column only"
_REFUSED: Final = r"authentication|pg_hba\.conf|no password supplied|role .* (does not exist|not permitted)"
_LOCK: Final = 0x7469656C696E65  # "tieline": who makes our tables holds this advisory lock

_DESCRIBE: Final = """
select a.attname, format_type(a.atttypid, a.atttypmod), format_type(b.oid, -1), b.typname, b.typcategory,
       case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end,
       a.attnotnull or t.typnotnull,
       a.atthasdef or a.attidentity <> '' or a.attgenerated <> '' or t.typdefault is not null
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
  join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
 where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
 order by a.attnum
"""
# Only an index without a condition, an expression or a delay can be the arbiter of ON CONFLICT.
_UNIQUE: Final = """
select i.indisprimary, array_agg(a.attname::text order by k.place)
  from pg_index i
 cross join lateral unnest(i.indkey[0 : i.indnkeyatts - 1]) with ordinality k(number, place)
  left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
 where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
 group by i.indexrelid, i.indisprimary
"""
_DEFERRED: Final = "select exists (select from pg_constraint where conrelid = $1 and condeferrable and condeferred)"
_DISCOVER: Final = """
select n.nspname, c.relname, c.relkind in ('v', 'm')
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
   and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and c.relname not in ('tieline_held', 'tieline_leg')
   and has_table_privilege(c.oid, 'select')
 order by 1, 2
"""


class _Array(list[Any]):
    """A list on its way into an array column; elsewhere PostgreSQL would keep one as the text `{a,b}`."""

    __slots__ = ()


class _NoArray(Dumper):
    """Refuses any other list."""

    def dump(self, obj: Any) -> bytes:
        raise psycopg.DataError(_NESTED)


class PostgresqlSession:
    """One connection, used by one thread; transactions are begun and ended by hand."""

    def __init__(self, target: dict[str, Any], timeout: float, *, writing: bool) -> None:
        usual: dict[str, Any] = {
            "application_name": "tieline",
            "connect_timeout": max(2, int(timeout)),
            "keepalives_idle": 30,
            "tcp_user_timeout": int(timeout * 1_000),
        }
        self._connection = psycopg.connect(
            autocommit=True, cursor_factory=psycopg.RawCursor, **(usual | target), client_encoding="utf-8"
        )
        self._writing = writing
        adapters = self._connection.adapters
        for name in _AS_TEXT:
            adapters.register_loader(name, TextLoader)
        set_json_loads(partial(json.loads, parse_float=Decimal), self._connection)
        settings = "set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'iso_8601'"
        if writing:
            # A worker frozen inside a transaction must not keep its locks: the server drops it.
            limit = int(timeout * 1_000)
            settings += f"; set lock_timeout = {limit}; set idle_in_transaction_session_timeout = {limit}"
        self._connection.execute(settings)
        self.loads: dict[Hashable, str] = {}  # the load table of each table, by what its columns are
        self.fresh_loads: list[Hashable] = []
        self.load_names = (f"tieline_load_{number}" for number in count())

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
            tuple(_moment(value, date=n in days) if n in at else value for n, value in enumerate(row)) for row in rows
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

    def copy(self, sql: str, rows: Sequence[Row]) -> None:
        """Send rows by COPY."""
        with self._connection.cursor() as cursor:
            cursor.adapters.register_dumper(list, _NoArray)
            cursor.adapters.register_dumper(tuple, _NoArray)
            cursor.adapters.register_dumper(_Array, ListDumper)
            with cursor.copy(sql) as copy:
                for row in rows:
                    copy.write_row(row)

    def begin(self, *, writing: bool) -> None:
        self.rollback()
        plain = writing or self._writing
        self._connection.execute("begin" if plain else "begin isolation level repeatable read read only")

    def commit(self) -> None:
        self._connection.execute("commit")
        self.fresh_loads.clear()

    def rollback(self) -> None:
        for made in self.fresh_loads:  # what was made in this transaction goes with it
            self.loads.pop(made, None)
        self.fresh_loads.clear()
        if self._connection.info.transaction_status is not pq.TransactionStatus.IDLE:
            self._connection.execute("rollback")

    def close(self) -> None:
        self._connection.close()


class Postgresql:
    """PostgreSQL's ways."""

    errors = (psycopg.Error, UnicodeError)
    locks_rows = True

    def __init__(self, target: dict[str, Any], timeout: float, where: str, schema: str) -> None:
        self._target = target
        self._timeout = timeout
        self._where = where
        self._schema = schema

    def connect(self, *, writing: bool) -> PostgresqlSession:
        return PostgresqlSession(self._target, self._timeout, writing=writing)

    def problem(self, error: BaseException) -> TielineError:
        if not isinstance(error, psycopg.Error):
            return Reject(str(error))
        state = error.sqlstate
        text = str(error).partition("\n")[0]
        if state is None:
            return self._client_problem(error, text)
        diagnosis = error.diag
        if state == "53100":
            return Unavailable(f"{self._where}: the database's disk is full; make room ({text})")
        if state in {"42P01", "42703", "3F000", "42P10"}:
            return ConfigurationError(Mistake(self._where, text, "correct the adapter, or restore the table"))
        if state.startswith("28") or state == "42501":
            return AccessRefused(f"{self._where}: {text}")
        if state[:2] in {"08", "53", "57", "58", "XX"} and state != "57014":
            return Unavailable(f"{self._where}: {text}")
        if state in {"25P03", "25006"} or (state == "0A000" and "cached plan" in text):
            return Unavailable(f"{self._where}: {text}")
        if state in {"55P03", "57014"}:
            return LockTimeout(text)
        if state in {"40001", "40P01"}:
            return RetryLater(text)
        if state == "23503":
            return RetryLater(f"{text}: {diagnosis.message_detail or 'a row that it refers to is not there'}")
        return self._reject(error, text)

    def _client_problem(self, error: psycopg.Error, text: str) -> TielineError:
        whole = str(error)
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            if re.search(
                r"authentication|pg_hba\.conf|no password supplied|role .* (does not exist|not permitted)", whole
            ):
                return AccessRefused(f"{self._where}: {whole.strip()}")
            if re.search(r'database ".*" does not exist', whole):
                return ConfigurationError(Mistake(self._where, whole.strip(), "correct the url"))
            return Unavailable(f"{self._where}: {whole.strip()}")
        return Reject(text)

    @staticmethod
    def _reject(error: psycopg.Error, text: str) -> Reject:
        diagnosis = error.diag
        field, value = diagnosis.column_name, None
        taken = re.search(r"\((.*)\)=\((.*)\)", (diagnosis.message_detail or "").partition("\n")[0])
        if taken and error.sqlstate == "23505":
            field, value = taken.groups()
        placed = re.search(r', column (.*?)(?:: "(.*)")?$', (diagnosis.context or "").partition("\n")[0])
        if placed:
            field, value = placed.groups()
        return Reject(text, field=field, value=value) if field else Reject(text)

    def leaves_open(self, error: BaseException) -> bool:
        state = getattr(error, "sqlstate", None)
        return state is None or state[:3] in {"57P", "080"}

    def describe(self, session: Any, name: Name) -> Relation | None:
        ((oid, kind),) = session.rows(
            "select c.oid::bigint, c.relkind::text"
            "  from (select to_regclass($1)::oid as oid) found left join pg_class c using (oid)",
            [_dotted(name)],
        )
        if oid is None or kind not in {"r", "p", "v", "m", "f"}:
            return None
        columns = {row[0]: _column(*row) for row in session.rows(_DESCRIBE, [oid])}
        primary: tuple[str, ...] = ()
        unique = set()
        for is_primary, names in session.rows(_UNIQUE, [oid]):
            if None not in names:
                unique.add(frozenset(names))
                primary = tuple(names) if is_primary else primary
        deferred = session.rows(_DEFERRED, [oid])[0][0]
        return Relation(name, _dotted(name), columns, primary, frozenset(unique), kind in {"v", "m", "f"}, deferred)

    def discover(self, session: Any) -> list[Discovered]:
        found = []
        for schema, table, view in session.rows(_DISCOVER):
            relation = self.describe(session, (schema, table))
            if relation is not None:
                fields = {column.name: column.type for column in relation.columns.values()}
                name = table if schema == "public" else f"{schema}.{table}"
                found.append(Discovered(name, relation.primary, fields, "view" if view else "table"))
        return found

    def mark(self, number: int, column: Column) -> str:
        return f"${number}::{column.cast}"

    def among(self, columns: Sequence[Column], values: Sequence[Sequence[Any]], first: int) -> tuple[str, list[Any]]:
        # Not `= any(array)`: without statistics that may compare every row with every value.
        arrays = [list(of_column) for of_column in zip(*values, strict=True)]
        marks = ", ".join(f"${n}::{_sought(column)}[]" for n, column in enumerate(columns, first))
        shown = ", ".join(f"{c.sql}::text" if c.kind is Kind.OTHER else c.sql for c in columns)
        return f"({shown}) in (select * from unnest({marks}))", arrays

    def wanted(self, columns: Sequence[Column], values: Sequence[Sequence[Any]]) -> tuple[str, str, list[Any]]:
        arrays = [list(of_column) for of_column in zip(*values, strict=True)]
        marks = ", ".join(f"${n}::{_sought(column)}[]" for n, column in enumerate(columns, 1))
        names = ", ".join(f"tieline_{n}" for n in range(len(columns)))
        join = " and ".join(
            f"tieline_t.{column.sql}{'::text' if column.kind is Kind.OTHER else ''} = tieline_{n}"
            for n, column in enumerate(columns)
        )
        return f"unnest({marks}) with ordinality as tieline_w({names}, tieline_n)", join, arrays

    def probe(
        self,
        relation: Relation,
        chosen: str,
        fixed: Sequence[tuple[Column, Any]],
        column: Column,
        values: Sequence[Any],
    ) -> tuple[str, list[Any]]:
        # OFFSET 0 keeps it at one look into the index for each value: on a table that has no statistics
        # yet, the planner would rather read all rows with the fixed values.
        same = " and ".join(f"{one.sql} = {self.mark(n, one)}" for n, (one, _) in enumerate(fixed, 1))
        asked = f"unnest(${len(fixed) + 1}::{column.cast}[]) as asked(one)"
        rows = f"select * from {relation.sql} where {same} and {column.sql} = asked.one offset 0"
        return f"select {chosen} from {asked} cross join lateral ({rows}) found", [
            *(v for _, v in fixed),
            list(values),
        ]

    def identity(self, text: str, column: Column) -> Any:
        check = _IDENTITIES.get(column.kind, _is_text)
        if not check(text):
            return None
        return bytes.fromhex(text) if column.kind is Kind.BYTES else text

    def records(self, columns: Sequence[Column]) -> Callable[[list[Row]], list[Record]]:
        names = [column.name for column in columns]
        return lambda rows: [dict(zip(names, row, strict=False)) for row in rows]

    def fit(self, column: Column) -> Fit | None:
        if column.kind is Kind.DECIMAL and column.scale is not None:
            return _fit_scale(column.scale, column.limit)
        if column.kind is Kind.INTEGER and column.limit is not None:
            return _fit_range(column.limit)
        return _FITS.get(column.kind)

    def savepoint(self, session: Any) -> None:
        session.run("savepoint tieline")

    def release(self, session: Any, *, check: bool) -> None:
        if check:
            session.run("set constraints all immediate")
            session.run("set constraints all deferred")
        session.run("release savepoint tieline")

    def back(self, session: Any) -> None:
        session.run("rollback to savepoint tieline")
        session.run("release savepoint tieline")
        for made in session.fresh_loads:
            session.loads.pop(made, None)
        session.fresh_loads.clear()

    def merge(
        self, session: Any, relation: Relation, key: Sequence[Column], columns: Sequence[Column], rows: list[Row]
    ) -> None:
        source, parameters = self._source(session, relation, columns, rows, 1)
        self._merge_from(session, source, parameters, relation, key, columns)

    def update(
        self, session: Any, relation: Relation, key: Sequence[Column], columns: Sequence[Column], rows: list[Row]
    ) -> None:
        source, parameters = self._source(session, relation, columns, rows, 1)
        self._update_from(session, source, parameters, relation, key, columns)

    def insert(
        self, session: Any, relation: Relation, key: Sequence[Column], columns: Sequence[Column], rows: list[Row]
    ) -> list[Row]:
        _refuse_nested(rows)
        given = f"({listed(columns)}) values {_values(columns, 1, 1)}"
        sql = f"insert into {relation.sql} {given if columns else 'default values'} "
        found: list[Row] = session.many(f"{sql} returning {listed(key)}", rows)
        return found

    def replace(
        self,
        session: Any,
        child: ChildShape,
        parents: Sequence[Sequence[Any]],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> None:
        belongs, parameters = self.among(child.parent, parents, 1)
        gone = f"delete from {child.relation.sql} o where {belongs}"
        if not rows:
            session.run(gone, parameters)
            return
        source, values = self._source(session, child.relation, columns, rows, len(parameters) + 1)
        if child.key:
            kept = f"not exists (select from {source} where {_same(child.key)})"
            session.run(f"{gone} and {kept}", [*parameters, *values])
            if parameters and values:
                source, values = self._source(session, child.relation, columns, rows, 1)
            self._merge_from(session, source, values, child.relation, child.key, columns)
        else:
            session.run(gone, parameters)
            source, values = (
                (source, values) if not values else self._source(session, child.relation, columns, rows, 1)
            )
            names = listed(columns)
            session.run(f"insert into {child.relation.sql} ({names}) select {names} from {source}", values)

    def delete(
        self, session: Any, relation: Relation, columns: Sequence[Column], values: Sequence[Sequence[Any]]
    ) -> None:
        belongs, parameters = self.among(columns, values, 1)
        session.run(f"delete from {relation.sql} where {belongs}", parameters)

    def own(self, table: str) -> Name:
        return (self._schema, table)

    def create(self, session: Any, name: Name, columns: Mapping[str, Kind], key: Sequence[str]) -> None:
        given = ", ".join(f"{quote(column)} {_TYPES[kind]}" for column, kind in columns.items())
        keys = ", ".join(map(quote, key))
        statements = [f"create table if not exists {_dotted(name)} ({given}, primary key ({keys}))"]
        session.run(f"select pg_advisory_xact_lock({_LOCK})")
        if session.rows("select to_regnamespace($1) is null", [quote(self._schema)])[0][0]:
            statements.insert(0, f"create schema {quote(self._schema)}")
        try:
            for statement in statements:
                session.run(statement)
        except errors.InsufficientPrivilege as error:
            asked = "; ".join([*statements, f"grant usage on schema {quote(self._schema)}, and all on the table"])
            raise AccessRefused(f"{self._where}: {error}; ask its owner: {asked}; or set held = false") from error

    def _source(
        self, session: Any, relation: Relation, columns: Sequence[Column], rows: list[Row], first: int
    ) -> tuple[str, list[Any]]:
        """A FROM item `n` with these rows, and its parameters, numbered from `first`."""
        if len(rows) > _FEW:
            return f"{self._load(session, relation, columns, rows)} n", []
        _refuse_nested(rows)
        names = listed(columns)
        values = [value for row in rows for value in row]
        return f"(values {_values(columns, len(rows), first)}) n({names})", values

    @staticmethod
    def _load(session: Any, relation: Relation, columns: Sequence[Column], rows: list[Row]) -> str:
        """The temporary table that holds exactly these rows, made once per connection and table."""
        load: str | None = session.loads.get(relation.signature)
        if load is None:
            load = next(session.load_names)
            # Plain numeric: a scale would round on the way in. LIKE would bring NOT NULL along.
            chosen = ", ".join(
                f"{c.sql}::numeric as {c.sql}" if c.kind is Kind.DECIMAL and c.scale is not None else c.sql
                for c in relation.columns.values()
            )
            session.run(
                f"create temp table {load} on commit delete rows as select {chosen} from {relation.sql} with no data"
            )
            session.loads[relation.signature] = load
            session.fresh_loads.append(relation.signature)
        else:
            session.run(f"delete from {load}")
        session.copy(f"copy {load} ({listed(columns)}) from stdin", rows)
        return load

    def _merge_from(
        self,
        session: Any,
        source: str,
        parameters: list[Any],
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
    ) -> None:
        names = listed(columns)
        keys = {column.name for column in key}
        settings = ", ".join(f"{c.sql} = excluded.{c.sql}" for c in columns if c.name not in keys)
        new = ""
        if not relation.required <= {column.name for column in columns}:
            # NOT NULL is checked before the conflict is: a row that exists is updated first.
            self._update_from(session, source, parameters, relation, key, columns)
            new = f" where not exists (select from {relation.sql} o where {_same(key)})"
        session.run(
            f"insert into {relation.sql} ({names}) select {names} from {source}{new} "
            f"on conflict ({listed(key)}) "
            f"do {f'update set {settings}' if settings else 'nothing'}",
            parameters,
        )

    @staticmethod
    def _update_from(
        session: Any,
        source: str,
        parameters: list[Any],
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
    ) -> None:
        keys = {column.name for column in key}
        settings = ", ".join(f"{c.sql} = n.{c.sql}" for c in columns if c.name not in keys)
        if settings:
            session.run(f"update {relation.sql} o set {settings} from {source} where {_same(key)}", parameters)


def _sought(column: Column) -> str:
    """The type that ids are sought by: a word that is no value of an enum is nobody's id, and no error."""
    return "text" if column.kind is Kind.OTHER else column.cast


def quote(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def _dotted(name: Name) -> str:
    return ".".join(map(quote, name))


def _same(key: Sequence[Column]) -> str:
    return " and ".join(f"o.{column.sql} = n.{column.sql}" for column in key)


def _values(columns: Sequence[Column], rows: int, first: int) -> str:
    # By way of text, so that a value is taken or refused exactly as COPY would.
    numbers = count(first)
    return ", ".join(
        f"({', '.join(f'${next(numbers)}::text::{column.cast}' for column in columns)})" for _ in range(rows)
    )


def _refuse_nested(rows: list[Row]) -> None:
    if any(type(value) in {list, tuple, dict} for row in rows for value in row):
        raise psycopg.DataError(_NESTED)


def _column(
    name: str, shown: str, cast: str, base: str, category: str, modifier: int, not_null: bool, filled: bool
) -> Column:
    kind = Kind.ARRAY if category == "A" else _KINDS.get(base, Kind.OTHER)
    scale, limit = None, _LIMITS.get(base)
    if base == "numeric" and modifier >= 0:
        scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
        limit = 10 ** (((modifier - 4) >> 16) - scale)
    if kind is Kind.INTEGER:
        cast = "bigint"  # to look for a number out of the column's range finds nothing, and is no error
    read = f"{quote(name)}::numeric" if base == "money" else ""
    return Column(name, quote(name), shown, kind, cast, not not_null, not_null and not filled, scale, limit, read)


def _fit_range(limit: int) -> Fit:
    """PostgreSQL would not say which column a number is too large for."""

    def fit(value: Any) -> Any:
        if type(value) is int and not -limit <= value < limit:
            raise ValueError("the number is too large for the column")
        return value

    return fit


def _fit_scale(scale: int, limit: int | None) -> Fit:
    """PostgreSQL would round to the column's scale, silently."""
    quantum = Decimal((0, (1,), -scale))

    def fit(value: Any) -> Any:
        exact = value
        if type(value) is not Decimal:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                return value
            try:
                exact = Decimal(repr(value) if isinstance(value, float) else value)
            except ArithmeticError:
                return value  # the database says what is wrong with it
        if not exact.is_finite():
            raise ValueError("not a finite number")
        if not exact.same_quantum(quantum) and exact != exact.quantize(quantum, context=_WIDE):
            raise ValueError(f"the column keeps {scale} decimals, and this would be rounded")
        if limit is not None and not -limit < exact < limit:
            raise ValueError(f"the column takes numbers below {limit:,}")
        return exact

    return fit


def _fit_zoned(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("the column keeps a time with its zone: give it one")
    return value


def _fit_naive(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        raise ValueError("the column keeps no zone: give the time as the system means it, with .replace(tzinfo=None)")
    return value


_encode_json: Final = msgspec.json.Encoder(decimal_format="number").encode

_FITS: Final[dict[Kind, Fit]] = {
    Kind.ZONED: _fit_zoned,
    Kind.NAIVE: _fit_naive,
    Kind.JSON: lambda value: None if value is None else _encode_json(value).decode(),
    Kind.ARRAY: lambda value: _Array(value) if isinstance(value, list) else value,
}
_WIDE: Final = Context(prec=1_000)


def _is_text(text: str) -> bool:
    return "\0" not in text and is_utf8(text)


def _is_decimal(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text, re.ASCII) is not None


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_IDENTITIES: Final[dict[Kind, Callable[[str], bool]]] = {
    Kind.INTEGER: is_integer,
    Kind.DECIMAL: _is_decimal,
    Kind.FLOAT: _is_decimal,
    Kind.UUID: is_uuid,
    Kind.DATE: _is_moment,
    Kind.ZONED: _is_moment,
    Kind.NAIVE: _is_moment,
    Kind.BOOLEAN: lambda text: text in {"true", "false"},
    Kind.BYTES: lambda text: re.fullmatch(r"(?:[0-9a-f]{2})*", text) is not None,
}


def _moment(text: Any, *, date: bool) -> Any:
    if not isinstance(text, str):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if date:
        return moment.date()
    return moment if moment.tzinfo is None else moment.astimezone(UTC)
