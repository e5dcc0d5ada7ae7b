"""Defects put in on purpose turn promises 1 and 2 red: what one commit keeps together, and which comes first.

That the same checks are green without them, the promises' own files show.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from tests.promises import test_01_nothing_is_lost as nothing_is_lost
from tests.promises import test_02_done_twice_is_done_once as done_once
from tests.promises.books import AuditedTrial
from tests.promises.checks import BOOKS, LOST, POINTS, TWICE, crash, one_interruption
from tests.promises.mutants import red
from tests.runner.company import CREATING

from tieline.connector import HeldRow, LegState
from tieline.ledger import Stores, Way
from tieline.runner.applying import Holding, Settlement, Waiting
from tieline.runner.claimed import ClaimedApplier
from tieline.runner.decide import Work
from tieline.runner.leg import Leg
from tieline.runner.reader import Reader
from tieline.runner.transactional import TransactionalApplier
from tieline.testing import clock

Patch = pytest.MonkeyPatch


def killed_while_it_calls() -> None:
    """A target that only creates, whose worker is killed at any point."""
    for number in POINTS:
        clock.run(one_interruption(number, CREATING, crash, calm=False))


async def looks_away(self: AuditedTrial) -> None:
    """The books are looked at in the end alone."""


def test_where_a_cursor_moves_before_its_messages_are_safe_a_kill_loses_them(monkeypatch: Patch) -> None:
    real = Reader._commit

    async def commit(
        self: Reader, changes: Any, addressed: Any, parked: Any, order: Any, at: Any, *rest: Any
    ) -> None:
        if at is not None:
            early = msgspec.structs.replace(self._state, cursor=at)
            await self._ledger.transact(lambda s: s.sources.put(self.plan.name, early), [self._fence])
        await real(self, changes, addressed, parked, order, at, *rest)

    monkeypatch.setattr(Reader, "_commit", commit)
    with red(LOST):
        nothing_is_lost.test_a_worker_killed_at_any_point_loses_nothing_and_does_nothing_twice()


def test_where_a_position_moves_before_the_call_is_confirmed_a_kill_loses_it(monkeypatch: Patch) -> None:
    real = ClaimedApplier.apply

    async def apply(self: Any, works: Any, moves: Mapping[int, LegState], holding: Holding, waiting: Any) -> None:
        name = self._desk.leg.name
        await self._desk.ledger.transact(lambda s: s.legs.move(name, holding.channel, moves), holding.fences())
        await real(self, works, moves, holding, waiting)

    monkeypatch.setattr(ClaimedApplier, "apply", apply)
    with red(BOOKS):  # for a moment it is nowhere, also where nobody is killed
        killed_while_it_calls()
    monkeypatch.setattr(AuditedTrial, "audit", looks_away)
    with red(LOST):
        killed_while_it_calls()


def test_where_records_are_seen_before_their_messages_are_safe_a_kill_loses_them(monkeypatch: Patch) -> None:
    real = Reader._commit

    async def commit(self: Reader, changes: Any, *rest: Any) -> None:
        rows = list(changes.rows.values())
        await self._ledger.transact(lambda s: s.seen.put(self.plan.name, rows), [self._fence])
        await real(self, changes, *rest)

    monkeypatch.setattr(Reader, "_commit", commit)
    with red(LOST):
        nothing_is_lost.test_a_worker_killed_at_any_point_loses_nothing_and_does_nothing_twice()


def test_where_records_are_seen_after_their_messages_the_way_back_is_hidden(monkeypatch: Patch) -> None:
    real = Reader._commit

    async def commit(self: Reader, changes: Any, *rest: Any) -> None:
        rows, changes.rows = list(changes.rows.values()), {}
        await real(self, changes, *rest)
        await self._ledger.transact(lambda s: s.seen.put(self.plan.name, rows), [self._fence])

    monkeypatch.setattr(Reader, "_commit", commit)
    with red(LOST):
        nothing_is_lost.test_a_source_that_goes_back_to_its_old_value_while_nobody_reads_is_believed()


def test_where_held_follows_its_rows_in_a_second_commit_what_is_sent_again_is_written_again(
    monkeypatch: Patch,
) -> None:
    park_first, tell_ledger = TransactionalApplier._park_first, TransactionalApplier._tell_ledger

    async def take_away(self: Any, settlement: Settlement, holding: Holding) -> None:
        await park_first(self, settlement, holding)
        self.held, settlement.held = settlement.held, []

    async def put_later(self: Any, settlement: Settlement, *rest: Any) -> None:
        async with self._connector.transaction() as tx:
            await tx.keep(self._desk.leg.entity.__name__, vars(self).pop("held", []))
        await tell_ledger(self, settlement, *rest)

    monkeypatch.setattr(TransactionalApplier, "_park_first", take_away)
    monkeypatch.setattr(TransactionalApplier, "_tell_ledger", put_later)
    with red(TWICE):
        done_once.test_what_is_sent_again_after_a_kill_anywhere_is_not_written_again()


def test_a_direct_leg_without_a_spool_loses_what_it_was_too_slow_for(monkeypatch: Patch) -> None:
    """It is handed its batches in the process, and has no place where they wait for it."""
    real = Leg._take

    async def take(self: Leg, way: Way, **rest: Any) -> Any:
        found, entities = await real(self, way, **rest)
        recent = self._handover._recent.get((way.channel, 0), ())
        return [delivery for delivery, _ in recent if delivery in found], entities

    monkeypatch.setattr(Leg, "_take", take)
    with red(LOST):
        nothing_is_lost.test_a_target_that_was_down_gets_all_that_it_missed_while_the_others_go_on("direct")


def with_held_after_the_books(patch: Patch) -> None:
    """What was called for is confirmed in a commit of its own, after position and counts."""
    keep, apply = ClaimedApplier._keep, ClaimedApplier.apply

    def put_off(self: Any, stores: Stores, rows: Sequence[HeldRow], settled: Sequence[Work]) -> None:
        vars(self).setdefault("put_off", []).append((rows, settled))

    async def apply_and_keep(self: Any, works: Any, moves: Any, holding: Holding, waiting: Waiting) -> None:
        await apply(self, works, moves, holding, waiting)
        for rows, settled in vars(self).pop("put_off", []):
            await self._desk.ledger.transact(lambda s, r=rows, w=settled: keep(self, s, r, w), holding.fences())

    patch.setattr(ClaimedApplier, "_keep", put_off)
    patch.setattr(ClaimedApplier, "apply", apply_and_keep)


def test_without_a_claim_a_kill_in_the_call_makes_a_second_row(monkeypatch: Patch) -> None:
    async def claim(self: ClaimedApplier, calls: Any, failures: Any, holding: Holding) -> Any:
        return calls

    monkeypatch.setattr(ClaimedApplier, "_claim", claim)
    with red(TWICE):
        killed_while_it_calls()


def test_with_a_claim_held_may_come_late_to_a_target_without_transactions(monkeypatch: Patch) -> None:
    """The claim is open until held is there: whoever finds it asks the target first. So this rule has two guards."""
    with_held_after_the_books(monkeypatch)
    killed_while_it_calls()
