"""A child process ends with whoever started it, and is not mistaken for a stranger on its port."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tieline.demo.children import Child, DemoFailed, free_port, is_running, plain_environment, run, wait_until

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
LISTENER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
STARTER = """
import sys, time
from pathlib import Path
from tieline.demo.children import Child
child = Child([sys.executable, "-c", Path("family.py").read_text()], cwd=Path("."), log=Path("log"), env={})
Path("pid").write_text(str(child.pid))
time.sleep(600)
"""


def started(tmp_path: Path, code: str, *arguments: str) -> Child:
    return Child([sys.executable, "-c", code, *arguments], cwd=tmp_path, log=tmp_path / "log", env={})


def grandchild(tmp_path: Path) -> int:
    log = tmp_path / "log"
    assert wait_until(lambda: log.exists() and log.read_text().endswith("\n"), 10)
    return int(log.read_text())


def test_stop_ends_the_child_and_its_children(tmp_path: Path) -> None:
    """After `stop` neither the child nor what it started runs."""
    child = started(tmp_path, FAMILY)
    other = grandchild(tmp_path)
    assert child.is_alive()
    assert is_running(child.pid)
    child.stop()
    assert not child.is_alive()
    assert wait_until(lambda: not is_running(child.pid) and not is_running(other), 5)
    child.stop()  # a second time does no harm


def test_a_deaf_child_is_killed(tmp_path: Path) -> None:
    """A child that ignores the request to end is killed after the grace period."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    child = started(tmp_path, deaf)
    assert grandchild(tmp_path) == 1
    child.stop()
    assert not is_running(child.pid)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_child_does_not_outlive_its_starter(tmp_path: Path, ending: signal.Signals) -> None:
    """When the starter is killed, even with -9, child and grandchild end."""
    (tmp_path / "family.py").write_text(FAMILY)
    starter = subprocess.Popen([sys.executable, "-c", STARTER], cwd=tmp_path)
    other = grandchild(tmp_path)
    assert wait_until((tmp_path / "pid").exists, 5)
    child = int((tmp_path / "pid").read_text())
    starter.send_signal(ending)
    starter.wait()
    assert wait_until(lambda: not is_running(child) and not is_running(other), 15)


def test_a_port_is_its_own_only_if_it_listens_itself(tmp_path: Path) -> None:
    """A stranger who listens on the port is not taken for the child; the child itself is."""
    port = free_port()
    sleeper = started(tmp_path, "import time; time.sleep(600)")
    try:
        with socket.create_server(("127.0.0.1", port)):
            assert not sleeper.holds(port)
        listener = started(tmp_path, LISTENER, str(port))
        try:
            assert wait_until(lambda: listener.holds(port), 10)
            assert not sleeper.holds(port)
        finally:
            listener.stop()
        assert not listener.holds(port)
    finally:
        sleeper.stop()


def test_a_command_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """The error names the command, its exit code and what it said last."""
    command = [sys.executable, "-c", "print('the disk is full'); raise SystemExit(3)"]
    with pytest.raises(DemoFailed, match=r"(?s)ended with 3.*the disk is full"):
        run(command, cwd=tmp_path, log=tmp_path / "log")


def test_a_command_that_does_not_exist_fails_with_its_name(tmp_path: Path) -> None:
    """A missing program is an error like any other, not a hang."""
    with pytest.raises(DemoFailed, match="no-such-program"):
        run(["/no-such-program"], cwd=tmp_path, log=tmp_path / "log")


def test_children_do_not_inherit_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a few known variables are passed on."""
    monkeypatch.setenv("SHOP_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert set(plain_environment({"MINE": "1"})) <= {"MINE", "LANG", "LC_ALL", *os.environ} - {
        "SHOP_TOKEN",
        "PYTHONPATH",
    }
