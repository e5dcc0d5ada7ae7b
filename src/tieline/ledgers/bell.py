"""Who waits for which topic, and what was rung since they last looked."""

import asyncio
from collections.abc import Iterable, Sequence
from threading import Lock


class Bell:
    """Rung from any thread, waited for in event loops. Rings between a look and a wait are not missed."""

    def __init__(self) -> None:
        self.rung = 0
        self._lock = Lock()
        self._last: dict[str, int] = {}  # topic: the value of `rung` it was last rung with
        self._everyone = 0  # the same for all topics at once
        self._heard: dict[str, int] = {}
        self._waiting: dict[asyncio.Event, tuple[asyncio.AbstractEventLoop, Sequence[str]]] = {}

    @property
    def awaited(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def ring(self, topics: Iterable[str] | None) -> None:
        """Wake who waits for one of the topics; None: everyone, as when rings may have been missed."""
        with self._lock:
            self.rung += 1
            if topics is None:
                self._everyone = self.rung
            else:
                self._last.update(dict.fromkeys(topics, self.rung))
            woken = [
                (event, loop)
                for event, (loop, wanted) in self._waiting.items()
                if topics is None or any(self._last.get(topic, 0) == self.rung for topic in wanted)
            ]
        for event, loop in woken:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def wait(self, topics: Sequence[str], seconds: float, since: int | None) -> None:
        """See `tieline.ledger.Ledger.wait`."""
        event = asyncio.Event()
        with self._lock:
            if self._rung(topics, since):
                event.set()
            self._waiting[event] = (asyncio.get_running_loop(), topics)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                del self._waiting[event]
                self._heard.update(dict.fromkeys(topics, self.rung))

    def _rung(self, topics: Sequence[str], since: int | None) -> bool:
        for topic in topics:
            known = self._heard.get(topic, 0) if since is None else since
            if max(self._everyone, self._last.get(topic, 0)) > known:
                return True
        return False
