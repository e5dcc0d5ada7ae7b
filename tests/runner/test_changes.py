"""From a mapped page to messages: versions rise, ids chain, a second reading says nothing; each rule a sentence."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.entity import Entity, digest
from tieline.ledger import SeenRow
from tieline.message import Message, Version, message_id
from tieline.runner.changes import Changes, Clash, clashes
from tieline.runner.mapping import Mapped, MappedPage

SOURCE = "shop.order"


class Order(Entity, key="number"):
    number: str
    total: int = 0


def mapped(record: str, key: str, value: str = "1") -> Mapped:
    """A record gives this key with this value."""
    return Mapped(record, digest(f"{record}{value}".encode()), key, "", f'"{value}"'.encode())


def page(*given: Mapped, read: tuple[str, ...] = ()) -> MappedPage:
    """A page of records; `read` are further ones, which gave nothing."""
    return MappedPage(mapped=list(given), read={one.record for one in given} | set(read))


def seen(record: str, key: str, value: str = "1", *, counter: int = 1, gone: bool = False, epoch: int = 1) -> SeenRow:
    """What an earlier reading kept of a key."""
    return SeenRow(
        key=key,
        record=record,
        version=Version(epoch, counter),
        message_id=message_id(SOURCE, key, b"", str(counter).encode()),
        record_digest=digest(f"{record}{value}".encode()),
        entity_digest=b"" if gone else digest(f'"{value}"'.encode()),
        gone=gone,
    )


def compare(
    what: MappedPage,
    *rows: SeenRow,
    counter: int = 10,
    epoch: int = 1,
    mapping: int = 1,
    origins: dict[str, str] | None = None,
) -> Changes:
    """Compare a page with what was seen."""
    changes = Changes(SOURCE, epoch, counter, mapping, origins or {})
    by_record: dict[str, list[SeenRow]] = {}
    for one in rows:
        by_record.setdefault(one.record, []).append(one)
    changes.compare(what, {one.key: one for one in rows}, by_record)
    return changes


def said(changes: Changes) -> list[tuple[str, str]]:
    """The messages, as (key, value)."""
    return [(m.key, "gone" if m.deleted else msgspec.json.decode(m.data)) for m in changes.messages]


# -- new, changed, the same ---------------------------------------------------------------------------------


def test_a_new_key_is_a_message_and_a_seen_row_of_the_same_version_and_id() -> None:
    changes = compare(page(mapped("r", "k")))
    assert said(changes) == [("k", "1")]
    (message,) = changes.messages
    row = changes.rows["k"]
    assert (row.version, row.message_id) == (message.version, message.id) == (Version(1, 11), message.id)
    assert (row.record, row.gone, row.entity_digest) == ("r", False, digest(b'"1"'))


def test_a_changed_value_is_a_message_whose_id_goes_on_from_the_last_one() -> None:
    before = seen("r", "k", "1")
    (message,) = compare(page(mapped("r", "k", "2")), before).messages
    assert message.version == Version(1, 11)
    assert message.id == message_id(SOURCE, "k", before.message_id, digest(b'"2"'))


def test_a_record_that_changed_without_its_entity_is_no_message_but_is_remembered_as_read() -> None:
    before = seen("r", "k", "1")
    again = mapped("r", "k", "1")
    again.record_digest = digest(b"another column")
    changes = compare(page(again), before, mapping=2)
    assert said(changes) == []
    assert changes.counter == 10
    row = changes.rows["k"]
    assert (row.record_digest, row.mapping) == (digest(b"another column"), 2)
    assert (row.version, row.message_id) == (before.version, before.message_id)


def test_a_key_that_was_gone_and_comes_again_with_its_old_value_is_a_message() -> None:
    changes = compare(page(mapped("r", "k", "1")), seen("r", "k", "1", gone=True))
    assert said(changes) == [("k", "1")]
    assert not changes.rows["k"].gone


def test_there_and_back_again_is_three_messages_with_three_ids() -> None:
    rows: list[SeenRow] = []
    found: list[Message] = []
    for value in ("A", "B", "A"):
        changes = compare(page(mapped("r", "k", value)), *rows, counter=10 + len(found))
        rows = list(changes.rows.values())
        found += changes.messages
    assert [m.version.counter for m in found] == [11, 12, 13]
    assert len({m.id for m in found}) == 3


def test_two_sources_and_two_keys_never_share_an_id() -> None:
    changes = compare(page(mapped("r", "k"), mapped("s", "j")))
    other = Changes("pos.order", 1, 10, 1)
    other.compare(page(mapped("r", "k")), {}, {})
    assert len({m.id for m in [*changes.messages, *other.messages]}) == 3


def test_a_message_says_whose_change_it_is_and_is_handed_over_decoded() -> None:
    one = mapped("r", "k")
    one.entity, one.subject = Order(number="k"), "account"
    changes = compare(page(one), origins={"k": "erp", "other": "crm"})
    (message,) = changes.messages
    assert (message.origin, message.subject, changes.rows["k"].origin) == ("erp", "account", "erp")
    assert changes.entities == {message.id: one.entity}


def test_the_epoch_after_a_restore_makes_every_version_newer() -> None:
    before = seen("r", "k", "1", counter=900)
    (message,) = compare(page(mapped("r", "k", "2")), before, counter=0, epoch=2).messages
    assert message.version > before.version


# -- keys that go --------------------------------------------------------------------------------------------


def test_a_key_that_its_record_no_longer_gives_is_a_delete() -> None:
    before = seen("r", "k", counter=4)
    changes = compare(page(read=("r",)), before)
    assert said(changes) == [("k", "gone")]
    row = changes.rows["k"]
    assert (row.gone, row.entity_digest, row.record_digest) == (True, b"", b"")
    assert changes.messages[0].version > before.version
    assert changes.messages[0].id not in {before.message_id, b""}


def test_a_record_that_gives_another_key_than_before_is_a_delete_and_a_new_key() -> None:
    assert said(compare(page(mapped("r", "new")), seen("r", "old"))) == [("old", "gone"), ("new", "1")]


def test_of_several_keys_of_a_record_only_the_one_that_it_no_longer_gives_goes() -> None:
    assert said(compare(page(mapped("r", "a")), seen("r", "a"), seen("r", "b"))) == [("b", "gone")]


def test_a_key_that_is_gone_already_does_not_go_again() -> None:
    assert said(compare(page(read=("r",)), seen("r", "k", gone=True))) == []


def test_a_key_that_another_record_of_the_page_gives_passes_over_without_a_delete() -> None:
    changes = compare(page(mapped("new", "k", "2"), read=("old",)), seen("old", "k", "1"))
    assert said(changes) == [("k", "2")]
    assert changes.rows["k"].record == "new"


def test_a_key_that_passes_over_with_the_same_value_is_no_message_and_belongs_to_the_new_record() -> None:
    changes = compare(page(mapped("new", "k", "1"), read=("old",)), seen("old", "k", "1"))
    assert said(changes) == []
    assert changes.rows["k"].record == "new"


def test_a_record_that_was_not_read_keeps_its_keys() -> None:
    assert said(compare(page(mapped("r", "k")), seen("other", "j"))) == [("k", "1")]


def test_a_delete_that_the_system_tells_of_is_a_tombstone_with_the_next_version() -> None:
    changes = Changes(SOURCE, 1, 10, 1)
    changes.delete(seen("r", "k", counter=4))
    changes.delete(seen("s", "j", counter=5))
    assert said(changes) == [("k", "gone"), ("j", "gone")]
    assert [m.version.counter for m in changes.messages] == [11, 12]


# -- two givers of one key -------------------------------------------------------------------------------------


def found_clashes(what: MappedPage, *rows: SeenRow, leaving: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Clashes as (second record, holding record)."""
    found, _ = clashes(what, {one.key: one for one in rows}, leaving)
    return [(clash.second.record, clash.holder.record) for clash in found]


def test_a_key_that_another_living_record_holds_is_a_clash() -> None:
    assert found_clashes(page(mapped("second", "k")), seen("first", "k")) == [("second", "first")]


def test_its_own_record_is_no_clash() -> None:
    assert found_clashes(page(mapped("r", "k")), seen("r", "k")) == []


def test_a_key_that_is_gone_may_be_taken_by_anybody() -> None:
    assert found_clashes(page(mapped("second", "k")), seen("first", "k", gone=True)) == []


def test_a_record_that_the_system_says_is_gone_holds_nothing() -> None:
    assert found_clashes(page(mapped("second", "k")), seen("first", "k"), leaving=("first",)) == []


def test_a_record_of_the_page_that_no_longer_gives_the_key_holds_it_no_more() -> None:
    assert found_clashes(page(mapped("second", "k"), read=("first",)), seen("first", "k")) == []


def test_a_record_of_the_page_that_still_gives_the_key_holds_it_whichever_comes_first() -> None:
    first, second = mapped("first", "k"), mapped("second", "k")
    assert ("second", "first") in found_clashes(page(first, second), seen("first", "k"))
    assert ("second", "first") in found_clashes(page(second, first), seen("first", "k"))


def test_of_two_new_records_the_first_has_the_key() -> None:
    found, first = clashes(page(mapped("a", "k"), mapped("b", "k"), mapped("c", "j")), {}, ())
    assert [(type(one), one.second.record, one.holder.record) for one in found] == [(Clash, "b", "a")]
    assert {key: one.record for key, one in first.items()} == {"k": "a", "j": "c"}


# -- for whatever happens ----------------------------------------------------------------------------------------

READINGS = st.lists(
    st.dictionaries(st.sampled_from(["k1", "k2", "k3"]), st.sampled_from(["A", "B"]), max_size=3),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200)
@given(READINGS)
def test_over_any_history_versions_rise_ids_differ_and_a_second_reading_says_nothing(
    readings: list[dict[str, str]],
) -> None:
    rows: dict[str, SeenRow] = {}
    found: list[Message] = []
    counter = 0
    now: dict[str, str] = {}  # what a target knows who applies every message
    for reading in readings:
        for again in (False, True):
            given_ = [mapped(f"r-{key}", key, value) for key, value in reading.items()]
            what = page(*given_, read=tuple(row.record for row in rows.values()))
            changes = compare(what, *rows.values(), counter=counter)
            assert not (again and changes.messages)
            rows |= changes.rows
            counter = changes.counter
            found += changes.messages
            for key, value in said(changes):
                now[key] = value
        assert {key: value for key, value in now.items() if value != "gone"} == reading
    assert [m.version for m in found] == sorted({m.version for m in found})
    assert len({m.id for m in found}) == len(found)
