"""Real workers are killed with SIGKILL at every named place, and begun again, while orders keep changing.

Nothing is lost, nothing is done twice, no version falls, and the books of the ledger balance. A target without
transactions may be told again what it was told in a call that was cut off, once for each such call.
With TIELINE_FAULTS=long every place of every cell is killed many times.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.buses.kafka_broker import running
from tests.faults import oracle, record
from tests.faults.company import Company
from tests.faults.work import Calls, Crew, unexpected, wait_for

from tieline.runner.gaps import Gap

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

LONG = os.environ.get("TIELINE_FAULTS") == "long"
TIMES = 12  # kills of each place of each cell, at length

ANYWHERE = (Gap.READ, Gap.PUBLISHED, Gap.TAKEN, Gap.MOVED, Gap.SWEPT, Gap.SWITCHED)
IN_SQL = (Gap.PARKED, Gap.WRITTEN, Gap.COMMITTED)
IN_REST = (Gap.CLAIMED, Gap.CALLED, Gap.CONFIRMED)
RARE = {Gap.SWEPT, Gap.SWITCHED, Gap.STEPPED, Gap.PARKED}
OTHER = {"direct": "bus", "bus": "direct"}


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
    Cell("direct, REST with a step", "direct", ("desk",), {Gap.STEPPED: 2, Gap.CALLED: 1}, steps=True),
    Cell(
        "bus in a file of its own, REST with a step",
        "bus",
        ("desk",),
        dict.fromkeys(ANYWHERE, 1) | dict.fromkeys(IN_REST, 2) | {Gap.STEPPED: 2, Gap.RELAYED: 3},
        engine="sqlite:///bus.db",
        steps=True,
    ),
    Cell(
        "bus on NATS, SQL",
        "bus",
        ("books",),
        dict.fromkeys(ANYWHERE, 1) | dict.fromkeys(IN_SQL, 1) | {Gap.RELAYED: 2},
        engine="nats://local",
    ),
]


def kill_all(cell: Cell, company: Company, crew: Crew) -> Calls:
    """Every kill of the cell's plan, each by a new worker; gives the calls to the desk that were cut off.

    The cell's way is the one that is travelled; what is killed at SWITCHED is on its way from there to the other.
    """
    row = record.killed.setdefault(cell.name, record.Row())
    cut_off: Calls = set()
    for gap, nth in cell.plan():
        if company.via != cell.via and gap is not Gap.SWITCHED:
            company.declare(cell.via)
            crew.change_over()
        elif gap is Gap.SWITCHED:
            if not crew.begun:
                crew.change_over()  # nothing has gone the cell's way yet
            company.declare(OTHER[cell.via])
        edits = oracle.edits(company.database("shop"))
        wait_for("an edit between a crash and the restart", lambda edits=edits: _edited_since(company, edits))
        crew.killed_at(gap, nth)
        row.met[gap.name] += 1
        if "desk" in company.targets:
            cut_off |= crew.cut_off("desk")
    return cut_off


def _edited_since(company: Company, edits: int) -> bool:
    return oracle.edits(company.database("shop")) > edits


def judge(cell: str, company: Company, crew: Crew, cut_off: Calls, confirmed: bool = False) -> None:
    """The oracle's verdict on every target, and the balance of every leg."""
    problems = []
    changes = again = 0
    for target in company.targets:
        found = oracle.judge(company.database("shop"), company.database(target), confirmed=confirmed)
        repeatable = [key for key, _ in cut_off] + crew.sent_again() if target == "desk" else []
        problems += [f"{target}: {problem}" for problem in unexpected(found, repeatable)]
        changes += found.changes
        again += len(found.again)
    if company.payments:
        problems += oracle.judge_payments(company.database("shop"), company.database("books"))
    for leg in crew.status()["legs"]:
        if leg["off_by"] or leg["in_flight"] or leg["parked"]:
            problems.append(f"{leg['leg']} does not balance: {leg['balance']}")
    said = "; ".join(problems) or f"right: {changes:,} changes, {again} repeated of {len(cut_off)} calls cut off"
    record.killed[cell].verdict = said
    assert not problems, f"{said}\n{crew.log()}"


def end_and_judge(cell: Cell, company: Company, crew: Crew, cut_off: Calls) -> None:
    """One worker finishes the work; then it is judged."""
    last = crew.begin()
    crew.until_quiet(last)
    crew.end(last)
    judge(cell.name, company, crew, cut_off, confirmed=cell.steps)


def killed_and_judged(cell: Cell, company: Company) -> None:
    """Users work while each of the cell's kills happens; then one worker finishes the work, and it is judged."""
    company.found()
    try:
        with Crew(company) as crew:
            with company.busy():
                cut_off = kill_all(cell, company, crew)
            end_and_judge(cell, company, crew, cut_off)
    finally:
        company.close_desk()


def test_every_place_is_killed_three_times_on_each_way_and_kind_of_target_that_has_it():
    """What runs in CI, counted from the plans."""
    planned = Counter(gap for cell in CELLS for gap, times in cell.kills.items() for _ in range(times))
    assert {gap: times for gap, times in planned.items() if times < 3} == {}
    assert planned.keys() == set(Gap)
    for gap in Gap:
        of = {(cell.via, cell.targets) for cell in CELLS if gap in cell.kills}
        assert gap is Gap.RELAYED or {via for via, _ in of} == {"direct", "bus"}, gap
        assert gap not in ANYWHERE or len(of) == 4, gap


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_kill_at_any_place_loses_nothing_and_repeats_nothing(cell, tmp_path):
    """Whatever is killed wherever: each version arrives in order, once, and the end is the source's."""
    killed_and_judged(cell, Company(tmp_path, cell.targets, cell.via, engine=cell.engine, steps=cell.steps))


@pytest.mark.parametrize("via", ["bus", "direct"] if LONG else ["bus"])
def test_a_target_that_is_down_meanwhile_misses_nothing_and_holds_nobody_up(via, tmp_path):
    """Two targets, one of them down while workers are killed: the other goes on, and both end right."""
    name = f"{via}, SQL and a REST target that is down"
    targets = ("books", "desk")
    before = Cell(name, via, targets, {Gap.CALLED: 1})
    during = Cell(name, via, targets, dict.fromkeys(IN_SQL, 1))
    after = Cell(name, via, targets, {Gap.PUBLISHED: 1, Gap.COMMITTED: 1, Gap.MOVED: 1, Gap.CALLED: 1})
    company = Company(tmp_path, targets, via)
    company.found()
    try:
        with Crew(company) as crew:
            with company.busy():
                cut_off = kill_all(before, company, crew)
                company.close_desk()
                stood = oracle.target_rows(company.database("desk"))
                went = len(oracle.target_rows(company.database("books")))
                cut_off |= kill_all(during, company, crew)
                assert oracle.target_rows(company.database("desk")) == stood
                company.open_desk()
                cut_off |= kill_all(after, company, crew)
            assert len(oracle.target_rows(company.database("books"))) > went
            end_and_judge(after, company, crew, cut_off)
    finally:
        company.close_desk()


def test_kills_with_the_bus_on_kafka(tmp_path):
    """The same with the channels in a broker of their own, which outlives the workers."""
    kills = dict.fromkeys((Gap.PUBLISHED, Gap.RELAYED, Gap.TAKEN, Gap.COMMITTED, Gap.MOVED, Gap.SWITCHED), 1)
    with running(tmp_path) as broker:
        cell = Cell("bus on Kafka, SQL", "bus", ("books",), kills, engine=f"kafka://{broker.address}/acme")
        company = Company(tmp_path, cell.targets, cell.via, engine=cell.engine, payments=True)
        company.found()
        with Crew(company) as crew:
            with company.busy():
                kill_all(cell, company, crew)
            end_and_judge(cell, company, crew, set())


@pytest.mark.services
def test_kills_with_the_ledger_in_postgresql(postgresql_database, tmp_path):
    """The same with the ledger in PostgreSQL, whose server outlives the worker's open transaction."""
    kills = dict.fromkeys((Gap.PUBLISHED, *IN_SQL, *IN_REST, Gap.MOVED), 1)
    cell = Cell("bus in PostgreSQL, SQL and REST", "bus", ("books", "desk"), kills)
    killed_and_judged(cell, Company(tmp_path, cell.targets, cell.via, store=postgresql_database, payments=True))


@pytest.mark.services
def test_kills_with_the_bus_in_rabbitmq(rabbitmq_node, tmp_path, monkeypatch):
    """The same over an engine that cannot seek: what a killed worker had not acknowledged comes again, in order."""
    kills = dict.fromkeys((Gap.PUBLISHED, Gap.RELAYED, Gap.TAKEN, Gap.COMMITTED, Gap.MOVED, Gap.SWITCHED), 1)
    monkeypatch.setenv("BUS_PASSWORD", "guest")
    engine = rabbitmq_node.url.replace(":guest@", ":${env:BUS_PASSWORD}@")
    cell = Cell("bus on RabbitMQ, SQL", "bus", ("books",), kills, engine=engine)
    killed_and_judged(cell, Company(tmp_path, cell.targets, cell.via, engine=cell.engine, payments=True))


@pytest.mark.skipif(not LONG, reason="at length: one server of NATS is killed over in CI")
def test_kills_with_the_bus_on_a_cluster_of_nats(engines, tmp_path):
    """The same with each batch on three servers, and flows that are exact."""
    kills = dict.fromkeys((Gap.PUBLISHED, Gap.RELAYED, Gap.TAKEN, Gap.COMMITTED, Gap.MOVED, Gap.SWITCHED), 1)
    with engines.running("cluster") as engine:
        cell = Cell("bus on a cluster of NATS, SQL", "bus", ("books",), kills, engine=engine.url)
        company = Company(tmp_path, cell.targets, cell.via, engine=cell.engine, payments=True, robustness="exact")
        killed_and_judged(cell, company)
