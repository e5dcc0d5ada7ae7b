"""What the SQL ledgers share: one connection on one thread, and who waits for what."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, Final, TypeVar

from tieline.errors import LedgerUnavailable, TielineError
from tieline.ledger import Fence, Stores
from tieline.ledgers.bell import Bell
from tieline.ledgers.dialect import Session
from tieline.ledgers.sql import SqlStores
from tieline.ledgers.stores.leases import TakeOver

T = TypeVar("T")

_ATTEMPTS: Final = 30
_PAUSE: Final = 0.005  # seconds before the second attempt; longer before each later one


class Again(LedgerUnavailable):
    """The database undid a transaction in favour of another one: it may simply run again."""


class SqlLedger(ABC):
    """A ledger that connects at its first transaction, and again after a loss.

    `work` runs on the ledger's own thread. A transaction that the database undid in favour of another
    one (both wrote the same row, or locked each other out) is run again.
    """

    failures: ClassVar[type[Exception]]  # the root of the driver's errors
    durable: bool = True

    def __init__(self, url: str) -> None:
        self.url = url
        self._bell = Bell()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tieline-ledger")
        self._closed = False
        self._session: Session | None = None
        self._stores: SqlStores | None = None

    @property
    def rung(self) -> int:
        return self._bell.rung

    async def transact(self, work: Callable[[Stores], T], fences: Sequence[Fence] = ()) -> T:
        job = self._thread.submit(self._transact, work, fences)
        try:
            result, topics = await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            job.add_done_callback(self._ring_all_the_same)  # nobody waits for it any more, and it may be kept
            raise
        # Here and not on the thread: who awaits this goes on before those who are woken.
        if topics:
            self._bell.ring(topics)
        return result

    def _ring_all_the_same(self, job: "Future[tuple[Any, list[str]]]") -> None:
        if not job.cancelled() and job.exception() is None and (topics := job.result()[1]):
            self._bell.ring(topics)

    def listen(self, topics: Sequence[str], heard: Callable[[], None]) -> Callable[[], None]:
        return self._bell.listen(topics, heard)

    async def wait(self, topics: Sequence[str], seconds: float, since: int | None = None) -> None:
        await self._bell.wait(topics, seconds, since)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)

    @abstractmethod
    def _connect(self) -> Session:
        """An open connection, its tables up to date."""

    @abstractmethod
    def _named(self, error: Exception) -> TielineError | None:
        """The error of ours for one of the driver's; None where it is a mistake in the statement."""

    def _transact(self, work: Callable[[Stores], T], fences: Sequence[Fence]) -> tuple[T, list[str]]:
        wanted: TakeOver | None = None
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                stores = self._open()
                if wanted is not None:
                    stores.take_over(wanted)
                    wanted = None
                return stores.inside(work, fences)
            except TakeOver as leases:
                wanted = leases
            except self.failures as error:
                named = self._named(error)
                if named is None:
                    raise
                if not isinstance(named, Again) or attempt == _ATTEMPTS:
                    raise named from error
                time.sleep(_PAUSE * attempt * random.random())  # noqa: S311 - so that two do not meet again
        raise Again(f"ledger {self.url}: others took the same leases, and lost them again, {_ATTEMPTS} times")

    def _open(self) -> SqlStores:
        if self._stores is None:
            self._session = self._connect()
            self._stores = SqlStores(self._session)
        return self._stores

    def _disconnect(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = self._stores = None
