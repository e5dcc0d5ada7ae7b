"""What there is to compare with: the raw limit of the database, and a loop that one would write by hand."""

import csv
import hashlib
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from benchmarks.workload import SOURCE, TARGET, from_csv, orders, to_order, to_sale

BATCH = 2_000
HELD = f"""
create table if not exists {TARGET}.held (key text primary key, version bigint not null, id bytea not null,
  digest bytea not null)
"""
HEAD = "(reference, party, mail, ordered_at, currency, amount, state)"
LINE = "(sale, position, product, description, quantity, unit_price)"
MERGES = (
    f"""insert into {TARGET}.sales {HEAD} select * from t_sales on conflict (reference) do update set
    party = excluded.party, mail = excluded.mail, ordered_at = excluded.ordered_at, currency = excluded.currency,
    amount = excluded.amount, state = excluded.state""",
    f"""insert into {TARGET}.sale_lines {LINE} select * from t_lines on conflict (sale, position) do update set
    product = excluded.product, description = excluded.description, quantity = excluded.quantity,
    unit_price = excluded.unit_price""",
    f"""insert into {TARGET}.held select * from t_held on conflict (key) do update set
    version = excluded.version, id = excluded.id, digest = excluded.digest""",
)


def prepare(db: psycopg.Connection[Any]) -> None:
    """Temporary tables to copy into."""
    db.execute(HELD)
    db.execute(f"create temp table t_sales (like {TARGET}.sales) on commit delete rows")
    db.execute(f"create temp table t_lines (like {TARGET}.sale_lines) on commit delete rows")
    db.execute(f"create temp table t_held (like {TARGET}.held) on commit delete rows")
    db.commit()


def merge(db: psycopg.Connection[Any], heads: Iterable[Any], lines: Iterable[Any], held: Iterable[Any]) -> None:
    """One transaction: three COPYs and three merges."""
    for table, rows in (("t_sales", heads), ("t_lines", lines), ("t_held", held)):
        with db.cursor().copy(f"copy {table} from stdin") as copy:
            for row in rows:
                copy.write_row(row)
    for statement in MERGES:
        db.execute(statement)
    db.commit()


def raw(dsn: str, count: int, version: int) -> float:
    """Seconds to bring ready-made rows and held rows into the target by COPY and merge: nothing else is done."""
    batches = []
    made = orders(count)
    while piece := list(islice(made, BATCH)):
        held = [(head[0], version, bytes(16), bytes(16)) for head, _ in piece]
        batches.append(([head for head, _ in piece], [line for _, lines in piece for line in lines], held))
    with psycopg.connect(dsn) as db:
        prepare(db)
        began = time.perf_counter()
        for heads, lines, held in batches:
            merge(db, heads, lines, held)
        return time.perf_counter() - began


def bare(dsn: str, count: int, version: int, file: Path | None = None) -> float:
    """Seconds of a loop without Tieline: read, decode, map, digest, compare with held, merge with held rows."""
    encode = msgspec.json.Encoder(decimal_format="string").encode
    began = time.perf_counter()
    with psycopg.connect(dsn) as target, psycopg.connect(dsn, row_factory=dict_row) as source:
        prepare(target)
        records = _from_csv(file) if file else _from_table(source)
        while page := list(islice(records, BATCH)):
            entities = [to_order(record) for record in page]
            digests = [hashlib.blake2b(encode(entity), digest_size=16).digest() for entity in entities]
            known: dict[str, bytes] = dict(
                target.execute(
                    f"select key, digest from {TARGET}.held where key = any(%s)", [[e.number for e in entities]]
                ).fetchall()
            )
            changed = [(e, d) for e, d in zip(entities, digests, strict=True) if known.get(e.number) != d]
            sales = [to_sale(entity) for entity, _ in changed]
            merge(
                target,
                [[sale[name] for name in list(sale)[:7]] for sale in sales],
                [[sale["reference"], *line.values()] for sale in sales for line in sale["lines"]],
                [(entity.number, version, digest, digest) for entity, digest in changed],
            )
    return time.perf_counter() - began


def _from_table(db: psycopg.Connection[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    with db.cursor(name="orders") as cursor:
        cursor.itersize = BATCH
        cursor.execute(f"select * from {SOURCE}.orders order by changed, number")
        while page := cursor.fetchmany(BATCH):
            by_number: dict[str, list[dict[str, Any]]] = {row["number"]: [] for row in page}
            lines = db.execute(
                f"select * from {SOURCE}.order_lines where order_number = any(%s) order by order_number, line",
                [list(by_number)],
            )
            for line in lines:
                by_number[line["order_number"]].append(line)
            for row in page:
                row["lines"] = by_number[row["number"]]
            yield from page


def _from_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield from_csv(row)
