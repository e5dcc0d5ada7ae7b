"""Who waits for or listens to which topic, and what was rung since they last looked."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

Heard = Callable[[], None]


class Bell:
    """Rung from any thread, heard in event loops. Rings between a look and a wait are not missed.

    A ring costs as much as there are waiters for its own topics, however many wait for others.
    """

    def __init__(self) -> None:
        self.rung = 0
        self._lock = Lock()
        self._last: dict[str, int] = {}  # topic: the value of `rung` it was last rung with
        self._everyone = 0  # the same for all topics at once
        self._heard: dict[str, int] = {}
        self._calls: dict[str, dict[Heard, asyncio.AbstractEventLoop]] = {}

    @property
    def awaited(self) -> bool:
        """Whether anybody waits or listens."""
        return bool(self._calls)

    def ring(self, topics: Iterable[str] | None) -> None:
        """Wake who waits for one of the topics; None: everyone, as when rings may have been missed."""
        with self._lock:
            self.rung += 1
            if topics is None:
                self._everyone = self.rung
                rung = [calls for calls in self._calls.values() if calls]
            else:
                topics = list(topics)
                self._last.update(dict.fromkeys(topics, self.rung))
                rung = [calls for topic in topics if (calls := self._calls.get(topic))]
            woken: dict[asyncio.AbstractEventLoop, dict[Heard, None]] = {}
            for calls in rung:
                for call, loop in calls.items():
                    woken.setdefault(loop, {})[call] = None
        for loop, heard in woken.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, heard)

    def listen(self, topics: Sequence[str], heard: Heard) -> Heard:
        """See `tieline.ledger.Ledger.listen`."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for topic in topics:
                self._calls.setdefault(topic, {})[heard] = loop

        def stop() -> None:
            with self._lock:
                for topic in topics:
                    calls = self._calls.get(topic, {})
                    calls.pop(heard, None)
                    if not calls:
                        self._calls.pop(topic, None)

        return stop

    async def wait(self, topics: Sequence[str], seconds: float, since: int | None) -> None:
        """See `tieline.ledger.Ledger.wait`."""
        event = asyncio.Event()
        stop = self.listen(topics, event.set)
        with self._lock:
            if self._rung(topics, since):
                event.set()
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            stop()
            with self._lock:
                self._heard.update(dict.fromkeys(topics, self.rung))

    def _rung(self, topics: Sequence[str], since: int | None) -> bool:
        for topic in topics:
            known = self._heard.get(topic, 0) if since is None else since
            if max(self._everyone, self._last.get(topic, 0)) > known:
                return True
        return False


def _tell(calls: Iterable[Heard]) -> None:
    for call in calls:
        call()
