"""From the source's commit to the target's: 100 orders a second through a running worker."""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

import psycopg
import structlog

from benchmarks import workload
from benchmarks.one import landscape
from tieline.assembly import open_bus, open_ledger
from tieline.runner import Runner

POLL = 0.002  # seconds between looks at the source
TELL = f"""
create or replace function {workload.TARGET}.tell() returns trigger language plpgsql as $$
begin perform pg_notify('bench_done', new.reference); return new; end $$;
create trigger tell after insert on {workload.TARGET}.sales for each row execute function {workload.TARGET}.tell();
"""


def place(dsn: str, count: int, rate: float, placed: dict[str, float]) -> None:
    """Commit one order at a time, evenly spaced."""
    with psycopg.connect(dsn) as db:
        began = time.perf_counter()
        for i, (head, lines) in enumerate(workload.orders(count, seed=11)):
            time.sleep(max(0.0, began + i / rate - time.perf_counter()))
            number = f"NOW-{i:06}"
            db.execute(
                f"insert into {workload.SOURCE}.orders (number, customer, email, placed_at, currency, total, status) "
                "values (%s, %s, %s, %s, %s, %s, %s)",
                [number, *head[1:]],
            )
            for line in lines:
                db.execute(
                    f"insert into {workload.SOURCE}.order_lines values (%s, %s, %s, %s, %s, %s)", [number, *line[1:]]
                )
            db.commit()
            placed[number] = time.perf_counter()


def listen(dsn: str, count: int, arrived: dict[str, float]) -> None:
    """Note when the target commits each order: PostgreSQL notifies at commit."""
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("listen bench_done")
        for note in db.notifies(timeout=30, stop_after=count):
            arrived[note.payload] = time.perf_counter()


async def measure(dsn: str, folder: Path, way: str, count: int, rate: float) -> dict[str, float]:
    """Latencies in milliseconds."""
    workload.fill(dsn, 0)
    workload.clear_target(dsn)
    with psycopg.connect(dsn) as db:
        db.execute(TELL)
    plan = landscape(dsn, folder, way, csv=False, every=POLL)
    ledger = open_ledger(plan.store, folder)
    bus = open_bus(plan.store, ledger, folder)
    runner = Runner(plan, ledger, {"direct": bus, "main": bus})
    running = asyncio.create_task(runner.run())
    await asyncio.sleep(1.5)
    placed: dict[str, float] = {}
    arrived: dict[str, float] = {}
    threads = [
        threading.Thread(target=listen, args=(dsn, count, arrived)),
        threading.Thread(target=place, args=(dsn, count, rate, placed)),
    ]
    for thread in threads:
        thread.start()
        await asyncio.sleep(0.3)
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    await runner.stop()
    await running
    await ledger.close()
    took = sorted((arrived[number] - placed[number]) * 1000 for number in arrived)
    if len(took) != count:
        raise SystemExit(f"{len(took)} of {count} orders arrived")
    return {
        "p50_ms": round(took[len(took) // 2], 2),
        "p90_ms": round(took[int(len(took) * 0.9)], 2),
        "p99_ms": round(took[int(len(took) * 0.99)], 2),
    }


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    dsn_, folder_, way_, count_, rate_ = sys.argv[1:6]
    print(json.dumps(asyncio.run(measure(dsn_, Path(folder_), way_, int(count_), float(rate_)))))
