"""The oracle of these tests turns red: real workers with defects put in on purpose, one kill each."""

import os

import pytest
from tests.faults import mutant, oracle
from tests.faults.company import Company
from tests.faults.work import Crew, unexpected, wait_for

from tieline.runner.gaps import Gap

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


LONG = os.environ.get("TIELINE_FAULTS") == "long"
LOST = "the end differs"


def meet(company, defect, gap, nth=1):
    """A worker with the defect is killed while it delivers an order that changed and a new one: the verdict."""
    company.found()
    company.declare(company.via, sweep="1d")  # what the cursor has passed is not found again
    (target,) = company.targets
    shop, there = company.database("shop"), company.database(target)
    try:
        with Crew(company, defect) as crew:
            company.edit("1", "2")
            first = crew.begin()
            crew.until_quiet(first)
            crew.end(first)
            company.edit("2", "3")
            crew.killed_at(gap, nth)
            cut_off = crew.cut_off(target)
            company.edit("4")
            last = crew.begin()
            wait_for("what was ordered last", lambda: "4" in dict(oracle.target_rows(there)))
            wait_for("nothing waits", lambda: not any(leg["parked"] for leg in crew.status()["legs"]))
            crew.end(last)
            return unexpected(oracle.judge(shop, there), [key for key, _ in cut_off])
    finally:
        company.close_desk()


@pytest.mark.parametrize(
    ("defect", "target", "gap", "red"),
    [
        (mutant.position_before_the_commit, "books", Gap.WRITTEN, LOST),
        (mutant.held_in_a_second_commit, "books", Gap.COMMITTED, "written again"),
        (mutant.cursor_before_the_messages, "books", Gap.PUBLISHED, LOST),
        (mutant.no_claim, "desk", Gap.CALLED, "written again"),
        (mutant.none, "books", Gap.COMMITTED, ""),
        (mutant.none, "desk", Gap.CALLED, ""),
    ],
    ids=lambda value: getattr(value, "__name__", None) or getattr(value, "name", None),
)
def test_the_oracle_sees_what_a_defect_does(defect, target, gap, red, tmp_path):
    """What is lost or done again stands in the target's own history; without a defect nothing does."""
    problems = meet(Company(tmp_path, (target,)), defect.__name__, gap)
    assert any(red in problem for problem in problems) if red else not problems, problems


ON_ENGINES = [
    ("postgresql", mutant.cursor_before_the_messages, Gap.PUBLISHED, 1),
    ("nats", mutant.relayed_before_it_is_published, Gap.RELAYED, 2),
    ("rabbitmq", mutant.relayed_before_it_is_published, Gap.RELAYED, 2),
    ("kafka", mutant.relayed_before_it_is_published, Gap.RELAYED, 2),
]
if LONG:
    names = ("sqlite", "postgresql", "nats", "cluster", "rabbitmq", "kafka")
    ON_ENGINES += [(name, mutant.position_before_the_commit, Gap.WRITTEN, 1) for name in names]
    ON_ENGINES += [
        ("sqlite", mutant.cursor_before_the_messages, Gap.PUBLISHED, 1),
        ("cluster", mutant.relayed_before_it_is_published, Gap.RELAYED, 2),
    ]


@pytest.mark.services
@pytest.mark.parametrize(
    ("name", "defect", "gap", "nth"),
    ON_ENGINES,
    ids=lambda value: getattr(value, "__name__", None) or getattr(value, "name", None),
)
def test_the_oracle_sees_what_a_defect_does_on_each_engine(name, defect, gap, nth, tmp_path, engines):
    """What moves on before it is safe is lost at a kill, whatever keeps the channels; the same oracle says so."""
    with engines.running(name) as engine:
        company = Company(tmp_path, ("books",), "bus", engine.store, engine.url)
        problems = meet(company, defect.__name__, gap, nth)
    assert any(LOST in problem for problem in problems), problems


@pytest.mark.parametrize("defect", [mutant.events_overtake, mutant.none], ids=lambda value: value.__name__)
def test_the_oracle_sees_events_out_of_order(defect, tmp_path):
    """Payments that overtake a parked one of their account stand in the account's ledger in the wrong order."""
    company = Company(tmp_path, ("books",), payments=True, unsure=0.1)
    company.found()
    with Crew(company, defect.__name__) as crew:
        with company.busy():
            worker = crew.begin()
            wait_for("payments arrive", lambda: oracle.paid_there(company.database("books")).total() > 80)
        crew.until_quiet(worker)
        crew.end(worker)
        problems = crew.problems()
    assert any("should be" in problem for problem in problems) is (defect is mutant.events_overtake), problems
