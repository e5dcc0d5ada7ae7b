"""One run of one line on a prepared stage: its programs are begun, watched, killed and ended."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import workload
from benchmarks.peers.install import ENVIRONMENTS, HERE, python_of
from benchmarks.peers.lines import NODE, TIELINE, Line
from benchmarks.peers.processes import Program, Usage

PROGRAMS = HERE / "programs"
ROOT = HERE.parents[1]
STALL = 40.0  # seconds without anything new in the target after which a run has failed
HELD = """
drop table if exists bench_target.peer_held;
create table bench_target.peer_held (key text primary key, version bigint not null)
"""


@dataclass(slots=True)
class Stage:
    """A source, a target, and the programs of one line. `held` is whether a peer's sink knows what is held."""

    line: Line
    dsn: str
    folder: Path
    servers: dict[str, str]
    held: bool = True
    follow: bool = False
    usage: Usage = field(default_factory=Usage)
    running: dict[str, Program] = field(default_factory=dict)
    _queue: str = field(default_factory=lambda: f"orders{secrets.token_hex(4)}")

    def prepare(self, count: int) -> None:
        """Fill the source, empty the target; a peer with tables of its own has made them before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        workload.clear_target(self.dsn)
        with psycopg.connect(self.dsn, autocommit=True) as db:
            db.execute(HELD.encode())
        if self.line.runs_again:
            workload.fill(self.dsn, 1)
            (self.folder / "enough").touch()
            done = subprocess.run(
                self._command("prepare"),
                env=self._environment(),
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if done.returncode:
                raise RuntimeError((done.stdout + done.stderr)[-1_500:])
            # What a run remembers of itself goes; what the environment needs (catalog, tables) stays.
            shutil.rmtree(self.folder / "pipelines", ignore_errors=True)
        workload.fill(self.dsn, count)
        if not self.follow or self.line.runs_again:
            (self.folder / "enough").touch()

    def begin(self) -> float:
        """Start every program; gives when the reading began, by the monotonic clock."""
        for role in self.line.roles:
            self.begin_role(role)
            if role != self.line.roles[-1]:
                self.running[role].wait_for("ready")
        return self.running[self.line.roles[-1]].wait_for("began")

    def begin_role(self, role: str) -> None:
        """Start one program."""
        program = Program(self._command(role), self._environment(), self.folder / f"{role}.log")
        self.running[role] = program
        self.usage.sessions.add(program.process.pid)

    def kill(self) -> None:
        """SIGKILL, for all."""
        for program in self.running.values():
            program.kill()

    def end(self) -> None:
        """SIGTERM, for all; then what is left of them is killed."""
        for program in self.running.values():
            program.end()

    def last_words(self) -> str:
        """What the programs wrote last."""
        return " | ".join(f"{role}: {program.tail()[-600:]}" for role, program in self.running.items())

    def arrived(self) -> tuple[int, int]:
        """How many orders and lines are in the target."""
        tables = (self.line.where.table, self.line.lines)
        both = ", ".join(f"(select count(*) from {table})" for table in tables)
        with psycopg.connect(self.dsn, autocommit=True) as db:
            orders, lines = db.execute(f"select {both}".encode()).fetchone() or (0, 0)
        return orders, lines

    def until_complete(self, count: int, seconds: float) -> float:
        """When all orders and lines were there, by the monotonic clock.

        Raises:
            RuntimeError: where they are not within so many seconds, or a program failed.
        """
        where = self.line.where
        began = moved = time.monotonic()
        before = (0, 0)
        # What commits once, at its end, shows nothing until then.
        patience = seconds if self.line.runs_again else STALL
        one = f"select 1 from {where.table} where {where.key} = 'WEB-{count - 1:08}'".encode()
        with psycopg.connect(self.dsn, autocommit=True) as db:
            while True:
                ended = all(program.process.poll() is not None for program in self.running.values())
                there = db.execute(one).fetchone()
                now = time.monotonic()
                if there and self.arrived() == (count, 2 * count):
                    return now
                for role, program in self.running.items():
                    if program.process.poll() not in {None, 0}:
                        raise RuntimeError(f"{role} ended with {program.process.returncode}: {program.tail()}")
                if now - moved > STALL / 4 and (found := self.arrived()) != before:
                    moved, before = now, found
                if ended or now - began > seconds or now - moved > patience:
                    arrived = f"{self.arrived()[0]} of {count} arrived in {now - began:.0f} s"
                    raise RuntimeError(f"{arrived}; {self.last_words()}")
                time.sleep(0.02)

    @contextmanager
    def watched(self) -> Iterator[Usage]:
        """Sample what the programs use meanwhile."""
        watcher = threading.Thread(target=self.usage.watch)
        watcher.start()
        try:
            yield self.usage
        finally:
            self.usage.end()
            watcher.join()

    def _command(self, role: str) -> list[str]:
        line = self.line
        if line.environment == TIELINE:
            way = line.name.split()[1]
            command = [sys.executable, "-m", "benchmarks.peers.tieline_worker", way, "--dsn", self.dsn]
            command += ["--folder", str(self.folder), *([] if self.follow else ["--once"])]
            return [*command, *(["--engine", self._engine(way)] if line.server else [])]
        if line.environment == NODE:
            program = ENVIRONMENTS / NODE / "node_modules" / "node-red" / "red.js"
            return ["node", str(program), "-s", str(PROGRAMS / "nodered_settings.js")]
        environment = "singer-tap" if line.environment == "singer" else line.environment
        return [str(python_of(environment)), str(PROGRAMS / line.program), role]

    def _engine(self, way: str) -> str:
        address = self.servers[way]
        if way == "kafka":
            return f"{address}/{self._queue}"
        return f"{address}{'&' if '?' in address else '?'}prefix={self._queue}"

    def _environment(self) -> dict[str, str]:
        ours = {
            "PYTHONPATH": str(ROOT if self.line.ours else PROGRAMS),
            "HOME": str(self.folder),
            # Not every client takes an address without a host; the one in the query counts all the same.
            "PEER_DSN": self.dsn.replace("@/", "@localhost/"),
            "PEER_FOLDER": str(self.folder),
            "PEER_QUEUE": self._queue,
            "PEER_HELD": str(int(self.held)),
            "PEER_BROKER": self.servers.get(self.line.server, "").partition("?")[0],
        }
        if self.line.environment == "singer":
            ours["PEER_TAP"] = str(ENVIRONMENTS / "singer-tap" / "bin" / "tap-postgres")
            ours["PEER_TARGET"] = str(ENVIRONMENTS / "singer-target" / "bin" / "target-postgres")
            ours["PEER_PSQL_PYTHON"] = str(python_of("singer-target"))
        if self.line.environment == NODE:
            flow = self.folder / "flow.json"
            if not flow.exists():
                shutil.copy(PROGRAMS / "nodered_flow.json", flow)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ours["PEER_PORT"] = str(free.getsockname()[1])
            ours["PEER_FLOW"] = "flow.json"
            ours["PEER_NODE_MODULES"] = str(ENVIRONMENTS / NODE / "node_modules")
        return {"PATH": os.environ["PATH"], **ours, **self.line.settings}


class Writer:
    """While it runs, a few orders change again and again, each time to its next version."""

    def __init__(self, dsn: str, count: int, hot: int = 20) -> None:
        self._dsn = dsn
        self._numbers = [f"WEB-{i * (count // hot):08}" for i in range(hot)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Write no more."""
        self._ended.set()
        self._thread.join()

    def _write(self) -> None:
        turn = 0
        with psycopg.connect(self._dsn, autocommit=True) as db:
            while not self._ended.wait(0.02):
                turn += 1
                # One at a time: a number of the sequence is seen when it is given.
                number = self._numbers[turn % len(self._numbers)]
                db.execute(
                    b"update bench_source.orders set status = %s, changed = nextval('bench_source.changes') "
                    b"where number = %s",
                    [f"v{turn}", number],
                )


def wait(what: Callable[[], Any], seconds: float, every: float = 0.05) -> bool:
    """Whether it became so within so many seconds."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(every)
    return True
