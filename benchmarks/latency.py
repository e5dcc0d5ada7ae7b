"""From the source's commit to the target's: 100 orders a second through a running worker."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import structlog

from benchmarks import workload
from benchmarks.one import landscape
from tieline.assembly import close_all, open_bus, open_ledger
from tieline.runner import Runner

POLL = 0.002  # seconds between looks at the source
TELL = f"""
create or replace function {workload.TARGET}.tell() returns trigger language plpgsql as $$
begin perform pg_notify('bench_done', new.reference); return new; end $$;
create trigger tell after insert on {workload.TARGET}.sales for each row execute function {workload.TARGET}.tell();
"""


def place(dsn: str, count: int, rate: float) -> dict[str, float]:
    """Commit one order at a time, evenly spaced; gives when each was committed."""
    placed = {}
    with psycopg.connect(dsn) as db:
        began = time.monotonic()
        for i, (head, lines) in enumerate(workload.orders(count, seed=11)):
            time.sleep(max(0.0, began + i / rate - time.monotonic()))
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
            placed[number] = time.monotonic()
    return placed


def listen(dsn: str, count: int) -> dict[str, float]:
    """When the target committed each order: PostgreSQL notifies at commit."""
    arrived = {}
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("listen bench_done")
        print("ready", flush=True)
        for note in db.notifies(timeout=30, stop_after=count):
            arrived[note.payload] = time.monotonic()
    return arrived


async def work(dsn: str, folder: Path, way: str, engine: str) -> None:
    """Run a worker on an empty source until standard input ends."""
    workload.fill(dsn, 0)
    workload.clear_target(dsn)
    with psycopg.connect(dsn) as db:
        db.execute(TELL)
    plan = landscape(dsn, folder, way, csv=False, every=POLL)
    ledger = open_ledger(plan.store, folder)
    own = open_bus(plan.store, ledger, folder)
    buses = {"direct": own, "main": open_bus(engine, ledger, folder) if engine else own}
    runner = Runner(plan, ledger, buses)
    running = asyncio.create_task(runner.run())
    await asyncio.sleep(1.5)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.stop()
    await running
    await close_all(buses, ledger)


def measure(dsn: str, folder: Path, way: str, count: int, rate: float, engine: str = "") -> dict[str, float]:
    """Latencies in milliseconds; worker, shop and listener are processes of their own."""
    with _begun("work", dsn, str(folder), way, engine) as worker, _begun("listen", dsn, str(count)) as listener:
        placed = place(dsn, count, rate)
        arrived = json.loads(listener.communicate()[0])
        worker.communicate()
    took = sorted((arrived[number] - placed[number]) * 1000 for number in arrived)
    if len(took) != count:
        raise SystemExit(f"{len(took)} of {count} orders arrived")
    return {
        "p50_ms": round(took[len(took) // 2], 2),
        "p90_ms": round(took[int(len(took) * 0.9)], 2),
        "p99_ms": round(took[int(len(took) * 0.99)], 2),
    }


def _begun(*what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.latency", *what]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"{what[0]} did not begin")
    return process


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    match sys.argv[1:]:
        case ["work", dsn_, folder_, way_, engine_]:
            asyncio.run(work(dsn_, Path(folder_), way_, engine_))
        case ["listen", dsn_, count_]:
            print(json.dumps(listen(dsn_, int(count_))))
        case [dsn_, folder_, way_, count_, rate_, engine_]:
            print(json.dumps(measure(dsn_, Path(folder_), way_, int(count_), float(rate_), engine_)))
