"""Time that passes only while everybody waits: a day of retries runs in a moment, the same way each time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

EPOCH: Final = 1_800_000_000.0
"""Seconds since 1970 at which the loop's clock, which counts from nought, begins."""

_PATIENCE: Final = 5.0  # real seconds
_BUSY: Final = 50_000  # turns of the loop without a pause
_TURN: Final = 1e-6  # seconds that a turn takes


class _Selector(selectors.DefaultSelector):
    """Never blocks: where the loop would sleep, its clock is put forward instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.give_up: Callable[[str], object] = lambda why: None
        self._turns = 0  # since the clock moved last

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += _TURN
        found = super().select(0)
        if found or timeout == 0:
            self._turns += 1
            if self._turns > _BUSY:
                self._turns = 0
                self.give_up(f"somebody is busy without end at {self.now:.3f} s")
            return found
        self._turns = 0
        if timeout is None:
            # Only another thread could still wake this loop.
            found = super().select(_PATIENCE)
            if not found:
                self.give_up("everybody waits for something that nobody will do")
            return found
        self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own that jumps over idle time."""

    def __init__(self) -> None:
        self.moving = _Selector()
        super().__init__(self.moving)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.moving.now


def now() -> float:
    """Seconds since 1970 by the running loop's clock."""
    return EPOCH + asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, in virtual time.

    Raises:
        RuntimeError: where everybody waits for ever, or somebody is busy and no time passes.
    """
    reasons: list[str] = []

    async def guarded() -> T:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        assert task is not None
        assert isinstance(loop, VirtualLoop)

        def give_up(why: str) -> None:
            reasons.append(why)
            loop.call_soon_threadsafe(task.cancel)

        loop.moving.give_up = give_up
        return await main

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        try:
            return runner.run(guarded())
        except asyncio.CancelledError:
            if reasons:
                raise RuntimeError(reasons[0]) from None
            raise
