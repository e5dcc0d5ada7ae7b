"""Workers as processes of their own: begun, killed, stopped, let go on, and asked how things stand."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from tests.faults import oracle
from tests.faults.company import Company

from tieline.assembly import open_ledger
from tieline.ledger import Stores
from tieline.runner.gaps import Gap

T = TypeVar("T")
Calls = set[tuple[str, float]]
"""Calls to a target without transactions, each by its key and when it was begun."""

MUTANT = str(Path(__file__).parent / "mutant.py")
LEASE = 0.7  # seconds
PATIENCE = 40.0  # seconds until a test says that what it waits for never comes


def wait_for(what: str, is_so: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Look until it is so.

    Raises:
        AssertionError: where it is not so after `seconds`.
    """
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


def unexpected(found: oracle.Verdict, repeatable: Iterable[str] = ()) -> list[str]:
    """What the oracle says, less what may be repeated: each of these keys once as often as it is given."""
    allowed, repeated = Counter(repeatable), Counter(key for key, _ in found.again)
    fallen = [f"{key} fell from {last} to {version}" for key, last, version in found.fell]
    again = [
        f"{key} was written again {times} times, and may be {allowed[key]} times"
        for key, times in repeated.items()
        if times > allowed[key]
    ]
    return found.wrong + fallen + again


def _stands(pid: int) -> bool:
    """Whether a process is stopped."""
    found, status = os.waitpid(pid, os.WUNTRACED | os.WNOHANG)
    return found == pid and os.WIFSTOPPED(status)


@dataclass(slots=True)
class Crew:
    """The workers of one company. Use as ``with``: none of them outlives it. `defect` is one of mutant.py."""

    company: Company
    defect: str = ""
    lease: float = LEASE
    begun: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if error is not None and not str(error).endswith(self.log()):
            error.add_note(self.log())
        for worker in self.begun:
            if worker.poll() is None:
                worker.kill()
                worker.wait()

    def begin(
        self,
        gap: Gap | None = None,
        nth: int = 1,
        how: str = "kill",
        within: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[bytes]":
        """A new worker, armed where a gap is given; `within` is a command that it runs under."""
        command = [*within]
        command += [sys.executable, *(["-m", "tieline.testing.killed"] if not self.defect else [MUTANT, self.defect])]
        command += ["--project", str(self.company.folder), "--lease", str(self.lease)]
        if gap is not None:
            command += ["--gap", gap.name, "--nth", str(nth), "--how", how]
        with self._log_of(len(self.begun)).open("ab") as log:
            log.write(f"--- {' '.join(command[1:])}\n".encode())
            log.flush()
            around = os.environ | (environment or {})
            worker = subprocess.Popen(command, stdout=log, stderr=log, env=around)
        self.begun.append(worker)
        return worker

    def killed_at(self, gap: Gap, nth: int) -> None:
        """A worker runs until it dies at the n-th passing of the gap."""
        worker = self.begin(gap, nth)
        try:
            code = worker.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{gap.name} was not passed {nth} times in {PATIENCE:.0f} s\n{self.log()}") from None
        assert code == -signal.SIGKILL, f"ended with {code}, not killed at {gap.name}\n{self.log()}"

    def stopped_at(self, gap: Gap, nth: int) -> "subprocess.Popen[bytes]":
        """A worker that stopped itself at the n-th passing of the gap, and does not happen to have the ledger."""
        for _ in range(10):
            worker = self.begin(gap, nth, how="stop")
            wait_for(f"{gap.name} is reached", lambda pid=worker.pid: _stands(pid))
            if self._ledger_is_free():
                return worker
            worker.kill()
            worker.wait()
        raise AssertionError("whoever stops has the ledger's file for itself")

    def stop(self, worker: "subprocess.Popen[bytes]") -> None:
        """SIGSTOP, at a moment at which it does not happen to have the ledger's file for itself."""
        for _ in range(200):
            os.kill(worker.pid, signal.SIGSTOP)
            wait_for("it stands still", lambda: _stands(worker.pid))
            if self._ledger_is_free():
                return
            os.kill(worker.pid, signal.SIGCONT)
            time.sleep(0.003)
        raise AssertionError("the worker never lets go of the ledger")

    @property
    def _in_postgresql(self) -> bool:
        return self.company.store.startswith("postgresql:")

    def _ledger_is_free(self) -> bool:
        if self._in_postgresql:
            with psycopg.connect(self.company.store, autocommit=True) as server:
                try:
                    server.execute("SET lock_timeout = 300; SELECT name FROM tieline.lease FOR UPDATE")
                except psycopg.errors.LockNotAvailable:
                    return False
            return True
        connection = sqlite3.connect(self.company.folder / "ledger.db", timeout=0.2, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        finally:
            connection.close()
        return True

    def end(self, worker: "subprocess.Popen[bytes]") -> None:
        """SIGTERM: it ends in good order."""
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0, self.log()

    def until_quiet(self, worker: "subprocess.Popen[bytes]", seconds: float = PATIENCE) -> None:
        """Wait until each target is what the source is, and nothing is under way or parked."""

        def quiet() -> bool:
            company = self.company
            assert worker.poll() is None, "the worker that should finish the work has ended"
            shop = company.database("shop")
            if not all(oracle.arrived(shop, company.database(target)) for target in company.targets):
                return False
            if company.payments and not oracle.all_paid(shop, company.database("books")):
                return False
            return all(not leg["in_flight"] and not leg["parked"] for leg in self.status()["legs"])

        try:
            wait_for("quiet", quiet, seconds)
        except AssertionError as error:
            shop = self.company.database("shop")
            wrong = {t: oracle.judge(shop, self.company.database(t)).wrong for t in self.company.targets}
            said = json.dumps({"wrong": wrong, "status": self.status()}, indent=1)
            raise AssertionError(f"{error}\n{said}\n{self.log()}") from None

    def finish(self, seconds: float = PATIENCE) -> None:
        """A new worker finishes the work; then it is judged as it is where nothing may be repeated.

        Raises:
            AssertionError: with all that the oracle finds, or what the ledger's books do not balance by.
        """
        last = self.begin()
        self.until_quiet(last, seconds)
        self.end(last)
        assert not self.problems(), "\n".join([*self.problems(), self.log()])

    def problems(self) -> list[str]:
        """What the oracle finds in the targets, and the ledger in its books; nothing may be repeated."""
        shop = self.company.database("shop")
        found = [
            f"{target}: {problem}"
            for target in self.company.targets
            for problem in unexpected(oracle.judge(shop, self.company.database(target)))
        ]
        if self.company.payments:
            found += oracle.judge_payments(shop, self.company.database("books"))
        for leg in self.status()["legs"]:
            if leg["off_by"] or leg["in_flight"] or leg["parked"]:
                found.append(f"{leg['leg']} does not balance: {leg['balance']}")
        return found

    def status(self) -> Any:
        """What ``tieline status --json`` says."""
        command = [sys.executable, "-m", "tieline", "status", "--json", "--project", str(self.company.folder)]
        ran = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
        assert ran.returncode in {0, 3}, ran.stderr.decode()
        return json.loads(ran.stdout)

    def look(self, work: Callable[[Stores], T]) -> T:
        """Look into the ledger."""

        async def look() -> T:
            ledger = open_ledger(self.company.store, self.company.folder)
            try:
                return await ledger.transact(work)
            finally:
                await ledger.close()

        return asyncio.run(look())

    def notes(self, prefix: str) -> dict[str, Any]:
        """The ledger's notes that begin so."""
        return self.look(lambda stores: stores.notes.starting(prefix))

    def leases(self, worker: "subprocess.Popen[bytes]") -> set[str]:
        """What a worker leads, sources to read and partitions of legs; also when it is silent, until another does."""
        if self._in_postgresql:
            with psycopg.connect(self.company.store, autocommit=True) as server:
                rows = server.execute("SELECT name, owner FROM tieline.lease").fetchall()
        else:
            file = f"file:{self.company.folder / 'ledger.db'}?mode=ro"
            with closing(sqlite3.connect(file, uri=True, timeout=30)) as connection:
                rows = connection.execute("SELECT name, owner FROM lease").fetchall()
        return {name for name, owner in rows if f"-{worker.pid}-" in owner and name.startswith(("read:", "leg:"))}

    def cut_off(self, target: str) -> Calls:
        """Calls that were begun and not confirmed, or not looked at after that: each may be made once more."""
        keys = sorted(self.company.keys())

        def look(stores: Stores) -> Calls:
            rows = stores.held.get(target, "Order", keys)
            begun = {(row.key, row.claimed_at) for row in rows if row.claim and row.claim != row.message_id}
            watches = stores.notes.starting(f"watch/orders>{target}/").values()
            return begun | {(watch["key"], watch["due"]) for watch in watches if not watch["reading"]}

        return self.look(look)

    def sent_again(self) -> list[str]:
        """Keys that a worker sent again after it had looked at them; each as often as it did."""
        said = [
            json.loads(line)
            for worker in self.begun
            for line in self.said(worker).splitlines()
            if "sent again" in line
        ]
        return [key for one in said for key in one["keys"]]

    def change_over(self) -> None:
        """A worker runs until every leg goes the declared way, and has left others behind."""
        bus = {"bus": "main"}.get(self.company.via, self.company.via)

        def over() -> bool:
            legs = self.look(lambda stores: stores.legs.all())
            return bool(legs) and all([way.bus for way in leg.ways] == [bus] for leg in legs)

        worker = self.begin()
        wait_for(f"all legs go {self.company.via}", over)
        self.end(worker)

    def said(self, worker: "subprocess.Popen[bytes]") -> str:
        """All that one worker wrote."""
        return self._log_of(self.begun.index(worker)).read_text()

    def log(self) -> str:
        """The last of what the workers wrote."""
        return "".join(self.said(worker)[-3_000:] for worker in self.begun[-3:])

    def _log_of(self, number: int) -> Path:
        return self.company.folder / f"worker-{number}.log"
