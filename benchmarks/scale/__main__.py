"""`make scale`: what is measured, one part at a time or all of it, as JSON."""

import argparse
import json
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.scale import idle
from benchmarks.scale.watched import Postgresql, Sqlite, Watched
from benchmarks.servers import postgresql


def idle_of(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Each number of flows on its own."""
    found = []
    with tempfile.TemporaryDirectory(prefix="tieline-scale-") as name, postgresql(Path(name)) as dsn:
        os.chmod(name, 0o755)
        for flows in chosen.flows:
            folder = Path(name) / f"flows-{flows}"
            folder.mkdir()
            ledger: Watched = Sqlite(folder / "ledger.db") if chosen.store == "sqlite" else Postgresql(dsn)
            with closing(ledger):
                figures = idle.measure(
                    folder,
                    ledger,
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
    chosen = parser.parse_args()
    chosen.work(chosen)


if __name__ == "__main__":
    main()
