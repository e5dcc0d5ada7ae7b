"""How `make bench-peers` judges, what it keeps, and that its lines can be run at all."""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmarks.peers import run
from benchmarks.peers.figures import as_markdown, errors, kill_lines, speed_lines, summed, verdicts
from benchmarks.peers.install import PARTS
from benchmarks.peers.lines import LINES, NODE, TIELINE, chosen
from benchmarks.peers.processes import Program, Usage

PEERS = Path(run.__file__).parent
CLEAN = {"count": 10, "killed_at": 5, "killed_after_s": 1.0, "back_after_s": 2.0, "lost": 0, "doubled": 0, "back": 0}


def _speed(records: float, **given: Any) -> dict[str, Any]:
    figures = {"records_per_s": records, "seconds": 1.0, "startup_s": 1.0, "count": 1000, "cpu_s": 1.0}
    return figures | {"sum_mb": 50.0, "most_mb": 50.0, "processes": 1} | given


def _summary(done: dict[str, Any]) -> dict[str, Any]:
    return {"python": "3", "cores": 2, "count": 1000, "rounds": 1} | summed(done, list(LINES.values()))


def _missed(done: dict[str, Any]) -> list[str]:
    return [verdict.what for verdict in verdicts(_summary(done)) if not verdict.kept]


def test_every_engine_is_judged_against_every_peer_with_a_goal() -> None:
    """A goal that one engine reaches and another misses is missed on that engine alone."""
    done = {
        "tieline direct:speed 1": _speed(9000),
        "tieline nats:speed 1": _speed(8000),
        "tieline rabbitmq:speed 1": _speed(7000),
        "faststream nats batch:speed 1": _speed(2000),
        "dlt:speed 1": _speed(1400),
    }
    assert _missed(done) == ["tieline rabbitmq / faststream nats batch", "tieline rabbitmq / direct"]


def test_a_line_with_a_transaction_for_each_order_is_told_and_not_judged() -> None:
    """Its ratio is batching, not merit: there is no goal about it, and the table marks it."""
    done = {"tieline direct:speed 1": _speed(9000), "celery redis:speed 1": _speed(9000)}
    assert _missed(done) == []
    assert speed_lines(_summary(done))[1][:3] == ("celery redis *", "9,000", "1.00x")


def test_what_a_kill_loses_latency_and_memory_are_judged() -> None:
    """One order lost is a goal missed, and so is a process that is too large or too slow."""
    done = {
        "tieline nats:speed 1": _speed(9000, most_mb=100.0),
        "tieline nats:kill": CLEAN | {"lost": 1},
        "tieline nats:latency": {"p50_ms": 4.9, "p99_ms": 50.0},
    }
    assert _missed(done) == ["tieline nats, MB a process", "tieline nats, p99 ms", "tieline nats, wrong after a kill"]


def test_a_line_that_failed_says_so_and_leaves_the_others_alone() -> None:
    """The figure of a round that worked counts, the error of the other is shown."""
    done = {
        "dlt:speed 1": {"error": "RuntimeError: no such table"},
        "dlt:speed 2": _speed(100),
        "singer:speed 1": {"error": "RuntimeError: not installed"},
    }
    summary = _summary(done)
    assert [line[:2] for line in speed_lines(summary)] == [("dlt", "100"), ("singer", "failed")]
    assert errors(summary) == [
        "dlt, speed 1: RuntimeError: no such table",
        "singer, speed 1: RuntimeError: not installed",
    ]
    assert "Failed: singer, speed 1" in as_markdown(summary)


def test_what_never_became_whole_again_is_told() -> None:
    """An order that is missing for as long as one looked has no time after which it was there."""
    plain = CLEAN | {"lost": 3, "doubled": 2, "back": 1}
    done = {"celery redis:kill": CLEAN | {"back_after_s": None, "lost": 7}, "celery redis:kill plain": plain}
    assert kill_lines(_summary(done)) == [("celery redis", "5 of 10", "never", "7", "0", "0", "3, 2, 1")]


def test_the_median_of_the_rounds_counts() -> None:
    """One slow round does not decide."""
    done = {f"dlt:speed {n}": _speed(speed) for n, speed in enumerate((100, 900, 800), 1)}
    assert _summary(done)["lines"]["dlt"]["records_per_s"] == 800


def test_lines_are_chosen_by_words_of_their_names() -> None:
    """Several words mean all lines that have one of them; a word of no line is refused."""
    assert {line.environment for line in chosen("celery,dlt")} == {"celery", "dlt"}
    assert len(chosen("")) == len(LINES)
    with pytest.raises(ValueError, match="no line is named 'selery'"):
        chosen("selery")


def test_a_run_that_was_cut_off_goes_on_and_one_with_other_settings_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures of different sizes are never mixed."""
    monkeypatch.setattr(run, "PROGRESS", tmp_path / "kept" / "progress.json")
    run.Progress({"count": 1}, fresh=False).keep("dlt:speed 1", {"records_per_s": 1.0})
    assert run.Progress({"count": 1}, fresh=False).done == {"dlt:speed 1": {"records_per_s": 1.0}}
    assert run.Progress({"count": 2}, fresh=False).done == {}
    assert run.Progress({"count": 1}, fresh=True).done == {}


def test_whatever_a_peer_does_is_a_line() -> None:
    """An exception becomes the line's error, and does not end the run."""

    def fails() -> dict[str, Any]:
        raise RuntimeError("the broker is gone")

    assert run.tried(fails) == {"error": "RuntimeError: the broker is gone"}


def test_each_line_has_its_program_and_its_environment_a_lock_of_exact_versions() -> None:
    """What is compared can be installed again."""
    for line in LINES.values():
        if line.environment == NODE:
            packages = json.loads((PEERS / "locks" / "package.json").read_text())["dependencies"]
            assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in packages.values())
        elif line.environment != TIELINE:
            assert (PEERS / "programs" / line.program).is_file()
            for part in PARTS.get(line.environment, (line.environment,)):
                locked = (PEERS / "locks" / f"{part}.txt").read_text().splitlines()
                assert all(re.fullmatch(r"[\w.-]+==[\w.!+-]+", package) for package in locked), part


def test_all_processes_of_a_program_are_seen_and_killed_together(tmp_path: Path) -> None:
    """A child counts with its parent, in memory, in processor time, and when it is killed."""
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code += "; print('peer ready', time.monotonic(), flush=True); time.sleep(60)"
    program = Program([sys.executable, "-c", code], {}, tmp_path / "log")
    usage = Usage(sessions={program.process.pid})
    try:
        assert program.wait_for("ready") <= time.monotonic()
        until = time.monotonic() + 20
        while usage.processes < 2 and time.monotonic() < until:
            usage.sample()
        assert usage.processes == 2
        assert usage.most_mb > 0
        assert usage.cpu_s > 0
    finally:
        program.kill()
    after = Usage(sessions={program.process.pid})
    after.sample()
    assert after.processes == 0


def test_a_program_that_ends_before_it_is_ready_says_why(tmp_path: Path) -> None:
    """The line's error holds what the program wrote last."""
    program = Program([sys.executable, "-c", "raise SystemExit('no broker')"], {}, tmp_path / "log")
    with pytest.raises(RuntimeError, match="ended with 1: no broker"):
        program.wait_for("ready")
