"""Orders of two lines: made once from a seed, in PostgreSQL and as CSV; and the adapter that moves them."""

import csv
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from tieline import Adapter, Entity, Money, Value
from tieline.connectors.files import Csv, Files
from tieline.connectors.sql import Child, Sql, Table

SOURCE, TARGET = "bench_source", "bench_target"
START = datetime(2026, 1, 1, tzinfo=UTC)

SOURCE_TABLES = f"""
drop schema if exists {SOURCE} cascade; create schema {SOURCE};
create sequence {SOURCE}.changes;
create table {SOURCE}.orders (number text primary key, customer text not null, email text not null,
  placed_at timestamptz not null, currency text not null, total numeric(12,2) not null, status text not null,
  changed bigint not null default nextval('{SOURCE}.changes'));
create index on {SOURCE}.orders (changed, number);
create table {SOURCE}.order_lines (order_number text not null, line int not null, sku text not null,
  title text not null, quantity int not null, price numeric(12,2) not null, primary key (order_number, line));
"""
TARGET_TABLES = f"""
drop schema if exists {TARGET} cascade; create schema {TARGET};
create table {TARGET}.sales (reference text primary key, party text not null, mail text not null,
  ordered_at timestamptz not null, currency text not null, amount numeric(12,2) not null, state text not null);
create table {TARGET}.sale_lines (sale text not null, position int not null, product text not null,
  description text not null, quantity int not null, unit_price numeric(12,2) not null, primary key (sale, position));
"""


class Line(Value):
    """One line of an order."""

    number: int
    sku: str
    title: str
    quantity: int
    price: Money


class Order(Entity, key="number"):
    """An order as a webshop knows it, about 430 bytes as JSON."""

    number: str
    customer: str
    email: str
    placed_at: datetime
    total: Money
    status: str
    lines: list[Line]


def to_order(record: dict[str, Any]) -> Order:
    """The mapping from the source, used by Tieline and by the bare loop."""
    currency = record["currency"]
    return Order(
        number=record["number"],
        customer=record["customer"],
        email=record["email"],
        placed_at=record["placed_at"],
        total=Money(record["total"], currency),
        status=record["status"],
        lines=[
            Line(
                number=line["line"],
                sku=line["sku"],
                title=line["title"],
                quantity=line["quantity"],
                price=Money(line["price"], currency),
            )
            for line in record["lines"]
        ],
    )


def to_sale(order: Order) -> dict[str, Any]:
    """The mapping to the target, used by Tieline and by the bare loop."""
    return {
        "reference": order.number,
        "party": order.customer,
        "mail": order.email,
        "ordered_at": order.placed_at,
        "currency": order.total.currency,
        "amount": order.total.amount,
        "state": order.status,
        "lines": [
            {
                "position": line.number,
                "product": line.sku,
                "description": line.title,
                "quantity": line.quantity,
                "unit_price": line.price.amount,
            }
            for line in order.lines
        ],
    }


def shop() -> Adapter:
    """The shop's half over PostgreSQL."""
    lines = Child(f"{SOURCE}.order_lines", parent="order_number", key=("order_number", "line"))
    adapter = Adapter(
        Sql(orders=Table(f"{SOURCE}.orders", key="number", cursor="changed", children={"lines": lines}))
    )
    adapter.source(Order, "orders", name="order")(to_order)
    return adapter


def csv_shop() -> Adapter:
    """The shop's half over a CSV file; the two lines stand in columns."""
    adapter = Adapter(Files(orders=Csv("orders.csv", id="number")))

    @adapter.source(Order, "orders", name="order")
    def order(row: dict[str, str]) -> Order:
        return to_order(from_csv(row))

    return adapter


def from_csv(row: dict[str, str]) -> dict[str, Any]:
    """A CSV row as the record that the PostgreSQL source would have given."""
    return {
        **row,
        "placed_at": datetime.fromisoformat(row["placed_at"]),
        "total": Decimal(row["total"]),
        "lines": [
            {
                "line": n,
                "sku": row[f"sku{n}"],
                "title": row[f"title{n}"],
                "quantity": int(row[f"quantity{n}"]),
                "price": Decimal(row[f"price{n}"]),
            }
            for n in (1, 2)
        ],
    }


def erp() -> Adapter:
    """The target's half."""
    lines = Child(f"{TARGET}.sale_lines", parent="sale", key=("sale", "position"))
    adapter = Adapter(Sql(sales=Table(f"{TARGET}.sales", key="reference", children={"lines": lines})))
    adapter.sink(Order, "sales", name="sale")(to_sale)
    return adapter


def orders(count: int, seed: int = 7) -> Iterator[tuple[tuple[Any, ...], list[tuple[Any, ...]]]]:
    """Rows of orders and their lines."""
    dice = random.Random(seed)
    for i in range(count):
        number = f"WEB-{i:08}"
        lines = []
        total = Decimal(0)
        for n in (1, 2):
            quantity, price = dice.randint(1, 5), Decimal(dice.randint(100, 99_999)) / 100
            total += quantity * price
            sku = f"P-{dice.randint(1, 9999):05}"
            lines.append((number, n, sku, f"Pump {sku}, stainless steel", quantity, price))
        customer = f"C-{dice.randint(1, 50_000):06}"
        placed = START + timedelta(seconds=i)
        mail = f"{customer.lower()}@customers.example"
        yield (number, customer, mail, placed, "EUR", total, "paid"), lines


def fill(dsn: str, count: int) -> None:
    """Make and fill the source tables."""
    with psycopg.connect(dsn) as db:
        db.execute(SOURCE_TABLES)
        heads, lines = [], []
        for head, rows in orders(count):
            heads.append(head)
            lines.extend(rows)
        with db.cursor().copy(
            f"copy {SOURCE}.orders (number, customer, email, placed_at, currency, total, status) from stdin"
        ) as copy:
            for head in heads:
                copy.write_row(head)
        with db.cursor().copy(f"copy {SOURCE}.order_lines from stdin") as copy:
            for line in lines:
                copy.write_row(line)
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(f"vacuum analyze {SOURCE}.orders")
        db.execute(f"vacuum analyze {SOURCE}.order_lines")


def write_csv(path: Path, count: int) -> None:
    """The same orders as one CSV file."""
    names = ["number", "customer", "email", "placed_at", "currency", "total", "status"]
    for n in (1, 2):
        names += [f"sku{n}", f"title{n}", f"quantity{n}", f"price{n}"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for head, lines in orders(count):
            flat = [value for line in lines for value in line[2:]]
            writer.writerow([*head[:3], head[3].isoformat(), *head[4:], *flat])


def touch(dsn: str) -> None:
    """Change every order: what comes next are updates."""
    with psycopg.connect(dsn) as db:
        db.execute(f"update {SOURCE}.orders set status = status || '+', changed = nextval('{SOURCE}.changes')")
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(f"vacuum analyze {SOURCE}.orders")


def clear_target(dsn: str) -> None:
    """Empty target tables, and nothing of Tieline's, its ledger included."""
    with psycopg.connect(dsn) as db:
        db.execute(TARGET_TABLES)
        db.execute("drop schema if exists bench_ledger cascade")
        db.execute("drop schema if exists tieline cascade")
