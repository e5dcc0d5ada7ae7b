"""What a line's processes use, and how they are begun and ended: each program is the leader of a session."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 60.0  # seconds until a program that has not begun has failed


def members(sessions: set[int]) -> dict[int, list[str]]:
    """The processes of these sessions, each with the fields of its stat after the name."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) in sessions and fields[0] != "Z":
            found[int(stat.parent.name)] = fields
    return found


def memory_mb(pid: int) -> tuple[float, float]:
    """What a process has for itself, shared pages by their share; and the most that it ever had, sharing or not."""
    share = most = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                share = int(line.split()[1]) / 1024
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                most = int(line.split()[1]) / 1024
    except OSError:
        pass
    return share, most


@dataclass(slots=True)
class Usage:
    """Sampled while the programs run: a process that has ended keeps its last figures."""

    every: float = 0.2
    sum_mb: float = 0.0
    most_mb: float = 0.0
    processes: int = 0
    sessions: set[int] = field(default_factory=set)
    _cpu: dict[int, float] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def sample(self) -> None:
        """Look once."""
        total = 0.0
        found = members(self.sessions)
        for pid, fields in found.items():
            self._cpu[pid] = (int(fields[11]) + int(fields[12])) / TICK
            share, most = memory_mb(pid)
            total += share
            self.most_mb = max(self.most_mb, most)
        self.processes = max(self.processes, len(found))
        self.sum_mb = max(self.sum_mb, total)

    def watch(self) -> None:
        """Look until told to end."""
        while not self._ended.wait(self.every):
            self.sample()

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all processes that were seen."""
        return sum(self._cpu.values())


class Program:
    """One program of a line; its output is kept in a file, where its words are looked for."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=log.parent,
            )

    def said(self, word: str) -> float | None:
        """When the program said a word, by the monotonic clock; none if it did not yet."""
        with self.log.open("rb") as log:
            log.seek(self._from)
            for line in log.read().decode(errors="replace").splitlines():
                if line.startswith(f"peer {word} "):
                    return float(line.split()[2])
        return None

    def wait_for(self, word: str) -> float:
        """When the program said a word.

        Raises:
            RuntimeError: where it ends, or is silent for too long.
        """
        until = time.monotonic() + PATIENCE
        while (when := self.said(word)) is None:
            if self.process.poll() is not None and self.said(word) is None:
                raise RuntimeError(f"ended with {self.process.returncode}: {self.tail()}")
            if time.monotonic() > until:
                raise RuntimeError(f"did not say {word!r} within {PATIENCE:.0f} s: {self.tail()}")
            time.sleep(0.02)
        return when

    def tail(self) -> str:
        """The last of what it wrote."""
        return self.log.read_text(errors="replace")[-1_500:]

    def kill(self) -> None:
        """SIGKILL for every process of the session."""
        for pid in members({self.process.pid}):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def end(self, patience: float = 5.0) -> None:
        """Ask it to end, and do not ask again."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self.kill()
