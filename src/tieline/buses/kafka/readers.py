"""The consumers of a bus: each taker finds the one that stands where it goes on."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from tieline.buses.kafka.reader import Reader, Topic

_FRESH: Final = 10.0  # seconds for which the place of an idle reader is kept for whoever goes on from it
_MOST: Final = 64  # idle readers of a bus


class Readers:
    """Lends readers out, each to one taker at a time. Thread-safe."""

    def __init__(self, make: Callable[[Topic], Reader]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Reader]] = []  # the one used longest ago first
        self._gone: set[Topic] = set()

    def lend(self, topic: Topic, after: Mapping[int, int]) -> Reader:
        """One that stands at these positions, or one that nobody has needed lately, or a new one."""
        with self._lock:
            stale = time.monotonic() - _FRESH
            chosen = next((n for n, (_, one) in enumerate(self._idle) if _stands(one, topic, after)), None)
            if chosen is None:
                free = (
                    n
                    for n, (used, one) in enumerate(self._idle)
                    if one.topic == topic and (used < stale or not one.at)  # or its last taker met a failure
                )
                chosen = next(free, None)
            if chosen is not None:
                return self._idle.pop(chosen)[1]
        return self._make(topic)

    def give_back(self, reader: Reader) -> None:
        """The taker has what it wanted."""
        with self._lock:
            surplus = reader
            if reader.topic not in self._gone:
                self._idle.append((time.monotonic(), reader))
                if len(self._idle) <= _MOST:
                    return
                surplus = self._idle.pop(0)[1]
        surplus.close()

    def drop(self, topic: Topic) -> None:
        """Nobody takes from this topic any more."""
        with self._lock:
            self._gone.add(topic)
            dropped = [one for _, one in self._idle if one.topic == topic]
            self._idle = [(used, one) for used, one in self._idle if one.topic != topic]
        for reader in dropped:
            reader.close()

    def close(self) -> None:
        """Let go of every reader that is not lent."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, reader in idle:
            reader.close()


def _stands(reader: Reader, topic: Topic, after: Mapping[int, int]) -> bool:
    return reader.topic == topic and reader.at == after
