"""Tieline as one line among the others: a worker that reads until the harness ends it."""

import argparse
import asyncio
import time
from pathlib import Path

import structlog

from benchmarks.one import WAYS, landscape
from tieline.assembly import close_all, open_bus, open_ledger
from tieline.cli.running import calm_memory
from tieline.runner import Runner

POLL = 0.002  # seconds between looks at the source, as for the peers


async def work(dsn: str, folder: Path, way: str, engine: str, once: bool) -> None:
    """Move orders, and go on looking for new ones unless told to do it once."""
    plan = landscape(dsn, folder, way, csv=False, every=POLL)
    ledger = open_ledger(plan.store, folder)
    own = open_bus(plan.store, ledger, folder)
    buses = {"direct": own, "main": open_bus(engine, ledger, folder) if engine else own}
    try:
        print(f"peer began {time.monotonic()}", flush=True)
        await Runner(plan, ledger, buses).run(once=once)
    finally:
        await close_all(buses, ledger)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--engine", default="")
    parser.add_argument("--once", action="store_true")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    calm_memory()
    asyncio.run(work(chosen.dsn, chosen.folder, chosen.way, chosen.engine, chosen.once))
