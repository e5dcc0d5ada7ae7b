"""A system's limits, shared by all workers of a ledger: permits are fetched ahead, in slices."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import structlog

from tieline.errors import LedgerUnavailable, TielineError
from tieline.ledger import Ledger, Stores
from tieline.runner.permits import HORIZON, Grant, Grid, Wish, ask
from tieline.settings import SystemSettings

log = structlog.get_logger()

EVERY: Final = 0.5  # seconds between slices
LATE: Final = 0.1  # seconds after its time for which a permit may be used
_SOON: Final = 0.05  # seconds between slices at least
_IDLE: Final = 1.0  # seconds without a call after which places are given back
_FADES: Final = 0.7  # what a slice leaves of the demand that was seen before it
_DRIFT: Final = 0.001  # seconds that two clocks may drift apart from slice to slice


def note_of(system: str) -> str:
    """The note in which the ledger keeps how a system's limits are divided."""
    return f"throttle/{system}"


class SharedThrottle:
    """One worker's part in the limits of one system. Costs nothing while nobody calls the system.

    Calls wait in the order in which they came. While the ledger is out of reach, what was granted is used up,
    and then no call begins any more.
    """

    def __init__(self, ledger: Ledger, system: SystemSettings, worker: str) -> None:
        self._ledger = ledger
        self._system = system.name
        self._limits = system.limits
        self._timeout = system.timeout
        self._worker = worker
        self._grid = Grid.of(system.limits)
        self._slots: deque[float] = deque()  # when calls may begin, by this process's clock
        self._places = 0
        self._until = -math.inf  # when what was granted ends, by this process's clock
        self._ahead: float | None = None  # how far the ledger's clock is ahead of this process's, at least
        self._open = 0
        self._waiting: deque[asyncio.Future[float]] = deque()
        self._used = 0  # permits since the last slice
        self._pace = 0.0  # permits used in a slice, lately
        self._most = 0  # calls that were open or waiting at once since the last slice
        self._busy = 0.0  # when a call began or ended last
        self._timer: asyncio.TimerHandle | None = None
        self._owes = False  # others wait for places that were held
        self._gave = False  # the last slice held permits
        self._reached = True  # the ledger was, the last time
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Wait for a permit and hold a place while the call lasts.

        Raises:
            LedgerUnavailable: where the ledger grants nothing because it cannot be reached.
        """
        await self._permit()
        try:
            yield
        finally:
            self._leave()

    async def close(self) -> None:
        """Give back what is held."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            with suppress(TielineError):
                await self._ledger.transact(partial(self._ask, wish=None))

    # -- calls -------------------------------------------------------------------------------------

    async def _permit(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            permit = loop.create_future()
            self._waiting.append(permit)
            self._most = max(self._most, self._open + len(self._waiting))
            self._serve()
            if not permit.done():
                self._look_after()
            try:
                until = await permit
            except asyncio.CancelledError:
                if permit.done() and not permit.cancelled() and permit.exception() is None:
                    self._leave()
                raise
            if loop.time() <= until:
                return
            self._leave()  # this process stood still meanwhile

    def _leave(self) -> None:
        self._open -= 1
        self._busy = asyncio.get_running_loop().time()
        self._serve()

    def _serve(self) -> None:
        """Let calls begin that may, and see to it that the next one will be."""
        now = asyncio.get_running_loop().time()
        while self._slots and self._slots[0] + LATE < now:
            self._slots.popleft()
        while self._waiting and self._open < self._places and now < self._until:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            until = self._until
            if self._grid is not None:
                if not self._slots:
                    break
                if self._slots[0] > now:
                    self._at(self._slots[0])
                    break
                until = min(until, self._slots.popleft() + LATE)
            self._open += 1
            self._used += 1
            self._busy = now
            self._waiting.popleft().set_result(until)
        if self._is_short():
            self._wake.set()

    def _at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(moment, self._serve)

    # -- slices ------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._slices(), name=f"throttle {self._system}")

    async def _slices(self) -> None:
        """Fetch permits ahead for as long as the system is called, and then give back what is held."""
        loop = asyncio.get_running_loop()
        while self._waiting or self._open or loop.time() - self._busy < _IDLE:
            began = loop.time()
            try:
                grant = await self._ledger.transact(partial(self._ask, wish=self._wish()))
            except Exception as error:  # whatever it is, those who wait for the answer shall hear of it
                self._refuse(error)
            else:
                self._take(grant, began, loop.time())
            await self._until_next(began)
        self._places = 0
        self._slots.clear()
        try:
            await self._ledger.transact(partial(self._ask, wish=None))
        except LedgerUnavailable as error:
            log.info("permits not given back", system=self._system, reason=str(error))
        if self._waiting and not self._closed:
            self._task = None
            self._look_after()

    def _ask(self, stores: Stores, wish: Wish | None) -> Grant:
        name = note_of(self._system)
        before, now, living = stores.notes.get(name), stores.now(), stores.leases.alive()
        kept, grant = ask(before, self._limits, self._timeout, self._worker, wish, now, living)
        stores.notes.put(name, kept if kept["members"] or kept["given"] else None)
        return grant

    def _wish(self) -> Wish:
        now = asyncio.get_running_loop().time()
        while self._slots and self._slots[0] + LATE < now:
            self._slots.popleft()
        used, most = self._used, max(self._most, self._open + len(self._waiting))
        self._used, self._most = 0, self._open + len(self._waiting)
        self._pace = max(used, self._pace * _FADES)
        has = slots = 0
        if self._grid is not None:
            has = len(self._slots) // self._grid.calls
            # Twice of what was used, so that demand may grow; all of it, where nearly all that came was used.
            per_slice = max(1, round(EVERY / self._grid.length))
            slots = math.ceil(2 * self._pace / self._grid.calls * self._grid.ahead / per_slice) + 1
            if self._waiting:
                slots = max(slots, math.ceil(len(self._waiting) / self._grid.calls))
            slots = min(slots, self._grid.ahead)
        return Wish(slots, has, min(most, self._limits.at_once), max(self._places, self._open))

    def _take(self, grant: Grant, began: float, ended: float) -> None:
        """What was granted, by this process's clock: never earlier than the ledger meant it."""
        self._reached = True
        if ended - began > HORIZON:
            return  # this process stood still, or the ledger did: nobody knows what it is by now
        low, high = grant.at - ended, grant.at - began
        known = self._ahead
        # Where one of the clocks was set, what was known of them is void.
        still = known is not None and low - _DRIFT <= known <= high + _DRIFT
        self._ahead = max(low, known - _DRIFT) if still and known is not None else low
        ahead = self._ahead
        self._slots = deque(sorted([*self._slots, *(slot - ahead for slot in grant.slots)]))
        self._places = min(grant.holds, grant.aim)
        self._owes = grant.aim < grant.holds
        self._gave = bool(grant.slots)
        self._until = began + grant.until - grant.at
        self._serve()

    def _refuse(self, error: Exception) -> None:
        """Nothing is granted: who still waits when all is used up, is told why."""
        self._reached = False
        if asyncio.get_running_loop().time() < self._until:
            return
        self._slots.clear()
        while self._waiting:
            permit = self._waiting.popleft()
            if not permit.done():
                why = f"{self._system} is not called: workers share its limits by the ledger, and {error}"
                permit.set_exception(LedgerUnavailable(why))

    async def _until_next(self, began: float) -> None:
        """Until the next slice is due: at once where calls wait for one, or others for places."""
        loop = asyncio.get_running_loop()
        while (left := began + EVERY - loop.time()) > 0:
            self._wake.clear()
            if not self._is_short():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), left)
            if self._is_short():
                await asyncio.sleep(max(0.0, began + _SOON - loop.time()))
                return

    def _is_short(self) -> bool:
        """Whether the next slice cannot wait: calls do, and the last gave something; or others wait for places."""
        if self._owes:
            return self._open <= self._places
        lapsed = asyncio.get_running_loop().time() >= self._until
        used_up = self._grid is not None and not self._slots and self._gave
        return bool(self._waiting) and self._reached and (lapsed or used_up)
