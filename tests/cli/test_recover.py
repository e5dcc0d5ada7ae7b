"""A ledger that was put back from a back-up: nothing runs over it before `tieline recover`, and all goes on after."""

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from tests.cli.shop import Shop


class Store(NamedTuple):
    """Where a ledger is: how it is copied away, and put back."""

    url: str
    back_up: Callable[[], None]
    restore: Callable[[], None]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest, shop: Shop) -> Iterator[Store]:
    """The ledger of the shop, in a file or in a database."""
    if request.param == "sqlite":
        yield _in_file(shop.folder / ".tieline" / "tieline.db", shop.folder / "backup.db")
        return
    yield from _in_server(request.getfixturevalue("postgresql_database"), request.getfixturevalue("postgresql_url"))


def _in_file(ledger: Path, copy: Path) -> Store:
    def back_up() -> None:
        sqlite3.connect(ledger).backup(sqlite3.connect(copy))

    def restore() -> None:
        shutil.rmtree(ledger.parent)
        ledger.parent.mkdir()
        shutil.copy(copy, ledger)

    return Store("sqlite:///.tieline/tieline.db", back_up, restore)


def _in_server(database: str, server: str) -> Iterator[Store]:
    import psycopg

    name = urlsplit(database).path.removeprefix("/")
    with psycopg.connect(server, autocommit=True) as connection:

        def run(*statements: str) -> None:
            for statement in statements:
                connection.execute(statement.encode())

        yield Store(
            database,
            lambda: run(f"create database {name}_copy template {name}"),
            lambda: run(f"drop database {name}", f"create database {name} template {name}_copy"),
        )
        run(f"drop database if exists {name}_copy")


def orders(shop: Shop) -> dict[str, str]:
    """What the office has of each order."""
    with sqlite3.connect(shop.folder / "office.db") as office:
        return dict(office.execute("select number, total from orders"))


def edit(shop: Shop, what: str, into: str) -> None:
    """Somebody edits the shop's orders."""
    file = shop.folder / "shop" / "orders.csv"
    text, count = re.subn(what, into, file.read_text(), flags=re.M)
    assert count == 1
    file.write_text(text)


def price(shop: Shop, order: str, total: str) -> None:
    """Somebody gives an order another total."""
    edit(shop, rf"^({order},.*),[0-9.]+,EUR", rf"\1,{total},EUR")


@pytest.mark.parametrize("via", ["direct", "bus"])
def test_all_goes_on_from_an_older_ledger(shop: Shop, store: Store, via: str) -> None:
    """Orders changed, made and deleted, before the ledger was lost and after; then the office is as the shop."""
    toml = shop.folder / "tieline.toml"
    text = toml.read_text().replace('name = "acme"', "").replace('via        = "direct"', f'via = "{via}"')
    toml.write_text(text.replace("[tieline]\n", f'[tieline]\nstore = "{store.url}"\n'))
    shop("run", "--once")
    assert orders(shop) == {"1001": "129.90", "1002": "1850.00", "1004": "79.00"}
    store.back_up()

    price(shop, "1001", "1.00")
    edit(shop, r"\Z", "1005,C-1,2026-11-05T08:00:00,5.00,EUR,paid\n")
    edit(shop, r"^1004.*\n", "")
    shop("run", "--once")
    price(shop, "1001", "129.90")
    price(shop, "1002", "2.00")
    edit(shop, r"\Z", "1006,C-1,2026-11-06T08:00:00,6.00,EUR,paid\n")
    store.restore()

    refused = shop("run", "--once", code=1)
    assert "tieline recover" in refused.stderr
    assert "orders>office" in refused.stderr
    before = orders(shop)
    told = shop("recover", "--dry-run")
    assert "office has taken what this ledger has not given" in told.stdout
    assert "nothing was changed" in told.stderr
    assert "tieline recover" in shop("run", "--once", code=1).stderr
    assert orders(shop) == before

    shop("recover")
    shop("run", "--once")
    assert orders(shop) == {"1001": "129.90", "1002": "2.00", "1005": "5.00", "1006": "6.00"}
    assert all(leg["off_by"] == 0 for leg in shop.json("status", "--json")["legs"])
    price(shop, "1005", "7.00")
    shop("run", "--once")
    assert orders(shop)["1005"] == "7.00"
    assert all(leg["off_by"] == 0 for leg in shop.json("status", "--json")["legs"])


def test_a_ledger_in_step_may_be_recovered_and_nothing_changes(shop: Shop) -> None:
    """Whoever calls it without need only has everything read once more."""
    shop("run", "--once")
    before = orders(shop)
    assert "no target and no bus shows" in shop("recover").stdout
    shop("recover")
    shop("run", "--once")
    assert orders(shop) == before
    assert "orders>office: in 6 = 3 done + 3 unchanged" in shop("run", "--once").stdout


def test_nothing_is_recovered_under_a_worker(shop: Shop) -> None:
    """While one has leases, or had a moment ago, it is told who that is."""
    shop("run", "--once")

    def join(stores):
        stores.leases.beat("w1", 60)
        stores.leases.acquire(["worker:w1"], "w1")

    shop.ledger(join)
    assert "w1 runs" in shop("recover", code=1).stderr
    assert shop.ledger(lambda stores: stores.sources.get("shop.order")).epoch == 1


def test_nothing_that_stands_is_in_the_way_of_a_first_run(shop: Shop) -> None:
    """A target that is down says nothing about the ledger."""
    (shop.folder / "office.db").unlink()
    assert "older copy" not in shop("run", "--once", code=None).stderr
