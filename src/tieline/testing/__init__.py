"""For tests of flows and of Tieline itself: virtual time, simulated crashes, landscapes in memory, an oracle.

`ConnectorSuite`, `BusSuite` and `LedgerSuite` prove a keeper of that port, in a few lines of a test file.
Nothing that ships imports this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tieline.testing.failpoints import Crash, Failpoints
from tieline.testing.harness import Scene, Trial, Worker

if TYPE_CHECKING:
    from tieline.testing.bus import BusSuite
    from tieline.testing.connector import ConnectorSuite
    from tieline.testing.ledger import LedgerSuite

__all__ = ["BusSuite", "ConnectorSuite", "Crash", "Failpoints", "LedgerSuite", "Scene", "Trial", "Worker"]

_SUITES: Final = {"BusSuite": "bus", "ConnectorSuite": "connector", "LedgerSuite": "ledger"}


def __getattr__(name: str) -> Any:
    """The suites need pytest, and trials do not: a suite is imported when somebody asks for it."""
    if name not in _SUITES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_SUITES[name]}"), name)
