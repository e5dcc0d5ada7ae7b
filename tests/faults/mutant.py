"""A worker with a defect that was put in on purpose: ``python mutant.py DEFECT --project DIR …``.

What it runs is the worker of `tieline.testing.killed`, with one method exchanged before it begins.
"""

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from tieline.runner import decide
from tieline.runner.claimed import ClaimedApplier
from tieline.runner.gaps import Gap, gap
from tieline.runner.reader import Reader
from tieline.runner.relay import Relay
from tieline.runner.transactional import TransactionalApplier
from tieline.testing import killed


def position_before_the_commit() -> None:
    """The leg moves on in the ledger before its target has committed."""
    real = TransactionalApplier.apply

    async def apply(self: Any, works: Any, moves: Any, holding: Any, waiting: Any) -> None:
        name = self._desk.leg.name
        await self._desk.ledger.transact(lambda s: s.legs.move(name, holding.channel, moves), holding.fences())
        await real(self, works, moves, holding, waiting)

    TransactionalApplier.apply = apply  # type: ignore[method-assign]


def held_in_a_second_commit() -> None:
    """The target keeps what it holds, and where the leg stands, in a commit after that of its rows."""
    real = TransactionalApplier.apply

    async def apply(self: Any, *rest: Any) -> None:
        first = self._connector
        self._connector = _InTwo(first)
        try:
            await real(self, *rest)
        finally:
            self._connector = first

    TransactionalApplier.apply = apply  # type: ignore[method-assign]


class _InTwo:
    """A connector whose transactions fall into two."""

    def __init__(self, connector: Any) -> None:
        self._connector = connector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        return self._two()

    @asynccontextmanager
    async def _two(self) -> AsyncIterator[Any]:
        async with self._connector.transaction() as tx:
            later = _Later(tx)
            yield later
        await gap(Gap.COMMITTED)
        async with self._connector.transaction() as tx:
            await later.make_good(tx)


class _Later:
    """A transaction that leaves everything but rows to the next one."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx
        self._left: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def keep(self, *arguments: Any) -> None:
        self._left.append(("keep", arguments))

    async def move(self, *arguments: Any) -> None:
        self._left.append(("move", arguments))

    async def make_good(self, tx: Any) -> None:
        for name, arguments in self._left:
            await getattr(tx, name)(*arguments)


def cursor_before_the_messages() -> None:
    """The source's cursor moves in a commit before that of the messages."""
    real = Reader._commit

    async def commit(
        self: Reader, changes: Any, addressed: Any, parked: Any, order: Any, at: Any, *rest: Any
    ) -> None:
        if at is not None:
            early = msgspec.structs.replace(self._state, cursor=at)
            await self._ledger.transact(lambda s: s.sources.put(self.plan.name, early), [self._fence])
            await gap(Gap.PUBLISHED)
        await real(self, changes, addressed, parked, order, at, *rest)

    Reader._commit = commit  # type: ignore[method-assign]


def no_claim() -> None:
    """A target without transactions is called, and nobody knows that it was."""

    async def claim(self: Any, calls: list[Any], failures: Any, holding: Any) -> list[Any]:
        return calls

    ClaimedApplier._claim = claim  # type: ignore[method-assign]


def relayed_before_it_is_published() -> None:
    """The relay moves on before the engine has acknowledged what it was given."""
    real = Relay._turn

    async def turn(self: Any, fence: Any) -> bool:
        first, later = self._bus, _Postponed()
        self._bus = later
        try:
            found = await real(self, fence)
        finally:
            self._bus = first
        if later.given:
            await gap(Gap.RELAYED)
        for given in later.given:
            await first.publish(*given)
        return found

    Relay._turn = turn  # type: ignore[method-assign]


class _Postponed:
    """A bus that says yes to everything, and has done nothing yet."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    async def publish(self, *given: Any) -> None:
        self.given.append(given)


def events_overtake() -> None:
    """An event does not wait behind a parked one of its subject."""
    real = decide._decide_one

    def decide_one(work: Any, decision: Any, target: Any, event: Any, parked: Any, blocked: Any, sure: Any) -> None:
        real(work, decision, target, event, parked, {}, sure)

    decide._decide_one = decide_one


def none() -> None:
    """As it is."""


DEFECTS: Mapping[str, Callable[[], None]] = {
    defect.__name__: defect
    for defect in (
        position_before_the_commit,
        held_in_a_second_commit,
        cursor_before_the_messages,
        no_claim,
        relayed_before_it_is_published,
        events_overtake,
        none,
    )
}

if __name__ == "__main__":
    DEFECTS[sys.argv.pop(1)]()
    raise SystemExit(killed.main())
