"""A project opened by a command that does not run it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tieline.assembly import close_all, open_buses, open_connectors, open_ledger
from tieline.bus import Bus
from tieline.errors import ConfigurationError
from tieline.ledger import Ledger, Stores
from tieline.runner.plan import SourcePlan, build
from tieline.system import Landscape


class Opened(NamedTuple):
    """A landscape's ledger, its buses, and its flows with their connectors."""

    ledger: Ledger
    buses: dict[str, Bus]
    plans: list[SourcePlan]


@asynccontextmanager
async def opened(landscape: Landscape, only: set[str] | None = None) -> AsyncIterator[Opened]:
    """Ledger, buses and plans (of the flows wanted) with their connectors, which are closed behind it.

    Raises:
        ConfigurationError: with everything that does not fit together.
    """
    connectors, mistakes = open_connectors(landscape)
    ledger = open_ledger(landscape.store, landscape.folder)
    buses: dict[str, Bus] = {}
    try:
        if mistakes:
            raise ConfigurationError(*mistakes)
        buses = open_buses(landscape, ledger)
        yield Opened(ledger, buses, build(landscape, connectors, only))
    finally:
        for connector in connectors.values():
            await connector.close()
        await close_all(buses, ledger)


def workers(stores: Stores) -> list[str]:
    """The workers that run, or ran a moment ago."""
    return sorted(owner for name, owner in stores.leases.holders().items() if name.startswith("worker:"))
