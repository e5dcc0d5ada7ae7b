"""For tests of flows and of Tieline itself: virtual time, simulated crashes, landscapes in memory, an oracle.

Nothing that ships imports this package.
"""

from tieline.testing.failpoints import Crash, Failpoints
from tieline.testing.harness import Scene, Trial, Worker

__all__ = ["Crash", "Failpoints", "Scene", "Trial", "Worker"]
