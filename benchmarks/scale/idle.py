"""What a worker with many flows costs while nothing happens: start, memory, processor time, ledger transactions."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.scale import company
from benchmarks.scale.watched import Watched, cpu_of, memory_of, written_by

ROOT = Path(__file__).parents[2]
READ = "select count(*) from source where read_at > 0"
HELD = "select count(*) from lease where name like 'leg:%' and owner <> ''"


class Worker:
    """A real `tieline run` over a project's folder."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / "worker.log").open("ab")
        command = [sys.executable, "-m", "tieline", "run"]
        env = os.environ | {"PYTHONPATH": str(ROOT)}  # a project's adapters may be of the benchmarks
        self._process = subprocess.Popen(command, cwd=folder, stdout=self._log, stderr=subprocess.STDOUT, env=env)
        self.pid = self._process.pid
        self.folder = folder

    def check(self) -> None:
        """It still runs."""
        if self._process.poll() is not None:
            raise SystemExit(f"the worker ended: {(self.folder / 'worker.log').read_text()[-3000:]}")

    def stop(self, patience: float = 60.0) -> float:
        """End it in good order; gives the seconds that took, or kills it."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        return time.monotonic() - began


def measure(
    folder: Path,
    ledger: Watched,
    flows: int,
    *,
    via: str,
    trigger: str,
    seconds: float,
    patience: float,
    bus: str = "",
) -> dict[str, Any]:
    """Start a worker, wait until every source was read and every leg is held, and watch it do nothing."""
    company.found(folder, flows, ledger.url, via, trigger, bus=bus)
    worker = Worker(folder)
    try:
        began = time.monotonic()
        read = held = 0
        while time.monotonic() - began < patience:
            time.sleep(0.5)
            worker.check()
            read, held = ledger.ask(READ), ledger.ask(HELD)
            if read >= flows and held >= flows:
                break
        started = time.monotonic() - began
        cpu_to_start = cpu_of(worker.pid)
        time.sleep(min(10.0, seconds))  # what the start has left behind is over
        before, cpu, written, since = ledger.used(), cpu_of(worker.pid), written_by(worker.pid), time.monotonic()
        time.sleep(seconds)
        worker.check()
        span = time.monotonic() - since
        used = ledger.used().less(before)
        figures = {
            "flows": flows,
            "via": via,
            "trigger": trigger,
            "started": read >= flows and held >= flows,
            "sources_read": read,
            "legs_held": held,
            "start_s": round(started, 1),
            "start_cpu_s": round(cpu_to_start, 1),
            "memory_mb": round(memory_of(worker.pid), 1),
            "idle_cpu_percent": round(100 * (cpu_of(worker.pid) - cpu) / span, 2),
            "ledger_cpu_percent": round(100 * used.cpu_s / span, 2),
            "transactions_per_s": round(used.transactions / span, 1),
            "rows_written_per_s": round(used.rows_written / span, 1),
            "wal_bytes_per_s": round(used.wal_bytes / span),
            "disk_bytes_per_s": round((written_by(worker.pid) - written) / span),
        }
    finally:
        stopped = worker.stop()
    return figures | {"stop_s": round(stopped, 1)}
