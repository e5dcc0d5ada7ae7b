"""The throttle of a connector on its own: in a test, in `tieline check`, wherever no workers share the limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tieline.settings import Limits


class LocalThrottle:
    """So many calls a second, evenly spaced, and so many at once, by one connector on its own."""

    def __init__(self, limits: Limits) -> None:
        self._places = asyncio.Semaphore(max(1, limits.at_once))
        self._gap = 1.0 / limits.per_second if limits.per_second > 0 else 0.0
        self._next = 0.0

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Hold one of the places while the call lasts."""
        async with self._places:
            if self._gap:
                now = asyncio.get_running_loop().time()
                start = max(now, self._next)
                self._next = start + self._gap
                await asyncio.sleep(start - now)
            yield
