"""PostgreSQL, through psycopg 3: rows go in by COPY into a temporary table and one merge."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import count, repeat
from operator import itemgetter
from typing import Any, Final

import psycopg
from psycopg import errors

from tieline.connector import Record
from tieline.connectors.sql.dialect import Fit, Row
from tieline.connectors.sql.names import Name
from tieline.connectors.sql.postgresql_errors import problem
from tieline.connectors.sql.postgresql_session import PostgresqlSession
from tieline.connectors.sql.postgresql_values import NESTED, as_column, fit, fit_all, identity
from tieline.connectors.sql.shape import ChildShape, Column, Kind, Relation, listed
from tieline.errors import AccessRefused, TielineError

_TYPES: Final = {
    Kind.TEXT: 'text collate "C"',
    Kind.INTEGER: "bigint not null default 0",
    Kind.BYTES: "bytea",
}

_PLAIN: Final = {str, int, float, bytes, type(None)}  # what is sent once where it is the same in all rows
_EQUAL_IS_SAME: Final = {Kind.INTEGER, Kind.BOOLEAN, Kind.DATE, Kind.ZONED, Kind.NAIVE, Kind.UUID, Kind.BYTES}
_FEW: Final = 8  # up to so many rows go along in the statement: one round trip where COPY takes four
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
# What the catalogue has of tables, by the transactions that wrote it. It is asked for whenever rows were read,
# so each name is a parameter of its own: then it need not be planned anew, which takes longer than to run it.
_STAMP: Final = """
select c.oid::bigint, c.relkind::text,
       array(select (a.attnum, a.xmin, (select t.xmin from pg_type t where t.oid = a.atttypid))::text
               from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum),
       array(select (i.indexrelid, i.xmin)::text from pg_index i where i.indrelid = c.oid order by i.indexrelid),
       array(select (k.oid, k.xmin)::text from pg_constraint k where k.conrelid = c.oid order by k.oid)
  from pg_class c
 where c.oid in ({})
 order by c.oid
"""
_TABLES: Final = """
select n.nspname, c.relname
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
   and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and c.relname not in ('tieline_held', 'tieline_leg')
   and has_table_privilege(c.oid, 'select')
 order by 1, 2
"""


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
        return problem(error, self._where)

    def leaves_open(self, error: BaseException) -> bool:
        state = getattr(error, "sqlstate", None)
        return state is None or state[:3] in {"57P", "080"}

    def describe(self, session: PostgresqlSession, name: Name) -> Relation | None:
        ((oid, kind),) = session.rows(
            "select c.oid::bigint, c.relkind::text"
            "  from (select to_regclass($1)::oid as oid) found left join pg_class c using (oid)",
            [_dotted(name)],
        )
        if oid is None or kind not in {"r", "p", "v", "m", "f"}:
            return None
        columns = {row[0]: as_column(row[0], quote(row[0]), *row[1:]) for row in session.rows(_DESCRIBE, [oid])}
        primary: tuple[str, ...] = ()
        unique = set()
        for is_primary, names in session.rows(_UNIQUE, [oid]):
            if None not in names:
                unique.add(frozenset(names))
                primary = tuple(names) if is_primary else primary
        deferred = session.rows(_DEFERRED, [oid])[0][0]
        return Relation(name, _dotted(name), columns, primary, frozenset(unique), kind in {"v", "m", "f"}, deferred)

    def stamp(self, session: PostgresqlSession, names: Sequence[Name]) -> Hashable:
        asked = ", ".join(f"to_regclass(${number})::oid" for number in range(1, len(names) + 1))
        rows = session.rows(_STAMP.format(asked), list(map(_dotted, names)))
        return tuple((oid, kind, *map(tuple, parts)) for oid, kind, *parts in rows)

    def tables(self, session: PostgresqlSession) -> list[Name]:
        return [(schema, table) for schema, table in session.rows(_TABLES)]

    def mark(self, number: int, column: Column) -> str:
        return f"${number}::{column.cast}"

    def among(self, columns: Sequence[Column], values: Sequence[Sequence[Any]], first: int) -> tuple[str, list[Any]]:
        # Not `= any(array)`: without statistics that may compare every row with every value.
        arrays = [_array(of_column) for of_column in zip(*values, strict=True)]
        marks = ", ".join(f"${n}::{_sought(column)}[]" for n, column in enumerate(columns, first))
        shown = ", ".join(map(_seen, columns))
        return f"({shown}) in (select * from unnest({marks}))", arrays

    def wanted(self, columns: Sequence[Column], values: Sequence[Sequence[Any]]) -> tuple[str, str, list[Any]]:
        arrays = [_array(of_column) for of_column in zip(*values, strict=True)]
        marks = ", ".join(f"${n}::{_sought(column)}[]" for n, column in enumerate(columns, 1))
        names = ", ".join(f"tieline_{n}" for n in range(len(columns)))
        join = " and ".join(f"tieline_t.{_seen(column)} = tieline_{n}" for n, column in enumerate(columns))
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
            _array(values),
        ]

    def identity(self, text: str, column: Column) -> Any:
        return identity(text, column)

    def records(self, columns: Sequence[Column]) -> Callable[[list[Row]], list[Record]]:
        names = tuple(column.name for column in columns)
        return lambda rows: list(map(dict, map(zip, repeat(names), rows)))

    def fit(self, column: Column) -> Fit | None:
        return fit(column)

    def fit_all(self, column: Column, values: Sequence[Any]) -> Sequence[Any] | None:
        return fit_all(column, values)

    def savepoint(self, session: PostgresqlSession) -> None:
        session.run("savepoint tieline")

    def release(self, session: PostgresqlSession, *, check: bool) -> None:
        if check:
            session.run("set constraints all immediate")
            session.run("set constraints all deferred")
        session.run("release savepoint tieline")

    def back(self, session: PostgresqlSession) -> None:
        session.run("rollback to savepoint tieline")
        session.run("release savepoint tieline")
        session.forget_loads()

    def merge(
        self,
        session: PostgresqlSession,
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> None:
        source, parameters = self._source(session, relation, columns, rows)
        self._merge_from(session, source, parameters, relation, key, columns)

    def update(
        self,
        session: PostgresqlSession,
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> None:
        source, parameters = self._source(session, relation, columns, rows)
        self._update_from(session, source, parameters, relation, key, columns)

    def insert(
        self,
        session: PostgresqlSession,
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> list[Row]:
        _refuse_nested(rows)
        given = f"({listed(columns)}) values {_values(columns, 1)}"
        sql = f"insert into {relation.sql} {given if columns else 'default values'} "
        found: list[Row] = session.many(f"{sql} returning {listed(key)}", rows)
        return found

    def replace(
        self,
        session: PostgresqlSession,
        child: ChildShape,
        parents: Sequence[Sequence[Any]],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> None:
        gone = f"delete from {child.relation.sql} o where"
        if not (rows and child.key):
            belongs, parameters = self.among(child.parent, parents, 1)
            session.run(f"{gone} {belongs}", parameters)
        if not rows:
            return
        source, values = self._source(session, child.relation, columns, rows)
        if child.key:
            if surplus := self._surplus(session, child, parents, source, values):
                self.delete(session, child.relation, child.key, surplus)
            self._merge_from(session, source, values, child.relation, child.key, columns)
        else:
            names = listed(columns)
            session.run(f"insert into {child.relation.sql} ({names}) select {names} from {source}", values)

    @staticmethod
    def _surplus(
        session: PostgresqlSession,
        child: ChildShape,
        parents: Sequence[Sequence[Any]],
        source: str,
        values: list[Any],
    ) -> list[Row]:
        """The keys of lines that are there and not in the source."""
        arrays = [_array(of_column) for of_column in zip(*parents, strict=True)]
        marks = ", ".join(f"${n}::{_sought(c)}[]" for n, c in enumerate(child.parent, len(values) + 1))
        asked = ", ".join(f"asked_{n}" for n in range(len(arrays)))
        belongs = " and ".join(f"{_seen(c)} = asked_{n}" for n, c in enumerate(child.parent))
        keys = listed(child.key)
        # OFFSET 0: one look into the index for each parent, as in `probe`.
        lines = f"select {keys} from {child.relation.sql} where {belongs} offset 0"
        return session.rows(
            f"select {keys} from unnest({marks}) as asked({asked}) cross join lateral ({lines}) o "
            f"where not exists (select from {source} where {_same(child.key)})",
            [*values, *arrays],
        )

    def delete(
        self,
        session: PostgresqlSession,
        relation: Relation,
        columns: Sequence[Column],
        values: Sequence[Sequence[Any]],
    ) -> None:
        belongs, parameters = self.among(columns, values, 1)
        session.run(f"delete from {relation.sql} where {belongs}", parameters)

    def own(self, table: str) -> Name:
        return (self._schema, table)

    def create(self, session: PostgresqlSession, name: Name, columns: Mapping[str, Kind], key: Sequence[str]) -> None:
        given = ", ".join(_defined(columns))
        keys = ", ".join(map(quote, key))
        statements = [
            f"create table if not exists {_dotted(name)} ({given}, primary key ({keys})) with (fillfactor = 60)"
        ]
        session.run(f"select pg_advisory_xact_lock({_LOCK})")
        if session.rows("select to_regnamespace($1) is null", [quote(self._schema)])[0][0]:
            statements.insert(0, f"create schema {quote(self._schema)}")
        try:
            for statement in statements:
                session.run(statement)
        except errors.InsufficientPrivilege as error:
            asked = "; ".join([*statements, f"grant usage on schema {quote(self._schema)}, and all on the table"])
            raise AccessRefused(f"{self._where}: {error}; ask its owner: {asked}; or set held = false") from error

    def widen(self, session: PostgresqlSession, name: Name, columns: Mapping[str, Kind]) -> None:
        added = ", ".join(f"add column if not exists {column}" for column in _defined(columns))
        statement = f"alter table {_dotted(name)} {added}"
        try:
            session.run(statement)
        except errors.InsufficientPrivilege as error:
            raise AccessRefused(f"{self._where}: {error}; ask its owner: {statement}") from error

    def _source(
        self, session: PostgresqlSession, relation: Relation, columns: Sequence[Column], rows: list[Row]
    ) -> tuple[str, list[Any]]:
        """A FROM item `n` with these rows, and its parameters, numbered from 1."""
        if len(rows) > _FEW:
            return self._loaded(session, relation, columns, rows)
        _refuse_nested(rows)
        names = listed(columns)
        values = [value for row in rows for value in row]
        return f"(values {_values(columns, len(rows))}) n({names})", values

    @staticmethod
    def _loaded(
        session: PostgresqlSession, relation: Relation, columns: Sequence[Column], rows: list[Row]
    ) -> tuple[str, list[Any]]:
        """The rows by COPY; what is one object in all of them is sent once."""
        shared = {n for n, value in enumerate(rows[0]) if _is_shared(value, n, rows)}
        if not shared or len(shared) == len(columns):
            return f"{session.load(relation, columns, rows)} n", []
        at = [n for n in range(len(columns)) if n not in shared]
        varying = [columns[n] for n in at]
        chosen = itemgetter(*at) if len(at) > 1 else lambda row: (row[at[0]],)
        table = session.load(relation, varying, list(map(chosen, rows)))
        values = [rows[0][n] for n in sorted(shared)]
        fixed = ", ".join(
            f"${number}::text::{columns[n].cast} as {columns[n].sql}" for number, n in enumerate(sorted(shared), 1)
        )
        return f"(select {listed(varying)}, {fixed} from {table}) n", values

    def _merge_from(
        self,
        session: PostgresqlSession,
        source: str,
        parameters: list[Any],
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
    ) -> None:
        names = listed(columns)
        keys = {column.name for column in key}
        others = [column for column in columns if column.name not in keys]
        settings = ", ".join(f"{c.sql} = excluded.{c.sql}" for c in others)
        action = f"update set {settings} where {_differ(others, 'excluded')}" if others else "nothing"
        new = ""
        if not relation.required <= {column.name for column in columns}:
            # NOT NULL is checked before the conflict is: a row that exists is updated first.
            self._update_from(session, source, parameters, relation, key, columns)
            new = f" where not exists (select from {relation.sql} o where {_same(key)})"
        session.run(
            f"insert into {relation.sql} as o ({names}) select {names} from {source}{new} "
            f"on conflict ({listed(key)}) do {action}",
            parameters,
        )

    @staticmethod
    def _update_from(
        session: PostgresqlSession,
        source: str,
        parameters: list[Any],
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
    ) -> None:
        keys = {column.name for column in key}
        others = [column for column in columns if column.name not in keys]
        if others:
            settings = ", ".join(f"{c.sql} = n.{c.sql}" for c in others)
            session.run(
                f"update {relation.sql} o set {settings} from {source} where {_same(key)} and {_differ(others, 'n')}",
                parameters,
            )


def _array(values: Sequence[Any]) -> Any:
    """Values for an array: plain texts as its literal, which is much faster than the driver's own way."""
    if set(map(type, values)) == {str}:
        inside = '","'.join(values)
        if "\\" not in inside and inside.count('"') == 2 * (len(values) - 1):
            return f'{{"{inside}"}}'
    return list(values)


def _sought(column: Column) -> str:
    """The type that ids are sought by: a word that is no value of an enum is nobody's id, and no error."""
    return "text" if column.kind is Kind.OTHER else column.cast


def _seen(column: Column) -> str:
    """A column as it is compared with what is sought."""
    return f"{column.sql}::text" if column.kind is Kind.OTHER else column.sql


def quote(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def _defined(columns: Mapping[str, Kind]) -> list[str]:
    """Columns of our own tables, as DDL defines them."""
    return [f"{quote(column)} {_TYPES[kind]}" for column, kind in columns.items()]


def _dotted(name: Name) -> str:
    return ".".join(map(quote, name))


def _same(key: Sequence[Column]) -> str:
    return " and ".join(f"o.{column.sql} = n.{column.sql}" for column in key)


def _differ(columns: Sequence[Column], new: str) -> str:
    """Whether a row is not yet as it should be: one that is need not be written, nor its triggers run."""
    there, given = (", ".join(_spelled(f"{row}.{c.sql}", c) for c in columns) for row in ("o", new))
    return f"({there}) is distinct from ({given})"


def _spelled(value: str, column: Column) -> str:
    # Two values that a type or a collation calls equal, such as 1.0 and 1.00, need not be the same.
    if column.kind in _EQUAL_IS_SAME or column.scale is not None:
        return value
    return f'{value}::text collate "C"'


def _values(columns: Sequence[Column], rows: int) -> str:
    # By way of text, so that a value is taken or refused exactly as COPY would.
    numbers = count(1)
    return ", ".join(
        f"({', '.join(f'${next(numbers)}::text::{column.cast}' for column in columns)})" for _ in range(rows)
    )


def _is_shared(value: Any, place: int, rows: list[Row]) -> bool:
    # By identity: 1.0 and 1.00, or 1 and True, are equal and not the same to a database.
    return type(value) in _PLAIN and rows[-1][place] is value and all(row[place] is value for row in rows)


def _refuse_nested(rows: list[Row]) -> None:
    if any(type(value) in {list, tuple, dict} for row in rows for value in row):
        raise psycopg.DataError(NESTED)
