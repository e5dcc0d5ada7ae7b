"""An entity gets a new version: what `check`, `run` and `parked` say of it."""

import json

import msgspec
import pytest
from tests.cli.shop import Shop, message, parked

from tieline.ledger import Stores
from tieline.message import pack_message, schema_of, unpack_message

UPCASTER = """

@Order.upcaster(1)
def buyer(data):
    if data["customer"] == "nobody":
        raise ValueError("an order has a buyer")
    data["buyer"] = data.pop("customer")
    return data
"""


def rewrite(shop: Shop, path: str, *changes: tuple[str, str]) -> None:
    """Change a file of the project."""
    file = shop.folder / path
    text = file.read_text()
    for old, new in changes:
        assert old in text, (path, old)
        text = text.replace(old, new)
    file.write_text(text)


def rename(shop: Shop, *, version: int, upcaster: str = "") -> None:
    """The order's customer is its buyer from now on."""
    order = 'class Order(Entity, key="number", version='
    rewrite(shop, "entities.py", (f"{order}1", f"{order}{version}"), ("    customer:", "    buyer:"))
    with (shop.folder / "entities.py").open("a") as file:
        file.write(upcaster)
    rewrite(shop, "adapters/shop.py", ('customer=record["customer"]', 'buyer=record["customer"]'))
    rewrite(shop, "adapters/office.py", ("order.customer", "order.buyer"))


@pytest.fixture
def ran(shop: Shop) -> Shop:
    """A project whose orders have been published as version 1."""
    shop("run", "--once")
    return shop


def verdicts(shop: Shop, code: int = 0) -> dict[str, tuple[str, list[int]]]:
    """What check says of each entity."""
    found = shop.json("check", "--json", code=code)["entities"]
    return {one["entity"]: (one["verdict"], one["seen"]) for one in found}


def test_each_entity_is_compared(shop: Shop) -> None:
    """Before the first run nothing was seen, after it what was published is the same."""
    assert verdicts(shop) == {"Customer": ("new", []), "Order": ("new", [])}
    shop("run", "--once")
    seen = verdicts(shop)
    assert seen["Order"] == ("same", [1])
    shown = shop("check").stdout
    assert "Entities" in shown
    assert "same" in shown


def test_words_about_an_entity_are_no_change(ran: Shop) -> None:
    """A docstring, the order of fields."""
    rewrite(
        ran,
        "entities.py",
        (
            'class Order(Entity, key="number", version=1):\n',
            'class Order(Entity, key="number", version=1):\n    """All new."""\n\n    note: str = ""\n',
        ),
    )
    assert verdicts(ran, 1)["Order"] == ("changed", [1])
    rewrite(ran, "entities.py", ('\n    note: str = ""\n', ""))
    assert verdicts(ran)["Order"] == ("same", [1])


def test_a_change_under_the_same_number_is_a_mistake(ran: Shop) -> None:
    """With file and line, field and remedy; and `run` refuses it before anything is read."""
    rename(ran, version=1)
    found = ran.json("check", "--json", code=1)
    (mistake,) = found["mistakes"]
    assert mistake["where"].startswith("entities.py:")
    assert "customer: the field is gone; it may be buyer now" in mistake["what"]
    assert "buyer: a new field without a default" in mistake["what"]
    assert mistake["remedy"] == "write version=2 and an upcaster: @Order.upcaster(1)"
    order = next(one for one in found["entities"] if one["entity"] == "Order")
    assert order["differences"][0] == {
        "field": "customer", "what": "the field is gone; it may be buyer now", "compatible": False
    }  # fmt: skip
    read = ran.json("status", "--json")["sources"]
    refused = ran("run", "--once", code=1)
    assert "write version=2 and an upcaster" in refused.stderr
    assert ran.json("status", "--json")["sources"] == read


def test_several_mistakes_are_told_at_once(ran: Shop) -> None:
    """Of two entities, and of the project file."""
    rename(ran, version=1)
    ran.ledger(_another_customer)
    found = ran.json("check", "--json", code=1)["mistakes"]
    assert len(found) == 2
    assert {one["what"].split()[0] for one in found} == {"Order", "Customer"}
    assert len({one["where"] for one in found}) == 2


def _another_customer(stores: Stores) -> None:
    schema = {"kind": "entity", "key": ["number"], "subject": None, "fields": {}}
    stores.notes.put("schema/Customer", {"1": schema})


def test_a_missing_upcaster_is_a_mistake(ran: Shop) -> None:
    """The number alone does not do."""
    rename(ran, version=2)
    (mistake,) = ran.json("check", "--json", code=1)["mistakes"]
    assert mistake["remedy"] == "declare one: @Order.upcaster(1)"
    assert "declare one: @Order.upcaster(1)" in ran("run", "--once", code=1).stderr


def test_an_upcaster_of_no_version_is_a_mistake(ran: Shop) -> None:
    """Found where it is written, with what to write."""
    rename(ran, version=2, upcaster=UPCASTER.replace("(1)", "(2)"))
    (mistake,) = ran.json("check", "--json", code=1)["mistakes"]
    assert mistake["where"].startswith("entities.py:")
    assert "write the version that the upcaster takes" in mistake["what"]


def test_a_new_version_with_its_upcaster_is_good(ran: Shop) -> None:
    """Check says what the next run will do, and what it leaves to a person; then it is the same again."""
    rename(ran, version=2, upcaster=UPCASTER)
    found = ran.json("check", "--json")
    (known,) = found["warnings"]
    assert "version 2 of Order is new to the ledger, which has seen 1" in known["what"]
    assert "tieline backfill --again, for orders" in known["remedy"]
    assert verdicts(ran)["Order"] == ("upcast", [1])
    ran("run", "--once")
    assert verdicts(ran)["Order"] == ("same", [1, 2])
    assert ran.json("check", "--json")["warnings"] == []


def test_an_older_project_is_told_so(ran: Shop) -> None:
    """Check and run exit with 1 and say what to deploy; nothing is sent back in the old shape."""
    before = {
        path: (ran.folder / path).read_text() for path in ("entities.py", "adapters/shop.py", "adapters/office.py")
    }
    rename(ran, version=2, upcaster=UPCASTER)
    ran("run", "--once")
    for path, text in before.items():
        (ran.folder / path).write_text(text)
    assert verdicts(ran, 1)["Order"] == ("older", [1, 2])
    (mistake,) = ran.json("check", "--json", code=1)["mistakes"]
    assert "has version 1 here, and the ledger has seen version 2" in mistake["what"]
    assert "deploy the newer entities here" in mistake["remedy"]
    assert "deploy the newer entities here" in ran("run", "--once", code=1).stderr
    assert "deploy the newer entities here" in ran("status", code=None).stdout.replace("\n", " ")


# -- parked ------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(ran: Shop) -> Shop:
    """Two orders wait since before the change, one of which no upcaster can make."""
    ran.park(parked("2001"), parked("2002", customer="nobody"))
    rename(ran, version=2, upcaster=UPCASTER)
    return ran


def test_show_tells_both_versions(waiting: Shop) -> None:
    """What was parked, and what this project makes of it, or why it cannot."""
    shown = json.loads(waiting("parked", "show", "orders>office", "2001").stdout)["message"]
    assert (shown["schema"], shown["data"]["customer"]) == (1, "C-1")
    assert shown["upcast"]["schema"] == 2
    assert shown["upcast"]["data"]["buyer"] == "C-1"
    shown = json.loads(waiting("parked", "show", "orders>office", "2002").stdout)["message"]
    assert "an order has a buyer" in shown["upcast"]["error"]


def test_a_person_edits_the_present_version(waiting: Shop) -> None:
    """The fields are those of the entity as it is now, and so is what is kept."""
    waiting("parked", "edit", "orders>office", "2001", "--set", "buyer=C-7")
    row = next(row for row in waiting.parked() if row.key == "2001")
    assert schema_of(row.message) == 2
    content = msgspec.json.decode(unpack_message(row.message).data)
    assert (content["buyer"], "customer" in content) == ("C-7", False)


def test_what_no_upcaster_can_make_a_person_can(waiting: Shop, tmp_path, monkeypatch) -> None:
    """The editor is given what was parked; what comes out is judged as the entity is now."""
    editor = tmp_path / "ed"
    editor.write_text('#!/bin/sh\nsed -i \'s/"customer": "nobody"/"buyer": "C-9"/\' "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    waiting("parked", "edit", "orders>office", "2002")
    row = next(row for row in waiting.parked() if row.key == "2002")
    assert (schema_of(row.message), msgspec.json.decode(unpack_message(row.message).data)["buyer"]) == (2, "C-9")


def test_a_newer_message_is_not_edited_by_an_older_project(ran: Shop) -> None:
    """It would be put back into a shape that is gone."""
    newer = parked("2001")
    packed = pack_message(message("2001"), 2)
    ran.park(msgspec.structs.replace(newer, message=packed))
    refused = ran("parked", "edit", "orders>office", "2001", "--set", "customer=C-7", code=2)
    assert "deploy the newer entities here" in " ".join(refused.stderr.replace("│", " ").split())
