"""Defects put in on purpose turn promises 8 and 12 red: what is made of systems that are down, and of bad input."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.promises import test_08_a_system_that_is_down_is_left_alone as left_alone
from tests.promises import test_12_bad_input_gets_a_clear_error as clear_error
from tests.promises.mutants import red
from tests.runner.cells import run_in_virtual_time
from tests.runner.company import CREATING, MERGING, SQL, STEPPING, Kind

from tieline.connector import LegState, Result
from tieline.errors import Reject, Unavailable
from tieline.project.findings import Findings
from tieline.runner import leg
from tieline.runner.applying import Waiting
from tieline.runner.claimed import ClaimedApplier
from tieline.runner.decide import Work
from tieline.runner.leg import Leg

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("kind", [SQL, CREATING, MERGING, STEPPING], ids=lambda kind: kind.name)
def test_an_outage_that_is_taken_for_bad_messages_makes_dead_letters(monkeypatch: Patch, kind: Kind) -> None:
    real = Leg._apply

    async def apply(self: Leg, works: Sequence[Work], moves: Mapping[int, LegState], waiting: Waiting) -> None:
        try:
            await real(self, works, moves, waiting)
        except Unavailable as error:
            await self._pass_over(moves, [self._desk.park(work, Reject(str(error)), waiting.now) for work in works])

    monkeypatch.setattr(Leg, "_apply", apply)
    with red(left_alone.BLAMED):
        run_in_virtual_time(lambda: left_alone.a_target_is_down(kind, left_alone.DOWN))


def test_a_leg_that_probes_as_fast_as_it_works_pesters_its_target(monkeypatch: Patch) -> None:
    monkeypatch.setattr(leg, "_PROBES", (1.0, 1.0))
    with red(left_alone.PESTERED):
        run_in_virtual_time(lambda: left_alone.a_target_is_down(SQL, left_alone.DOWN))


def test_errors_of_single_calls_that_are_not_checked_make_messages_wait(monkeypatch: Patch) -> None:
    async def unless_down(self: ClaimedApplier, results: list[Result]) -> list[Result]:
        return results

    monkeypatch.setattr(ClaimedApplier, "_unless_down", unless_down)
    with red(left_alone.BLAMED):
        run_in_virtual_time(lambda: left_alone.a_target_is_unwell(CREATING))


def test_a_project_that_stops_at_its_first_mistake_hides_the_others(monkeypatch: Patch, tmp_path: Path) -> None:
    real = Findings.mistakes.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Findings, "mistakes", property(lambda self: real(self)[:1]))
    with red(clear_error.HIDDEN):
        clear_error.a_dozen_mistakes(tmp_path)


def test_a_mistake_without_its_remedy_is_not_clear(monkeypatch: Patch, tmp_path: Path) -> None:
    real = Findings.mistake
    monkeypatch.setattr(Findings, "mistake", lambda self, place, what, remedy: real(self, place, what, "correct it"))
    with red(clear_error.UNCLEAR):
        clear_error.a_dozen_mistakes(tmp_path)


def test_a_rejected_record_without_field_and_value_is_not_clear(monkeypatch: Patch, tmp_path: Path) -> None:
    real = Reject.__init__
    monkeypatch.setattr(Reject, "__init__", lambda self, reason, **_: real(self, reason))
    with red(clear_error.UNCLEAR):
        clear_error.bad_records(tmp_path)
