"""Real workers are stopped with SIGSTOP past their lease, taken over, and let go on.

They wake up believing what is no longer so. A target with transactions refuses them. In one without,
a call that was on its way lands late: that is noticed, noted and put right.
"""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.faults import oracle, record
from tests.faults.company import HOT, Company
from tests.faults.work import LEASE, PATIENCE, Calls, Crew, unexpected, wait_for

from tieline.runner.gaps import Gap

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LONG = os.environ.get("TIELINE_FAULTS") == "long"
ROUNDS = 6 if LONG else 1

PLACES = (Gap.TAKEN, Gap.WRITTEN, Gap.PARKED, Gap.COMMITTED)
STOPS = [(via, place) for via in ("direct", "bus") for place in PLACES]
if not LONG:
    STOPS = [("direct", Gap.TAKEN), ("bus", Gap.PARKED), ("bus", Gap.WRITTEN)]
ON_ENGINES = [("postgresql", Gap.TAKEN), ("nats", Gap.RELAYED), ("rabbitmq", Gap.TAKEN), ("kafka", Gap.RELAYED)]
if LONG:
    ON_ENGINES = [
        (name, place)
        for name in ("sqlite", "postgresql", "nats", "cluster", "rabbitmq", "kafka")
        for place in (Gap.RELAYED, *PLACES)
        if place is not Gap.RELAYED or name not in {"sqlite", "postgresql"}
    ]


def _balanced(crew: Crew) -> None:
    for leg in crew.status()["legs"]:
        assert [leg["off_by"], leg["in_flight"], leg["parked"]] == [0, 0, {}], leg["balance"]


def _taken_over(crew: Crew, frozen: "subprocess.Popen[bytes]", led: set[str]) -> "subprocess.Popen[bytes]":
    """Another worker that has come to lead all that the frozen one led."""
    assert {name.partition(":")[0] for name in led} >= {"leg", "read"}, led
    other = crew.begin()
    wait_for("another worker takes over", lambda: crew.leases(other) >= led)
    assert not crew.leases(frozen)
    return other


@pytest.mark.parametrize(("via", "place"), STOPS, ids=lambda value: getattr(value, "name", value))
def test_a_worker_that_stood_still_changes_nothing_in_a_target_with_transactions(via, place, tmp_path):
    """Stopped anywhere past its lease, it is fenced out: no version falls, none is written twice."""
    stopped_and_let_go(Company(tmp_path, ("books",), via), place, f"{via}, SQL")


@pytest.mark.services
@pytest.mark.parametrize(("name", "place"), ON_ENGINES, ids=lambda value: getattr(value, "name", value))
def test_a_worker_that_stood_still_changes_no_order_on_any_engine(name, place, tmp_path, engines):
    """Stopped in the relay or behind a take: what it publishes or acknowledges late is known by its number."""
    with engines.running(name) as engine:
        company = Company(tmp_path, ("books",), "bus", engine.store, engine.url, payments=True)
        stopped_and_let_go(company, place, f"bus on {name}, SQL")


def stopped_and_let_go(company: Company, place: Gap, name: str) -> None:
    """Rounds of a worker that stands still past its lease, is taken over and let go on; then it is judged."""
    company.found()
    row = record.stopped.setdefault(name, record.Row())
    with Crew(company) as crew:
        with company.busy():
            for round_ in range(ROUNDS):
                frozen = crew.stopped_at(place, 1 if place is Gap.PARKED else 2 + round_)
                other = _taken_over(crew, frozen, crew.leases(frozen))
                time.sleep(LEASE)
                frozen.send_signal(signal.SIGCONT)
                time.sleep(1.0)
                crew.end(frozen)
                crew.end(other)
                row.met[place.name] += 1
        crew.finish(2 * PATIENCE)
    row.verdict = "right: each was taken over; nothing fell, nothing was repeated"


@contextmanager
def _stopped_in_a_call(company: Company) -> Iterator[tuple[Crew, "subprocess.Popen[bytes]", Calls]]:
    """A worker stands still inside a call that the desk holds back; another one has gone on and come to rest.

    From then on orders only change: the thawed worker makes the rest of its slice's calls, too, and what
    it creates late nobody could put right.
    """
    company.found()
    try:
        with Crew(company) as crew:
            frozen = crew.begin()
            with company.busy(only_hot=True):
                wait_for("all have arrived", lambda: len(oracle.target_rows(company.database("desk"))) == HOT)
                company.tell_desk("hold")
                wait_for("a call is on its way", lambda: company.tell_desk("held"))
                crew.stop(frozen)
                led, cut_off = crew.leases(frozen), crew.cut_off("desk")
                before = oracle.judge(company.database("shop"), company.database("desk")).changes
                other = _taken_over(crew, frozen, led)
                company.edit(company.tell_desk("held"))  # what is on its way is old from here on, whoever else edits

                def gone_on() -> bool:
                    return oracle.judge(company.database("shop"), company.database("desk")).changes > before + 20

                wait_for("the other worker goes on", gone_on)
            # The source is quiet from here on: no newer version puts right what the late call does.
            crew.until_quiet(other)
            yield crew, frozen, cut_off
            crew.until_quiet(other)
            crew.end(other)
            _balanced(crew)
    finally:
        company.close_desk()


def _landed_late(company: Company) -> bool:
    """By the history: what the target holds may have been put right before anybody looked."""
    return bool(oracle.judge(company.database("shop"), company.database("desk")).fell)


def _judge_late(company: Company, crew: Crew, cut_off: Calls) -> None:
    """What came late was noted and put right; nothing was repeated but what was cut off or noted.

    Of the thawed worker that may be its whole slice: it learns afterwards that it was taken over.
    """
    found = oracle.judge(company.database("shop"), company.database("desk"))
    late = {note["key"] for note in crew.notes("late/orders>desk/").values()}
    fell = {key for key, _, _ in found.fell}
    assert fell, "the call that was held did not land on a newer value"
    assert fell <= late & {key for key, _ in cut_off}
    found.fell.clear()
    assert not unexpected(found, [*(key for key, _ in cut_off), *late])


def test_a_call_that_lands_late_is_noticed_and_put_right(tmp_path):
    """Stopped inside a call to a target without transactions: one fall, a note, and the right end."""
    company = Company(tmp_path, ("desk",))
    row = record.stopped.setdefault("REST, inside a call", record.Row())
    with _stopped_in_a_call(company) as (crew, frozen, cut_off):
        company.tell_desk("release")
        wait_for("the late call lands", lambda: _landed_late(company))
        frozen.send_signal(signal.SIGCONT)
        wait_for("the thawed worker notices", lambda: "written late" in crew.said(frozen))
        crew.end(frozen)
    _judge_late(company, crew, cut_off)
    row.met["let go on"] += 1
    row.verdict = "right: taken over; one call landed late, was noted and put right"


def test_a_call_that_lands_late_is_found_where_its_worker_died_before_it_could_tell(tmp_path):
    """The same, and the frozen worker never wakes up: the target is looked at again, and shows it."""
    company = Company(tmp_path, ("desk",))
    row = record.stopped.setdefault("REST, inside a call", record.Row())
    with _stopped_in_a_call(company) as (crew, frozen, cut_off):
        frozen.kill()
        frozen.wait()
        company.tell_desk("release")
        wait_for("the late call lands", lambda: _landed_late(company))
        # It is looked at ever less often: the longer all this took, the longer until the next look.
        wait_for("it is found", lambda: crew.notes("late/"), 4 * PATIENCE)
    _judge_late(company, crew, cut_off)
    row.met["killed"] += 1
    row.verdict = "right: taken over; one call landed late, was noted and put right"


@pytest.mark.parametrize("lands", [True, False], ids=["it lands", "it is lost"])
def test_a_call_that_nobody_can_ask_about_is_made_at_most_once_and_flagged(lands, tmp_path):
    """Stopped inside a call that creates, to a target that cannot be asked: never made again, in doubt, for a person.

    Others of the flow go on meanwhile, and the one in doubt stays flagged, whether the call lands or is lost.
    """
    company = Company(tmp_path, ("books",), payments=True, payments_to="desk")
    company.found()
    company.open_desk()
    company.declare("direct")
    row = record.stopped.setdefault("REST that cannot be asked, inside a call", record.Row())

    def arrived(account: str) -> int:
        return oracle.paid_there(company.database("desk"))[account]

    try:
        with Crew(company) as crew:
            company.pay("before")
            frozen = crew.begin()
            wait_for("the first arrives", lambda: arrived("before"))
            company.tell_desk("hold")
            company.pay("in-doubt")
            wait_for("a call is on its way", lambda: company.tell_desk("held"))
            crew.stop(frozen)
            other = _taken_over(crew, frozen, crew.leases(frozen))
            company.pay("after")
            wait_for("others go on", lambda: arrived("after"))

            def flagged() -> bool:
                (leg,) = [leg for leg in crew.status()["legs"] if leg["leg"] == "payments>desk"]
                assert not leg["off_by"], leg["balance"]
                return leg["parked"] == {"in doubt": 1} and leg["for_a_person"] == 1

            wait_for("it is flagged", flagged)
            if lands:
                company.tell_desk("release")
            else:
                company.close_desk()
                company.open_desk()
            frozen.send_signal(signal.SIGCONT)
            crew.end(frozen)
            company.pay("last")
            wait_for("the last arrives", lambda: arrived("last"))
            crew.end(other)
            assert flagged(), "nobody is told any more"
            assert oracle.paid_there(company.database("desk")) == Counter(
                {"before": 1, "after": 1, "last": 1} | ({"in-doubt": 1} if lands else {})
            )
    finally:
        company.close_desk()
    row.met["let go on"] += 1
    row.verdict = "right: made at most once, and flagged"
