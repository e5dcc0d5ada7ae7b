"""A worker that kills or stops itself at a named place: ``python -m tieline.testing.killed --project DIR``.

It runs a real project with its real keepers. With ``--gap COMMITTED --nth 2 --how kill`` it sends itself
SIGKILL at the second passing of that place, with ``--how stop`` SIGSTOP. Without ``--gap`` it is a worker
like any other, except for its short lease.
"""

import argparse
import asyncio
from pathlib import Path

from tieline import project
from tieline.assembly import close_all, open_buses, open_ledger
from tieline.cli import running
from tieline.cli.output import log_to_stderr
from tieline.runner import Runner
from tieline.runner.gaps import Gap
from tieline.testing.failpoints import Failpoints


async def work(folder: Path, lease: float) -> int:
    """Run the project in `folder` until a signal comes; `lease` is in seconds."""
    landscape = project.load(folder)
    ledger = open_ledger(landscape.store, landscape.folder)
    buses = {}
    try:
        buses = open_buses(landscape, ledger)
        return await running.run(Runner(landscape, ledger, buses, lease=lease), once=False)
    finally:
        await close_all(buses, ledger)


def main() -> int:
    """Read the command line, arm what it names, and work."""
    parser = argparse.ArgumentParser(prog="python -m tieline.testing.killed", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="the folder with the tieline.toml")
    parser.add_argument("--gap", choices=[gap.name for gap in Gap], help="where it dies")
    parser.add_argument("--nth", type=int, default=1, help="at which passing of the gap, from 1")
    parser.add_argument("--how", choices=["kill", "stop"], default="kill")
    parser.add_argument("--lease", type=float, default=1.0, help="seconds for which a silent worker keeps its leases")
    said = parser.parse_args()
    log_to_stderr(verbose=False)
    with Failpoints() as points:
        if said.gap:
            arm = points.kill if said.how == "kill" else points.stop
            arm(Gap[said.gap], said.nth)
        return asyncio.run(work(said.project, said.lease))


if __name__ == "__main__":
    raise SystemExit(main())
