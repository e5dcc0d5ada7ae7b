"""Processes the demo starts: each ends with it, and a port is believed only when the child itself holds it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

TETHER = Path(__file__).with_name("tether.py")
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
LISTENING = "0A"


class DemoFailed(RuntimeError):
    """A part of the demo could not be installed, prepared or started; the text says why and what to do."""


class Child:
    """One running command with everything it starts. It cannot outlive this process."""

    def __init__(
        self, command: Sequence[str | Path], *, cwd: Path, log: Path, env: Mapping[str, str], user: str | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._tether = subprocess.Popen(  # noqa: S603  commands are the demo's own
                [sys.executable, "-I", "-S", TETHER, user or "-", *command],
                cwd=cwd,
                env=plain_environment(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its children in order
            )
        assert self._tether.stdout is not None
        line = self._tether.stdout.readline()
        self.pid = int(line) if line.strip() else 0
        self.name = Path(command[0]).name

    def is_alive(self) -> bool:
        """Whether the command still runs."""
        return self._tether.poll() is None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end by itself and return its exit code.

        Raises:
            subprocess.TimeoutExpired: after `timeout` seconds.
        """
        return self._tether.wait(timeout)

    def stop(self) -> None:
        """End the command and all it started; returns when they are gone. May be called twice."""
        if self._tether.stdin is not None and not self._tether.stdin.closed:
            self._tether.stdin.close()
        self._tether.wait()
        if self._tether.stdout is not None:
            self._tether.stdout.close()

    def holds(self, port: int) -> bool:
        """Whether a process of this child listens on the port. Where the system cannot tell: whether it is alive."""
        if not self.is_alive():
            return False
        if not Path("/proc/net/tcp").exists():
            return True
        sockets = {f"socket:[{inode}]" for inode in listening(port)}
        return any(sockets & _open_files(pid) for pid in self._members())

    def _members(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.getpgid(int(entry.name)) == self.pid:
                        found.append(int(entry.name))
                except ProcessLookupError:
                    continue
        return found


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    keep: Callable[[Child], None] | None = None,
) -> None:
    """Run a command to its end; its output goes to `log`, `keep` receives the child so that it can be stopped.

    Raises:
        DemoFailed: with the end of the log, where the command fails.
    """
    child = Child(command, cwd=cwd, log=log, env=env or {})
    try:
        if keep is not None:
            keep(child)
        code = child.wait()
    finally:
        child.stop()
    if code:
        shown = " ".join(str(part) for part in command)[:200]
        raise DemoFailed(f"`{shown}` ended with {code}. Its log, {log}, ends with:\n{tail(log)}")


def plain_environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a child may know of our environment, which may hold secrets, and what it is told besides."""
    kept = {name: value for name, value in os.environ.items() if name in PASSED_ON}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **kept, **more}


def free_port() -> int:
    """A port on the loopback address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_taken(port: int) -> bool:
    """Whether somebody accepts connections on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_running(pid: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def listening(port: int) -> set[str]:
    """The kernel's numbers of the sockets that listen on the port (Linux)."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def wait_until(true: Callable[[], bool], timeout: float, every: float = 0.1) -> bool:
    """Ask again and again until it is true; False after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def program(name: str) -> str | None:
    """A program on PATH or beside the running Python."""
    beside = Path(sys.executable).with_name(name)
    return shutil.which(name) or (str(beside) if beside.exists() else None)


def _open_files(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.add(os.readlink(entry))
            except OSError:
                continue
    except OSError:
        return set()
    return found
