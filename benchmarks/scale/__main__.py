"""`make scale`: what is measured, one part at a time or all of it, as JSON."""

import argparse
import asyncio
import json
import os
import tempfile
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.scale import idle, ledger, workers
from benchmarks.scale.figures import as_markdown
from benchmarks.scale.watched import Postgresql, Sqlite, Watched
from benchmarks.servers import nats, postgresql

OUTPUT = Path(__file__).with_name("latest.json")
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


def idle_of(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Each number of flows on its own."""
    found = []
    with tempfile.TemporaryDirectory(prefix="tieline-scale-") as name, postgresql(Path(name)) as dsn:
        os.chmod(name, 0o755)
        for flows in chosen.flows:
            folder = Path(name) / f"flows-{flows}"
            folder.mkdir()
            watched: Watched = Sqlite(folder / "ledger.db") if chosen.store == "sqlite" else Postgresql(dsn)
            with closing(watched):
                figures = idle.measure(
                    folder,
                    watched,
                    flows,
                    via=chosen.via,
                    trigger=chosen.trigger,
                    seconds=chosen.seconds,
                    patience=chosen.patience,
                    bus=chosen.bus,
                )
            found.append({"store": chosen.store, **figures})
            print(json.dumps(found[-1]), flush=True)
    return found


def ledger_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """Sizes, and the disk's time."""
    with tempfile.TemporaryDirectory(prefix="tieline-scale-") as name, postgresql(Path(name)) as dsn:
        os.chmod(name, 0o755)
        sizes = asyncio.run(ledger.bytes_per_record(dsn, Path(name), chosen.records))
        found = {"records": chosen.records, "bytes": sizes, "sync_ms": ledger.sync_ms(Path(name))}
    print(json.dumps(found), flush=True)
    return found


def workers_of(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Each way with each number of workers."""
    found = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tieline-scale-")))
        os.chmod(folder, 0o755)
        dsn = stack.enter_context(postgresql(folder))
        for way in chosen.ways:
            for number in chosen.workers if way != "direct" else [1]:
                work = folder / f"{way}-{number}"
                work.mkdir()
                via = "direct" if way == "direct" else "bus"
                with nats(work) if way == "nats" else nullcontext("") as bus:
                    figures = workers.measure(work, dsn, workers=number, via=via, bus=bus, records=chosen.records)
                found.append(figures)
                print(json.dumps(figures), flush=True)
    return found


def model_of(chosen: argparse.Namespace) -> None:
    """The model over what was measured last, beside it; with `--docs` in the page."""
    text = as_markdown(json.loads(OUTPUT.read_text()))
    if not chosen.docs:
        print(text)
        return
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def main() -> None:
    """Measure what was chosen."""
    parser = argparse.ArgumentParser(prog="make scale")
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("idle", help="a worker with many flows in which nothing happens")
    part.add_argument("--flows", type=int, nargs="+", default=[1_000, 10_000])
    part.add_argument("--store", choices=["sqlite", "postgresql"], default="postgresql")
    part.add_argument("--via", choices=["direct", "bus"], default="direct")
    part.add_argument("--bus", default="", help="an engine's address, with --via bus")
    part.add_argument("--trigger", default="every 5m")
    part.add_argument("--seconds", type=float, default=30.0, help="how long it is watched")
    part.add_argument("--patience", type=float, default=300.0, help="seconds that starting may take")
    part.set_defaults(work=idle_of)
    part = parts.add_parser("ledger", help="bytes per record in each of its tables")
    part.add_argument("--records", type=int, default=200_000)
    part.set_defaults(work=ledger_of)
    part = parts.add_parser("workers", help="1, 2 and 4 workers over one ledger")
    part.add_argument("--records", type=int, default=100_000)
    part.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    part.add_argument(
        "--ways", nargs="+", choices=["direct", "postgresql", "nats"], default=["direct", "postgresql", "nats"]
    )
    part.set_defaults(work=workers_of)
    for measuring in parts.choices.values():
        measuring.add_argument("--write", action="store_true", help=f"keep it in {OUTPUT.name}, for the model")
    part = parts.add_parser("model", help="what sizes need, by what was measured")
    part.add_argument("--docs", action="store_true", help="put it into docs/scale.md")
    part.set_defaults(work=model_of, write=False)
    chosen = parser.parse_args()
    found = chosen.work(chosen)
    if chosen.write:
        kept = json.loads(OUTPUT.read_text())
        OUTPUT.write_text(json.dumps(kept | {chosen.part: found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
