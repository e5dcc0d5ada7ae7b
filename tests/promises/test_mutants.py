"""Each defect, put in on purpose, turns the check of its promise red."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from tests.promises.checks import nothing_is_lost

from tieline.connector import LegState
from tieline.runner.claimed import ClaimedApplier
from tieline.runner.doubts import Doubts
from tieline.runner.reader import Reader
from tieline.testing import clock


def test_a_cursor_that_moves_before_its_messages_are_safe_loses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Reader._commit

    async def commit(
        self: Reader, changes: Any, addressed: Any, parked: Any, order: Any, at: Any, *rest: Any
    ) -> None:
        if at is not None:
            early = msgspec.structs.replace(self._state, cursor=at)
            await self._ledger.transact(lambda s: s.sources.put(self.plan.name, early), [self._fence])
        await real(self, changes, addressed, parked, order, at, *rest)

    monkeypatch.setattr(Reader, "_commit", commit)
    with pytest.raises(AssertionError):
        clock.run(nothing_is_lost())


def test_a_position_that_moves_before_the_call_is_confirmed_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ClaimedApplier.apply

    async def apply(self: Any, works: Any, moves: Mapping[int, LegState], holding: Any, waiting: Any) -> None:
        name = self._desk.leg.name
        await self._desk.ledger.transact(lambda s: s.legs.move(name, holding.channel, moves), holding.fences())
        await real(self, works, moves, holding, waiting)

    monkeypatch.setattr(ClaimedApplier, "apply", apply)
    with pytest.raises(AssertionError):
        clock.run(nothing_is_lost())


def test_a_blind_retry_of_a_call_in_doubt_does_it_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async def settle(self: Doubts, calls: Sequence[Any], waiting: Any, failures: Any) -> tuple[list[Any], list[Any]]:
        return list(calls), []

    monkeypatch.setattr(Doubts, "settle", settle)
    with pytest.raises(AssertionError):
        clock.run(nothing_is_lost())
