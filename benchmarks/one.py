"""One measured process: a way through Tieline, or one of the limits; prints its figures as JSON."""

import argparse
import asyncio
import json
import resource
import time
from pathlib import Path

import structlog

from benchmarks import limits, workload
from tieline import Flow, Landscape, Robustness, Target
from tieline.assembly import close_all, open_bus, open_ledger
from tieline.cli.running import calm_memory
from tieline.runner import Runner
from tieline.settings import SystemSettings
from tieline.system import SourceSettings, System, Trigger

WAYS = ("direct", "sqlite", "postgresql", "nats", "rabbitmq", "kafka")


def landscape(dsn: str, folder: Path, way: str, csv: bool, every: float = 300.0) -> Landscape:
    """The order flow; `way` is one of WAYS."""
    source = workload.csv_shop() if csv else workload.shop()
    url = f"file://{folder}" if csv else dsn
    trigger = Trigger(kind="every", seconds=every)
    return Landscape(
        name="bench",
        store=f"{dsn}{'&' if '?' in dsn else '?'}schema=bench_ledger"
        if way == "postgresql"
        else f"sqlite:///{folder}/ledger.db",
        folder=folder,
        systems={
            "shop": System(
                name="shop",
                adapter=source,
                settings=SystemSettings(name="shop", url=url, folder=folder),
                sources={"order": SourceSettings(triggers=(trigger,), sweep=0)},
            ),
            "erp": System(
                name="erp", adapter=workload.erp(), settings=SystemSettings(name="erp", url=dsn, folder=folder)
            ),
        },
        flows={
            "orders": Flow(
                name="orders",
                entity="Order",
                source="shop",
                targets=(Target("erp"),),
                via="direct" if way == "direct" else "bus",
                # This broker acknowledges from memory, on which an exact flow is refused; all else is the same.
                robustness=Robustness.STANDARD if way == "kafka" else Robustness.EXACT,
            )
        },
        entities={"Order": workload.Order},
    )


async def tieline(dsn: str, folder: Path, way: str, csv: bool, engine: str = "") -> int:
    """Run the flow once; gives the number of messages."""
    plan = landscape(dsn, folder, way, csv)
    ledger = open_ledger(plan.store, folder)
    own = open_bus(plan.store, ledger, folder)
    bus = open_bus(engine, ledger, folder) if engine else own
    try:
        report = await Runner(plan, ledger, {"direct": own, "main": bus}).run(once=True)
        if report.failed or report.paused or report.waiting:
            raise SystemExit(str(report))
        return report.read["shop.order"].messages
    finally:
        await close_all({"direct": own, "main": bus}, ledger)


def main() -> None:
    """Measure one run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["raw", "bare", *WAYS])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--engine", default="", help="the address of the bus, where it is an engine of its own")
    parser.add_argument("--csv", action="store_true")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    began = time.perf_counter()
    if chosen.what == "raw":
        seconds = limits.raw(chosen.dsn, chosen.count, chosen.version)
    elif chosen.what == "bare":
        file = chosen.folder / "orders.csv" if chosen.csv else None
        seconds = limits.bare(chosen.dsn, chosen.count, chosen.version, file)
    else:
        calm_memory()
        messages = asyncio.run(tieline(chosen.dsn, chosen.folder, chosen.what, chosen.csv, chosen.engine))
        seconds = time.perf_counter() - began
        if messages != chosen.count:
            raise SystemExit(f"{messages} messages instead of {chosen.count}")
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "seconds": round(seconds, 3),
                "records_per_s": round(chosen.count / seconds),
                "cpu_s": round(used.ru_utime + used.ru_stime, 2),
                "peak_mb": round(_peak_mb(), 1),
            }
        )
    )


def _peak_mb() -> float:
    """The largest resident set of this process, as the kernel tells it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
