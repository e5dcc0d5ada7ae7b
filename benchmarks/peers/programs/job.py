"""The order job without Tieline, for every peer that is programmed in Python: read, map, write.

This is what one writes by hand around a queue: a cursor in a file, pages by cursor, a sink that merges a batch by
COPY in one transaction, and a table of held versions so that a message that comes late or twice changes nothing.
It runs in the peers' own environments, so it knows psycopg and msgspec and nothing of Tieline.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg

DSN = os.environ.get("PEER_DSN", "")
FOLDER = Path(os.environ.get("PEER_FOLDER", "."))
BROKER = os.environ.get("PEER_BROKER", "")
QUEUE = os.environ.get("PEER_QUEUE", "orders")
HELD = os.environ.get("PEER_HELD", "1") == "1"  # whether the sink knows what the target holds
PAGE = 2_000
CHUNK = 500
POLL = 0.002  # seconds between looks at the source

PAGE_SQL = """
select number, customer, email, placed_at, currency, total, status, changed from bench_source.orders
where changed > %s order by changed limit %s
"""
LINES_SQL = """
select order_number, line, sku, title, quantity, price from bench_source.order_lines
where order_number = any(%s) order by order_number, line
"""
TEMPORARY = """
create temp table t_held (key text, version bigint) on commit delete rows;
create temp table t_sales (like bench_target.sales) on commit delete rows;
create temp table t_lines (like bench_target.sale_lines) on commit delete rows;
"""
FRESH = """
fresh as (insert into bench_target.peer_held select key, version from {held} as h(key, version)
  on conflict (key) do update set version = excluded.version where peer_held.version < excluded.version
  returning key)
"""
ALL = "fresh as (select key from {held} as h(key, version))"
MERGE = """
with {fresh}, heads as (
  insert into bench_target.sales select s.* from {sales} as s join fresh on s.reference = fresh.key
  on conflict (reference) do update set party = excluded.party, mail = excluded.mail,
    ordered_at = excluded.ordered_at, currency = excluded.currency, amount = excluded.amount, state = excluded.state)
insert into bench_target.sale_lines select l.* from {lines} as l join fresh on l.sale = fresh.key
on conflict (sale, position) do update set product = excluded.product, description = excluded.description,
  quantity = excluded.quantity, unit_price = excluded.unit_price
where (sale_lines.product, sale_lines.description, sale_lines.quantity, sale_lines.unit_price)
  is distinct from (excluded.product, excluded.description, excluded.quantity, excluded.unit_price)
"""
ONE_HELD = "(values (%s::text, %s::bigint))"
ONE_SALE = """(select %s::text as reference, %s::text as party, %s::text as mail, %s::timestamptz as ordered_at,
  %s::text as currency, %s::numeric as amount, %s::text as state)"""
ITS_LINES = "(select %s::text as sale, * from unnest(%s::int[], %s::text[], %s::text[], %s::int[], %s::numeric[]))"


class Line(msgspec.Struct):
    """One line of an order."""

    number: int
    sku: str
    title: str
    quantity: int
    price: Decimal


class Order(msgspec.Struct):
    """An order, as it travels."""

    number: str
    customer: str
    email: str
    placed_at: datetime
    currency: str
    total: Decimal
    status: str
    version: int
    lines: list[Line]


encode = msgspec.json.Encoder(decimal_format="string").encode
decode = msgspec.json.Decoder(Order).decode
decode_many = msgspec.json.Decoder(list[Order]).decode


class Cursor:
    """How far the source was read, in a file; saved when what was read is safe in the queue."""

    def __init__(self) -> None:
        self._file = FOLDER / "cursor"
        self.value = int(self._file.read_text()) if self._file.exists() else 0

    def save(self, value: int) -> None:
        """Replace the file in one step."""
        self.value = value
        new = self._file.with_suffix(".new")
        new.write_text(str(value))
        new.replace(self._file)


def pages(cursor: Cursor, most: int = PAGE) -> Iterator[list[Order]]:
    """Pages of changed orders, from the cursor on; ends when nothing is left and the harness says so."""
    enough = FOLDER / "enough"
    said("began")
    with psycopg.connect(DSN, autocommit=True) as db:
        while True:
            last = enough.exists()
            page = _page(db, cursor.value, most)
            if page:
                yield page
            elif last:
                return
            else:
                time.sleep(POLL)


def _page(db: "psycopg.Connection[Any]", after: int, most: int) -> list[Order]:
    heads = db.execute(PAGE_SQL, [after, most]).fetchall()
    lines: dict[str, list[Line]] = {head[0]: [] for head in heads}
    if heads:
        for row in db.execute(LINES_SQL, [list(lines)]):
            lines[row[0]].append(Line(*row[1:]))
    return [Order(*head, lines[head[0]]) for head in heads]


def chunked(orders: Sequence[Order], size: int = CHUNK) -> Iterator[Sequence[Order]]:
    """Pieces of a page."""
    for i in range(0, len(orders), size):
        yield orders[i : i + size]


def to_sale(order: Order) -> tuple[Any, ...]:
    """The mapping to the target."""
    return (
        order.number,
        order.customer,
        order.email,
        order.placed_at,
        order.currency,
        order.total,
        order.status,
    )


def to_lines(order: Order) -> list[tuple[Any, ...]]:
    """The mapping of the lines."""
    return [(order.number, line.number, line.sku, line.title, line.quantity, line.price) for line in order.lines]


class Sink:
    """The target: each call is one transaction."""

    def __init__(self) -> None:
        self._db = psycopg.connect(DSN, autocommit=True)
        self._prepared = False

    def merge(self, orders: Iterable[Order]) -> None:
        """Three COPYs and one merge."""
        if not self._prepared:
            self._db.execute(TEMPORARY)
            self._prepared = True
        newest: dict[str, Order] = {}
        for order in orders:
            if order.number not in newest or newest[order.number].version < order.version:
                newest[order.number] = order
        kept = [newest[number] for number in sorted(newest)]  # always in one order: no deadlocks
        with self._db.transaction():
            with self._db.cursor().copy("copy t_held from stdin") as copy:
                for order in kept:
                    copy.write_row((order.number, order.version))
            with self._db.cursor().copy("copy t_sales from stdin") as copy:
                for order in kept:
                    copy.write_row(to_sale(order))
            with self._db.cursor().copy("copy t_lines from stdin") as copy:
                for order in kept:
                    for line in to_lines(order):
                        copy.write_row(line)
            self._db.execute(_statement("t_held", "t_sales", "t_lines"))

    def write(self, order: Order) -> None:
        """One order, by one prepared statement."""
        lines = [list(column) for column in zip(*to_lines(order), strict=True)]
        self._db.execute(
            _statement(ONE_HELD, ONE_SALE, ITS_LINES),
            [order.number, order.version, *to_sale(order), order.number, *lines[1:]],
            prepare=True,
        )


def _statement(held: str, sales: str, lines: str) -> bytes:
    fresh = (FRESH if HELD else ALL).format(held=held)
    return MERGE.format(fresh=fresh, sales=sales, lines=lines).encode()


def said(word: str) -> None:
    """Tell the harness."""
    print(f"peer {word} {time.monotonic()}", flush=True)


def asked(*roles: str) -> str:
    """Which role this process has."""
    if len(sys.argv) != 2 or sys.argv[1] not in roles:
        raise SystemExit(f"say one of {', '.join(roles)}")
    return sys.argv[1]
