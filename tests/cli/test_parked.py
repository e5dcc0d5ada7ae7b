"""What waits is shown by cause, and a person's decision is about exactly the message that was seen."""

import json
import stat
import sys
import time

import msgspec
import pytest
from tests.cli.shop import ORDER, message, parked

from tieline.ledger import ParkedRow, SourceState
from tieline.message import Reason, Version, unpack_message


@pytest.fixture
def waiting(shop):
    """Three orders wait for a person, for one cause; one for its customer; one is tried again."""
    shop.begin()
    shop.park(
        parked("1001"),
        parked("1002"),
        parked("1003"),
        parked("1004", reason=Reason.REFERENCE, error="waits for Customer 'C-9'"),
        parked("1005", reason=Reason.RETRY, error="HTTP 503"),
    )
    return shop


def refs(shop, *keys: str) -> list[str]:
    shown = {one["key"]: one["ref"] for one in shop.json("parked", "list", "--each", "--json")}
    return [shown[key] for key in keys]


def decisions(shop) -> dict[str, str]:
    return {row.key: row.decision for row in shop.parked() if row.decision}


def test_nothing_parked_is_said(shop):
    """An empty list is no table."""
    assert "nothing is parked" in shop("parked", "list").stderr
    assert shop.json("parked", "list", "--json") == []


def test_what_waits_is_grouped_by_cause(waiting):
    """Errors that differ only in names and numbers are one group; what waits for a person comes first."""
    groups = waiting.json("parked", "list", "--json")
    assert [(one["reason"], one["count"], one["cause"]) for one in groups] == [
        ("dead letter", 3, "order … has a total of …"),
        ("reference", 1, "waits for Customer 'C-9'"),
        ("retry", 1, "HTTP 503"),
    ]
    assert groups[0]["keys"] == ["1001", "1002", "1003"]
    table = waiting("parked", "list").stdout
    assert "order … has a total of …" in table
    assert groups[0]["group"] in table


def test_a_cause_is_shown_whole_where_it_is_the_same_for_all(shop):
    """Only what differs is left out, and an apostrophe is no quotation mark."""
    error = "attach the system's zone (got '2026-11-0{} 08:00')"
    shop.begin()
    shop.park(parked("1001", error=error.format(1)), parked("1002", error=error.format(1)))
    (group,) = shop.json("parked", "list", "--json")
    assert group["cause"] == error.format(1)
    shop.park(parked("1003", error=error.format(2)))
    (group,) = shop.json("parked", "list", "--json")
    assert (group["count"], group["cause"]) == (3, "attach the system's zone (got …)")


def test_an_unknown_leg_is_wrong_use(waiting):
    """An empty list would say that nothing is parked there; sources are known as well."""
    assert "did you mean 'orders>office'?" in waiting("parked", "list", "--leg", "orders>ofice", code=2).stderr
    assert waiting.json("parked", "list", "--leg", "customers>office", "--json") == []


def test_a_record_whose_name_cannot_be_printed_is_shown_and_decided_about(shop):
    """Half a character in a record's id is shown as its number; the ref names the record all the same."""
    shop.begin()
    shop.ledger(lambda stores: stores.sources.put("shop.order", SourceState()))
    row = ParkedRow("shop.order", "M\udcfcller", b"m" * 16, Version(1, 1), Reason.DEAD, b"{'raw': 1}", "half a key")
    shop.ledger(lambda stores: stores.parked.put([row]))
    assert shop.json("parked", "list", "--json")[0]["keys"] == [r"M\udcfcller"]
    assert r"M\udcfcller" in shop.process("parked", "list", "--each").stdout
    (ref,) = refs(shop, r"M\udcfcller")
    assert shop.json("parked", "show", ref)["message"] == "{'raw': 1}"
    shop("parked", "replay", ref)
    assert [row.decision for row in shop.parked()] == ["replay"]


def test_the_list_can_be_narrowed(waiting):
    """By leg and by reason."""
    assert len(waiting.json("parked", "list", "--each", "--reason", "retry", "--json")) == 1
    assert waiting.json("parked", "list", "--leg", "customers>office", "--json") == []
    waiting("parked", "list", "--reason", "tired", code=2)


def test_show_prints_the_message(waiting):
    """By its ref, or by leg and key: why it waits, and what it says."""
    (ref,) = refs(waiting, "1001")
    shown = waiting.json("parked", "show", ref)
    assert shown["error"] == "order '1001' has a total of 0"
    assert shown["version"] == "1.1"
    assert shown["message"]["data"] == ORDER
    assert waiting.json("parked", "show", "orders>office", "1001") == shown


def test_an_unknown_ref_is_wrong_use(waiting):
    """A ref that is not there, or not any more, is exit code 2 with a hint."""
    assert "see `tieline parked list" in waiting("parked", "show", "ffffffff", code=2).stderr
    assert (
        "nothing is parked as '9' at 'orders>office'"
        in waiting("parked", "show", "orders>office", "9", code=2).stderr
    )


def test_replay_one(waiting):
    """The decision is written on the row, with who took it; nothing else is decided."""
    waiting("parked", "replay", *refs(waiting, "1002"))
    assert decisions(waiting) == {"1002": "replay"}
    row = next(row for row in waiting.parked() if row.key == "1002")
    assert "@" in row.decided_by


def test_replay_a_group(waiting):
    """All of one cause, and only those; a second time there is nothing left to decide."""
    group = waiting.json("parked", "list", "--json")[0]["group"]
    waiting("parked", "replay", "--group", group, "--rate", "1000")
    assert decisions(waiting) == {"1001": "replay", "1002": "replay", "1003": "replay"}
    assert "nothing waits" in waiting("parked", "replay", "--group", group).stderr


def test_replay_all_is_all_that_waits_for_a_person(waiting):
    """What is retried by itself, or waits for a reference, is left alone."""
    waiting("parked", "replay", "--all")
    assert set(decisions(waiting)) == {"1001", "1002", "1003"}


def test_replay_can_be_slow(waiting):
    """--rate spreads decisions over time: three at two a second are not done at once."""
    began = time.monotonic()
    waiting("parked", "replay", "--all", "--rate", "2")
    assert time.monotonic() - began >= 0.5
    assert len(decisions(waiting)) == 3


def test_a_dry_run_decides_nothing(waiting):
    """It shows what would be decided."""
    shown = waiting("parked", "replay", "--all", "--dry-run")
    assert "would replay 3" in shown.stderr
    assert "1002" in shown.stdout
    assert "1005" not in shown.stdout
    waiting("parked", "drop", *refs(waiting, "1001"), "--reason", "x", "--dry-run")
    assert decisions(waiting) == {}


def test_replay_needs_to_know_which(waiting):
    """None, or two ways at once, is wrong use."""
    waiting("parked", "replay", code=2)
    waiting("parked", "replay", *refs(waiting, "1001"), "--all", code=2)
    assert "there is no group 'abc'" in waiting("parked", "replay", "--group", "abc", code=2).stderr


def test_drop_keeps_its_reason(waiting):
    """A message goes only with a reason, which stays with the decision."""
    ref = refs(waiting, "1003")
    waiting("parked", "drop", *ref, code=2)
    waiting("parked", "drop", *ref, "--reason", "  ", code=2)
    waiting("parked", "drop", *ref, "--reason", "a test order")
    row = next(row for row in waiting.parked() if row.key == "1003")
    assert row.decision == "drop"
    assert row.decided_by.endswith(": a test order")


def test_a_ref_names_one_message(waiting):
    """When a newer message of the key waits by now, the old ref is unknown: nobody decides unseen."""
    ref = refs(waiting, "1001")
    waiting.park(parked("1001", counter=2))
    waiting("parked", "replay", *ref, code=2)
    assert decisions(waiting) == {}


def test_edit_puts_a_corrected_message_in_its_place(waiting):
    """--set changes fields; the message is n.1, keeps its key, and is sent by whoever holds the leg."""
    waiting("parked", "edit", *refs(waiting, "1001"), "--set", "total.amount=12.50", "--set", "customer=77")
    row = next(row for row in waiting.parked() if row.key == "1001")
    edited = unpack_message(row.message)
    content = msgspec.json.decode(edited.data)
    assert row.decision == "edit"
    assert (row.version, edited.version) == (Version(1, 1, 1), Version(1, 1, 1))
    assert row.message_id == edited.id != message("1001").id
    assert content["total"] == {"amount": "12.50", "currency": "EUR"}
    assert content["customer"] == "77"
    assert content["placed_at"] == ORDER["placed_at"]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (["total.amount=lots"], "total"),
        (["totl=5"], "totl"),
        (["total.amount.x=5"], "total.amount.x"),
        (["lines.0.sku=5"], "lines.0.sku"),
        (["number=1002"], "an edit stays with its key"),
        (["placed_at=yesterday"], "placed_at"),
    ],
)
def test_an_edit_that_is_no_order_is_not_taken(waiting, fields, what):
    """The entity judges: exit code 1, the field is named, and nothing is decided."""
    arguments = [part for field in fields for part in ("--set", field)]
    result = waiting("parked", "edit", *refs(waiting, "1001"), *arguments, code=1)
    assert "not taken" in result.stderr
    assert what in result.stderr
    assert decisions(waiting) == {}


def test_edit_in_an_editor(waiting, tmp_path, monkeypatch):
    """Without --set the message is opened in $EDITOR, and judged when it is closed."""
    editor = tmp_path / "ed"
    editor.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\nfile = pathlib.Path(sys.argv[1])\n"
        "file.write_text(file.read_text().replace('129.90', '99.00'))\n"
    )
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(editor))
    waiting("parked", "edit", *refs(waiting, "1001"))
    row = next(row for row in waiting.parked() if row.key == "1001")
    assert msgspec.json.decode(unpack_message(row.message).data)["total"]["amount"] == "99.00"


@pytest.mark.parametrize("editor", ["", "false", "/no/such/editor", "'"])
def test_an_editor_that_fails_changes_nothing(waiting, monkeypatch, editor):
    """No editor, or one that ends with a failure, is told without a traceback."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    waiting("parked", "edit", *refs(waiting, "1001"), code=2)
    assert decisions(waiting) == {}


def test_a_record_of_a_source_is_corrected_in_its_system(waiting):
    """What a source could not read is replayed or dropped; an edit would not last."""
    waiting.ledger(lambda stores: stores.sources.put("shop.order", SourceState()))
    raw = {"number": "1009", "total": "1.234,50"}
    waiting.park(
        ParkedRow(leg="shop.order", key="line 9", message_id=b"9" * 16, version=Version(1, 1), reason=Reason.DEAD,
                  message=json.dumps(raw).encode(), error="amount: not a plain decimal number"),
        leg="shop.order",
    )  # fmt: skip
    shown = waiting.json("parked", "show", "shop.order", "line 9")
    assert shown["of_source"]
    assert shown["message"] == raw
    assert "correct it there" in waiting("parked", "edit", "shop.order", "line 9", "--set", "total=1", code=2).stderr
    waiting("parked", "replay", "shop.order", "line 9")
    assert decisions(waiting) == {"line 9": "replay"}
