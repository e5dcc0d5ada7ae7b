"""The clock of a worker's machine is set back or forward by an hour while orders change.

Leases, polls and retries go by the ledger's clock alone: nobody is taken over for it, nothing is done twice, and
what waits to be tried again is tried. The clock is stepped under a running process, by a shim in that process.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest
from tests.faults import record
from tests.faults.company import Company
from tests.faults.work import Crew, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PATIENCE = 90.0  # seconds
HOUR = 3_600
SHIFTS = [-HOUR, HOUR] if os.environ.get("TIELINE_FAULTS") == "long" else [-HOUR]


_SHIM = """
import pathlib, time

_file, _real, _real_ns = pathlib.Path({file!r}), time.time, time.time_ns
time.time = lambda: _real() + int(_file.read_text() or 0)
time.time_ns = lambda: _real_ns() + int(_file.read_text() or 0) * 1_000_000_000
"""


class Clock:
    """A clock that can be set while a worker goes by it: `time.time` of that process."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self._code = folder / "clock-code"
        self._code.mkdir()
        (self._code / "sitecustomize.py").write_text(_SHIM.format(file=str(self._file)))

    def set(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._file)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(self._code)}

    def says(self) -> float:
        """What a process that goes by this clock takes the time for, against ours, in seconds."""
        command = [sys.executable, "-c", "import time; print(time.time())"]
        ran = subprocess.run(command, env=os.environ | self.environment, capture_output=True, check=True)
        return float(ran.stdout) - time.time()


def tokens(store: str) -> dict[str, int]:
    """Who has what was counted by: each new holder of a lease makes its token grow."""
    with psycopg.connect(store, autocommit=True) as server:
        return dict(server.execute("SELECT name, token FROM tieline.lease WHERE name LIKE 'read:%'").fetchall())


@pytest.mark.services
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_worker_whose_clock_is_set_keeps_what_it_has_and_takes_only_what_is_free(shift, tmp_path, engines):
    """Its polls go on and nobody else makes them; it takes over from the dead in time, and is taken over in time."""
    clock = Clock(tmp_path)
    row = record.fallen.setdefault(f"postgresql, clock set by {shift:+} s", record.Row())
    with engines.running("postgresql") as engine:
        company = Company(tmp_path, ("books",), "bus", engine.store, payments=True)
        company.found()
        with Crew(company, lease=8.0) as crew:
            with company.busy(pace=0.05):
                odd = crew.begin(environment=clock.environment)
                wait_for("orders arrive", lambda: company.changes() > 30, PATIENCE)
                even = crew.begin()
                wait_for("both take part", lambda: crew.leases(odd) and crew.leases(even), PATIENCE)
                before, stood = tokens(engine.store), company.changes()
                clock.set(shift)
                assert abs(clock.says() - shift) < HOUR / 2
                wait_for("orders arrive", lambda: company.changes() > stood + 60, PATIENCE)
                assert tokens(engine.store) == before, "somebody took over from a worker that lives"
                led = crew.leases(even) | crew.leases(odd)
                even.kill()
                even.wait()
                wait_for("it takes over", lambda: crew.leases(odd) >= led, PATIENCE)
                third = crew.begin()
                odd.kill()
                odd.wait()
                wait_for("it is taken over", lambda: crew.leases(third) >= led, PATIENCE)
            crew.until_quiet(third, PATIENCE)
            crew.end(third)
            assert not crew.problems(), "\n".join([*crew.problems(), crew.log()])
    row.met["clock set"] += 1
    row.verdict = "right: nobody was taken over for it; nothing lost, nothing twice, nothing out of order"


@pytest.mark.parametrize("shift", SHIFTS)
def test_polls_go_on_when_the_ledgers_own_clock_is_set(shift, tmp_path):
    """With the ledger in a file its clock is the machine's: what was read in the future is read now."""
    clock = Clock(tmp_path)
    row = record.fallen.setdefault(f"sqlite, clock set by {shift:+} s", record.Row())
    company = Company(tmp_path, ("books",))
    company.found()
    with Crew(company) as crew:
        with company.busy(pace=0.05):
            worker = crew.begin(environment=clock.environment)
            wait_for("orders arrive", lambda: company.changes() > 30, PATIENCE)
            clock.set(shift)
            stood = company.changes()
            wait_for("orders arrive", lambda: company.changes() > stood + 60, PATIENCE)
        if shift < 0:
            clock.set(0)  # what was put off until the old time is due again; a set back makes retries wait as long
        crew.until_quiet(worker, PATIENCE)
        crew.end(worker)
        assert not crew.problems(), "\n".join([*crew.problems(), crew.log()])
    row.met["clock set"] += 1
    row.verdict = "right: read on; nothing lost, nothing twice, nothing out of order"
