"""One thread with one connection: where a blocking driver meets the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from tieline.connectors.sql.dialect import AnyDialect, Session
from tieline.errors import Unavailable

T = TypeVar("T")


class CommitLost(Unavailable):
    """The connection broke at the commit: nobody knows what became of it."""


class Lane:
    """Runs work on its own thread, one piece after the other, on a connection made at first use."""

    def __init__(self, name: str, dialect: AnyDialect, *, writing: bool) -> None:
        self._dialect = dialect
        self._writing = writing
        self._session: Session | None = None
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, f"tieline-{name}")

    async def run(self, work: Callable[[Session], T], *, repeatable: bool = False) -> T:
        """Run `work` with the connection; driver's errors come as Tieline's.

        A connection that broke while nobody used it is no outage: `repeatable` work is tried once
        more on a new one. A caller that is cancelled leaves the work running to its end.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._twice if repeatable else self._attempt, work
        )

    async def begin(self, work: Callable[[Session], T], *, writing: bool) -> T:
        """Begin a transaction, for which a broken connection is replaced, and run its first work."""

        def both() -> T:
            self._twice(lambda session: session.begin(writing=writing))
            return self._attempt(work)

        return await asyncio.get_running_loop().run_in_executor(self._thread, both)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Turn"]:
        """A turn at the connection, in a transaction that begins with its first work; others wait.

        It is committed on leaving, and rolled back on any error.
        """
        async with self._turn:
            turn = Turn(self)
            try:
                yield turn
                await turn.commit()
            except BaseException:
                # Queued on the same thread, so that it comes after work whose caller was cancelled.
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._let_go))
                raise

    async def close(self) -> None:
        """Let go of the connection and the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)

    def _twice(self, work: Callable[[Session], T]) -> T:
        aged = self._session is not None
        try:
            return self._attempt(work)
        except Unavailable:
            if not aged:
                raise
        return self._attempt(work)

    def _attempt(self, work: Callable[[Session], T]) -> T:
        try:
            if self._session is None:
                self._session = self._dialect.connect(writing=self._writing)
            return work(self._session)
        except Unavailable:
            self._drop()
            raise
        except self._dialect.errors as error:
            problem = self._dialect.problem(error)
            if isinstance(problem, Unavailable):
                self._drop()
            elif not self._writing:
                self._let_go()
            raise problem from error

    def commit(self, session: Session) -> None:
        """Commit what the session has begun; runs on the thread.

        Raises:
            CommitLost: when nobody can tell whether that happened.
        """
        try:
            session.commit()
        except self._dialect.errors as error:
            if self._dialect.leaves_open(error):
                raise CommitLost(f"lost at the commit: {self._dialect.problem(error)}") from error
            raise

    def _let_go(self) -> None:
        """End a transaction that was left open, so that it holds no lock."""
        if self._session is not None:
            try:
                self._session.rollback()
            except self._dialect.errors:
                self._drop()

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(*self._dialect.errors):
                session.close()


class Turn:
    """A transaction's hold on its connection: what runs here runs inside it, or not at all."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._session: Session | None = None
        self._later: list[Callable[[Session], object]] = []

    async def run(self, work: Callable[[Session], T], *, writing: bool = True) -> T:
        """Run `work` in the transaction; the first work says whether it begins as a writer's.

        Raises:
            Unavailable: also when the connection broke earlier; a new one is in no transaction.
        """
        if self._session is None:
            return await self._lane.begin(partial(self._first, work), writing=writing)
        return await self._lane.run(partial(self._inside, work))

    def later(self, work: Callable[[Session], object]) -> None:
        """Run `work` in the transaction before what comes next, the commit at the latest; its failure shows there."""
        self._later.append(work)

    async def commit(self) -> None:
        """Commit, if anything was begun."""
        if self._later and self._session is None:
            await self.run(lambda session: None)
        if self._session is not None:
            await self.run(self._lane.commit)

    def _first(self, work: Callable[[Session], T], session: Session) -> T:
        self._session = session
        return self._inside(work, session)

    def _inside(self, work: Callable[[Session], T], session: Session) -> T:
        if session is not self._session:
            raise Unavailable("the connection broke inside the transaction")
        later, self._later = self._later, []
        for one in later:
            one(session)
        return work(session)
