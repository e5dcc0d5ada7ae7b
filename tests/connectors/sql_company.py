"""Orders with lines in SQLite and in PostgreSQL, as the connector suite and its own tests reach them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from tieline.connector import Record
from tieline.connectors.sql import Child, Sql, Table
from tieline.settings import SystemSettings
from tieline.testing.connector import Counterpart, Names

PLAIN = Names()
HOSTILE = Names(
    id='sel"ect',
    text="%s $1 ?1 :x",
    amount="naïve 漢字",
    lines="lines; drop table x --",
    line="order",
    price="pri.ce\\'",
)
NOBODY = "postgresql://postgres@127.0.0.1:1/nobody"


def quoted(name: str) -> str:
    """An identifier, as a test writes it for itself."""
    return '"' + name.replace('"', '""') + '"'


def ddl(names: Names, orders: str, lines: str, amount: str, moment: str, now: str) -> str:
    """Two tables; the cursor is set by whoever writes."""
    id, text, total, line, price = map(quoted, (names.id, names.text, names.amount, names.line, names.price))
    return f"""
        create table {orders} (
            {id} text not null primary key, {text} text not null, {total} {amount},
            updated_at {moment} default {now}
        );
        create table {lines} (
            "of order" text not null, {line} integer not null, {price} {amount}, comment text default 'none',
            primary key ("of order", {line})
        );
        create index on_updated on {orders} (updated_at);
    """


class Orders:
    """Puts, drops and shows orders with a driver of its own; `mark` is its placeholder."""

    def __init__(self, connection: Any, names: Names, orders: str, lines: str, mark: str) -> None:
        self.connection = connection
        self.names = names
        self.orders = orders
        self.lines = lines
        self._mark = mark

    def run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a statement in which ~ stands for a value."""
        text = statement.replace("%", "%%") if self._mark == "%s" else statement
        cursor = self.connection.execute(text.replace("~", self._mark), values)
        return cursor.fetchall() if cursor.description else []

    def put(self, record: Record) -> None:
        """Make an order what the record says, as of now."""
        self.put_late(record, 0.0)

    def put_late(self, record: Record, seconds: float) -> None:
        """The same, as of so many seconds ago."""
        names = self.names
        moment: Any = datetime.now(UTC) - timedelta(seconds=seconds)
        if self._mark == "?":
            moment = moment.isoformat(" ")
        id = record[names.id]
        self.drop(id)
        given = (id, record[names.text], str(record[names.amount]), moment)
        self.run(f"insert into {self.orders} values (~, ~, ~, ~)", given)
        for line in record.get(names.lines, ()):
            row = (id, line[names.line], str(line[names.price]), "mine")
            self.run(f"insert into {self.lines} values (~, ~, ~, ~)", row)

    def drop(self, id: str) -> None:
        """Delete an order with its lines."""
        self.run(f'delete from {self.lines} where "of order" = ~', (id,))
        self.run(f"delete from {self.orders} where {quoted(self.names.id)} = ~", (id,))

    def rows(self) -> dict[str, Record]:
        """All orders by number."""
        names = self.names
        found: dict[str, Record] = {}
        for id, text, total, _ in self.run(f"select * from {self.orders} order by 1"):
            found[id] = {names.id: id, names.text: text, names.amount: _decimal(total), names.lines: []}
        for order, line, price, comment in self.run(f"select * from {self.lines} order by 1, 2"):
            row = {names.line: line, names.price: _decimal(price), "comment": comment}
            found.setdefault(order, {names.lines: []})[names.lines].append(row)
        return found


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def declared(names: Names, orders: str, lines: str, **options: Any) -> Sql:
    """The adapter's side of the two tables."""
    child = Child(lines, parent="of order", key=("of order", names.line), order_by=names.line)
    table = Table(orders, key=names.id, cursor="updated_at", children={names.lines: child}, **options)
    return Sql(orders=table)


def _spoiled(names: Names) -> Any:
    return lambda record: record | {names.text: None}


@contextmanager
def sqlite_orders(folder: Path, names: Names = PLAIN, amount: str = "decimaltext") -> Iterator[Counterpart]:
    """A SQLite file with orders; pages are small."""
    path = folder / "shop's.db"
    table, lines = ("orders", "order_lines") if names is PLAIN else (quoted('or"ders ; --'), quoted("1 % of lines?"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma synchronous = off")
        now = "(strftime('%Y-%m-%d %H:%M:%f+00:00'))"
        connection.executescript(ddl(names, table, lines, amount, "timestamp", now))
        orders = Orders(connection, names, table, lines, "?")
        system = SystemSettings("shop", f"sqlite:///{path.name}", folder=folder, timeout=5.0)
        yield Counterpart(
            connector=declared(names, table, lines, page=40),
            system=system,
            put=orders.put,
            drop=orders.drop,
            rows=orders.rows,
            names=names,
            gone=SystemSettings("shop", "sqlite:///nowhere/shop.db", folder=folder),
            put_late=orders.put_late,
            spoil=_spoiled(names),
        )


@contextmanager
def postgresql_schema(url: str) -> Iterator[tuple[psycopg.Connection[Any], str]]:
    """A schema of its own in a server, dropped afterwards, and a connection that looks there first."""
    schema = f"tieline_{uuid4().hex}"
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        name = sql.Identifier(schema)
        connection.execute(sql.SQL("create schema {}").format(name))
        connection.execute(
            sql.SQL("set search_path = {}; set timezone = 'UTC'; set synchronous_commit = off").format(name)
        )
        try:
            yield connection, schema
        finally:
            connection.execute(sql.SQL("drop schema {} cascade").format(name))


@contextmanager
def postgresql_orders(url: str, names: Names = PLAIN, amount: str = "numeric") -> Iterator[Counterpart]:
    """Orders in a schema of their own; pages are small."""
    with postgresql_schema(url) as (connection, schema):
        table, lines = "orders", "order_lines"
        if names is not PLAIN:
            table, lines = quoted('or"ders ; --'), quoted("1 % of lines?")
        connection.execute(ddl(names, table, lines, amount, "timestamptz", "now()"))
        orders = Orders(connection, names, table, lines, "%s")
        options = {"held_schema": schema}
        yield Counterpart(
            connector=declared(names, f"{schema}.{table}", f"{schema}.{lines}", page=40),
            system=SystemSettings("shop", url, options=options, timeout=5.0),
            put=orders.put,
            drop=orders.drop,
            rows=orders.rows,
            names=names,
            gone=SystemSettings("shop", NOBODY, options=options),
            put_late=orders.put_late,
            spoil=_spoiled(names),
        )
