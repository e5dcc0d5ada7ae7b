"""Engines and databases fall while orders change and payments come in, and come back.

Meanwhile the others wait, and nobody has to do anything: what is read stays in the ledger, legs go on where they
stood, and everything arrives in order, once. With TIELINE_FAULTS=long each engine falls again and again.
"""

import os
import random
import time

import pytest
from tests.faults import record
from tests.faults.company import Company
from tests.faults.engines import EXACT, Fault
from tests.faults.work import Crew, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

LONG = os.environ.get("TIELINE_FAULTS") == "long"
TIMES = 8 if LONG else 1
AWAY = 1.5  # seconds; longer than a lease
PATIENCE = 90.0  # seconds until everything has arrived

FAULTS = [
    ("cluster", "leader of streams killed"),
    ("cluster", "leader of the cluster killed"),
    ("nats", "killed"),
    ("nats", "frozen"),
    ("rabbitmq", "killed"),
    ("rabbitmq", "stopped"),
    ("kafka", "frozen"),
    ("postgresql", "killed"),
    ("postgresql", "stopped"),
]


def falls(company: Company, crew: Crew, fault: Fault, times: int, row: record.Row, what: str) -> None:
    """Two workers are at work while something is taken away and brought back, several times."""
    down, up = fault
    chance = random.Random(what)
    with company.busy():
        workers = [crew.begin(), crew.begin()]

        def arrived(before: int) -> bool:
            assert not any(worker.poll() for worker in workers), "a worker has ended"
            return company.changes() > before + 30

        wait_for("orders arrive", lambda: arrived(0), PATIENCE)
        for _ in range(times):
            time.sleep(chance.uniform(0.0, 0.5))
            down()
            time.sleep(AWAY if not LONG else chance.uniform(0.0, 2 * AWAY))
            up()
            stood = company.changes()
            wait_for(f"orders arrive after {what}", lambda stood=stood: arrived(stood), PATIENCE)
            row.met[what] += 1
    for worker in workers:
        assert worker.poll() is None, crew.log()
    crew.end(workers[0])
    crew.until_quiet(workers[1], PATIENCE)
    crew.end(workers[1])
    assert not crew.problems(), "\n".join([*crew.problems(), crew.log()])
    row.verdict = "right: waited for, gone on by itself; nothing lost, nothing twice, nothing out of order"


@pytest.mark.services
@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_an_engine_that_falls_is_waited_for_and_nothing_is_lost_or_out_of_order(name, fault, tmp_path, engines):
    """Two workers stay, and go on by themselves when the engine is back; flows are exact where it allows that."""
    row = record.fallen.setdefault(f"{name} {fault}", record.Row())
    with engines.running(name) as engine:
        robustness = "exact" if name in EXACT else "standard"
        company = Company(tmp_path, ("books",), "bus", engine.store, engine.url, payments=True, robustness=robustness)
        company.found()
        with Crew(company) as crew:
            falls(company, crew, engine.faults[fault], TIMES, row, fault)


@pytest.mark.services
@pytest.mark.parametrize("fault", ["killed", "stopped"])
@pytest.mark.parametrize("via", ["direct", "bus"] if LONG else ["direct"])
def test_a_target_in_postgresql_that_falls_gets_everything_once(via, fault, tmp_path, engines):
    """The server goes in the middle of batches; the legs pause, probe and go on, each row written once."""
    row = record.fallen.setdefault(f"{via}, target in postgresql {fault}", record.Row())
    with engines.running("postgresql") as engine:
        assert engine.postgresql is not None
        company = Company(tmp_path, ("books",), via, books=engine.postgresql.database(), payments=True)
        company.found()
        with Crew(company) as crew:
            falls(company, crew, engine.faults[fault], TIMES, row, fault)


@pytest.mark.parametrize("name", ["nats"])
def test_a_worker_that_begins_while_its_engine_is_away_waits_for_it(name, engines, tmp_path):
    """It does not end with the first thing that it cannot make; told to end while it waits, it does."""
    with engines.running(name) as engine:
        company = Company(tmp_path, ("books",), "bus", engine.store, engine.url)
        company.found()
        company.edit("1", "2")
        down, up = engine.faults["killed"]
        down()
        with Crew(company) as crew:
            patient, ended = crew.begin(), crew.begin()
            wait_for("both wait", lambda: all("worker waits" in crew.said(one) for one in (patient, ended)))
            crew.end(ended)
            up()
            crew.until_quiet(patient)
            crew.end(patient)
            assert not crew.problems(), crew.log()
