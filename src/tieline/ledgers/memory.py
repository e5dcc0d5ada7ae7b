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
    """A ledger of this process that is gone with it; `work` runs at once, without a thread or a pause.

    `backup` is what it begins with: an earlier ledger's `back_up`.
    """

    failures = sqlite3.Error
    durable = False

    def __init__(self, url: str = "memory://", backup: bytes = b"") -> None:
        super().__init__(url)
        self._backup = backup

    def back_up(self) -> bytes:
        """All that is in it now."""
        self._open()
        assert isinstance(self._session, SqliteSession)
        return self._session.dump()

    async def transact(self, work: Callable[[Stores], T], fences: Sequence[Fence] = ()) -> T:
        result, topics = self._transact(work, fences)
        if topics:
            self._bell.ring(topics)
        return result

    async def close(self) -> None:
        self._disconnect()

    def _connect(self) -> SqliteSession:
        session = SqliteSession(":memory:")
        if self._backup:
            session.load(self._backup)
        session.migrate(lambda: None, self.url)
        return session

    def _named(self, error: Exception) -> TielineError | None:
        return None
