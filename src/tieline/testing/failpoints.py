"""Arms the named places where a worker may die (`tieline.runner.gaps`): nothing else ever does.

In one process a `Crash` tears the worker down; in a process of its own SIGKILL does, or SIGSTOP
stops it where it is until somebody lets it go on.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from tieline.runner import gaps
from tieline.runner.gaps import Gap

Action = Callable[[], Awaitable[None]]


class Crash(BaseException):
    """A simulated `kill -9`. No `except Exception` catches it, and nothing may be tidied up after it."""


@dataclass(slots=True)
class _Point:
    place: Gap
    number: int
    action: Action


class Failpoints:
    """Lets something happen at the n-th passing of a gap, while it is entered.

    ``with Failpoints() as points: points.crash(Gap.COMMITTED, 2)``; `passed` counts every passing.
    """

    def __init__(self) -> None:
        self.passed: Counter[Gap] = Counter()
        self._points: list[_Point] = []

    def at(self, place: Gap, number: int, action: Action) -> None:
        """Await `action` at the n-th passing (from 1) of `place`."""
        self._points.append(_Point(place, number, action))

    def crash(self, place: Gap, number: int = 1) -> None:
        """Raise `Crash` there."""

        async def crash() -> None:
            raise Crash(f"at {place.name}")

        self.at(place, number, crash)

    def hold(self, place: Gap, number: int = 1) -> tuple[asyncio.Event, asyncio.Event]:
        """Wait there; gives (reached, go on)."""
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            reached.set()
            await go_on.wait()

        self.at(place, number, hold)
        return reached, go_on

    def kill(self, place: Gap, number: int = 1) -> None:
        """Send this process SIGKILL there."""
        self.at(place, number, _signal(signal.SIGKILL))

    def stop(self, place: Gap, number: int = 1) -> None:
        """Send this process SIGSTOP there: it stands until its parent sends SIGCONT."""
        self.at(place, number, _signal(signal.SIGSTOP))

    def __enter__(self) -> "Failpoints":
        if gaps.armed is not None:
            raise RuntimeError("gaps are armed already; leave the other Failpoints or Trial first")
        gaps.armed = self._pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        gaps.armed = None

    async def _pass(self, place: Gap) -> None:
        self.passed[place] += 1
        for point in self._points:
            if point.place is place and point.number == self.passed[place]:
                await point.action()


def _signal(number: signal.Signals) -> Action:
    async def send() -> None:
        os.kill(os.getpid(), number)
        # A signal to oneself has arrived when `kill` returns; were it late, nothing may happen meanwhile.
        await asyncio.sleep(_NEVER if number is signal.SIGKILL else 0)

    return send


_NEVER: Final = 3600.0


def from_text(text: str, points: Failpoints) -> None:
    """Arm what a text such as ``kill COMMITTED 2, stop CALLED`` says; for worker processes of tests."""
    for part in filter(None, (part.split() for part in text.split(","))):
        action, place, *number = part
        arm = {"kill": points.kill, "stop": points.stop}[action]
        arm(Gap[place], int(number[0]) if number else 1)
