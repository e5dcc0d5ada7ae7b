"""The three measurements of a line: how fast, what a kill costs, how late."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import latency, workload
from benchmarks.peers import oracle
from benchmarks.peers.lines import Line
from benchmarks.peers.stage import Stage, Writer, wait

LONGEST = 240.0  # seconds for one run
SETTLE = 12.0  # seconds in which what was in a dead worker's hands may come again


def speed(line: Line, dsn: str, folder: Path, servers: dict[str, str], count: int) -> dict[str, float]:
    """Orders a second, from the first look at the source to the last commit; memory, processor time."""
    stage = Stage(line, dsn, folder, servers)
    launched = 0.0
    try:
        stage.prepare(count)
        with stage.watched() as usage:
            launched = time.monotonic()
            began = stage.begin()
            ended = stage.until_complete(count, LONGEST)
            usage.sample()
    finally:
        stage.kill()
    # A pipe is begun anew for each run: what it takes with nothing to do is its start, not its speed.
    idle = folder / "idle_s"
    start = float(idle.read_text()) if idle.exists() else 0.0
    seconds = max(ended - began - start, 0.1)
    return {
        "records_per_s": round(count / seconds, 1),
        "seconds": round(seconds, 2),
        "startup_s": round(began - launched + start, 2),
        "count": count,
        "cpu_s": round(usage.cpu_s, 2),
        "sum_mb": round(usage.sum_mb, 1),
        "most_mb": round(usage.most_mb, 1),
        "processes": usage.processes,
    }


def killed(
    line: Line, dsn: str, folder: Path, servers: dict[str, str], count: int, half: float, held: bool
) -> dict[str, Any]:
    """Kill everything of the line half way, begin it again, and let the oracle look; `half` is in seconds."""
    stage = Stage(line, dsn, folder, servers, held=held, follow=True)
    try:
        stage.prepare(count)
        oracle.attach(dsn, line.where)
        with Writer(dsn, count) as writer:
            stage.begin()
            began = time.monotonic()
            if line.runs_again:
                time.sleep(half)
            elif not wait(lambda: stage.arrived()[0] >= count // 2, LONGEST):
                raise RuntimeError(f"never came half way; {stage.last_words()}")
            stage.kill()
            at, after = stage.arrived()[0], time.monotonic() - began
            again = time.monotonic()
            stuck = _begun(stage)
            time.sleep(1.0)
            writer.end()
        (folder / "enough").touch()
        missing, stuck = _until_quiet(stage, stuck)
        needed = time.monotonic() - again
        if not line.runs_again and not line.ours:
            time.sleep(SETTLE)
        found = oracle.look(dsn, line.where)
    finally:
        stage.kill()
    return {
        "count": count,
        "killed_at": at,
        "killed_after_s": round(after, 1),
        "back_after_s": round(needed, 1) if not missing else None,
        "lost": found.lost,
        "doubled": found.doubled,
        "back": found.back,
        **({"stuck": stuck} if stuck and missing else {}),
    }


def _begun(stage: Stage) -> str:
    """Begin again; where what runs again by itself does not, what it says."""
    try:
        stage.begin()
    except RuntimeError as error:
        if not stage.line.runs_again:
            raise
        return str(error)[-600:]
    return ""


def _until_quiet(stage: Stage, stuck: str) -> tuple[int, str]:
    """Wait until the target is what the source is, or nothing changes any more.

    Gives how much still differs, and what a line says that does not begin again.
    """
    line, until = stage.line, time.monotonic() + LONGEST
    changed, before = time.monotonic(), -1
    while time.monotonic() < until:
        differing = oracle.differing(stage.dsn, line.where)
        if not differing:
            return 0, stuck
        if line.runs_again and stage.running["publish"].process.poll() is not None:
            stuck = _begun(stage)
        if differing != before:
            changed, before = time.monotonic(), differing
        if time.monotonic() - changed > line.quiet:
            break
        time.sleep(0.2)
    return oracle.differing(stage.dsn, line.where), stuck


def late(line: Line, dsn: str, folder: Path, servers: dict[str, str], count: int, rate: float) -> dict[str, float]:
    """Milliseconds from the commit in the source to the commit in the target, at so many orders a second."""
    stage = Stage(line, dsn, folder, servers, follow=True)
    listener = None
    try:
        stage.prepare(0)
        with psycopg.connect(dsn) as db:
            db.execute(latency.TELL.encode())
        stage.begin()
        time.sleep(2.0)
        listener = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.latency", "listen", dsn, str(count)], stdout=subprocess.PIPE, text=True
        )
        assert listener.stdout
        if listener.stdout.readline() != "ready\n":
            raise RuntimeError("the listener did not begin")
        placed = latency.place(dsn, count, rate)
        arrived = json.loads(listener.communicate(timeout=60)[0])
    finally:
        stage.kill()
        if listener is not None:
            listener.kill()
            listener.wait()
    if len(arrived) != count:
        raise RuntimeError(f"{len(arrived)} of {count} orders arrived; {stage.last_words()}")
    took = sorted((arrived[number] - placed[number]) * 1000 for number in arrived)
    return {"p50_ms": round(statistics.median(took), 2), "p99_ms": round(took[int(len(took) * 0.99)], 2)}


def clean(dsn: str) -> None:
    """Leave nothing in the database."""
    with psycopg.connect(dsn, autocommit=True) as db:
        for schema in (
            "bench_oracle",
            "bench_dlt",
            "bench_dlt_staging",
            "bench_singer",
            workload.SOURCE,
            workload.TARGET,
        ):
            db.execute(f"drop schema if exists {schema} cascade".encode())
        db.execute(b"drop schema if exists bench_ledger cascade")
        db.execute(b"drop schema if exists tieline cascade")
