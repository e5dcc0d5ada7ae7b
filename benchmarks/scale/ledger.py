"""Bytes per record in each table of the ledger, and the time of a commit that reaches the disk."""

import os
import sqlite3
import statistics
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import psycopg

from benchmarks.workload import Line, Order
from tieline.connector import HeldRow
from tieline.entity import encode
from tieline.ledger import Ledger, LegRow, ParkedRow, SeenRow, Stores, Way
from tieline.ledgers.postgresql import PostgresqlLedger
from tieline.ledgers.sqlite import SqliteLedger
from tieline.message import Batch, Message, Reason, Version, pack, pack_message
from tieline.money import Money

AT_ONCE = 2_000
CHANNEL = "main:shop.order/4"
PRICE = Money(Decimal("12.5"), "EUR")


class Write(Protocol):
    """Puts these records into one table."""

    def __call__(self, stores: Stores, numbers: list[int]) -> None: ...


def message(number: int) -> Message:
    """A message of about 500 bytes, as the order benchmark's."""
    lines = [
        Line(
            number=n,
            sku=f"P-{number % 9_999:05}",
            title="Pump, stainless steel",
            quantity=n,
            price=PRICE,
        )
        for n in (1, 2)
    ]
    order = Order(
        number=f"WEB-{number:08}",
        customer=f"C-{number % 50_000:06}",
        email=f"c-{number % 50_000:06}@customers.example",
        placed_at=datetime(2026, 1, 1, tzinfo=UTC),
        total=PRICE,
        status="paid",
        lines=lines,
    )
    return Message(id=_digest(number), key=order.number, version=Version(1, number), data=msgspec.Raw(encode(order)))


def _digest(number: int) -> bytes:
    return (number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128).to_bytes(16, "big")


def _seen(stores: Stores, numbers: list[int]) -> None:
    rows = [
        SeenRow(
            key=f"WEB-{n:08}",
            record=f"WEB-{n:08}",
            version=Version(1, n),
            message_id=_digest(n),
            record_digest=_digest(n + 1),
            entity_digest=_digest(n + 2),
            at=1_767_225_600.0,
        )
        for n in numbers
    ]
    stores.seen.put("shop.order", rows)


def _held(stores: Stores, numbers: list[int]) -> None:
    rows = [
        HeldRow(
            key=f"WEB-{n:08}",
            source="shop.order",
            version=Version(1, n),
            message_id=_digest(n),
            digest=_digest(n + 2),
            target_id=str(n),
        )
        for n in numbers
    ]
    stores.held.put("erp", "Order", rows)


def _channel(stores: Stores, numbers: list[int]) -> None:
    batch = Batch(
        source="shop.order",
        entity="Order",
        schema=1,
        sequence=numbers[0] // AT_ONCE + 1,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        messages=[message(n) for n in numbers],
    )
    stores.channels.append(CHANNEL, [(0, batch.sequence, len(numbers), pack(batch))])


def _parked(stores: Stores, numbers: list[int]) -> None:
    rows = [
        ParkedRow(
            leg="orders>erp",
            key=one.key,
            message_id=one.id,
            version=one.version,
            reason=Reason.DEAD,
            message=pack_message(one),
            error="the ERP refused it: no such customer",
        )
        for one in map(message, numbers)
    ]
    stores.parked.put(rows)


WRITES: dict[str, Write] = {"seen": _seen, "held": _held, "channel": _channel, "parked": _parked}


async def bytes_per_record(dsn: str, folder: Path, count: int) -> dict[str, dict[str, float]]:
    """For each table and store: bytes on disk with all indexes, over the number of records."""
    found: dict[str, dict[str, float]] = {}
    file = folder / "sizes.db"
    url = f"{dsn}{'&' if '?' in dsn else '?'}schema=scale_sizes"
    for store, ledger in (("sqlite", SqliteLedger(f"sqlite:///{file}")), ("postgresql", PostgresqlLedger(url))):

        def size(store: str = store) -> int:
            return _sqlite_bytes(file) if store == "sqlite" else _schema_bytes(dsn, "scale_sizes")

        await ledger.transact(_declare)
        for table, write in WRITES.items():
            before = size()
            await _fill(ledger, write, count)
            found.setdefault(table, {})[store] = round((size() - before) / count, 1)
        await ledger.close()
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("drop schema scale_sizes cascade")
    return found


def _declare(stores: Stores) -> None:
    ways = [Way(bus="main", channel=CHANNEL, partitions=1)]
    stores.legs.put(
        LegRow(leg="orders>erp", flow="orders", source="shop.order", target="erp", entity="Order", ways=ways)
    )
    stores.channels.declare(CHANNEL, 1, ["orders>erp"])


async def _fill(ledger: Ledger, write: Write, count: int) -> None:
    for start in range(0, count, AT_ONCE):
        await ledger.transact(partial(write, numbers=list(range(start, min(count, start + AT_ONCE)))))


def _sqlite_bytes(file: Path) -> int:
    db = sqlite3.connect(file)
    db.execute("pragma wal_checkpoint(truncate)")
    pages, free, size = (
        int(db.execute(f"pragma {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    db.close()
    return (pages - free) * size


def _schema_bytes(dsn: str, schema: str) -> int:
    with psycopg.connect(dsn) as db:
        row: Any = db.execute(
            "select sum(pg_total_relation_size(c.oid)) from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = %s and c.relkind = 'r'",
            [schema],
        ).fetchone()
        return int(row[0] or 0)


def sync_ms(folder: Path, times: int = 200) -> float:
    """Milliseconds, by median, until 8 kB are on this disk."""
    took = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(os.urandom(8_192))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return round(1_000 * statistics.median(took), 3)
