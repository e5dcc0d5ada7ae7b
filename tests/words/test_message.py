"""Messages: their ids, their order, their pieces, and the bytes they travel in."""

import json
import subprocess
import sys
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.message import (
    Batch,
    Message,
    Version,
    cloudevents,
    in_pieces,
    message_id,
    pack,
    pack_message,
    partition_of,
    split,
    unpack,
    unpack_message,
)

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8"))
versions = st.builds(Version, st.integers(1, 9), st.integers(0, 2**40), st.integers(0, 9))
bodies = st.none() | st.dictionaries(texts, st.none() | texts | st.integers(-(2**53), 2**53))
messages = st.builds(
    Message,
    id=st.binary(min_size=16, max_size=16),
    key=texts,
    version=versions,
    data=bodies.map(msgspec.json.encode).map(msgspec.Raw),
    origin=texts,
    subject=texts,
)
batches = st.builds(
    Batch,
    source=texts,
    entity=texts,
    schema=st.integers(1, 99),
    sequence=st.integers(0, 2**62),
    time=st.just(AT),
    messages=st.lists(messages, max_size=8),
    to=texts,
    force=st.booleans(),
    trace=texts,
)


def message(key: str = "1", counter: int = 1, data: bytes = b"{}", subject: str = "") -> Message:
    return Message(
        message_id("shop.order", key, b"", data), key, Version(1, counter), msgspec.Raw(data), subject=subject
    )


def batch(*found: Message, source: str = "shop.order") -> Batch:
    return Batch(source=source, entity="Order", schema=3, sequence=7, time=AT, messages=list(found))


# Versions


def test_an_epoch_outranks_a_counter_and_a_counter_an_edit():
    """A restored ledger's first message is newer than everything before; an edit only than what it repairs."""
    assert Version(1, 1) < Version(1, 1, 1) < Version(1, 1, 2) < Version(1, 2) < Version(1, 10) < Version(2, 0)


@given(versions, versions)
def test_versions_travel_in_order(one, other):
    """What is newer before packing is newer after it."""
    there = [unpack_message(pack_message(Message(b"", "", version))).version for version in (one, other)]
    assert (there[0] < there[1]) == (one < other)
    assert there == [one, other]


# Ids


def test_a_value_that_comes_back_is_a_change_of_its_own():
    """A → B → A has three ids, and reading the history again gives the same three."""

    def history() -> list[bytes]:
        ids = [b""]
        for content in (b"A", b"B", b"A"):
            ids.append(message_id("shop.order", "1", ids[-1], content))
        return ids[1:]

    assert len(set(history())) == 3
    assert history() == history()


def test_ids_are_the_same_in_every_process():
    """Golden: they are stored, so they must not hang on a process's hash seed or a version of Python."""
    program = (
        "from tieline.message import message_id, partition_of\n"
        "print(message_id('shop.order', 'Zoë', b'p', b'{}').hex(), partition_of('Zoë', 16))"
    )

    def run(seed: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout

    assert {run("1"), run("2")} == {"ca6effde3f0679ef910a65abc6e92266 10\n"}


@given(st.lists(st.tuples(texts, texts), min_size=2, max_size=2, unique=True))
def test_source_and_key_do_not_run_together(pairs):
    """Another source or key is another id, also where both texts joined are the same."""
    (source, key), (other_source, other_key) = pairs
    assert message_id(source, key, b"", b"{}") != message_id(other_source, other_key, b"", b"{}")
    assert message_id("1", "23", b"", b"") != message_id("12", "3", b"", b"")


# Partitions


def test_the_partition_of_a_key_never_changes():
    """Golden: a key that moves to another partition overtakes itself."""
    assert [partition_of(key, 16) for key in ("1001", "Zoë", "a/b", "", "W-7", "x" * 999)] == [13, 10, 7, 5, 15, 1]
    assert [partition_of(key, 4) for key in ("1001", "1002", "1003", "1004", "1005")] == [1, 1, 1, 3, 3]
    assert partition_of("anything", 1) == 0


@pytest.mark.parametrize("partitions", [2, 3, 4, 7, 16, 64])
def test_keys_are_spread_evenly(partitions):
    """No partition of consecutive numbers is a quarter fuller than its share."""
    counts = Counter(partition_of(str(number), partitions) for number in range(1000 * partitions))
    assert set(counts) == set(range(partitions))
    assert max(counts.values()) < 1250
    assert min(counts.values()) > 750


@given(st.lists(messages, max_size=20), st.integers(1, 8))
def test_splitting_keeps_every_message_and_the_order_of_each_subject(found, partitions):
    """By subject where there is one, else by key; nothing is lost, doubled or overtaken."""
    whole = batch(*found)
    parts = split(whole, partitions)
    assert all(part.messages for part in parts.values())
    assert Counter(m.id for part in parts.values() for m in part.messages) == Counter(m.id for m in found)
    for partition, part in parts.items():
        assert msgspec.structs.replace(part, messages=[]) == msgspec.structs.replace(whole, messages=[])
        assert part.messages == [m for m in found if partition_of(m.subject or m.key, partitions) == partition]


def test_a_subject_orders_messages_of_several_keys():
    """All readings of a meter are in one partition."""
    found = [message(key=str(number), subject="meter") for number in range(50)]
    assert len(split(batch(*found), 8)) == 1


# Pieces


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 9), st.integers(1, 600))
def test_pieces_are_in_order_and_within_bounds(sizes, most, size):
    """At most so many messages and so many bytes; one that is larger by itself stands alone."""
    found = [message(str(number), data=b'"' + b"x" * length + b'"') for number, length in enumerate(sizes)]
    pieces = list(in_pieces(found, most, size))
    assert [m for piece in pieces for m in piece] == found
    for piece in pieces:
        assert 1 <= len(piece) <= most
        assert len(piece) == 1 or sum(len(m.data) for m in piece) <= size
    for piece, following in pairwise(pieces):
        assert len(piece) == most or sum(len(m.data) for m in [*piece, following[0]]) > size


# Bytes


@given(batches)
def test_a_batch_comes_back_as_it_was(one):
    """Every field, and the entities' bytes untouched."""
    assert unpack(pack(one)) == one


@given(messages)
def test_a_message_comes_back_as_it_was(one):
    """For the parked store."""
    assert unpack_message(pack_message(one)) == one


@given(bodies)
def test_a_delete_is_known_by_its_null(body):
    """Fresh, from a batch and from the parked store; no value is mistaken for one."""
    fresh = Message(b"", "1", Version(1, 1), msgspec.Raw(msgspec.json.encode(body)))
    assert fresh.deleted == (body is None)
    assert unpack(pack(batch(fresh))).messages[0].deleted == (body is None)
    assert unpack_message(pack_message(fresh)).deleted == (body is None)
    assert Message(b"", "1", Version(1, 1)).deleted


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"source":1}', b"\xff"])
def test_foreign_bytes_are_no_batch(text):
    """What is not ours raises instead of becoming half a batch."""
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        unpack(text)


# CloudEvents

# From the specification's JSON format: required attributes, their types, and attribute names.
_NAME = r"^[a-z0-9]{1,20}$"


@given(st.lists(messages.filter(lambda m: m.key), max_size=4), texts.filter(bool))
def test_every_message_is_a_valid_cloudevent(found, source):
    """Required attributes are there and non-empty; names are lower case; the whole is JSON."""
    for one, event in zip(found, cloudevents(batch(*found, source=source)), strict=True):
        assert json.loads(json.dumps(event)) == event
        for name, value in event.items():
            assert name.isascii()
            assert name.isalnum()
            assert name == name.lower()
            assert len(name) <= 20
            assert name == "data" or (isinstance(value, str) and value)
        assert event["specversion"] == "1.0"
        assert event["id"] == one.id.hex()
        assert event["source"].isascii()
        assert " " not in event["source"]
        assert event["time"].endswith("Z")
        assert event["dataschema"].startswith("urn:")
        assert ("data" in event) != one.deleted
        assert event["type"] == ("Order.deleted" if one.deleted else "Order.changed")


def test_a_cloudevent_in_full():
    """Golden: others subscribe to these."""
    one = msgspec.structs.replace(message("W-1", 5, b'{"number":"W-1"}', "C-1"), origin="erp")
    whole = msgspec.structs.replace(
        batch(one),
        trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        time=AT.astimezone(timezone(timedelta(hours=2))),
    )
    assert cloudevents(whole) == [
        {
            "specversion": "1.0",
            "id": one.id.hex(),
            "source": "/shop/order",
            "type": "Order.changed",
            "subject": "W-1",
            "time": "2026-01-31T12:00:00Z",
            "dataschema": "urn:tieline:Order:3",
            "datacontenttype": "application/json",
            "tielineversion": "1.5.0",
            "tielineorigin": "erp",
            "partitionkey": "C-1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "data": {"number": "W-1"},
        }
    ]


def test_accents_in_a_source_are_escaped():
    """A source is a URI reference."""
    assert cloudevents(batch(message(), source="läden.auftrag"))[0]["source"] == "/l%C3%A4den/auftrag"
    assert unicodedata.is_normalized("NFC", "läden")
