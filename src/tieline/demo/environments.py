"""A Python environment per system, with the versions its lock names; made once, used by every demo after."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tieline.demo.children import Child, DemoFailed, program, run

LOCKS = Path(__file__).with_name("locks")


@dataclass(frozen=True)
class Environment:
    """`requirements` installed into `folder` under the constraints of `locks/NAME.txt`, by uv or else pip."""

    name: str
    folder: Path
    requirements: Sequence[str]
    base: str = sys.executable  # the Python it is made from

    @property
    def python(self) -> Path:
        """The environment's own interpreter."""
        return self.folder / "bin" / "python"

    @property
    def lock(self) -> Path:
        """The exact versions: a `pip freeze` of an environment made without them, sorted."""
        return LOCKS / f"{self.name}.txt"

    def fingerprint(self) -> str:
        """Changes when what is installed would."""
        facts = [sorted(self.requirements), self.lock.read_text(), self.base, sys.version_info[:2]]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def is_installed(self) -> bool:
        """Whether the environment is complete and of these versions."""
        try:
            return self._mark.read_text() == self.fingerprint() and self.python.exists()
        except FileNotFoundError:
            return False

    def install(self, log: Path, keep: Callable[[Child], None]) -> None:
        """Make the environment, unless it is there.

        Raises:
            DemoFailed: with the end of the installer's log.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(self.folder.with_suffix(".busy")):
            if self.is_installed():
                return
            failures = []
            for commands in self._ways():
                shutil.rmtree(self.folder, ignore_errors=True)
                try:
                    for command in commands:
                        run(command, cwd=self.folder.parent, log=log, env=installer_settings(), keep=keep)
                except DemoFailed as error:
                    failures.append(str(error))
                else:
                    self._mark.write_text(self.fingerprint())
                    return
            raise DemoFailed(f"{self.name} could not be installed (is the package index reachable?)\n" + failures[-1])

    @property
    def _mark(self) -> Path:
        return self.folder / "complete"

    def _ways(self) -> Iterator[list[list[str | Path]]]:
        wanted: list[str | Path] = ["-c", self.lock, *self.requirements]
        if uv := program("uv"):
            make: list[str | Path] = [uv, "venv", "-q", "--no-project", "--python", self.base, self.folder]
            yield [make, [uv, "pip", "install", "-q", "--python", self.python, *wanted]]
        yield [
            [self.base, "-m", "venv", self.folder],
            [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile", *wanted],
        ]


def installer_settings() -> dict[str, str]:
    """The settings of pip and uv that the user has made, and nothing else of the environment."""
    wanted = ("PIP_", "UV_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "HOME", "XDG_")
    return {name: value for name, value in os.environ.items() if name.upper().startswith(wanted)}


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file: two demos that start together do this part one after the other."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
