"""`check` finds every mistake at once, asks every system, and knows what no flow claims any more."""

import pytest
from tests.cli.shop import parked


def change(shop, old: str, new: str, path: str = "tieline.toml") -> None:
    file = shop.folder / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def line_of(shop, section: str) -> str:
    lines = (shop.folder / "tieline.toml").read_text().splitlines()
    return f"tieline.toml:{lines.index(section) + 1}"


def test_a_good_project_is_good(shop):
    """Every system answers, nothing is made, nothing is claimed by nobody."""
    shown = shop("check")
    assert "corner-shop is good" in shown.stdout
    assert shown.stderr == "", "what is a progress on a terminal is nothing elsewhere"
    found = shop.json("check", "--json")
    assert found == {
        "project": "corner-shop",
        "mistakes": [],
        "warnings": [],
        "systems": {"shop": "ok", "office": "ok"},
        "unclaimed": [],
        "entities": found["entities"],
    }
    assert not (shop.folder / ".tieline").exists()


def test_mistakes_are_a_table_of_places_and_remedies(shop):
    """All of them, in the order of the file; exit code 1."""
    change(shop, 'to     = "office"', 'to = "ofice"')
    change(shop, 'robustness = "exact"', 'robustness = "exakt"')
    table = shop("check", code=1).stdout
    assert "2 to correct" in table
    assert "did you mean 'office'?" in table
    found = shop.json("check", "--json", code=1)["mistakes"]
    assert [one["where"] for one in found] == ["tieline.toml:21", "tieline.toml:29"]
    assert set(found[0]) == {"where", "what", "remedy"}


def test_a_system_that_does_not_answer_is_named(shop):
    """The others are asked all the same."""
    change(shop, 'url     = "shop"', 'url = "shop-that-is-not-there"')
    found = shop.json("check", "--json", code=1)
    assert found["systems"]["office"] == "ok"
    assert found["systems"]["shop"] != "ok"
    assert "shop-that-is-not-there" in found["systems"]["shop"]


def test_offline_leaves_the_systems_alone(shop):
    """Only the project itself is looked at."""
    change(shop, 'url     = "shop"', 'url = "shop-that-is-not-there"')
    assert shop.json("check", "--offline", "--json")["systems"] == {}


def test_what_only_a_system_can_see_is_a_mistake(shop):
    """A table that the database does not have is found by asking it."""
    change(shop, 'Table("orders", key="number")', 'Table("ordres", key="number")', "adapters/office.py")
    found = shop.json("check", "--json", code=1)
    assert any("ordres" in one["what"] for one in found["mistakes"])
    assert found["systems"]["office"] == "1 to correct"


def test_a_column_that_a_files_header_lacks_is_a_mistake(shop):
    """Before anything is read; a file that is not there yet is none."""
    change(shop, "number,customer", "nummer,customer", "shop/orders.csv")
    (mistake,) = shop.json("check", "--json", code=1)["mistakes"]
    assert mistake == {
        "where": "shop.orders",
        "what": "orders.csv:1: there is no field 'number' in the header",
        "remedy": "did you mean 'nummer'?",
    }
    (shop.folder / "shop" / "orders.csv").unlink()
    shop("check")


def test_a_flow_that_asks_for_what_a_connector_cannot_do(shop):
    """A table that is only read takes nothing."""
    change(shop, 'Table("orders", key="number")', 'Table("orders", key="number", writes=False)', "adapters/office.py")
    (mistake,) = shop.json("check", "--offline", "--json", code=1)["mistakes"]
    assert mistake["what"] == "office cannot write 'orders'"
    assert mistake["where"] == f"{line_of(shop, '[flows.orders]')} (flow orders)"


EXACT = "is exact, but {} acknowledges before its data is on disk"


@pytest.mark.parametrize(
    ("table", "weak", "kind"),
    [
        ('[tieline]\nstore = "memory://"', "the ledger memory://", "store"),
        ('[buses.main]\nurl = "memory://"\n[tieline]', "bus main", "bus"),
    ],
    ids=["ledger", "bus"],
)
def test_an_exact_flow_is_refused_where_a_power_cut_would_take_messages_away(shop, table, weak, kind):
    """It names what is too weak, and both ways out, before anything runs."""
    change(shop, "[tieline]", table)
    change(shop, 'via        = "direct"', 'via        = "bus"')
    (mistake,) = shop.json("check", "--json", code=1)["mistakes"]
    assert mistake["where"] == f"{line_of(shop, '[flows.orders]')} (flow orders)"
    assert mistake["what"] == EXACT.format(weak)
    assert mistake["remedy"].startswith(f"use a {kind} of sqlite:/// or postgresql://")
    assert 'or say robustness = "standard"' in mistake["remedy"]


def test_an_exact_flow_to_a_target_that_nobody_can_ask_is_told(shop):
    """A warning: a call that is cut off waits for a person then. With a match it is looked up."""
    change(shop, 'url     = "sqlite:///office.db"', 'url = "sqlite:///office.db"\noptions = { held = false }')
    change(
        shop, 'Table("orders", key="number")', 'Table("orders", key="number", numbered=True)', "adapters/office.py"
    )
    (warning,) = shop.json("check", "--offline", "--json")["warnings"]
    assert warning["where"] == f"{line_of(shop, '[flows.orders]')} (flow orders)"
    assert "a call for 'orders' that was cut off, nobody can ask office" in warning["what"]
    assert "match=" in warning["remedy"]
    change(
        shop, '@office.sink(Order, "orders")', '@office.sink(Order, "orders", match="number")', "adapters/office.py"
    )
    assert shop.json("check", "--offline", "--json")["warnings"] == []


def test_a_step_that_a_connector_does_not_have(shop):
    """then=["confirm"] needs an action of that name."""
    change(
        shop, '@office.sink(Order, "orders")', '@office.sink(Order, "orders", then=["confirm"])', "adapters/office.py"
    )
    (mistake,) = shop.json("check", "--offline", "--json", code=1)["mistakes"]
    assert mistake["what"] == "office has no action 'confirm' on 'orders'"


def test_settings_that_cannot_work_are_mistakes(shop):
    """What a connector refuses when it is opened is told beside the rest."""
    change(shop, '"sqlite:///office.db"', '"oracle://office"')
    (mistake,) = shop.json("check", "--json", code=1)["mistakes"]
    assert mistake["where"] == f"{line_of(shop, '[systems.office]')} (systems.office)"


def test_warnings_are_shown_and_do_not_fail(shop):
    """A missing owner is worth a line, and no exit code."""
    change(shop, 'owner   = "sales@corner-shop.example"\n', "")
    assert "system shop has no owner" in shop("check", "--offline").stdout


def test_what_no_flow_claims_is_listed(shop):
    """A flow is taken out of the file: what waits in its leg is not forgotten."""
    shop.begin()
    shop.park(parked("1001"))
    text = (shop.folder / "tieline.toml").read_text()
    (shop.folder / "tieline.toml").write_text(text.partition("[flows.orders]")[0])
    (leg,) = shop.json("check", "--json")["unclaimed"]
    assert (leg["leg"], leg["parked"]) == ("orders>office", {"dead letter": 1})
    assert "claimed by no flow" in shop("check").stdout


@pytest.mark.parametrize("place", ["nowhere", "shop"])
def test_a_place_without_a_project_is_wrong_use(shop, place):
    """--project names a folder without tieline.toml: exit code 2, and how to make one."""
    done = shop.process("check", "--project", place)
    assert done.returncode == 2
    assert "tieline new" in done.stderr


def test_the_project_is_found_from_below(shop):
    """In any folder of a project, its own file is meant; outside of one, that is said."""
    shop.folder = shop.folder / "shop"
    assert shop.process("check", "--offline").returncode == 0
    shop.folder = shop.folder.parent.parent
    assert "no tieline.toml here or above" in shop.process("check").stderr
