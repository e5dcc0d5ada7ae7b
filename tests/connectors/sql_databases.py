"""A database of one's own, SQLite or PostgreSQL, for tests that make their own tables."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.connectors.sql_company import postgresql_schema

from tieline.connector import Change, Checkpoint, Connector, Page, Record, Result
from tieline.connectors.sql import Sql, Table
from tieline.settings import SystemSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Database:
    """`run` runs statements outside the connector; `prefix` stands before every table's name."""

    kind: str
    system: SystemSettings
    run: Callable[[str], list[tuple[Any, ...]]]
    prefix: str = ""

    def settings(self, **changed: Any) -> SystemSettings:
        """The system's settings, some of them changed."""
        known = {name: getattr(self.system, name) for name in ("name", "url", "options", "folder", "timeout", "auth")}
        return SystemSettings(**(known | changed))

    def using(self, table: Table, work: Callable[[Connector], Coroutine[Any, Any, T]], **changed: Any) -> T:
        """What `work` gives with a connector whose resource `rows` is the table."""

        async def inside() -> T:
            connector = Sql(rows=table).open(self.settings(**changed))
            try:
                return await work(connector)
            finally:
                await connector.close()

        return asyncio.run(inside())

    def read(self, table: Table, since: Checkpoint = None, **scope: Any) -> list[Page]:
        """All pages of a reading."""

        async def work(connector: Connector) -> list[Page]:
            return [page async for page in connector.read("rows", since, scope or None)]

        return self.using(table, work)

    def ids(self, table: Table, since: Checkpoint = None, **scope: Any) -> list[str]:
        """The ids of a reading."""
        return [id for page in self.read(table, since, **scope) for id in page.ids]

    def records(self, table: Table) -> list[Record]:
        """The records of a reading from the start."""
        return [record for page in self.read(table) for record in page.records]

    def keys(self, table: Table) -> list[str]:
        """All keys."""

        async def work(connector: Connector) -> list[str]:
            return [id async for ids in connector.keys("rows") for id in ids]

        return self.using(table, work)

    def lookup(self, table: Table, ids: list[str], by: str | None = None) -> list[Record | None]:
        """A look-up."""
        return self.using(table, lambda connector: connector.lookup("rows", ids, by))

    def write(self, table: Table, *changes: Change, **changed: Any) -> list[Result]:
        """Changes, written outside a transaction."""
        return self.using(table, lambda connector: connector.write("rows", changes), **changed)


def put(record: Record, target_id: str | None = None) -> Change:
    """A change to this record."""
    return Change("key", b"m" * 16, record, target_id)


def drop(id: str) -> Change:
    """A delete of this row."""
    return Change(id, b"m" * 16, None, id)


@contextmanager
def sqlite_database(folder: Path) -> Iterator[Database]:
    """An empty SQLite file."""
    with closing(sqlite3.connect(folder / "test.db", isolation_level=None)) as connection:
        connection.execute("pragma synchronous = off")
        connection.execute("pragma journal_mode = wal")

        def run(statements: str) -> list[tuple[Any, ...]]:
            *first, last = (one for one in statements.split(";\n") if one.strip())
            for statement in first:
                connection.execute(statement)
            return connection.execute(last).fetchall()

        yield Database("sqlite", SystemSettings("erp", "sqlite:///test.db", folder=folder, timeout=5.0), run)


@contextmanager
def postgresql_database_of_its_own(url: str) -> Iterator[Database]:
    """An empty schema in PostgreSQL."""
    with postgresql_schema(url) as (connection, schema):

        def run(statements: str) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statements)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

        system = SystemSettings("erp", url, options={"held_schema": schema}, timeout=5.0)
        yield Database("postgresql", system, run, f"{schema}.")
