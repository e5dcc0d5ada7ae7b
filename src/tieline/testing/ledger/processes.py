"""What holds between real processes: killed, frozen and thawed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, ClassVar

import pytest

from tieline.ledger import Stores
from tieline.testing.ledger.bench import Bench, Suite


class Processes(Suite):
    """What a ledger promises to several processes."""

    kills: ClassVar[int] = 3

    def test_what_was_acknowledged_survives_a_kill(self, bench: Bench, url: str, sharing: None) -> None:
        """After `kill -9` at any moment: all that was acknowledged, and each transaction whole or not at all."""
        acknowledged = 0
        for after in range(self.kills):
            with self._child(url, "write") as child:
                for line in _lines(child):
                    acknowledged = int(line)
                    if acknowledged % 50 >= 10 + 13 * after:
                        break
                child.kill()
                acknowledged = max([acknowledged, *(int(line) for line in _lines(child))])
            state = bench(_written)
            assert state["note"] >= acknowledged
            assert set(state.values()) == {state["note"]}, state

    def test_a_frozen_worker_is_fenced_when_it_thaws(self, bench: Bench, url: str, sharing: None) -> None:
        """Its lease passed on while it stood still; what it does next has no effect."""
        with self._child(url, "hold") as child:
            lines = _lines(child)
            token = int(next(lines))
            child.send_signal(signal.SIGSTOP)
            taken: dict[str, int] = {}
            until = time.monotonic() + 30
            while not taken and time.monotonic() < until:
                taken = bench(_take_over)
                time.sleep(0.02)
            assert taken["a"] > token
            child.send_signal(signal.SIGCONT)
            assert child.stdin is not None
            child.stdin.write("go on\n")
            child.stdin.flush()
            assert next(lines) == "fenced"
        assert bench(lambda stores: stores.notes.get("n")) == "taken over"

    def test_another_process_wakes_this_one(self, bench: Bench, url: str, sharing: None) -> None:
        """A notification of another process ends the wait well before its time."""
        with self._child(url, "ring") as child:
            lines = _lines(child)
            assert next(lines) == "ready"
            bench.run(bench.ledger.wait(["t"], 0.2))
            assert child.stdin is not None
            child.stdin.write("ring\n")
            child.stdin.flush()
            began = time.monotonic()
            bench.run(bench.ledger.wait(["t"], 20))
            assert time.monotonic() - began < 10
            assert bench(lambda stores: stores.notes.get("n")) == "rung"

    @contextmanager
    def _child(self, url: str, task: str) -> Iterator["subprocess.Popen[str]"]:
        """Another process on the same store; it ends with the test, however that ends."""
        keeper = type(self).keeper
        name = f"{keeper.__module__}:{keeper.__qualname__}"
        child = subprocess.Popen(  # noqa: S603 - our own module, with a name and an address of the suite's
            [sys.executable, "-m", "tieline.testing.ledger.child", name, url, task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield child
        finally:
            child.kill()
            child.communicate()


def _lines(child: "subprocess.Popen[str]") -> Iterator[str]:
    output: IO[str] | None = child.stdout
    assert output is not None
    for line in output:
        yield line.strip()
    if child.poll() not in (None, 0, -signal.SIGKILL):
        pytest.fail(f"the other process ended with {child.returncode}")


def _take_over(stores: Stores) -> dict[str, int]:
    stores.leases.beat("w2", 60)
    tokens = stores.leases.acquire(["a"], "w2")
    if tokens:
        stores.notes.put("n", "taken over")
    return tokens


def _written(stores: Stores) -> dict[str, Any]:
    """How far each part has come."""
    return {
        "note": stores.notes.get("n"),
        "seen": stores.seen.count("s"),
        "end": stores.channels.ends("c")[0],
        "depth": stores.channels.depth("c", {0: 0}),
        "counted": stores.legs.totals("l")["done"],
        "kept": json.loads(stores.channels.read("c", {0: stores.channels.ends("c")[0] - 1}, 1)[0].data),
    }
