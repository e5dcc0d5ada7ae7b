"""Real workers are killed with SIGKILL at every named place, and begun again, while orders keep changing.

Nothing is lost, nothing is done twice, no version falls, and the books of the ledger balance.
With TIELINE_FAULTS=long every place of every cell is killed many times.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.faults import oracle, record
from tests.faults.company import HOT, Company
from tests.faults.work import Crew

from tieline.runner.gaps import Gap

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

LONG = os.environ.get("TIELINE_FAULTS") == "long"
TIMES = 12  # kills of each place of each cell, at length

ANYWHERE = (Gap.READ, Gap.PUBLISHED, Gap.TAKEN, Gap.MOVED, Gap.SWEPT, Gap.SWITCHED)
IN_SQL = (Gap.PARKED, Gap.WRITTEN, Gap.COMMITTED)
IN_REST = (Gap.CLAIMED, Gap.CALLED, Gap.CONFIRMED)
RARE = {Gap.SWEPT, Gap.SWITCHED, Gap.STEPPED, Gap.PARKED}


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to one kind of target, and what is killed there how often."""

    name: str
    via: str
    targets: tuple[str, ...]
    kills: dict[Gap, int]
    engine: str = ""
    steps: bool = False

    def plan(self) -> Iterator[tuple[Gap, int]]:
        """Each kill: where, and at which passing; in an order that is always the same."""
        chance = random.Random(self.name)
        all_ = [gap for gap, times in self.kills.items() for _ in range(TIMES if LONG else times)]
        chance.shuffle(all_)
        return ((gap, 1 if gap in RARE else chance.randint(1, 6)) for gap in all_)


CELLS = [
    Cell("direct, SQL", "direct", ("books",), dict.fromkeys(ANYWHERE, 1) | dict.fromkeys(IN_SQL, 2)),
    Cell("bus, SQL", "bus", ("books",), dict.fromkeys(ANYWHERE, 1) | dict.fromkeys(IN_SQL, 2)),
    Cell("direct, REST", "direct", ("desk",), dict.fromkeys(ANYWHERE, 1) | dict.fromkeys(IN_REST, 2)),
    Cell(
        "bus in a file of its own, REST with a step",
        "bus",
        ("desk",),
        dict.fromkeys(ANYWHERE, 1) | dict.fromkeys(IN_REST, 2) | {Gap.STEPPED: 3, Gap.RELAYED: 3},
        engine="sqlite:///bus.db",
        steps=True,
    ),
]


def kill_all(cell: Cell, company: Company, crew: Crew) -> None:
    """Every kill of the cell's plan, each by a new worker."""
    for gap, nth in cell.plan():
        if gap is Gap.SWITCHED:
            company.declare("bus" if company.via == "direct" else "direct")
        elif gap in {Gap.RELAYED, Gap.SWEPT}:
            company.declare(cell.via)
        crew.killed_at(gap, nth)
        row = record.row(cell.name, gap.name)
        row.kills += 1
        row.restarts += 1


def judge(cell: str, company: Company, crew: Crew, kills: int, confirmed: bool = False) -> None:
    """The oracle's verdict on every target, and the balance of every leg."""
    problems = []
    changes = again = 0
    for target in company.targets:
        found = oracle.judge(company.database("shop"), company.database(target), confirmed=confirmed)
        problems += [f"{target}: {wrong}" for wrong in found.wrong]
        problems += [f"{target}: {key} fell from {last} to {version}" for key, last, version in found.fell]
        # A call that was cut off is repeated where that does no harm; a transaction never is.
        allowed = 0 if target == "books" else kills * HOT
        if len(found.again) > allowed:
            problems.append(f"{target}: written twice: {found.again[:10]}")
        changes += found.changes
        again += len(found.again)
    for leg in crew.status()["legs"]:
        if leg["off_by"] or leg["in_flight"] or leg["parked"]:
            problems.append(f"{leg['leg']} does not balance: {leg['balance']}")
    said = "; ".join(problems) or f"right: {changes:,} changes, {again} repeated"
    for row in record.rows.values():
        if row.cell == cell:
            row.verdict = said
    assert not problems, f"{said}\n{crew.log()}"


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_kill_at_any_place_loses_nothing_and_repeats_nothing(cell, tmp_path):
    """Whatever is killed wherever: each version arrives in order, once, and the end is the source's."""
    company = Company(tmp_path, cell.targets, cell.via, engine=cell.engine, steps=cell.steps)
    company.found()
    try:
        with Crew(company) as crew:
            with company.busy():
                kill_all(cell, company, crew)
            last = crew.begin()
            crew.until_quiet(last)
            crew.end(last)
            judge(cell.name, company, crew, len(crew.begun), confirmed=cell.steps)
    finally:
        company.close_desk()


@pytest.mark.parametrize("via", ["bus", "direct"] if LONG else ["bus"])
def test_a_target_that_is_down_meanwhile_misses_nothing_and_holds_nobody_up(via, tmp_path):
    """Two targets, one of them down while workers are killed: the other goes on, and both end right."""
    name = f"{via}, SQL and a REST target that is down"
    kills = {Gap.PUBLISHED: 1, Gap.COMMITTED: 1, Gap.MOVED: 1, Gap.CALLED: 1}
    company = Company(tmp_path, ("books", "desk"), via)
    company.found()
    try:
        with Crew(company) as crew:
            with company.busy():
                kill_all(Cell(name, via, company.targets, {Gap.CALLED: 1}), company, crew)
                company.close_desk()
                stood = oracle.target_rows(company.database("desk"))
                went = len(oracle.target_rows(company.database("books")))
                kill_all(Cell(name, via, company.targets, dict.fromkeys(IN_SQL, 1)), company, crew)
                assert oracle.target_rows(company.database("desk")) == stood
                company.open_desk()
                kill_all(Cell(name, via, company.targets, kills), company, crew)
            assert len(oracle.target_rows(company.database("books"))) > went
            last = crew.begin()
            crew.until_quiet(last)
            crew.end(last)
            judge(name, company, crew, len(crew.begun))
    finally:
        company.close_desk()


@pytest.mark.services
def test_kills_with_the_ledger_in_postgresql(postgresql_database, tmp_path):
    """The same with the ledger in PostgreSQL, whose server outlives the worker's open transaction."""
    kills = dict.fromkeys((Gap.PUBLISHED, *IN_SQL, *IN_REST, Gap.MOVED), 1)
    cell = Cell("bus in PostgreSQL, SQL and REST", "bus", ("books", "desk"), kills)
    company = Company(tmp_path, cell.targets, cell.via, store=postgresql_database)
    company.found()
    try:
        with Crew(company) as crew:
            with company.busy():
                kill_all(cell, company, crew)
            last = crew.begin()
            crew.until_quiet(last)
            crew.end(last)
            judge(cell.name, company, crew, len(crew.begun))
    finally:
        company.close_desk()
