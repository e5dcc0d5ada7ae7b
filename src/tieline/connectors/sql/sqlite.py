"""SQLite, through the standard library's driver."""

import sqlite3
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote as quote_path

from tieline.connector import Record
from tieline.connectors.sql.dialect import Fit, Refusal, Row
from tieline.connectors.sql.names import Name
from tieline.connectors.sql.shape import ChildShape, Column, Kind, Relation, listed
from tieline.connectors.sql.sqlite_values import READ, fit, fit_all, identity, kind_of
from tieline.errors import (
    AccessRefused,
    ConfigurationError,
    Mistake,
    RetryLater,
    TielineError,
    Unavailable,
)

_TYPES: Final = {Kind.TEXT: "text", Kind.INTEGER: "integer not null default 0", Kind.BYTES: "blob"}


class SqliteSession:
    """One connection, used by one thread; transactions are begun and ended by hand."""

    def __init__(self, path: Path, timeout: float, *, writing: bool, foreign_keys: bool) -> None:
        address = f"file:{quote_path(str(path))}?mode=rw"
        self._connection = sqlite3.connect(
            address, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        self._connection.execute(f"pragma foreign_keys = {'on' if foreign_keys else 'off'}")
        if not writing:
            self._connection.execute("pragma query_only = on")

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "decode to UTF-8" not in str(error):
                raise
        return self._rows_with_broken_text(sql, parameters)

    def _rows_with_broken_text(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        # One row in an old encoding must not stop its table: its bytes come as lone surrogates.
        self._connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        try:
            return self._connection.execute(sql, parameters).fetchall()
        finally:
            self._connection.text_factory = str

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.execute(sql, parameters)

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each row of values."""
        self._connection.executemany(sql, rows)

    def begin(self, *, writing: bool) -> None:
        self.rollback()
        self._connection.execute("begin immediate" if writing else "begin")

    def commit(self) -> None:
        self._connection.execute("commit")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("rollback")

    def close(self) -> None:
        self._connection.close()


class Sqlite:
    """SQLite's ways."""

    errors = (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeError)
    locks_rows = False

    def __init__(self, path: Path, timeout: float, where: str, *, foreign_keys: bool = True) -> None:
        self._path = path
        self._timeout = timeout
        self._where = where
        self._foreign_keys = foreign_keys

    def connect(self, *, writing: bool) -> SqliteSession:
        return SqliteSession(self._path, self._timeout, writing=writing, foreign_keys=self._foreign_keys)

    def problem(self, error: BaseException) -> TielineError:
        text = str(error)
        code = getattr(error, "sqlite_errorcode", None)
        primary = 0 if code is None else code & 0xFF
        if primary == sqlite3.SQLITE_CANTOPEN and not self._path.exists():
            return Unavailable(f"{self._where}: there is no file {self._path}; correct the url, or put it back")
        if primary == sqlite3.SQLITE_FULL:
            return Unavailable(f"{self._where}: the disk of {self._path} is full; make room")
        if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            held = f"{self._path} is locked by another program for longer than {self._timeout:g} s"
            return Unavailable(f"{self._where}: {held}")
        if primary in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOMEM}:
            return Unavailable(f"{self._where}: {self._path}: {text}")
        if primary in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
            return AccessRefused(f"{self._where}: {self._path} may not be written: {text}")
        if primary == sqlite3.SQLITE_NOTADB:
            return ConfigurationError(Mistake(self._where, f"{self._path} is no SQLite database", "correct the url"))
        if primary == sqlite3.SQLITE_ERROR and any(part in text for part in ("no such", "syntax error")):
            return ConfigurationError(Mistake(self._where, text, "correct the adapter, or restore the table"))
        if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            return RetryLater(f"{text}: a row that it refers to, or that refers to it, stands in the way")
        if isinstance(error, sqlite3.IntegrityError) and code != sqlite3.SQLITE_CONSTRAINT_CHECK:
            reason, _, columns = text.partition(": ")
            field = ", ".join(column.rpartition(".")[2] for column in columns.split(", ")) or None
            return Refusal(reason, field=field)
        return Refusal(text)

    def leaves_open(self, error: BaseException) -> bool:
        return False

    def describe(self, session: SqliteSession, name: Name) -> Relation | None:
        if name[:-1] not in {(), ("main",)}:
            return None
        table = name[-1]
        known = session.rows("select type from sqlite_schema where name = ?1 and type in ('table', 'view')", [table])
        if not known:
            return None
        info = session.rows(
            'select name, type, "notnull", dflt_value, pk from pragma_table_xinfo(?1) where hidden <> 1',
            [table],
        )
        primary = tuple(column for column, *_, pk in sorted(info, key=lambda row: row[-1]) if pk)
        columns = {
            column: Column(
                column,
                quote(column),
                declared,
                kind_of(declared),
                nullable=not notnull and column not in primary,
                required=bool(notnull and default is None and not _numbers_itself(declared, column, primary)),
            )
            for column, declared, notnull, default, pk in info
        }
        unique = {frozenset(primary)} if primary else set()
        for index, partial_ in session.rows(
            'select name, partial from pragma_index_list(?1) where "unique"', [table]
        ):
            found = session.rows("select name from pragma_index_info(?1)", [index])
            if not partial_ and all(column for (column,) in found):
                unique.add(frozenset(column for (column,) in found))
        return Relation(name, _dotted(name), columns, primary, frozenset(unique), view=known[0][0] == "view")

    def stamp(self, session: SqliteSession, names: Sequence[Name]) -> Hashable:
        return tuple(session.rows("pragma schema_version"))

    def tables(self, session: SqliteSession) -> list[Name]:
        own = ["tieline_held", "tieline_leg"]
        return session.rows(
            "select name from sqlite_schema where type in ('table', 'view') and name not in (?, ?) "
            "and substr(name, 1, 7) <> 'sqlite_' order by name",
            own,
        )

    def mark(self, number: int, column: Column) -> str:
        return f"?{number}"

    def among(self, columns: Sequence[Column], values: Sequence[Sequence[Any]], first: int) -> tuple[str, list[Any]]:
        flat = [value for row in values for value in row]
        if len(columns) == 1:
            return f"{columns[0].sql} in ({', '.join('?' * len(flat))})", flat
        row = f"({', '.join('?' * len(columns))})"
        return f"({listed(columns)}) in (values {', '.join([row] * len(values))})", flat

    def wanted(self, columns: Sequence[Column], values: Sequence[Sequence[Any]]) -> tuple[str, str, list[Any]]:
        given = [value for number, row in enumerate(values, 1) for value in (number, *row)]
        row = f"({', '.join('?' * (len(columns) + 1))})"
        named = ", ".join(f"column{n + 2} as tieline_{n}" for n in range(len(columns)))
        table = f"(select column1 as tieline_n, {named} from (values {', '.join([row] * len(values))}))"
        join = " and ".join(f"tieline_t.{column.sql} = tieline_{n}" for n, column in enumerate(columns))
        return table, join, given

    def probe(
        self,
        relation: Relation,
        chosen: str,
        fixed: Sequence[tuple[Column, Any]],
        column: Column,
        values: Sequence[Any],
    ) -> tuple[str, list[Any]]:
        same = " and ".join(f"{one.sql} = ?" for one, _ in fixed)
        sql = f"select {chosen} from {relation.sql} where {same} and {column.sql} in ({', '.join('?' * len(values))})"
        return sql, [*(value for _, value in fixed), *values]

    def identity(self, text: str, column: Column) -> Any:
        return identity(text, column)

    def records(self, columns: Sequence[Column]) -> Callable[[list[Row]], list[Record]]:
        names = tuple(column.name for column in columns)
        converted = [(column.name, READ[column.kind]) for column in columns if column.kind in READ]

        def make(rows: list[Row]) -> list[Record]:
            made = list(map(dict, map(zip, repeat(names), rows)))
            for name, convert in converted:
                for record in made:
                    value = record[name]
                    if value is not None:
                        record[name] = convert(value)
            return made

        return make

    def fit(self, column: Column) -> Fit | None:
        return fit(column)

    def fit_all(self, column: Column, values: Sequence[Any]) -> Sequence[Any] | None:
        return fit_all(column, values)

    def savepoint(self, session: SqliteSession) -> None:
        session.run("savepoint tieline")

    def release(self, session: SqliteSession, *, check: bool) -> None:
        session.run("release tieline")

    def back(self, session: SqliteSession) -> None:
        session.run("rollback to tieline")
        session.run("release tieline")

    def merge(
        self,
        session: SqliteSession,
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> None:
        names = {column.name for column in columns}
        if not relation.required <= names:
            # NOT NULL is checked before the conflict is: a row that exists is updated first.
            self.update(session, relation, key, columns, rows)
            same = " and ".join(f"{one.sql} = ?{_at(one, columns)}" for one in key)
            marks = ", ".join(f"?{n}" for n in range(1, len(columns) + 1))
            session.many(
                f"insert into {relation.sql} ({listed(columns)}) select {marks} "
                f"where not exists (select 1 from {relation.sql} where {same})",
                rows,
            )
            return
        keys = {column.name for column in key}
        settings = ", ".join(f"{c.sql} = excluded.{c.sql}" for c in columns if c.name not in keys)
        session.many(
            f"insert into {relation.sql} ({listed(columns)}) "
            f"values ({', '.join('?' * len(columns))}) on conflict ({listed(key)}) "
            f"do {f'update set {settings}' if settings else 'nothing'}",
            rows,
        )

    def update(
        self,
        session: SqliteSession,
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> None:
        keys = {column.name for column in key}
        settings = ", ".join(f"{c.sql} = ?{n}" for n, c in enumerate(columns, 1) if c.name not in keys)
        same = " and ".join(f"{one.sql} = ?{_at(one, columns)}" for one in key)
        if settings:
            session.many(f"update {relation.sql} set {settings} where {same}", rows)

    def insert(
        self,
        session: SqliteSession,
        relation: Relation,
        key: Sequence[Column],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> list[Row]:
        given = f"({listed(columns)}) values ({', '.join('?' * len(columns))})"
        sql = f"insert into {relation.sql} {given if columns else 'default values'} "
        return [session.rows(f"{sql} returning {listed(key)}", row)[0] for row in rows]

    def replace(
        self,
        session: SqliteSession,
        child: ChildShape,
        parents: Sequence[Sequence[Any]],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> None:
        for sql, values in _leftovers(child, parents, columns, rows):
            session.many(sql, values)
        if rows and child.key:
            self.merge(session, child.relation, child.key, columns, rows)
        elif rows:
            marks = ", ".join("?" * len(columns))
            names = listed(columns)
            session.many(f"insert into {child.relation.sql} ({names}) values ({marks})", rows)

    def delete(
        self, session: SqliteSession, relation: Relation, columns: Sequence[Column], values: Sequence[Sequence[Any]]
    ) -> None:
        same = " and ".join(f"{column.sql} = ?" for column in columns)
        session.many(f"delete from {relation.sql} where {same}", values)

    def own(self, table: str) -> Name:
        return ("main", table)

    def create(self, session: SqliteSession, name: Name, columns: Mapping[str, Kind], key: Sequence[str]) -> None:
        given = ", ".join(_defined(columns))
        keys = ", ".join(map(quote, key))
        session.run(f"create table if not exists {_dotted(name)} ({given}, primary key ({keys})) without rowid")

    def widen(self, session: SqliteSession, name: Name, columns: Mapping[str, Kind]) -> None:
        # No IF NOT EXISTS here, and none needed: a transaction that writes is refused where what it has read is old.
        for column in _defined(columns):
            session.run(f"alter table {_dotted(name)} add column {column}")


def quote(name: str) -> str:
    """An identifier in backticks: what is in double quotes and unknown, SQLite takes for a text."""
    return "`" + name.replace("`", "``") + "`"


def _defined(columns: Mapping[str, Kind]) -> list[str]:
    """Columns of our own tables, as DDL defines them."""
    return [f"{quote(column)} {_TYPES[kind]}" for column, kind in columns.items()]


def _dotted(name: Name) -> str:
    return ".".join(map(quote, name))


def _leftovers(
    child: ChildShape, parents: Sequence[Sequence[Any]], columns: Sequence[Column], rows: list[Row]
) -> Iterator[tuple[str, list[list[Any]]]]:
    """Statements that delete the rows of these parents that are not given, one for each number of rows."""
    same = " and ".join(f"{column.sql} = ?" for column in child.parent)
    gone = f"delete from {child.relation.sql} where {same}"
    if not child.rest:
        # every row of a parent is the same row, or rows have no key: what is not given goes
        kept = {tuple(row[: len(child.parent)]) for row in rows} if child.key else set()
        yield gone, [list(parent) for parent in parents if tuple(parent) not in kept]
        return
    by_parent: dict[Row, list[Any]] = {tuple(parent): [] for parent in parents}
    at = [columns.index(column) for column in child.rest] if rows else []
    for row in rows:
        by_parent[row[: len(child.parent)]].extend(row[n] for n in at)
    by_count: dict[int, list[list[Any]]] = {}
    for parent, values in by_parent.items():
        by_count.setdefault(len(values) // len(child.rest), []).append([*parent, *values])
    for count, given in by_count.items():
        if not count:
            yield gone, given
            continue
        one = "?" if len(child.rest) == 1 else f"({', '.join('?' * len(child.rest))})"
        marks = ", ".join([one] * count)
        rest = listed(child.rest)
        others = f"{rest} not in ({marks})" if len(child.rest) == 1 else f"({rest}) not in (values {marks})"
        yield f"{gone} and {others}", given


def _at(column: Column, columns: Sequence[Column]) -> int:
    return [one.name for one in columns].index(column.name) + 1


def _numbers_itself(declared: str, column: str, primary: tuple[str, ...]) -> bool:
    return primary == (column,) and declared.upper() == "INTEGER"
