"""A run to the end on real keepers, in real time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tieline.assembly import close_all, open_buses, open_ledger
from tieline.ledger import ParkedRow
from tieline.runner import Runner
from tieline.system import Landscape
from tieline.testing.oracle import Account, accounts


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run leaves behind: the books of each leg, and what waits."""

    accounts: Sequence[Account]
    parked: Sequence[ParkedRow]


def run_once(landscape: Landscape, paused: Sequence[str] = ()) -> Ended:
    """Run a worker as `tieline run --once` does, on the landscape's own store; these legs find their target down."""

    async def run() -> Ended:
        ledger = open_ledger(landscape.store, landscape.folder)
        buses = open_buses(landscape, ledger)
        try:
            report = await asyncio.wait_for(Runner(landscape, ledger, buses).run(once=True), 60)
            assert not report.failed, report.failed
            assert sorted(report.paused) == sorted(paused), report.paused
            return Ended(await ledger.transact(accounts), await ledger.transact(lambda s: s.parked.list()))
        finally:
            await close_all(buses, ledger)

    return asyncio.run(run())
