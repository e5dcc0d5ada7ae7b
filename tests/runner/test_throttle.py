"""Limits shared by workers, in virtual time: three workers call one system, which writes down what it sees."""

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tieline.errors import LedgerUnavailable
from tieline.local_throttle import LocalThrottle
from tieline.runner.throttle import EVERY, LATE, SharedThrottle
from tieline.settings import Limits, SystemSettings
from tieline.testing import clock
from tieline.testing.harness import _TimedLedger
from tieline.throttle import Throttle

TIMEOUT = 3.0  # seconds that a call may last


@dataclass
class Called:
    """The system: when calls began, by whom, and how many were open."""

    pause: float = 0.05
    began: list[float] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    open: int = 0
    most: int = 0

    async def take(self, worker: str) -> None:
        self.began.append(asyncio.get_running_loop().time())
        self.by.append(worker)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(self.pause * random.uniform(0.5, 1.5))
        finally:
            self.open -= 1

    def busiest(self, seconds: float = 1.0) -> int:
        """The most calls that began within so many seconds."""
        return max(bisect_left(self.began, start + seconds) - n for n, start in enumerate(self.began))

    def rate(self, since: float, until: float, worker: str = "") -> float:
        """Calls a second, of one worker or all, in a span of time."""
        calls = [by for at, by in zip(self.began, self.by, strict=True) if since <= at < until]
        return sum(worker in {"", by} for by in calls) / (until - since)


class Reached:
    """The ledger as one worker reaches it: after a while, not at all, or too late for one that stands still."""

    def __init__(self, ledger: _TimedLedger) -> None:
        self.ledger = ledger
        self.away = False
        self.calls = 0
        self.going = asyncio.Event()
        self.going.set()

    async def transact(self, work: Callable[..., Any]) -> Any:
        self.calls += 1
        await asyncio.sleep(random.uniform(0.001, 0.02))
        await self.going.wait()
        if self.away:
            raise LedgerUnavailable("it is away")
        result = await self.ledger.transact(work)
        await asyncio.sleep(random.uniform(0.001, 0.02))
        await self.going.wait()
        return result


class Caller:
    """A worker with so many callers, each of which calls again `gap` seconds after it was answered."""

    def __init__(
        self, name: str, called: Called, ledger: _TimedLedger, limits: Limits, callers: int = 4, gap: float = 0.0
    ) -> None:
        self.name = name
        self.reached = Reached(ledger)
        self.throttle: Throttle = SharedThrottle(
            self.reached,  # type: ignore[arg-type]
            SystemSettings("shop", "http://shop", limits=limits, timeout=TIMEOUT),
            name,
        )
        self.refused = 0
        self._called = called
        self._gap = gap
        self.tasks = [asyncio.create_task(self._calls()) for _ in range(callers)]

    async def _calls(self) -> None:
        while True:
            try:
                async with self.throttle.call():
                    await self.reached.going.wait()
                    await self._called.take(self.name)
            except LedgerUnavailable:
                self.refused += 1
                await asyncio.sleep(0.5)
            await asyncio.sleep(self._gap)

    async def die(self) -> None:
        """kill -9: nothing is given back."""
        task = self.throttle._task if isinstance(self.throttle, SharedThrottle) else None
        doomed = [*self.tasks, *([task] if task else [])]
        self.reached.going.clear()
        for one in doomed:
            one.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        self.throttle = LocalThrottle(Limits())

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if isinstance(self.throttle, SharedThrottle):
            await self.throttle.close()


def three(limits: Limits, play: Callable[..., Any], callers: int = 4, **more: Any) -> Called:
    """Play with three workers who call as much as they may."""
    called = Called(**more)

    async def main() -> None:
        random.seed(7)
        ledger = _TimedLedger()
        workers = [Caller(name, called, ledger, limits, callers) for name in ("a", "b", "c")]
        try:
            await play(*workers)
        finally:
            for worker in workers:
                await worker.end()

    clock.run(main())
    return called


def kept_within(called: Called, limits: Limits) -> None:
    """Never more at the same time, nor in any second, than the limits say; the tolerance is what comes late."""
    assert called.most <= limits.at_once, f"{called.most} calls at once"
    if limits.per_second:
        late = LATE + 0.04  # what an answer of the ledger takes
        most = limits.per_second * (1 + late) + 1
        assert called.busiest() <= most, f"{called.busiest()} calls in a second"


@pytest.mark.parametrize("per_second", [0.5, 7, 40, 400])
def test_three_workers_call_as_often_as_one_may(per_second: float) -> None:
    """The sum of their calls keeps within the limit in every second, and comes near it."""
    limits = Limits(per_second=per_second, at_once=60)
    seconds = 10 if per_second > 1 else 60

    async def play(*_: Caller) -> None:
        await asyncio.sleep(seconds)

    called = three(limits, play, callers=20)
    kept_within(called, limits)
    assert called.rate(1, seconds) >= 0.9 * per_second
    for worker in "abc":
        assert called.rate(1, seconds, worker) >= 0.2 * per_second, worker


@pytest.mark.parametrize("at_once", [1, 2, 4, 6])
def test_three_workers_have_no_more_calls_open_than_one_may(at_once: int) -> None:
    """Places are shared too; where there are fewer than workers, they take turns."""
    limits = Limits(at_once=at_once)

    async def play(*_: Caller) -> None:
        await asyncio.sleep(20)

    called = three(limits, play)
    kept_within(called, limits)
    assert called.rate(2, 20) >= 0.8 * at_once / called.pause
    for worker in "abc":
        assert called.rate(2, 20, worker) >= 0.15 * at_once / called.pause, worker


def test_workers_of_which_each_keeps_the_limits_alone_exceed_them() -> None:
    """The mutant: with limits for each of them, the same check fails."""
    limits = Limits(per_second=40, at_once=4)

    async def play(*workers: Caller) -> None:
        for worker in workers:
            worker.throttle = LocalThrottle(limits)
        await asyncio.sleep(5)

    with pytest.raises(AssertionError, match="calls at once"):
        kept_within(three(limits, play), limits)
    with pytest.raises(AssertionError, match="in a second"):
        kept_within(three(limits, play, pause=0.001), limits)


def test_the_share_of_a_killed_worker_goes_to_the_others() -> None:
    """Its calls a second at once, its places when no call of it can be open any more; and never too many."""
    limits = Limits(per_second=40, at_once=6)

    async def play(a: Caller, b: Caller, c: Caller) -> None:
        await asyncio.sleep(5)
        await c.die()
        await asyncio.sleep(10)

    called = three(limits, play)
    kept_within(called, limits)
    assert called.rate(8, 15, "c") == 0
    assert called.rate(8, 15) >= 0.9 * 40

    limits = Limits(at_once=6)
    called = three(limits, play)
    kept_within(called, limits)
    assert called.rate(10, 15) >= 0.85 * 6 / called.pause


def test_a_worker_that_joins_gets_its_share_within_seconds() -> None:
    """The others make room, of their slots and of their places."""
    limits = Limits(per_second=40, at_once=3)
    called = Called(pause=0.04)

    async def main() -> None:
        random.seed(3)
        ledger = _TimedLedger()
        workers = [Caller(name, called, ledger, limits) for name in ("a", "b")]
        await asyncio.sleep(5)
        workers.append(Caller("c", called, ledger, limits))
        await asyncio.sleep(8)
        for worker in workers:
            await worker.end()

    clock.run(main())
    kept_within(called, limits)
    assert called.rate(7, 13, "c") >= 0.25 * called.rate(7, 13)
    assert called.rate(7, 13) >= 0.8 * 40


def test_a_frozen_worker_calls_nothing_on_what_it_was_granted_before() -> None:
    """It thaws, finds its permits void and its places perhaps with others, and asks again."""
    limits = Limits(per_second=40, at_once=3)

    async def play(a: Caller, b: Caller, c: Caller) -> None:
        for seconds in (0.3, 1.0, 2.0, 6.0):
            await asyncio.sleep(2)
            with standing_still(c):
                await asyncio.sleep(seconds)
        await asyncio.sleep(3)

    called = three(limits, play)
    kept_within(called, limits)


def test_a_permit_that_came_while_the_worker_stood_still_is_void() -> None:
    """It was let go on, and before it could begin its call others were given its place: it waits anew."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, clock.VirtualLoop)
        settings = SystemSettings("shop", "http://shop", limits=Limits(per_second=10, at_once=1), timeout=TIMEOUT)
        throttle = SharedThrottle(Reached(_TimedLedger()), settings, "a")  # type: ignore[arg-type]
        serve, stood = throttle._serve, [0.0]

        def standing() -> None:
            used = throttle._used
            serve()
            if throttle._used > used and not stood[0]:
                loop.moving.now += 5.0
                stood[0] = loop.time()

        throttle._serve = standing  # type: ignore[method-assign]
        async with throttle.call():
            assert stood[0]
            assert loop.time() > stood[0] + 0.001, "it called on a permit of five seconds ago"
            assert loop.time() < throttle._until
        await throttle.close()

    clock.run(main())


class standing_still:
    """A worker does nothing meanwhile, not even what its timers were set for."""

    def __init__(self, worker: Caller) -> None:
        self._worker = worker
        assert isinstance(worker.throttle, SharedThrottle)
        self._throttle = worker.throttle

    def __enter__(self) -> None:
        self._worker.reached.going.clear()
        self._serve = self._throttle._serve
        self._throttle._serve = lambda: None  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        del self._throttle._serve
        self._worker.reached.going.set()
        self._throttle._serve()


def test_who_calls_seldom_leaves_the_rest_to_who_calls_much() -> None:
    """One worker calls twice a second and waits little for it; the other has all that is left."""
    limits = Limits(per_second=40, at_once=4)
    called = Called()

    async def main() -> None:
        random.seed(5)
        ledger = _TimedLedger()
        much = Caller("much", called, ledger, limits, callers=8)
        seldom = Caller("seldom", called, ledger, limits, callers=1, gap=0.5)
        await asyncio.sleep(12)
        for worker in (much, seldom):
            await worker.end()

    clock.run(main())
    kept_within(called, limits)
    assert called.rate(2, 12, "much") >= 0.75 * 40
    assert called.rate(2, 12, "seldom") >= 1.0


def test_a_slice_of_permits_costs_one_ledger_call_however_many_calls_it_is_for() -> None:
    """About two a second and worker while it calls, and none while it does not."""
    limits = Limits(per_second=400, at_once=60)
    spent: list[int] = []

    async def play(*workers: Caller) -> None:
        await asyncio.sleep(2)
        before = sum(worker.reached.calls for worker in workers)
        await asyncio.sleep(10)
        spent.append(sum(worker.reached.calls for worker in workers) - before)
        for worker in workers:
            for task in worker.tasks:
                task.cancel()
        await asyncio.sleep(5)
        before = sum(worker.reached.calls for worker in workers)
        await asyncio.sleep(60)
        spent.append(sum(worker.reached.calls for worker in workers) - before)

    called = three(limits, play, callers=20)
    assert len(called.began) > 3_000
    assert spent[0] <= 3 * 10 / EVERY * 2
    assert spent[1] == 0


def test_while_the_ledger_is_away_nothing_is_called_and_callers_are_told() -> None:
    """What was granted is used up; then calls fail as what they are, and go on when the ledger is back."""
    limits = Limits(per_second=40, at_once=6)

    async def play(*workers: Caller) -> None:
        await asyncio.sleep(3)
        for worker in workers:
            worker.reached.away = True
        await asyncio.sleep(7)
        assert all(worker.refused for worker in workers)
        for worker in workers:
            worker.reached.away = False
        await asyncio.sleep(5)

    called = three(limits, play)
    kept_within(called, limits)
    assert called.rate(5, 10) == 0
    assert called.rate(12, 15) >= 0.8 * 40


def test_a_ledger_whose_clock_is_set_stops_nobody() -> None:
    """An hour back, and an hour on: after a moment calls go on, within the limits."""
    limits = Limits(per_second=40, at_once=6)

    async def play(*workers: Caller) -> None:
        ledger = workers[0].reached.ledger
        await ledger.transact(lambda stores: None)
        session = ledger._session
        for shift in (0.0, -3600.0, 3600.0):
            session.now = lambda shift=shift: clock.now() + shift  # type: ignore[union-attr, method-assign, misc]
            await asyncio.sleep(5)

    called = three(limits, play)
    assert called.most <= 6
    assert called.busiest() <= 2 * 40
    for since in (2, 7, 12):
        assert called.rate(since, since + 3) >= 0.8 * 40
