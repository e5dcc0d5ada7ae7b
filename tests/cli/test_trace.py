"""Where is order 1001? Every place that knows it answers, with its version."""

import pytest
from msgspec.structs import replace
from tests.cli.shop import ORDER, message, parked

from tieline.connector import HeldRow
from tieline.ledger import SeenRow, SourceState
from tieline.message import Version


@pytest.fixture
def known(shop):
    """Version 3 was seen and is under way, version 2 is parked, version 1 is what the ledger says is held."""
    shop.begin()

    def work(stores):
        stores.sources.put("shop.order", SourceState())
        stores.seen.put(
            "shop.order",
            [SeenRow(key="1001", record="1001", version=Version(1, 3), message_id=message("1001", 3).id,
                     record_digest=b"r" * 16, entity_digest=b"e" * 16, at=1_700_000_000.0)],
        )  # fmt: skip
        stores.held.put(
            "office", "Order",
            [HeldRow(key="1001", source="shop.order", version=Version(1, 1), message_id=message("1001", 1).id,
                     digest=b"d" * 16, target_id="77", at=1_700_000_060.0)],
        )  # fmt: skip

    shop.ledger(work)
    shop.publish([message("1001", 3), message("1002", 4)], sequence=1)
    shop.park(replace(parked("1001", 2), version=Version(1, 2)))
    return shop


def test_every_place_answers(known):
    """The source, the way, the parked store and the target, each with version and id."""
    found = known.json("trace", "Order", "1001", "--json")
    assert [(one["place"], one["state"], one["version"][:2]) for one in found] == [
        ("shop.order", "seen", [1, 3]),
        ("orders>office", "in flight", [1, 3]),
        ("orders>office", "parked: dead letter", [1, 2]),
        ("office", "held", [1, 1]),
    ]
    assert found[1]["content"] == ORDER
    assert found[1]["message_id"] == message("1001", 3).id.hex()
    assert found[3]["their_id"] == "77"
    assert (found[0]["at"], found[3]["at"]) == (1_700_000_000.0, 1_700_000_060.0)
    shown = known("trace", "Order", "1001").stdout
    assert "in flight" in shown
    assert "1.3" in shown


def test_a_time_that_is_not_known_is_none(shop):
    """An SQL target keeps no time beside its rows: it is null for a script, and blank for a reader."""
    assert shop.process("run", "--once").returncode == 0
    seen, held = shop.json("trace", "Order", "1001", "--json")
    assert (held["place"], held["at"]) == ("office", None)
    assert seen["at"] > 1_700_000_000
    (line,) = [line for line in shop("trace", "Order", "1001").stdout.splitlines() if line.startswith("office")]
    assert line.split() == ["office", "held", "shop.order", "1.1", "1001"]


def test_a_key_that_nobody_knows_is_exit_code_1(known):
    """It is said, and a script can tell."""
    assert "no system has shown Order '4711'" in known("trace", "Order", "4711", code=1).stderr
    assert known.json("trace", "Order", "4711", "--json", code=1) == []


def test_an_unknown_entity_is_wrong_use(known):
    """The nearest known one is offered."""
    assert "did you mean 'Order'?" in known("trace", "Ordr", "1001", code=2).stderr


def test_a_delete_is_shown_as_such(known):
    """A tombstone in seen and a deleted row in held are places, too."""

    def work(stores):
        (row,) = stores.seen.by_key("shop.order", ["1001"])
        stores.seen.put("shop.order", [replace(row, gone=True)])
        (held,) = stores.held.get("office", "Order", ["1001"])
        stores.held.put("office", "Order", [replace(held, deleted=True)])

    known.ledger(work)
    states = {one["place"]: one["state"] for one in known.json("trace", "Order", "1001", "--json")}
    assert states["shop.order"] == "gone"
    assert states["office"] == "deleted"


@pytest.mark.parametrize("deleted", [True, False])
def test_what_was_dropped_before_it_was_ever_written_is_not_there(known, deleted):
    """The target knows a version of it and has nothing: it is neither held nor deleted."""

    def work(stores):
        (held,) = stores.held.get("office", "Order", ["1001"])
        stores.held.put("office", "Order", [replace(held, target_id=None, digest=b"", deleted=deleted)])

    known.ledger(work)
    states = {one["place"]: one["state"] for one in known.json("trace", "Order", "1001", "--json")}
    assert states["office"] == "not there"


def test_what_was_tried_and_never_written_is_no_place(known):
    """A call that was refused leaves an empty row in held, which says nothing."""

    def work(stores):
        (held,) = stores.held.get("office", "Order", ["1001"])
        stores.held.put("office", "Order", [replace(held, version=Version(0, 0), target_id=None, digest=b"")])

    known.ledger(work)
    assert "office" not in {one["place"] for one in known.json("trace", "Order", "1001", "--json")}
