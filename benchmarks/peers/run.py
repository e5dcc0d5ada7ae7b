"""`make bench-peers`: every line in turn within each round; then a kill half way; then latency.

What is finished is kept in `.venv-peers/progress.json`, so that a run that was cut off goes on where it was. A line
that fails is a line with its error.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.peers import measuring
from benchmarks.peers.figures import as_markdown, show, summed
from benchmarks.peers.install import ENVIRONMENTS, install
from benchmarks.peers.lines import LINES, SHARE, Line, chosen
from benchmarks.servers import begin_engines, postgresql

OUTPUT = Path(__file__).parents[1] / "peers.json"
PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
PROGRESS = ENVIRONMENTS / "progress.json"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
console = Console(stderr=True)


class Progress:
    """What was measured so far with these settings; a run with others begins anew."""

    def __init__(self, settings: dict[str, Any], fresh: bool) -> None:
        self.done: dict[str, Any] = {}
        self._settings = settings
        if PROGRESS.exists() and not fresh:
            kept = json.loads(PROGRESS.read_text())
            if kept["settings"] == settings:
                self.done = kept["done"]

    def keep(self, name: str, figures: dict[str, Any]) -> None:
        """Write it down at once."""
        self.done[name] = figures
        PROGRESS.parent.mkdir(exist_ok=True)
        new = PROGRESS.with_suffix(".new")
        new.write_text(json.dumps({"settings": self._settings, "done": self.done}, indent=1))
        new.replace(PROGRESS)


def tried(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures, or the error in their place."""
    try:
        return measure()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[-1_200:]}


def main() -> None:
    """Install, measure, report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=40_000, help=f"orders; a {SHARE}th where each is a transaction")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kill", type=int, default=8_000, help="orders of the run that is killed half way; 0: none")
    parser.add_argument("--latency", type=int, default=500, help="orders sent at 100 a second; 0: none")
    parser.add_argument("--only", default="", help="lines whose names contain one of these words; comma between them")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin nothing new after so many minutes")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--docs", action="store_true", help="put the figures into docs/peers.md")
    asked = parser.parse_args()
    try:
        lines = chosen(asked.only)
    except ValueError as error:
        parser.error(str(error))
    settings = {"count": asked.count, "rounds": asked.rounds, "kill": asked.kill, "latency": asked.latency}
    progress = Progress(settings, asked.fresh)
    until = time.monotonic() + asked.minutes * 60
    broken = _installed(lines)
    with ExitStack() as running:
        name = running.enter_context(tempfile.TemporaryDirectory(prefix="tieline-peers-"))
        os.chmod(name, 0o755)
        dsn = running.enter_context(postgresql(Path(name)))
        running.callback(measuring.clean, dsn)
        needed = sorted({line.server for line in lines if line.server})
        servers, missing = begin_engines(running, Path(name), needed)
        broken |= {line.name: missing[line.server] for line in lines if line.server in missing}
        steps = _steps(lines, asked, progress, dsn, Path(name) / "work", servers)
        for number, (step, measure) in enumerate(steps, 1):
            before = progress.done.get(step)
            if before is not None and "error" not in before:
                continue
            if time.monotonic() > until:
                console.print(f"{asked.minutes:g} minutes are over; begin it again to go on at {step!r}")
                break
            line = step.partition(":")[0]
            found = {"error": broken[line]} if line in broken else tried(measure)
            progress.keep(step, found)
            console.print(f"{number}/{len(steps)} {step}: {_short(found)}", highlight=False, soft_wrap=True)
    finished = {"python": platform.python_version(), "cores": os.cpu_count(), **settings}
    summary = finished | summed(progress.done, list(LINES.values()))
    OUTPUT.write_text(json.dumps(summary, indent=1) + "\n")
    show(summary, console)
    console.print(f"written: {OUTPUT.name}")
    if asked.docs:
        before_, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before_}{BEGIN}\n\n{as_markdown(summary)}\n\n{END}{rest.partition(END)[2]}")


def _installed(lines: list[Line]) -> dict[str, str]:
    """Install what the lines need; why a line cannot run."""
    broken: dict[str, str] = {}
    for environment in dict.fromkeys(line.environment for line in lines):
        try:
            install(environment)
        except Exception as error:
            why = f"not installed: {error}"[-600:]
            console.print(f"{environment}: {why}", highlight=False)
            broken |= {line.name: why for line in lines if line.environment == environment}
    return broken


def _steps(
    lines: list[Line],
    asked: argparse.Namespace,
    progress: Progress,
    dsn: str,
    folder: Path,
    servers: dict[str, str],
) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    """All that is to be measured, by name and in order."""
    steps: list[tuple[str, Callable[[], dict[str, Any]]]] = []

    def speed(line: Line) -> dict[str, Any]:
        count = max(100, asked.count // SHARE) if line.each else asked.count
        return dict(measuring.speed(line, dsn, folder, servers, count))

    def killed(line: Line, held: bool) -> dict[str, Any]:
        count = max(100, asked.kill // 8) if line.each else asked.kill
        fast = progress.done.get(f"{line.name}:speed 1", {})
        half = fast["seconds"] * count / fast["count"] / 2 if fast.get("seconds") else 4.0
        return measuring.killed(line, dsn, folder, servers, count, max(half, 1.5), held)

    def late(line: Line) -> dict[str, Any]:
        return dict(measuring.late(line, dsn, folder, servers, asked.latency, 100.0))

    for round_ in range(1, asked.rounds + 1):
        for line in lines:
            steps.append((f"{line.name}:speed {round_}", lambda line=line: speed(line)))  # type: ignore[misc]
    for line in lines if asked.kill else ():
        steps.append((f"{line.name}:kill", lambda line=line: killed(line, True)))  # type: ignore[misc]
        if line.plain:
            steps.append((f"{line.name}:kill plain", lambda line=line: killed(line, False)))  # type: ignore[misc]
    for line in lines if asked.latency else ():
        if line.latency:
            steps.append((f"{line.name}:latency", lambda line=line: late(line)))  # type: ignore[misc]
    return steps


def _short(found: dict[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in found.items())[:300]


if __name__ == "__main__":
    main()
