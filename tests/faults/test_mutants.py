"""The oracle of these tests turns red: real workers with defects put in on purpose, one kill each."""

import pytest
from tests.faults import mutant, oracle
from tests.faults.company import Company
from tests.faults.work import Crew, unexpected, wait_for

from tieline.runner.gaps import Gap

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def meet(folder, defect, target, gap):
    """A worker with the defect is killed while it delivers an order that changed and a new one: the verdict."""
    company = Company(folder, (target,))
    company.found()
    company.declare("direct", sweep="1d")  # what the cursor has passed is not found again
    shop, there = company.database("shop"), company.database(target)
    try:
        with Crew(company, defect) as crew:
            company.edit("1", "2")
            first = crew.begin()
            crew.until_quiet(first)
            crew.end(first)
            company.edit("2", "3")
            crew.killed_at(gap, 1)
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
        (mutant.position_before_the_commit, "books", Gap.WRITTEN, "the end differs"),
        (mutant.held_in_a_second_commit, "books", Gap.COMMITTED, "written again"),
        (mutant.cursor_before_the_messages, "books", Gap.PUBLISHED, "the end differs"),
        (mutant.no_claim, "desk", Gap.CALLED, "written again"),
        (mutant.none, "books", Gap.COMMITTED, ""),
        (mutant.none, "desk", Gap.CALLED, ""),
    ],
    ids=lambda value: getattr(value, "__name__", None) or getattr(value, "name", None),
)
def test_the_oracle_sees_what_a_defect_does(defect, target, gap, red, tmp_path):
    """What is lost or done again stands in the target's own history; without a defect nothing does."""
    problems = meet(tmp_path, defect.__name__, target, gap)
    assert any(red in problem for problem in problems) if red else not problems, problems
