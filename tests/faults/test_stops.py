"""Real workers are stopped with SIGSTOP past their lease, taken over, and let go on.

They wake up believing what is no longer so. A target with transactions refuses them. In one without,
a call that was on its way lands late: that is noticed, noted and put right.
"""

import os
import signal
import time

import pytest
from tests.faults import oracle, record
from tests.faults.company import Company
from tests.faults.work import LEASE, Crew, wait_for

from tieline.runner.gaps import Gap

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LONG = os.environ.get("TIELINE_FAULTS") == "long"
ROUNDS = 6 if LONG else 1


def _stands(pid: int) -> bool:
    """Whether a process is stopped."""
    found, status = os.waitpid(pid, os.WUNTRACED | os.WNOHANG)
    return found == pid and os.WIFSTOPPED(status)


def _balanced(crew: Crew) -> None:
    for leg in crew.status()["legs"]:
        assert [leg["off_by"], leg["in_flight"], leg["parked"]] == [0, 0, {}], leg["balance"]


def _note(cell: str, gap: str, verdict: str) -> None:
    row = record.row(cell, gap)
    row.kills += 1
    row.restarts += 1
    row.verdict = verdict


PLACES = (Gap.TAKEN, Gap.WRITTEN, Gap.PARKED, Gap.COMMITTED)
STOPS = [(via, place) for via in ("direct", "bus") for place in PLACES]
if not LONG:
    STOPS = [("direct", Gap.TAKEN), ("bus", Gap.PARKED), ("bus", Gap.WRITTEN)]


@pytest.mark.parametrize(("via", "place"), STOPS, ids=lambda value: getattr(value, "name", value))
def test_a_worker_that_stood_still_changes_nothing_in_a_target_with_transactions(via, place, tmp_path):
    """Stopped anywhere past its lease, it is fenced out: no version falls, none is written twice."""
    company = Company(tmp_path, ("books",), via)
    company.found()
    with Crew(company) as crew:
        with company.busy():
            for round_ in range(ROUNDS):
                frozen = crew.begin(place, 1 if place is Gap.PARKED else 2 + round_, how="stop")
                wait_for(f"{place.name} is reached", lambda pid=frozen.pid: _stands(pid))
                other = crew.begin()
                time.sleep(2.5 * LEASE)
                frozen.send_signal(signal.SIGCONT)
                time.sleep(1.5)
                crew.end(frozen)
                crew.end(other)
        last = crew.begin()
        crew.until_quiet(last)
        crew.end(last)
        found = oracle.judge(company.database("shop"), company.database("books"))
        assert [found.wrong, found.fell, found.again] == [[], [], []], crew.log()
        _balanced(crew)
        _note(f"stopped, {via}, SQL", place.name, f"right: {found.changes:,} changes, 0 repeated")


def test_a_call_that_lands_late_is_noticed_and_put_right(tmp_path):
    """Stopped inside a call to a target without transactions: one fall at most, a note, and the right end."""
    company = Company(tmp_path, ("desk",))
    company.found()
    try:
        with Crew(company) as crew:
            frozen = crew.begin()
            with company.busy():
                wait_for("something arrives", lambda: len(oracle.target_rows(company.database("desk"))) > 4)
                company.tell_desk("hold")
                wait_for("a call is on its way", lambda: "true" in company.tell_desk("held"))
                crew.stop(frozen)
                before = oracle.judge(company.database("shop"), company.database("desk")).changes
                other = crew.begin()

                def taken_over() -> bool:
                    return oracle.judge(company.database("shop"), company.database("desk")).changes > before + 20

                wait_for("another worker goes on", taken_over)
            # The source is quiet from here on: no newer version puts right what the late call does.
            crew.until_quiet(other)
            company.tell_desk("release")
            wait_for("the late call lands", lambda: not oracle.arrived(*map(company.database, ("shop", "desk"))))
            frozen.send_signal(signal.SIGCONT)
            wait_for("the thawed worker notices", lambda: "written late" in crew.log())
            crew.until_quiet(other)
            crew.end(frozen)
            crew.end(other)
            found = oracle.judge(company.database("shop"), company.database("desk"))
            assert not found.wrong, found.wrong
            assert len(found.fell) == 1, "the call that was held did not land on a newer value"
            late = {note["key"] for note in crew.notes("late/orders>desk/").values()}
            assert found.fell[0][0] in late
            _balanced(crew)
            _note("stopped in a call, REST", "inside", f"put right: {found.fell[0]} noted as late")
    finally:
        company.close_desk()
