"""What every demo system has in common: install, prepare, start, wait, stop."""

from __future__ import annotations

import base64
import hashlib
import inspect
import os
import secrets
import shutil
import sqlite3
import threading
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tieline.demo.children import Child, DemoFailed, free_port, is_taken, run, tail, wait_until
from tieline.demo.environments import Environment, alone

SEEDS = Path(__file__).with_name("seeds")
CATALOGUE = SEEDS / "catalogue.csv"

Progress = Callable[[str, str, float | None], None]
"""`progress(system, text, done)`: what a system is busy with, and the done part of it from 0 to 1, if known."""


def default_home() -> Path:
    """Where environments and prepared databases are kept between demos."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "tieline" / "demo"


class Access(msgspec.Struct, frozen=True):
    """How one may use a system. The password was drawn at random when its template was prepared."""

    user: str
    password: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Access(user={self.user!r})"


class DemoSystem(ABC):
    """One real system: an environment and a template in `home`, a fresh copy of its data in `work`.

    Call `install`, `prepare`, `start`, `wait_ready` in this order; `stop` and `start` again keep the data and
    the port. All of them block; systems do not share anything, so each may be driven by its own thread.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    requirements: ClassVar[Sequence[str]]
    seeds: ClassVar[Sequence[str]] = ()  # files in `seeds/` that shape the template

    def __init__(self, home: Path, work: Path, *, port: int | None = None) -> None:
        self.home = home.absolute()
        self.data = work.absolute() / self.name
        self.log = work.absolute() / f"{self.name}.log"
        self.environment = Environment(self.name, self.home / "environments" / self.name, self.requirements)
        self._fixed_port = port
        self._port = port or 0
        self._server: Child | None = None
        self._busy: Child | None = None
        self._ended = threading.Event()

    @property
    def port(self) -> int:
        """The loopback port; chosen at the first start unless one was given."""
        return self._port

    @property
    @abstractmethod
    def url(self) -> str:
        """Where an adapter finds the system's interface."""

    @property
    @abstractmethod
    def database(self) -> Path:
        """The system's own SQLite file."""

    @property
    def access(self) -> Access:
        """User, password and token of the prepared system."""
        return msgspec.json.decode((self.data / "access.json").read_bytes(), type=Access)

    def install(self, progress: Progress) -> None:
        """Make the environment, unless it is there.

        Raises:
            DemoFailed: with the end of the installer's log.
        """
        if not self.environment.is_installed():
            progress(self.name, f"installing {self.title}", None)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.environment.install(self.log, self._keep)
        progress(self.name, "installed", None)

    def prepare(self, progress: Progress) -> None:
        """Put fresh, seeded data into the work folder; the template it is copied from is made only once.

        Raises:
            DemoFailed: with the end of the log of the step that failed.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        template = self.home / "templates" / f"{self.name}-{self.fingerprint()}"
        template.parent.mkdir(parents=True, exist_ok=True)
        with alone(self.home / "templates" / f"{self.name}.busy"):
            if not template.exists():
                self._make(template, progress)
            shutil.rmtree(self.data, ignore_errors=True)
            shutil.copytree(template, self.data)
        progress(self.name, "prepared", None)

    def start(self) -> None:
        """Start the server on its port.

        Raises:
            DemoFailed: where somebody else has the port.
        """
        self.renew()
        if not self._port:
            self._port = free_port()
        elif is_taken(self._port):
            raise DemoFailed(f"{self.title}: port {self._port} is in use. End what holds it or choose another port.")
        self._server = self._serve()

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return when the system itself, and nobody else on its port, answers.

        Raises:
            DemoFailed: where it ends instead, or takes longer than `timeout` seconds.
        """
        server = self._server
        if server is None:
            raise DemoFailed(f"{self.title} was not started.")
        ready = wait_until(lambda: not server.is_alive() or (server.holds(self._port) and self._answers()), timeout)
        if not server.is_alive():
            raise DemoFailed(f"{self.title} ended while starting. Its log, {self.log}, ends with:\n{tail(self.log)}")
        if not ready:
            raise DemoFailed(f"{self.title} did not answer within {timeout:.0f} s; see {self.log}.")

    def is_alive(self) -> bool:
        """Whether the server runs."""
        return self._server is not None and self._server.is_alive()

    def stop(self) -> None:
        """End whatever this system is doing: installing, preparing or serving. Its data stays."""
        self._ended.set()
        for child in (self._busy, self._server):
            if child is not None:
                child.stop()
        self._server = None

    def renew(self) -> None:
        """Take back an earlier `stop`: from now on this system may work again."""
        self._ended.clear()

    def forget(self) -> None:  # noqa: B027  most have nothing to do here
        """Remove what this system keeps outside `home` and `work`: usually nothing."""

    def fingerprint(self) -> str:
        """Changes when the prepared data would."""
        digest = hashlib.sha256(self.environment.fingerprint().encode())
        sources = [Path(inspect.getfile(type(self))), *(SEEDS / seed for seed in self.seeds)]
        for path in sources:
            digest.update(path.read_bytes())
        digest.update(self._also().encode())
        return digest.hexdigest()[:16]

    def _make(self, template: Path, progress: Progress) -> None:
        for older in template.parent.glob(f"{self.name}-*"):
            shutil.rmtree(older)
        growing = template.with_name(f"{self.name}.new")
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir(mode=0o700)
        access = Access(user="admin", password=secrets.token_urlsafe(15), token=secrets.token_hex(20))
        file = growing / "access.json"
        file.touch(mode=0o600)
        file.write_bytes(msgspec.json.encode(access))
        self._seed(growing, access, progress)
        for database in growing.rglob("*.sqlite*"):
            settle(database)
        growing.rename(template)

    def _run(self, command: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> None:
        run([self.environment.python, *command], cwd=cwd, log=self.log, env=env, keep=self._keep)

    def _keep(self, child: Child) -> None:
        self._busy = child
        if self._ended.is_set():
            child.stop()

    def _also(self) -> str:  # what else the prepared data depends on
        return ""

    @abstractmethod
    def _seed(self, folder: Path, access: Access, progress: Progress) -> None:
        """Make the database in `folder`."""

    @abstractmethod
    def _serve(self) -> Child:
        """Start the server on `self.port`."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server answers a real question now."""


def settle(database: Path) -> None:
    """Bring what stands in the write-ahead log into the database file, so that the file alone can be copied."""
    if database.suffix not in (".sqlite", ".sqlite3"):
        return
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP Basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def ask(url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> Any:
    """The JSON answer to a GET, or to a POST of `body`; None where there is no good answer."""
    data = None if body is None else msgspec.json.encode(body)
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310  the address is ours
            return msgspec.json.decode(answer.read())
    except (OSError, urllib.error.URLError, msgspec.DecodeError):
        return None
