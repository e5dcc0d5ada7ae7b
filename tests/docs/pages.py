"""Pages of the documentation as scripts: what stands in their fences is run, read or at least compiled.

What a fence's first line says decides what becomes of it:

- ``console``: lines that begin with ``$ `` are run in a shell, in the page's own folder; what stands
  below one must occur in its output, line by line and in order; white space counts once and ``…``
  stands for anything. ``exit=3`` is the exit code of the fence's last command, ``&`` at a command's
  end leaves it running until the page is over.
- ``title=path``, in any language: the fence is that file of the page's folder.
- ``python``: run as a program of its own; ``fragment`` beside it: only compiled.
- ``toml``, ``json``, ``ini``: parsed. ``sh``: read by the shell, not run.
"""

import ast
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tieline.cli import COMMANDS

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PATIENCE: Final = 120.0  # seconds for one command

_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S)


@dataclass(frozen=True)
class Fence:
    """A block of code in a page; `place` is its file and line."""

    place: str
    language: str
    words: Mapping[str, str]
    body: str


def pages() -> list[Path]:
    """Every page a reader may open."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*top, *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """A page as shown."""
    return str(page.relative_to(ROOT))


def fences(page: Path) -> Iterator[Fence]:
    """The fences of a page, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        language, *rest = found["info"].split() or [""]
        words = {name: value for name, _, value in (word.partition("=") for word in rest)}
        line = text.count("\n", 0, found.start()) + 1
        indent = found["indent"]
        body = "".join(one.removeprefix(indent) for one in found["body"].splitlines(keepends=True))
        yield Fence(f"{name_of(page)}:{line}", language, words, body)


def validate(fence: Fence) -> None:
    """Read a fence without running it.

    Raises:
        SyntaxError, ValueError, AssertionError: where it cannot be what it says it is.
    """
    match fence.language:
        case "python":
            ast.parse(fence.body, fence.place)
        case "toml":
            tomllib.loads(fence.body)
        case "json":
            json.loads(fence.body)
        case "ini":
            unit = configparser.ConfigParser(interpolation=None)
            unit.read_string(fence.body)
            for section in unit.values():
                if command := section.get("ExecStart"):
                    program, word, *_ = shlex.split(command)
                    assert (Path(program).name, word in COMMANDS) == ("tieline", True), f"{fence.place}: {command}"
        case "sh":
            done = subprocess.run(["bash", "-n"], input=fence.body, text=True, capture_output=True, check=False)
            assert done.returncode == 0, f"{fence.place}: {done.stderr}"
        case "console":
            assert any(command for command, _ in _commands(fence)), f"{fence.place}: no line begins with $"
        case "csv" | "sql" | "text" | "mermaid" | "":
            pass
        case other:
            raise AssertionError(f"{fence.place}: nobody checks fences in {other!r}")


def _commands(fence: Fence) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console with the lines it is to print."""
    command, expected = "", []
    for line in fence.body.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line.removeprefix("$ "), []
        elif line.strip():
            expected.append(line)
    yield command, expected


@dataclass
class Reader:
    """Somebody who does what a page says, in an empty folder."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    _running: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __enter__(self) -> "Reader":
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        quiet = {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1", "TERM": "dumb"}
        self.env = {**os.environ, **quiet, "PATH": programs, **self.env}
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._running:
            child.terminate()
        for child in self._running:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def follow(self, page: Path) -> int:
        """Do everything that stands in a page; gives how many commands and programs were run.

        Raises:
            AssertionError: naming the place where the page is wrong.
        """
        ran = 0
        for fence in fences(page):
            validate(fence)
            if "title" in fence.words:
                file = self.folder / fence.words["title"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(fence.body, encoding="utf-8")
            elif fence.language == "console":
                ran += self._type(fence)
            elif fence.language == "python" and "fragment" not in fence.words:
                done = self._run([sys.executable, "-c", fence.body])
                assert done.returncode == 0, f"{fence.place}:\n{done.stdout}"
                ran += 1
        return ran

    def _type(self, fence: Fence) -> int:
        commands = list(_commands(fence))
        for number, (command, expected) in enumerate(commands, 1):
            words = shlex.split(command)
            if words[0] == "cd":
                self.folder = (self.folder / words[1]).resolve()
                assert self.folder.is_dir(), f"{fence.place}: there is no {words[1]}"
                continue
            if words[0] == "export":
                self.env |= dict(word.split("=", 1) for word in words[1:])
                continue
            if command.endswith("&"):
                self._start(command.removesuffix("&"), fence, expected)
                continue
            done = self._run(["bash", "-c", command])
            wanted = int(fence.words.get("exit", 0)) if number == len(commands) else 0
            told = f"{fence.place}: $ {command}\nexit code {done.returncode}\n{done.stdout}"
            assert done.returncode == wanted, told
            missing = first_missing(expected, done.stdout)
            assert missing is None, f"{told}\nmissing: {missing}"
        return len(commands)

    def _run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def _start(self, command: str, fence: Fence, expected: list[str]) -> None:
        """Leave a command running; it is ready when it has printed what stands below it."""
        log = self.folder / f"running-{len(self._running)}.log"
        with log.open("wb") as output:
            self._running.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {command}"],
                    cwd=self.folder,
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
        until = time.monotonic() + PATIENCE
        while first_missing(expected, printed := log.read_text(errors="replace")) is not None:
            assert self._running[-1].poll() is None, f"{fence.place}: $ {command} ended:\n{printed}"
            assert time.monotonic() < until, f"{fence.place}: $ {command} did not say {expected}:\n{printed}"
            time.sleep(0.05)


def first_missing(expected: list[str], printed: str) -> str | None:
    """The first expected line that the output does not have after those before it."""
    lines = iter(" ".join(line.split()) for line in printed.splitlines())
    for one in expected:
        parts = [part.strip() for part in " ".join(one.split()).split("…")]
        pattern = re.compile(".*".join(map(re.escape, parts)))
        if not any(pattern.search(line) for line in lines):
            return one
    return None
