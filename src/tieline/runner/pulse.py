"""Whether a worker shows the ledger that it lives, as it knows by itself."""

import time


class Pulse:
    """The worker's heartbeat, by this machine's clock: a beat counts for `lease` seconds.

    `failure` is why the last beat could not be given, where the ledger could not be reached.
    """

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.failure = ""
        self._beaten = time.monotonic()

    def beat(self) -> None:
        """The ledger has it."""
        self.failure = ""
        self._beaten = time.monotonic()

    def missed(self, why: str) -> None:
        """The ledger could not be reached."""
        self.failure = why

    @property
    def age(self) -> float:
        """Seconds since the last beat, or since the worker was made."""
        return time.monotonic() - self._beaten

    @property
    def stuck(self) -> bool:
        """No beat in time, and no reason: whoever should have given it hangs."""
        return not self.failure and self.age > self.lease

    @property
    def steady(self) -> bool:
        """The ledger has a beat that still counts."""
        return not self.failure and self.age <= self.lease
