"""Defects put in on purpose turn promises 1, 2, 3 and 5 red: what is counted once, compared, asked for first.

That the same checks are green without them, the promises' own files show.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.promises import test_01_nothing_is_lost as nothing_is_lost
from tests.promises import test_02_done_twice_is_done_once as done_once
from tests.promises import test_03_one_bad_record_stops_only_itself as only_itself
from tests.promises import test_05_nothing_vanishes as nothing_vanishes
from tests.promises import test_07_late_commits_and_deletes as late_or_gone
from tests.promises.checks import BOOKS, LOST, POINTS, STUCK, TWICE, crash, freeze
from tests.promises.mutants import red
from tests.runner.cells import run_in_virtual_time
from tests.runner.company import CREATING, MERGING, SQL, Kind

from tieline.bus import Delivery
from tieline.connector import LegState
from tieline.ledger import ParkedRow, Way
from tieline.ledgers.stores.parked import SqlParked
from tieline.runner import applying, decide, leg
from tieline.runner.applying import Holding, Settlement, Waiting
from tieline.runner.claimed import ClaimedApplier
from tieline.runner.decide import Decision, Work
from tieline.runner.doubts import Call, Doubts
from tieline.runner.leg import Leg
from tieline.runner.reader import Reader
from tieline.runner.transactional import TransactionalApplier
from tieline.testing import clock

Patch = pytest.MonkeyPatch


# -- what is counted once --------------------------------------------------------------------------------


def without_batch_numbers(patch: Patch) -> None:
    """A leg takes whatever its way brings, had or not."""
    real = Leg._works

    def works(self: Leg, deliveries: Sequence[Delivery], entities: Any, way: Way) -> Any:
        states = self._holding.states
        self._holding.states = {p: msgspec.structs.replace(state, sequence=0) for p, state in states.items()}
        found = [real(self, [one], entities, way) for one in deliveries]
        self._holding.states = states
        moves: dict[int, LegState] = {}
        for _, to in found:
            moves |= to
        return [work for some, _ in found for work in some], moves

    patch.setattr(Leg, "_works", works)


def test_without_batch_numbers_what_is_published_twice_is_counted_twice(monkeypatch: Patch) -> None:
    without_batch_numbers(monkeypatch)
    with red(BOOKS):
        done_once.test_a_batch_that_is_published_twice_is_had_once()


def test_where_nobody_knows_again_what_is_parked_it_is_counted_twice(monkeypatch: Patch) -> None:
    monkeypatch.setattr(decide, "is_parked_as", lambda work, row: False)
    monkeypatch.setattr(leg, "is_parked_as", lambda work, row: False)
    with red(BOOKS):
        nothing_vanishes.test_a_message_that_fails_is_counted_once_wherever_its_worker_stops(SQL, crash)


def test_where_a_retry_does_not_wait_until_its_message_is_passed_it_is_counted_twice(monkeypatch: Patch) -> None:
    real = Leg._again

    def again(self: Leg, row: ParkedRow, way: Way) -> Work | None:
        work = real(self, msgspec.structs.replace(row, position=0), way)
        if work is not None:
            work.sequence, work.parked = row.position, row
        return work

    monkeypatch.setattr(Leg, "_again", again)
    with red(BOOKS):
        nothing_vanishes.test_a_message_that_is_parked_when_its_target_goes_down_is_counted_once()


def test_without_the_fence_on_parking_a_thawed_worker_parks_what_its_successor_has_applied(
    monkeypatch: Patch,
) -> None:
    real = TransactionalApplier._park_first

    async def park_first(self: TransactionalApplier, settlement: Settlement, holding: Holding) -> None:
        await real(self, settlement, Holding(holding.channel))

    monkeypatch.setattr(TransactionalApplier, "_park_first", park_first)
    with red(BOOKS):
        nothing_vanishes.test_a_message_that_fails_is_counted_once_wherever_its_worker_stops(SQL, freeze)


# -- what is compared with what --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SQL, MERGING, CREATING], ids=lambda kind: kind.name)
def test_with_one_version_for_two_sources_the_one_that_counted_less_is_not_heard(
    monkeypatch: Patch, kind: Kind
) -> None:
    real = applying.decide

    def decide_by_any(works: Sequence[Work], *, source: str, held: Any, **rest: Any) -> Decision:
        newest: dict[str, Any] = {}
        for row in sorted(held, key=lambda row: row.version):
            newest[row.key] = msgspec.structs.replace(row, source=source)
        return real(works, source=source, held=newest.values(), **rest)

    monkeypatch.setattr(applying, "decide", decide_by_any)
    with red(LOST):
        nothing_is_lost.test_two_sources_of_one_row_do_not_outdate_each_other(kind)


@pytest.mark.parametrize("decision", ["edit", "drop"])
@pytest.mark.parametrize("kind", [SQL, CREATING], ids=lambda kind: kind.name)
def test_where_parking_writes_over_what_waits_there_a_decision_is_lost(
    monkeypatch: Patch, kind: Kind, decision: str
) -> None:
    """A newer message is there only by a person's hand, an edit: only the leg's one holder parks besides."""
    real = SqlParked.put

    def put(self: SqlParked, rows: Sequence[ParkedRow]) -> list[ParkedRow]:
        for row in rows:
            there = self.by_key(row.leg, [row.key])
            self.remove(row.leg, [(old.key, old.message_id) for old in there])
        real(self, rows)
        return []

    monkeypatch.setattr(SqlParked, "put", put)
    with red(LOST):
        only_itself.test_a_decision_that_is_taken_while_a_retry_fails_is_not_written_over(kind, decision)


# -- what is asked first ---------------------------------------------------------------------------------


def without_look_after_parking(patch: Patch) -> None:
    """Nobody looks whether a reference came while the message was on its way into the parked store."""
    patch.setattr(ClaimedApplier, "_recheck", lambda self, stores, final: None)


def without_asking_again(patch: Patch) -> None:
    """Nobody asks from time to time whether a reference has come."""
    patch.setattr(applying, "_ASK_AGAIN", 1e9)


def references_follow() -> None:
    """Sooner or later."""
    for number in POINTS:
        clock.run(only_itself.reference_arrives(number, CREATING, patience=75))


@pytest.mark.parametrize("leave_out", [without_look_after_parking, without_asking_again])
def test_one_way_to_be_asked_for_again_is_enough_for_a_reference(monkeypatch: Patch, leave_out: Any) -> None:
    leave_out(monkeypatch)
    references_follow()


def test_without_either_way_an_order_waits_for_a_customer_that_is_there(monkeypatch: Patch) -> None:
    without_look_after_parking(monkeypatch)
    without_asking_again(monkeypatch)
    with red(STUCK):
        references_follow()


def test_a_blind_retry_of_a_call_in_doubt_makes_a_second_row(monkeypatch: Patch) -> None:
    async def settle(self: Doubts, calls: Sequence[Call], *rest: Any) -> tuple[list[Call], list[Work]]:
        return list(calls), []

    monkeypatch.setattr(Doubts, "settle", settle)
    with red(TWICE):
        nothing_is_lost.test_a_worker_killed_at_any_point_loses_nothing_and_does_nothing_twice()


@pytest.mark.parametrize(
    "hidden", [late_or_gone.an_order_that_the_list_hides, late_or_gone.an_order_that_one_sweep_misses]
)
def test_a_delete_without_a_second_look_takes_away_what_a_sweep_did_not_show(monkeypatch: Patch, hidden: Any) -> None:
    """Neither looked up nor, where nobody can be asked, missed by two sweeps."""

    async def spare(self: Reader, connector: Any, can_ask: bool) -> None:
        return

    monkeypatch.setattr(Reader, "_spare", spare)
    with red(late_or_gone.WRONGLY_GONE):
        run_in_virtual_time(hidden)


def test_a_delete_in_doubt_without_a_look_leaves_what_was_created(monkeypatch: Patch) -> None:
    """What nobody has an id of is taken for something that is not there."""
    real = Doubts.settle

    async def settle(self: Doubts, calls: Sequence[Call], *rest: Any) -> tuple[list[Call], list[Work]]:
        unseen = [call.work for call in calls if call.fresh and call.change.record is None]
        found, absent = await real(self, [call for call in calls if call.work not in unseen], *rest)
        return found, absent + unseen

    monkeypatch.setattr(Doubts, "settle", settle)
    with red(LOST):
        done_once.test_what_is_deleted_while_its_create_is_in_doubt_is_looked_for_and_goes(CREATING, "CALLED")


def test_without_a_settling_time_a_look_that_is_too_early_makes_a_second_row(monkeypatch: Patch) -> None:
    real = Doubts.settle

    async def settle(self: Doubts, calls: Any, waiting: Waiting, failures: Any) -> tuple[list[Call], list[Work]]:
        return await real(self, calls, replace(waiting, now=waiting.now + 1e6), failures)

    monkeypatch.setattr(Doubts, "settle", settle)
    with red(TWICE):
        done_once.test_a_call_that_was_cut_off_may_land_late_and_is_not_made_again_before(9.0)
