"""The ledger in memory: for tests that run step by step, and for a first try."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from tieline.errors import TielineError
from tieline.ledger import Fence, Stores
from tieline.ledgers.base import SqlLedger
from tieline.ledgers.sqlite import SqliteSession

T = TypeVar("T")


class MemoryLedger(SqlLedger):
    """A ledger of this process that is gone with it; `work` runs at once, without a thread or a pause."""

    failures = sqlite3.Error
    durable = False

    def __init__(self, url: str = "memory://") -> None:
        super().__init__(url)

    async def transact(self, work: Callable[[Stores], T], fences: Sequence[Fence] = ()) -> T:
        return self._transact(work, fences)

    async def close(self) -> None:
        self._disconnect()

    def _connect(self) -> SqliteSession:
        session = SqliteSession(":memory:")
        session.migrate(lambda: None, self.url)
        return session

    def _named(self, error: Exception) -> TielineError | None:
        return None
