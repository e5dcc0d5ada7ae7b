"""Reading JSON lines: exact numbers, one object a line, and a bad line that stops only itself."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.connectors.files_exchange import bad, opened, pages, put, records

from tieline.connectors.files import JsonLines
from tieline.errors import Hold

EVENTS = JsonLines("events.jsonl", id="id")


def read(folder, content, settings=EVENTS):
    put(folder / settings.path, content)
    return pages(opened(folder, orders=settings))


def places(found):
    return {one.place: str(one.error) for one in bad(found)}


def test_numbers_with_a_fraction_are_exact(tmp_path):
    """They are Decimals, digit by digit; whole numbers are ints."""
    found = read(tmp_path, '{"id":"1","a":0.1,"b":12345678901234567890.12,"c":1.10,"d":7,"e":[{"f":1e-3}]}\n')
    (row,) = records(found).values()
    assert row["a"] == Decimal("0.1")
    assert row["b"] == Decimal("12345678901234567890.12")
    assert str(row["c"]) == "1.10"
    assert row["d"] == 7
    assert row["e"] == [{"f": Decimal("0.001")}]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_line_end_and_mark_will_do(tmp_path, end, final, mark):
    """Empty lines are no records."""
    content = mark + end.join(['{"id":"1"}', "", "  ", '{"id":"2"}']) + (end if final else "")
    found = read(tmp_path, content)
    assert list(records(found)) == ["1", "2"]
    assert bad(found) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"id":"2"', "Input data was truncated → write one JSON object a line"),
        (b'{"id":2,}', "JSON is malformed"),
        (b'["2"]', "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b"hello", "JSON is malformed"),
        (b'{"id":"2"}{"id":"3"}', "JSON is malformed: trailing characters"),
        (b'{"id":"2","x":NaN}', "JSON is malformed"),
        (b'{"id":"2","x":"\xff"}', "which is not utf-8 → write JSON in UTF-8"),
        (b'{"id":"2","x":"\\ud800"}', "→ write one JSON object a line"),
        (b'{"x":1}', "has no id: key: a key part is text or a whole number, and not empty (got 'None') → fill in id"),
        (b'{"id":""}', "has no id"),
        (b'{"id":null}', "has no id"),
        (b'{"id":true}', "has no id"),
        (b'{"id":1.5}', "has no id"),
        (b'{"id":{"a":1}}', "has no id"),
        (b'{"id":"a\\u0000b"}', "has no id: key: a key has no NUL character"),
        (b'{"id":"' + b"x" * 1001 + b'"}', "has no id: key: a key has at most 1000 bytes"),
        (b'{"id":"2","x":' + b"[" * 100_000 + b"}", "→ write one JSON object a line"),
    ],
)
@pytest.mark.parametrize("after", [1, 2500])
def test_a_bad_line_is_named_and_the_rest_is_read(tmp_path, line, complaint, after):
    """Whatever is wrong with it."""
    rest = b"".join(b'{"id":"r%d"}\n' % number for number in range(after))
    found = read(tmp_path, b'{"id":"1"}\n' + line + b"\n" + rest)
    assert list(records(found)) == ["1", *(f"r{number}" for number in range(after))]
    assert list(places(found)) == ["events.jsonl:2"]
    assert complaint in places(found)["events.jsonl:2"]
    assert len(bad(found)[0].raw) <= 501


@pytest.mark.parametrize(("written", "one"), [("7", "7"), ('"7"', "7"), ("7.0", "7"), ('"Zoe\\u0308"', "Zoë")])
def test_an_id_has_one_spelling(tmp_path, written, one):
    """A number and its digits are the same id, however the system writes it today."""
    assert list(records(read(tmp_path, f'{{"id":{written}}}\n'))) == [one]


def test_the_second_line_of_an_id_is_named_with_the_first(tmp_path):
    """Also where one is a number and the other its digits."""
    found = read(tmp_path, '{"id":7}\n{"id":8}\n{"id":"7"}\n')
    assert list(records(found)) == ["7", "8"]
    assert "'7' stands in events.jsonl:1 already" in places(found)["events.jsonl:3"]


def test_an_empty_file_is_an_empty_state(tmp_path):
    """JSON lines have no header that could be missing."""
    assert records(read(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"id":1}\n'.encode("utf-16"), "is utf-16, not utf-8"),
        (b"\x1f\x8b\x08", "is a gzip archive"),
        (b'{"id":"' + b"x" * 4_000_000 + b'"}', "has a line of more than 4,000,000 bytes"),
        (b"no\n" * 1001, "more than 1000 rows cannot be read"),
    ],
)
def test_a_file_that_is_no_json_lines_holds_the_source(tmp_path, content, complaint):
    """Its rows must not look deleted."""
    with pytest.raises(Hold, match=complaint):
        read(tmp_path, content)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.lists(json, max_size=20))
def test_whatever_json_holds_is_read(tmp_path_factory, values):
    """Line ends and quotes inside texts included."""
    content = b"".join(msgspec.json.encode({"id": str(n), "value": value}) + b"\n" for n, value in enumerate(values))
    found = read(tmp_path_factory.mktemp("json"), content)
    assert [row["value"] for row in records(found).values()] == values
    assert bad(found) == []
