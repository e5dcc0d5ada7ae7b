"""`make bench`: all ways, interleaved with the limits, several rounds; prints ratios and writes latest.json."""

import argparse
import json
import os
import platform
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import Progress

from benchmarks import workload
from benchmarks.figures import as_markdown, show
from benchmarks.one import WAYS as TIELINE
from benchmarks.servers import begin_engines, postgresql

LIMITS = ("raw", "bare")
WAYS = [*LIMITS, *TIELINE]
FROM_CSV = {"bare", "direct", "sqlite"}
OUTPUT = Path(__file__).with_name("latest.json")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
console = Console(stderr=True)


def postgres_cpu(dsn: str) -> float:
    """CPU seconds of the server's processes so far, those that have ended included."""
    with psycopg.connect(dsn) as db:
        (backend,) = db.execute("select pg_backend_pid()").fetchone() or (0,)
        try:
            parent = int(Path(f"/proc/{backend}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return 0.0
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                ticks += int(fields[11]) + int(fields[12])
            elif int(stat.parent.name) == parent:
                ticks += sum(int(f) for f in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def one(
    what: str, dsn: str, folder: Path, count: int, version: int, csv: bool = False, engine: str = ""
) -> dict[str, Any]:
    """Run one measured process; `engine` is the address of its bus."""
    before = postgres_cpu(dsn)
    command = [sys.executable, "-m", "benchmarks.one", what, "--dsn", dsn, "--folder", str(folder)]
    command += ["--count", str(count), "--version", str(version), *(["--csv"] if csv else [])]
    command += ["--engine", engine] if engine else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures["postgresql_cpu_s"] = round(postgres_cpu(dsn) - before, 2)
    return figures


def round_of(
    dsn: str, folder: Path, count: int, csv: bool, ways: list[str], engines: dict[str, str], tick: Any
) -> dict[str, dict[str, Any]]:
    """Each way once: inserts into an empty target, then updates of all."""
    results: dict[str, dict[str, Any]] = {}
    for what in ways:
        workload.fill(dsn, 0 if csv else count)
        workload.clear_target(dsn)
        work = folder / what
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        if csv:
            workload.write_csv(work / "orders.csv", count)
        engine = own_part(engines, what)
        results[what] = {"insert": one(what, dsn, work, count, 1, csv, engine)}
        tick()
        if not csv:
            workload.touch(dsn)
            results[what]["update"] = one(what, dsn, work, count, 2, csv, engine)
            tick()
        shutil.rmtree(work, ignore_errors=True)
    return results


def own_part(engines: dict[str, str], way: str) -> str:
    """The engine's address with a prefix that nobody used before; empty where the way needs no engine."""
    if way not in engines:
        return ""
    prefix = f"bench{secrets.token_hex(4)}"
    if way == "kafka":
        return f"{engines[way]}/{prefix}"
    return f"{engines[way]}{'&' if '?' in engines[way] else '?'}prefix={prefix}"


def much(dsn: str, folder: Path, count: int) -> dict[str, Any]:
    """What a process needs at most for so many orders from one table, direct and as inserts."""
    work = folder / "memory"
    work.mkdir()
    workload.fill(dsn, count)
    workload.clear_target(dsn)
    return {"count": count, **one("direct", dsn, work, count, 1)}


def delay(dsn: str, work: Path, way: str, count: int, engine: str) -> dict[str, Any]:
    """How long an order takes at 100 a second."""
    command = [sys.executable, "-m", "benchmarks.latency", dsn, str(work), way, str(count), "100", engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"latency of {way}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    delays: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return delays


def middle(rounds: list[dict[str, dict[str, Any]]], what: str, kind: str, figure: str) -> float:
    """The median over the rounds."""
    return statistics.median(float(r[what][kind][figure]) for r in rounds if what in r and kind in r[what])


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=int, default=800, help="orders sent at 100 a second; 0: none")
    parser.add_argument("--memory", type=int, default=1_000_000, help="orders of the run for its memory; 0: none")
    parser.add_argument("--docs", action="store_true", help="put the figures into docs/benchmarks.md")
    parser.add_argument("--output", type=Path, help="where the figures go; a run of all ways writes latest.json")
    parser.add_argument("--ways", default=",".join(WAYS), help="which ones; comma between them")
    parser.add_argument("--no-csv", action="store_true", help="leave out the runs from a CSV file")
    chosen = parser.parse_args()
    ways = chosen.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"there is no way {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    with ExitStack() as running:
        name = running.enter_context(tempfile.TemporaryDirectory(prefix="tieline-bench-"))
        os.chmod(name, 0o755)
        folder = Path(name)
        dsn = running.enter_context(postgresql(folder))
        engines, missing = begin_engines(running, folder, ways)
        for way, why in missing.items():
            console.print(f"left out: {way}: {why}")
        ways = [way for way in ways if way not in missing]
        from_csv = [] if chosen.no_csv else [way for way in ways if way in FROM_CSV]
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("order workload", total=chosen.rounds * (len(ways) * 2 + len(from_csv)))
            tick = lambda: bar.advance(task)  # noqa: E731
            rounds = [round_of(dsn, folder, chosen.count, False, ways, engines, tick) for _ in range(chosen.rounds)]
            csv_rounds = [round_of(dsn, folder, chosen.count, True, from_csv, {}, tick) for _ in range(chosen.rounds)]
        delays = {}
        for way in [way for way in ways if way not in LIMITS] if chosen.latency else []:
            work = folder / f"latency-{way}"
            work.mkdir()
            delays[way] = delay(dsn, work, way, chosen.latency, own_part(engines, way))
        memory = much(dsn, folder, chosen.memory) if chosen.memory else {}
    summary = summed(chosen, rounds, csv_rounds) | {"latency": delays, "memory": memory}
    show(summary, console)
    complete = set(ways) == set(WAYS) and not chosen.no_csv
    if output := chosen.output or (OUTPUT if complete else None):
        output.write_text(json.dumps(summary, indent=2) + "\n")
        console.print(f"written: {output}")
    if chosen.docs:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{as_markdown(summary)}\n\n{END}{after}")


def ratio(speed: float, rounds: list[dict[str, dict[str, Any]]], other: str, kind: str) -> float | None:
    """The speed divided by another way's; none where that one was not measured."""
    if not any(other in r and kind in r[other] for r in rounds):
        return None
    return round(speed / middle(rounds, other, kind, "records_per_s"), 2)


def summed(chosen: argparse.Namespace, rounds: list[Any], csv_rounds: list[Any]) -> dict[str, Any]:
    """The medians, and their ratios."""
    ways: dict[str, Any] = {}
    for source, measured in (("PostgreSQL", rounds), ("CSV", csv_rounds)):
        for what in WAYS:
            for kind in ("insert", "update"):
                if not any(what in r and kind in r[what] for r in measured):
                    continue
                speed = middle(measured, what, kind, "records_per_s")
                ways[f"{what} {source} {kind}"] = {
                    "records_per_s": speed,
                    "of_bare": ratio(speed, measured, "bare", kind),
                    "of_raw": ratio(speed, rounds, "raw", kind),
                    "of_direct": ratio(speed, measured, "direct", kind),
                    "cpu_s": middle(measured, what, kind, "cpu_s"),
                    "postgresql_cpu_s": middle(measured, what, kind, "postgresql_cpu_s"),
                    "peak_mb": middle(measured, what, kind, "peak_mb"),
                    "runs": [r[what][kind]["records_per_s"] for r in measured],
                }
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "count": chosen.count,
        "rounds": chosen.rounds,
        "ways": ways,
    }


if __name__ == "__main__":
    main()
