"""`tieline move --shadow`: the second way beside the first, compared; what was found, and how it ends."""

import sqlite3
import subprocess

import pytest
from tests.cli.shop import Shop
from tests.cli.test_move import arrived, sell, until, way, word, worker

from tieline.runner.shadows import shadow_of

__all__ = ["worker"]

OWN = "sqlite:///night.db"


def is_on(shop: Shop) -> bool:
    """Whether the orders have a shadow, by the ledger."""
    return shadow_of(shop.ledger(lambda stores: stores.legs.get("orders>office"))) is not None


@pytest.fixture
def compared(shop: Shop) -> Shop:
    """A shop that has run, whose orders were sent again with a shadow beside them."""
    shop("run", "--once")
    shop("move", "orders", "--to", "bus", "--shadow", code=3)
    shop("backfill", "orders")
    return shop


def test_a_shadow_beside_a_running_worker_ends_with_the_move(shop: Shop, worker: "subprocess.Popen[bytes]") -> None:
    """Nothing of the flow changes; then it is moved to where the shadow was, with as many partitions."""
    until(lambda: arrived(shop) == 3)
    said = shop("move", "orders", "--to", OWN, "--partitions", "2", "--shadow", code=3)
    assert "nothing has come yet" in said.stderr
    assert (way(shop), word(shop)) == ("direct", '"direct"                   # one word away from "bus"')
    sell(shop, 2001)
    until(lambda: arrived(shop) == 4)
    found = shop.json("move", "orders", "--shadow", "--json")
    (leg,) = found["legs"]
    assert (found["equal"], leg["to"], leg["partitions"]) == (True, "sqlite", 2)
    assert (leg["published"], leg["verdicts"], leg["lost"], leg["fields"]) == (1, {"equal": 1}, 0, {})
    shop("backfill", "orders")
    until(lambda: shop.json("move", "orders", "--shadow", "--json")["legs"][0]["verdicts"] == {"equal": 5})
    shop("move", "orders", "--to", "sqlite")
    assert (way(shop), word(shop, "partitions"), is_on(shop)) == ("sqlite", "2", False)
    assert worker.poll() is None


def test_differences_are_shown_by_field_and_are_exit_code_1(compared: Shop) -> None:
    """With the key and both values."""
    shop = compared
    assert "equal" in shop("move", "orders", "--shadow").stdout
    with sqlite3.connect(shop.folder / "office.db") as office:
        office.execute("UPDATE orders SET total = '130.00' WHERE number = '1001'")
    office.close()
    shop("backfill", "orders")
    said = shop("move", "orders", "--shadow", code=1)
    assert "130.00" in said.stdout
    fields = shop.json("move", "orders", "--shadow", "--json", code=1)["legs"][0]["fields"]
    assert [(one["count"], len(one["examples"])) for one in fields.values()] == [(1, 1)]


def test_a_shadow_is_dropped(compared: Shop) -> None:
    """What was found is told for the last time."""
    assert "equal" in compared("move", "orders", "--end-shadow").stdout
    assert not is_on(compared)
    assert "orders has no shadow" in compared("move", "orders", "--end-shadow").stderr
    assert "orders has no shadow" in compared("move", "orders", "--shadow", code=2).stderr


def test_a_dry_run_begins_nothing(shop: Shop) -> None:
    """It says what would be beside what."""
    shop("run", "--once")
    said = shop("move", "orders", "--to", "bus", "--shadow", "--dry-run").stdout
    assert "orders: bus with 4 partitions would be run beside direct" in said
    assert not is_on(shop)
