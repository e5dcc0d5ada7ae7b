"""Flows are moved while real workers run and are killed, between real engines; `tieline move` itself is killed too.

Nothing is lost, nothing is done twice, no version falls, payments keep their order, and the books balance. With
TIELINE_FAULTS=long there are more rounds.
"""

import os
import random
import signal
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.faults import oracle, record
from tests.faults.company import Company
from tests.faults.mover import POINTS
from tests.faults.work import PATIENCE, Crew, wait_for

from tieline.runner.gaps import Gap
from tieline.runner.shadows import shadow_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

LONG = os.environ.get("TIELINE_FAULTS") == "long"
MOVER = str(Path(__file__).parent / "mover.py")


def moved(company: Company, *arguments: str, point: str = "", code: tuple[int, ...] = (0,)) -> str:
    """Run `tieline move`, or let it die at a point."""
    command = [sys.executable, *([MOVER, point] if point else ["-m", "tieline"])]
    command += ["move", *arguments, "--project", str(company.folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE)
    expected = (-signal.SIGKILL,) if point else code
    assert ran.returncode in expected, f"{arguments} {point}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def places(crew: Crew, flow: str = "orders") -> list[tuple[str, int]]:
    """The ways of a flow's leg to the books, by the ledger."""
    row = crew.look(lambda stores: stores.legs.get(f"{flow}>books"))
    assert row is not None
    return [(way.bus, way.partitions) for way in row.ways]


def word(company: Company) -> str:
    """What the project file says of the orders' way."""
    with (company.folder / "tieline.toml").open("rb") as file:
        return str(tomllib.load(file)["flows"]["orders"]["via"])


def goes_on(company: Company) -> None:
    """Wait until some more has arrived."""
    books = company.database("books")
    before = oracle.judge(company.database("shop"), books).changes
    wait_for("orders arrive", lambda: oracle.judge(company.database("shop"), books).changes > before + 10)


def test_a_move_that_is_killed_anywhere_is_resumed_or_taken_back(tmp_path):
    """Killed at every point, then given again or undone, while a worker runs: the flow is where it was told to be."""
    company = Company(tmp_path, ("books",), "direct")
    company.found()
    row = record.moved.setdefault("`tieline move` is killed", record.Row())
    points = [point for point in POINTS if "shadow" not in point] * (2 if LONG else 1)
    with Crew(company) as crew:
        with company.busy():
            worker = crew.begin()
            wait_for("the flow runs", lambda: crew.status()["legs"][0]["started"])
            for number, point in enumerate(points, 1):
                before = places(crew)[-1]
                # A new address each time: then every point of the command is passed.
                to = ["orders", "--to", f"sqlite:///night-{number}.db", "--partitions", str(2 + number % 3)]
                moved(company, *to, point=point)
                if number % 2:
                    moved(company, *to)
                    bus = places(crew)[-1][0]
                    assert bus != before[0], point
                else:
                    if places(crew)[-1] != before:  # else nothing had changed, and nothing is to be undone
                        moved(company, "orders", "--undo", point="the ways are committed, the file is as it was")
                    moved(company, "orders", "--undo")
                    bus = before[0]
                wait_for("one way is left", lambda: len(places(crew)) == 1)
                assert (places(crew)[0][0], word(company)) == (bus, bus), point
                goes_on(company)
                row.met[point] += 1
            assert worker.poll() is None, crew.log()
            crew.end(worker)
        crew.finish()
        assert crew.notes("move-asked/") == {}
    row.verdict = "right: gone on with, or taken back; nothing lost, nothing twice"


def test_a_shadow_whose_command_is_killed_leaves_nothing_behind(tmp_path):
    """Killed while it begins and while it ends: the flow goes on, and its engine is told at last."""
    company = Company(tmp_path, ("books",), "direct")
    company.found()
    row = record.moved.setdefault("`tieline move --shadow` is killed", record.Row())
    to = ["orders", "--to", "sqlite:///night.db", "--partitions", "2", "--shadow"]
    with Crew(company) as crew:
        with company.busy():
            workers = [crew.begin(), crew.begin()]
            wait_for("the flow runs", lambda: crew.status()["legs"][0]["started"])
            for point in ("a shadow's engine is reached", "a shadow is committed"):
                moved(company, *to, point=point)
                row.met[point] += 1
            goes_on(company)
            workers.pop().kill()
            workers.append(crew.begin(Gap.PUBLISHED, 20))
            assert moved(company, *to, code=(0, 3))  # something may be parked, but nothing is different
            moved(company, "orders", "--end-shadow", point="a shadow is over, its engine does not know")
            row.met["a shadow is over, its engine does not know"] += 1
            assert moved(company, *to, code=(0, 3))
            goes_on(company)
        last = crew.begin()
        crew.until_quiet(last)
        assert moved(company, "orders", "--shadow")
        moved(company, "orders", "--to", "sqlite")
        wait_for("one way is left", lambda: places(crew) == [("sqlite", 2)])
        assert shadow_of(crew.look(lambda stores: stores.legs.get("orders>books"))) is None
        crew.end(last)
        assert not crew.problems(), crew.problems()
    row.verdict = "right: equal, over, and forgotten; nothing lost, nothing twice"


@pytest.mark.services
def test_a_flow_moves_between_engines_while_workers_are_killed(tmp_path, engines):
    """NATS, RabbitMQ, a file, direct, other numbers of partitions: orders arrive once, payments in their order."""
    row = record.moved.setdefault("between engines, with workers killed", record.Row())
    with ExitStack() as stack:
        nats, rabbitmq = (stack.enter_context(engines.running(name)).url for name in ("nats", "rabbitmq"))
        ways = [
            ("sqlite:///night.db", 2, Gap.PUBLISHED),
            (nats, 3, Gap.RELAYED),
            (rabbitmq, 2, Gap.COMMITTED),
            (nats, 4, Gap.TAKEN),
            ("direct", 4, Gap.SWITCHED),
            ("bus", 5, Gap.MOVED),
        ]
        company = Company(tmp_path, ("books",), "direct", payments=True)
        company.found()
        chance = random.Random("between engines")
        with Crew(company) as crew:
            with company.busy():
                steady = crew.begin()
                wait_for("the flows run", lambda: len(crew.status()["legs"]) == 2)
                for to, partitions, gap in ways * (4 if LONG else 1):
                    crew.begin(gap, 1 if gap is Gap.SWITCHED else chance.randint(1, 4))  # dies on the way
                    for flow in ("orders", "payments"):
                        moved(company, flow, "--to", to, "--partitions", str(partitions))
                    goes_on(company)
                    for flow in ("orders", "payments"):
                        wait_for("one way is left", lambda flow=flow: len(places(crew, flow)) == 1)
                        expected = 1 if to == "direct" else partitions
                        assert places(crew, flow)[0][1] == expected, (to, flow)
                    row.met[f"{to.partition(':')[0]} with {partitions}"] += 1
                assert steady.poll() is None, crew.log()
                killed = sum(worker.poll() == -signal.SIGKILL for worker in crew.begun)
                assert killed >= len(ways) // 2, crew.log()
                row.met["workers killed"] = killed
                crew.end(steady)
            crew.finish()
    row.verdict = "right: nothing lost, nothing twice, nothing out of order"
