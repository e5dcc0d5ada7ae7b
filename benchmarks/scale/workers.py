"""Real workers over one ledger in PostgreSQL: what a record costs them and the database, with 1, 2 and 4 of them."""

import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import workload
from benchmarks.scale.idle import Worker
from benchmarks.scale.watched import Postgresql, cpu_of, memory_of

TARGET = "scale_target"
FLOWS = 4
ADAPTERS = f"""
from entities import Order

from benchmarks import workload
from tieline import Adapter
from tieline.connectors.files import Csv, Files
from tieline.connectors.sql import Sql, Table

NAMES = [f"orders{{number}}" for number in range({FLOWS})]
"""
SHOP = """
shop = Adapter(Files(**{name: Csv(f"{name}.csv", id="number") for name in NAMES}))
for name in NAMES:
    shop.source(Order, name, name=name)(lambda row: workload.to_order(workload.from_csv(row)))
"""
ERP = f"""
erp = Adapter(Sql(**{{name: Table(f"{TARGET}.{{name}}", key="reference") for name in NAMES}}))


def sale(order):
    record = workload.to_sale(order)
    del record["lines"]
    return record


for name in NAMES:
    erp.sink(Order, name, name=name)(sale)
"""


def found(folder: Path, dsn: str, store: str, via: str, bus: str, records: int) -> None:
    """A project of four flows from files to tables, which all workers run."""
    (folder / "adapters").mkdir(parents=True)
    (folder / "entities.py").write_text("from benchmarks.workload import Line, Order\n")
    (folder / "adapters" / "shop.py").write_text(ADAPTERS + SHOP)
    (folder / "adapters" / "erp.py").write_text(ADAPTERS + ERP)
    first = folder / "orders0.csv"
    workload.write_csv(first, records // FLOWS)
    for number in range(1, FLOWS):
        (folder / f"orders{number}.csv").write_bytes(first.read_bytes())
    text = f'[tieline]\nname = "scale"\nstore = "{store}"\n'
    text += f'[buses.main]\nurl = "{bus}"\n' if bus else ""
    text += '[systems.shop]\nadapter = "adapters.shop"\nurl = "."\nowner = "x"\n'
    text += f'[systems.erp]\nadapter = "adapters.erp"\nurl = "{dsn}"\nowner = "x"\n'
    for number in range(FLOWS):
        text += f'[systems.shop.sources.orders{number}]\ntrigger = "every 1h"\nsweep = "30d"\n'
        text += f'[flows.f{number}]\nentity = "Order"\nfrom = "shop"\nsource = "orders{number}"\nvia = "{via}"\n'
        text += f'owner = "x"\n[flows.f{number}.to.erp]\nsink = "orders{number}"\n'
    (folder / "tieline.toml").write_text(text)
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(f"drop schema if exists {TARGET} cascade".encode())
        db.execute("drop schema if exists tieline cascade")
        db.execute(f"create schema {TARGET}".encode())
        for number in range(FLOWS):
            db.execute(
                f"create table {TARGET}.orders{number} (reference text primary key, party text not null,"
                " mail text not null, ordered_at timestamptz not null, currency text not null,"
                " amount numeric(12,2) not null, state text not null)".encode()
            )


def measure(
    folder: Path, dsn: str, *, workers: int, via: str, bus: str, records: int, patience: float = 600.0
) -> dict[str, Any]:
    """So many workers begin together, and are watched until the last record is in its table."""
    ledger = Postgresql(dsn)
    found(folder, dsn, ledger.url, via, bus, records)
    crew: list[Worker] = []
    every = " + ".join(f"(select count(*) from {TARGET}.orders{number})" for number in range(FLOWS))
    try:
        crew = [Worker(folder) for _ in range(workers)]
        started = time.monotonic()
        while not (first := ledger.ask(f"select {every}")):  # what starting costs is not what a record costs
            if time.monotonic() - started > patience:
                raise SystemExit(f"nothing arrived: {(folder / 'worker.log').read_text()[-2000:]}")
            time.sleep(0.02)
        before, began = ledger.used(), time.monotonic()
        cpu = -sum(cpu_of(worker.pid) for worker in crew)
        while (arrived := ledger.ask(f"select {every}")) < records // FLOWS * FLOWS:
            if time.monotonic() - began > patience:
                raise SystemExit(f"{arrived} of {records} arrived: {(folder / 'worker.log').read_text()[-2000:]}")
            for worker in crew:
                worker.check()
            time.sleep(0.1)
        seconds = time.monotonic() - began
        used = ledger.used().less(before)
        cpu += sum(cpu_of(worker.pid) for worker in crew)
        memory = max(memory_of(worker.pid) for worker in crew)
    finally:
        for worker in crew:
            worker.stop()
        ledger.close()
    measured = records - first
    return {
        "workers": workers,
        "via": via,
        "engine": bus.partition(":")[0] or ("" if via == "direct" else "postgresql"),
        "records": records,
        "seconds": round(seconds, 2),
        "records_per_s": round(measured / seconds),
        "worker_us": round(1e6 * cpu / measured, 1),
        "database_us": round(1e6 * used.cpu_s / measured, 1),
        "transactions_per_1000": round(1_000 * used.transactions / measured, 1),
        "wal_bytes": round(used.wal_bytes / measured),
        "memory_mb": round(memory, 1),
    }
