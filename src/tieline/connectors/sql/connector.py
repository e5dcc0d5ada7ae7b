"""The SQL connector: declared tables over one database, with a thread to read and a thread to write."""

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final

from tieline.connector import (
    Capabilities,
    Change,
    Checkpoint,
    Discovered,
    HeldRow,
    LegState,
    Page,
    Record,
    Result,
)
from tieline.connectors.sql import reading
from tieline.connectors.sql.address import Address, parse_address
from tieline.connectors.sql.dialect import AnyDialect, Session
from tieline.connectors.sql.held import Keeping
from tieline.connectors.sql.lane import CommitLost, Lane, Turn
from tieline.connectors.sql.names import Name, join_id, parse_name, spell_name
from tieline.connectors.sql.postgresql import Postgresql
from tieline.connectors.sql.shape import Relation, Shape, bind
from tieline.connectors.sql.sqlite import Sqlite
from tieline.connectors.sql.tables import Table, as_columns, mistakes_of
from tieline.connectors.sql.writing import Writer
from tieline.errors import ConfigurationError, InDoubt, Mistake, Unavailable
from tieline.settings import Secret, SystemSettings, without_password
from tieline.throttle import Throttle

_LOOKED_UP_AT_ONCE: Final = 5_000
_URLS: Final = 'write "sqlite:///file.db" or "postgresql://host/database"'


class Sql:
    """Tables by resource name, in the database behind the system's url."""

    def __init__(self, **tables: Table) -> None:
        self.resources: Mapping[str, Table] = tables

    def open(self, system: SystemSettings, throttle: Throttle | None = None) -> "SqlConnector":
        """A connector for one database; it connects at first use.

        Raises:
            ConfigurationError: for an address it does not know, and for tables with no key or with
                names that are none; all of them at once.
        """
        where = f"systems.{system.name}"
        mistakes = [
            mistake
            for resource, table in self.resources.items()
            for mistake in mistakes_of(f"{where}.{resource}", table)
        ]
        try:
            dialect = _dialect(system, where)
        except ConfigurationError as error:
            mistakes.extend(error.mistakes)
        if mistakes:
            raise ConfigurationError(*mistakes)
        return SqlConnector(system, self.resources, dialect)

    def identify(self, resource: str, record: Record) -> str:
        """The record's key as text; the parts of a key of several columns are separated by `/`."""
        return join_id([record[column] for column in as_columns(self.resources[resource].key)])


def _dialect(system: SystemSettings, where: str) -> AnyDialect:
    try:
        url = parse_address(system.url)
    except ValueError as error:
        raise ConfigurationError(
            Mistake(where, f"{without_password(system.url)!r} is no database's address", _URLS)
        ) from error
    name = url.kind
    if name == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ConfigurationError(Mistake(where, "a database in memory has one user only", _URLS))
        foreign_keys = bool(system.options.get("foreign_keys", True))
        return Sqlite(system.folder / url.database, system.timeout, where, foreign_keys=foreign_keys)
    if name in {"postgresql", "postgres"}:
        schema = str(system.options.get("held_schema", "tieline"))
        return Postgresql(_postgresql_target(url, system), system.timeout, where, schema)
    raise ConfigurationError(Mistake(where, f"{name} is not a database that this connector knows", _URLS))


def _postgresql_target(url: Address, system: SystemSettings) -> dict[str, Any]:
    target: dict[str, Any] = {
        "host": url.host,
        "port": url.port,
        "dbname": url.database,
        "user": _plain(system.auth.get("user", url.user)),
        "password": _plain(system.auth.get("password", url.password)),
        **url.settings,
    }
    return {name: value for name, value in target.items() if value is not None}


def _plain(value: Any) -> Any:
    return value.reveal() if isinstance(value, Secret) else value


class SqlConnector:
    """A connection to one database. Writers take turns; reading goes on beside them."""

    def __init__(self, system: SystemSettings, tables: Mapping[str, Table], dialect: AnyDialect) -> None:
        self._where = f"systems.{system.name}"
        self._tables = tables
        self._dialect = dialect
        self._held = bool(system.options.get("held", True))
        self._keeping = Keeping(dialect, system.held_as)
        self._reading = Lane(f"{system.name}-reads", dialect, writing=False)
        self._writing = Lane(f"{system.name}-writes", dialect, writing=True)
        self._shapes: dict[str, tuple[Hashable, Shape]] = {}  # each with the stamp of its tables
        self._looked: dict[str, float] = {}  # when the catalogue was last asked for that stamp

    def capabilities(self, resource: str) -> Capabilities:
        return self._tables[resource].capabilities(self._held)

    async def check(self) -> None:
        def work(session: Session) -> None:
            session.rows("select 1")
            mistakes = [mistake for resource in self._tables for mistake in self._bind(session, resource)[1]]
            if mistakes:
                raise ConfigurationError(*mistakes)

        await self._reading.run(work, repeatable=True)

    async def discover(self) -> list[Discovered]:
        def work(session: Session) -> list[Discovered]:
            found = [self._dialect.describe(session, name) for name in self._dialect.tables(session)]
            return [_discovered(relation) for relation in found if relation is not None]

        return await self._reading.run(work, repeatable=True)

    async def read(
        self, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        seconds = float((scope or {}).get("overlap", 0.0))
        shape_of = partial(self._shape, resource=resource)
        course = reading.Reading(self._dialect, shape_of, since, seconds)
        while not course.over:
            page = await self._reading.run(course.following, repeatable=True)
            if page is not None:
                yield page

    async def keys(self, resource: str) -> AsyncIterator[list[str]]:
        shape = await self._reading.run(partial(self._shape, resource=resource), repeatable=True)
        after: list[Any] | None = None
        more = True
        while more:
            work = partial(reading.keys, dialect=self._dialect, shape=shape, after=after)
            ids, after = await self._reading.run(work, repeatable=True)
            more = len(ids) == reading.KEYS_AT_ONCE
            if ids:
                yield ids

    def listen(self, resource: str) -> AsyncIterator[Page]:
        raise self._mistake(resource, "a table does not push", 'use a trigger such as "every 5m"')

    async def lookup(self, resource: str, ids: Sequence[str], by: str | None = None) -> list[Record | None]:
        def work(session: Session, part: Sequence[str]) -> list[Record | None]:
            shape = self._shape(session, resource)
            if by is None:
                return reading.lookup(session, self._dialect, shape, part, shape.key)
            if by not in shape.relation.columns:
                raise self._mistake(resource, f"{shape.table.name} has no column {by!r}", "correct match=")
            return reading.lookup(session, self._dialect, shape, part, shape.relation.pick((by,)))

        found: list[Record | None] = []
        for start in range(0, len(ids), _LOOKED_UP_AT_ONCE):
            part = ids[start : start + _LOOKED_UP_AT_ONCE]
            found += await self._reading.run(partial(work, part=part), repeatable=True)
        return found

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        try:
            async with self._writing.transaction() as turn:
                results = await turn.run(partial(self._write, resource=resource, changes=changes))
        except CommitLost as error:
            return [Result(change.target_id, error=InDoubt(str(error))) for change in changes]
        except Unavailable as error:
            return [Result(change.target_id, error=error) for change in changes]
        return results

    async def call(self, resource: str, action: str, target_ids: Sequence[str]) -> list[Result]:
        raise self._mistake(resource, f"a table has no action {action!r}", "leave then= out of the sink")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["SqlTransaction"]:
        if not self._held:
            raise ConfigurationError(Mistake(self._where, "it keeps no held table", "set held = true"))
        try:
            async with self._writing.transaction() as turn:
                yield SqlTransaction(turn, self._keeping, self._write)
        except BaseException:
            self._keeping.forget()
            raise

    async def close(self) -> None:
        await self._reading.close()
        await self._writing.close()

    def _mistake(self, resource: str, what: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(Mistake(f"{self._where}.{resource}", what, remedy))

    def _write(self, session: Session, resource: str, changes: Sequence[Change]) -> list[Result]:
        def refresh() -> Shape:
            return self._shape(session, resource, fresh=True)

        try:
            return Writer(session, self._dialect, self._shape(session, resource), refresh, changes).write()
        except ConfigurationError:
            self._shapes.pop(resource, None)  # the table is not what it was: look again next time
            raise

    def _shape(self, session: Session, resource: str, *, fresh: bool = False, within: float = inf) -> Shape:
        """The shape of a table: as it was last found `within` so many seconds, or `fresh` as it is now."""
        known = self._shapes.get(resource)
        if known is not None and not fresh and monotonic() - self._looked[resource] < within:
            return known[1]
        self._looked[resource] = monotonic()
        stamp = self._dialect.stamp(session, list(self._names(resource).values()))
        if known is not None and known[0] == stamp:
            return known[1]
        shape, mistakes = self._bind(session, resource)
        if shape is None:
            raise ConfigurationError(*mistakes)
        self._shapes[resource] = stamp, shape
        return shape

    def _names(self, resource: str) -> dict[str, Name]:
        """The tables of a resource, by how they are declared."""
        table = self._tables[resource]
        return {name: parse_name(name) for name in (table.name, *(c.table for c in table.children.values()))}

    def _bind(self, session: Session, resource: str) -> tuple[Shape | None, list[Mistake]]:
        table = self._tables[resource]
        relations: dict[str, Relation | None] = {
            declared: self._dialect.describe(session, name) for declared, name in self._names(resource).items()
        }
        known = [_shown(name) for name in self._dialect.tables(session)] if None in relations.values() else []
        return bind(f"{self._where}.{resource}", resource, table, relations, known)


def _shown(name: Name) -> str:
    return spell_name(name[1:] if name[0] == "public" and len(name) == 2 else name)


def _discovered(relation: Relation) -> Discovered:
    fields = {column.name: column.type for column in relation.columns.values()}
    return Discovered(_shown(relation.name), relation.primary, fields, "view" if relation.view else "table")


class SqlTransaction:
    """Rows, held rows and fence rows in one transaction of the target's own database."""

    def __init__(
        self, turn: Turn, keeping: Keeping, write: Callable[[Session, str, Sequence[Change]], list[Result]]
    ) -> None:
        self._turn = turn
        self._keeping = keeping
        self._write = write
        self._tokens: dict[str, Mapping[int, int]] = {}

    async def fence(self, leg: str, partitions: Mapping[int, int]) -> dict[int, LegState]:
        states = await self._turn.run(partial(self._keeping.fence, leg=leg, tokens=partitions))
        self._tokens[leg] = {**self._tokens.get(leg, {}), **partitions}
        return states

    async def held(self, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        return await self._turn.run(partial(self._keeping.load, entity=entity, keys=keys), writing=False)

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        return await self._turn.run(lambda session: self._write(session, resource, changes))

    async def keep(self, entity: str, rows: Sequence[HeldRow]) -> None:
        self._turn.later(partial(self._keeping.keep, entity=entity, rows=rows))

    async def move(self, leg: str, states: Mapping[int, LegState]) -> None:
        tokens = self._tokens.get(leg, {})
        self._turn.later(partial(self._keeping.move, leg=leg, states=states, tokens=tokens))
