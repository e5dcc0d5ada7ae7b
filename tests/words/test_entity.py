"""An entity has one canonical form, whoever wrote it down and however."""
# ruff: noqa: RUF012, DTZ001 -- an empty default is copied for each value; times without a zone are tried

import dataclasses
import sys
import types
import typing
import unicodedata
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, NewType, Optional
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.words import company
from tests.words.company import (
    Customer,
    Order,
    OrderLine,
    Priority,
    Reading,
    keys,
    moments,
    numbers,
    order,
    orders,
    readings,
    texts,
)
from tests.words.future_company import Assembly, Owner, Part

from tieline.entity import (
    Entity,
    Event,
    Measure,
    Money,
    Ref,
    Value,
    decode,
    decode_many,
    digest,
    encode,
    json_schema,
    key_of,
    key_text,
    prove,
    referenced,
    references,
    subject_of,
)
from tieline.errors import Reject

COMPOSED, APART = "Zo\u00eb", "Zoe\u0308"


# One spelling


def test_the_canonical_form_is_this_one():
    """Golden bytes: they are digested and stored, so a change of them is a change of the product."""
    full = order(
        customer=Ref("C-1"),
        shipping=Money(5, "JPY"),
        status="shipped",
        priority=Priority.HIGH,
        labels={"b", "a"},
        attributes={"z": Decimal("1.50"), "a": Decimal("2E+2")},
        due=date(2026, 2, 1),
        guid=UUID("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
    )
    assert encode(full) == (
        b'{"number":"W-1","customer":"C-1","placed_at":"2026-01-31T12:00:00Z",'
        b'"total":{"amount":"19.90","currency":"EUR"},'
        b'"lines":[{"sku":"A","quantity":1,"price":{"amount":"19.90","currency":"EUR"}}],'
        b'"shipping":{"amount":"5","currency":"JPY"},"status":"shipped","priority":"high","labels":["a","b"],'
        b'"attributes":{"a":"200","z":"1.5"},"due":"2026-02-01","guid":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}'
    )
    assert digest(encode(full)).hex() == "7e0bae715d70c325dbe98803f01f75d9"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"total": Money("19.9", "EUR")}, {"total": Money(Decimal("19.9000"), "EUR")}),
        ({"attributes": {"a": Decimal("1.0")}}, {"attributes": {"a": Decimal("1.00")}}),
        ({"attributes": {"a": Decimal("1E+2")}}, {"attributes": {"a": Decimal("100")}}),
        ({"attributes": {"a": Decimal("-0.0")}}, {"attributes": {"a": Decimal(0)}}),
        ({"attributes": {"a": Decimal(1), "b": Decimal(2)}}, {"attributes": {"b": Decimal(2), "a": Decimal(1)}}),
        (
            {"attributes": {COMPOSED: Decimal(1), "Zz": Decimal(2)}},
            {"attributes": {"Zz": Decimal(2), APART: Decimal(1)}},
        ),
        ({"labels": {"x", "y", COMPOSED}}, {"labels": {APART, "y", "x"}}),
        ({"labels": {COMPOSED, APART}}, {"labels": {APART}}),
        ({"status": COMPOSED}, {"status": APART}),
        ({"customer": Ref(COMPOSED)}, {"customer": Ref(APART)}),
        ({"customer": Ref("5")}, {"customer": Ref(5)}),
        ({"customer": Ref("5")}, {"customer": "5"}),
        ({"customer": Ref("5")}, {"customer": 5}),
        ({"status": "an open order"}, {"status": " ".join(["an", "open", "order"])}),
        ({"status": "an open order"}, {}),
        ({"labels": set(), "attributes": {}, "shipping": None, "priority": Priority.LOW}, {}),
        (
            {"placed_at": datetime(2026, 1, 31, 12, tzinfo=UTC)},
            {"placed_at": datetime(2026, 1, 31, 13, tzinfo=ZoneInfo("Europe/Berlin"))},
        ),
        (
            {"placed_at": datetime(2026, 1, 31, 12, tzinfo=UTC)},
            {"placed_at": datetime(2026, 1, 31, 6, 30, tzinfo=timezone(timedelta(hours=-5.5)))},
        ),
        ({"placed_at": datetime(2026, 1, 31, 12, tzinfo=UTC)}, {"placed_at": "2026-01-31T13:00:00+01:00"}),
        (
            {"placed_at": datetime(2026, 1, 31, 12, tzinfo=UTC)},
            {"placed_at": datetime(2026, 1, 31, 12, tzinfo=ZoneInfo("UTC"))},
        ),
    ],
)
def test_one_value_written_two_ways_has_the_same_bytes(one, other):
    """Scales, zones, accents, defaults, orders and types of the writer leave no trace."""
    assert encode(order(**one)) == encode(order(**other))


@pytest.mark.parametrize("default", ["1.5", "1.50", "15E-1"])
def test_a_default_is_left_out_however_it_is_written(default):
    """A line that says the default weight is the line that says none."""
    price = Money(1, "EUR")
    assert OrderLine(sku="A", quantity=1, price=price, weight=Decimal(default)) == OrderLine(
        sku="A", quantity=1, price=price
    )
    assert b"weight" not in encode(
        order(lines=[OrderLine(sku="A", quantity=1, price=price, weight=Decimal(default))])
    )


def test_a_default_with_accents_is_left_out_too():
    """What becomes the default only once its accents are composed is still the default."""

    class Place(Entity, key="number"):
        number: str
        city: str = COMPOSED

    assert encode(Place(number="1", city=APART)) == encode(Place(number="1")) == b'{"number":"1"}'


def test_large_whole_numbers_are_recognised_as_defaults():
    """Two equal numbers may be two objects."""

    class Batch(Entity, key="number"):
        number: str
        size: int = 100_000

    assert encode(Batch(number="1", size=int("100000"))) == b'{"number":"1"}'


@pytest.mark.parametrize("mark", ["\u0301", "\u0307", "\u0338"])
@pytest.mark.parametrize("before", ["\n", "\t", "\r", "\b", "\f", '"', "\\", "\x1f", "\x7f", "<", "a\\n"])
def test_an_accent_after_an_escape_stays_apart_from_it(before, mark):
    r"""The n of \n and an accent after it must not grow into ń."""
    text = f"x{before}{mark}y"
    assert decode(Customer, encode(Customer(number="1", name=text))).name == unicodedata.normalize("NFC", text)


def test_two_names_that_differ_only_in_their_accents_are_refused():
    """One of the two values would be lost, and nobody could say which."""
    with pytest.raises(Reject, match="Order: two names differ only in how their accents are written"):
        encode(order(attributes={COMPOSED: Decimal(1), APART: Decimal(2)}))


@given(orders)
def test_an_order_comes_back_as_it_was(one):
    """Decoding gives what was encoded, in canonical form, and encoding that gives the same bytes."""
    data = encode(one)
    back = decode(Order, data)
    assert encode(back) == data
    assert back.total == one.total
    assert [line.price for line in back.lines] == [line.price for line in one.lines]
    assert back.placed_at == one.placed_at
    assert back.placed_at.tzinfo is UTC
    assert back.customer == unicodedata.normalize("NFC", one.customer)
    assert back.customer.entity is Customer
    assert prove(Order, [data]) == [(back, data)]


@given(readings)
def test_a_reading_comes_back_as_it_was(one):
    """Floating point is kept where it was declared good enough, to the last bit."""
    data = encode(one)
    back = decode(Reading, data)
    assert back.value == one.value
    assert encode(back) == data


@given(orders, orders)
def test_different_orders_have_different_bytes(one, other):
    """Canonical bytes are equal only where the values are."""
    assert (encode(one) == encode(other)) == (decode(Order, encode(one)) == decode(Order, encode(other)))


@given(orders, st.sampled_from(["number", "status", "total", "placed_at", "lines", "due", "priority", "customer"]))
def test_a_change_of_any_field_changes_the_digest(one, field):
    """Whatever is changed, its digest tells."""
    changed = {
        "number": one.number + "x",
        "status": one.status + "x",
        "total": one.total + Money("0.001", one.total.currency),
        "placed_at": one.placed_at + timedelta(microseconds=1),
        "lines": [*one.lines, OrderLine(sku="", quantity=0, price=Money(0, "EUR"))],
        "due": date(1, 1, 1) if one.due is None else None,
        "priority": Priority.LOW if one.priority is Priority.HIGH else Priority.HIGH,
        "customer": Ref(one.customer + "x"),
    }
    other = msgspec.structs.replace(one, **{field: changed[field]})
    assert digest(encode(one)) != digest(encode(other))


@given(orders, st.randoms(use_true_random=False))
def test_an_order_written_differently_has_the_same_bytes(one, random):
    """Other zones, scales, accents and orders of the same content."""

    def rewritten(money: Money) -> Money:
        return Money(f"{money.amount:f}" + ("0" if "." in f"{money.amount:f}" else ".00"), money.currency)

    zone = timezone(timedelta(minutes=random.randint(-800, 800)))
    other = Order(
        number=one.number,
        customer=Ref(unicodedata.normalize("NFD", one.customer)),
        placed_at=one.placed_at.astimezone(zone),
        total=rewritten(one.total),
        lines=[
            OrderLine(
                sku=unicodedata.normalize("NFD", line.sku),
                quantity=line.quantity,
                price=rewritten(line.price),
                weight=Decimal(f"{line.weight:E}"),
            )
            for line in one.lines
        ],
        shipping=one.shipping and rewritten(one.shipping),
        status=unicodedata.normalize("NFD", one.status),
        priority=one.priority,
        labels={unicodedata.normalize("NFD", label) for label in sorted(one.labels, key=lambda _: random.random())},
        due=one.due,
        guid=one.guid,
    )
    assert encode(other) == encode(one)


@given(moments, st.integers(-800, 800))
def test_a_moment_has_the_same_bytes_in_every_zone(moment, minutes):
    """UTC is the only zone on the way."""
    elsewhere = moment.astimezone(timezone(timedelta(minutes=minutes)))
    assert encode(order(placed_at=moment)) == encode(order(placed_at=elsewhere))


@given(numbers)
def test_a_decimal_has_no_exponent_and_no_needless_zeros(number):
    """So that a person, a spreadsheet and another program read the same; below a millionth there is an exponent."""
    written = msgspec.json.decode(encode(order(attributes={"a": number})))["attributes"]["a"]
    assert Decimal(written) == number
    assert ("E" in written) == (0 < abs(number) < Decimal("0.000001"))
    digits = written.partition("E")[0]
    assert not ("." in digits and digits.endswith("0"))


def test_a_copy_with_changes_is_canonical_too():
    """`msgspec.structs.replace` makes new values by the same rules."""
    changed = msgspec.structs.replace(order(), placed_at=datetime(2026, 1, 31, 13, tzinfo=ZoneInfo("Europe/Berlin")))
    assert encode(changed) == encode(order())


def test_a_users_own_post_init_is_run_as_well():
    """Whoever checks their own fields still gets the canonical form, also in a subclass."""
    met = []

    class Item(Entity, key="number"):
        number: str
        weight: Decimal

        def __post_init__(self) -> None:
            met.append(self.number)

    class Heavy(Item):
        load: Decimal = Decimal(0)

    assert encode(Item(number="1", weight=Decimal("1.50"))) == b'{"number":"1","weight":"1.5"}'
    assert encode(Heavy(number="2", weight=Decimal("1.50"), load=Decimal("0.0"))) == b'{"number":"2","weight":"1.5"}'
    assert met == ["1", "2"]


def test_a_check_inherited_from_elsewhere_is_run_as_well():
    """A mixin's check comes first, then the canonical form."""

    class Checked:
        __slots__ = ()

        def __post_init__(self) -> None:
            if self.number == "0":
                raise Reject("zero is no number", field="number")

    class Item(Checked, Entity, key="number"):
        number: str
        weight: Decimal

    assert encode(Item(number="1", weight=Decimal("1.50"))) == b'{"number":"1","weight":"1.5"}'
    with pytest.raises(Reject, match="zero is no number"):
        Item(number="0", weight=Decimal(1))


def test_annotations_that_are_text_mean_what_they_name():
    """`from __future__ import annotations`, aliases and later classes change nothing."""
    one = Assembly(
        number="1",
        made=datetime(2026, 1, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        price=Money(1, "EUR"),
        parts=[Part(weight=Decimal("1.50"), parts=[Part(weight=Decimal("1E+1"), reading=1)])],
        owner=Ref("O"),
        weight=Decimal("1.5"),
    )
    assert encode(one) == (
        b'{"number":"1","made":"2026-01-01T00:00:00Z","price":{"amount":"1.00","currency":"EUR"},'
        b'"parts":[{"weight":"1.5","parts":[{"weight":"10","reading":1.0}]}],"owner":"O"}'
    )
    back = decode(Assembly, encode(one))
    assert back.owner is not None
    assert back.owner.entity is Owner


# Floats


@dataclasses.dataclass
class Box:
    width: int


class Pair(typing.NamedTuple):
    left: int


class Shape(typing.TypedDict):
    width: int


class Loose(msgspec.Struct):
    width: int


@pytest.mark.parametrize(
    "hint",
    [
        float,
        Optional[float],  # noqa: UP045
        float | None,
        float | str | None,
        list[float],
        list[list[float]],
        tuple[float, ...],
        tuple[str, float],
        set[float],
        dict[str, float],
        dict[float, str],
        dict[str, list[float | None]],
        Annotated[float, msgspec.Meta(ge=0)],
        Annotated[list[float], "note"],
        NewType("Price", float),
        complex,
        "float",
        "float | None",
        "list[float]",
        "Optional['float']",
        "dict[str, 'list[float]']",
        "list[Later | float]",
        Box,
        Pair,
        Shape,
        Loose,
        list[Box],
    ],
    ids=str,
)
def test_a_float_is_refused_at_definition(hint):
    """Wherever it hides; a part that could hide one, being no Value, is refused with it."""
    namespace = {"__annotations__": {"number": str, "price": hint}, "__module__": __name__}
    with pytest.raises(
        TypeError, match=rf"{__name__}\.Offer\.price: .*; use Money for money, Decimal for quantities"
    ):
        type(Entity)("Offer", (Entity,), namespace, key="number")


@pytest.mark.parametrize("hint", ["float", "Amount", "list[Amount]", "Amount | None"])
def test_a_float_is_refused_in_a_module_of_text_annotations(hint):
    """Also under another name."""
    source = (
        "from __future__ import annotations\n"
        "from tieline.entity import Value\n"
        "Amount = float\n"
        f"class Line(Value):\n    price: {hint}\n"
    )
    module = types.ModuleType("users_module")
    sys.modules["users_module"] = module
    try:
        with pytest.raises(TypeError, match=r"users_module.Line.price: float is not exact"):
            exec(source, vars(module))
    finally:
        del sys.modules["users_module"]


@pytest.mark.parametrize(
    "hint",
    [Measure, Measure | None, list[Measure], dict[str, Measure], "Measure", "Measure | None", "Floating", int, Any],
)
def test_what_is_no_float_is_accepted(hint):
    """A declared reading is one; a name that only looks like float is none."""
    namespace = {"__annotations__": {"number": str, "value": hint}, "__module__": __name__}
    assert type(Entity)("Offer", (Entity,), namespace, key="number")


class Open(Entity, key="number"):
    number: str
    anything: Any = None
    some: list = []  # type: ignore[type-arg]
    exact: Decimal | None = None
    either: Decimal | str = ""
    pair: tuple[Decimal, str] | None = None
    moment: datetime | None = None
    daytime: time | None = None
    reading: Measure | None = None
    more: list[Measure] = []
    mixed: Measure | Decimal | None = None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("anything", 1.5),
        ("anything", [1, {"a": 1.5}]),
        ("anything", ({"a": [1.5]},)),
        ("some", [1.5]),
        ("exact", 1.5),
        ("either", 1.5),
        ("pair", (1.5, "a")),
    ],
)
def test_a_float_is_refused_by_value(field, value):
    """A type that leaves it open does not let it in; the message names the field."""
    with pytest.raises(Reject, match=f"{field}: a float is not exact"):
        Open(number="1", **{field: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), "1", True, None])
def test_a_reading_is_a_finite_number(value):
    """NaN would travel as null, and arrive as nothing measured."""
    with pytest.raises(Reject, match="value: a reading is"):
        Reading(meter="M", at=datetime.now(UTC), value=value)


def test_readings_have_one_spelling():
    """Whole numbers, Decimals and minus zero are readings like any other."""
    spelt = {encode(Open(number="1", reading=value)) for value in (0, 0.0, -0.0, Decimal(0))}
    assert spelt == {b'{"number":"1","reading":0.0}'}
    assert encode(Open(number="1", mixed=1.5, more=[1])) == b'{"number":"1","more":[1.0],"mixed":1.5}'


@pytest.mark.parametrize("value", ["1,5", "NaN", "1_0", "", Decimal("Infinity"), True, b"1"])
def test_a_decimal_field_takes_plain_numbers_only(value):
    """By the same rules as money."""
    with pytest.raises(Reject, match="exact: "):
        Open(number="1", exact=value)
    assert Open(number="1", exact="1.50").exact == Decimal("1.5")
    assert Open(number="1", exact=2).exact == Decimal(2)


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), "2026-01-01T00:00:00", "yesterday", 5, date(2026, 1, 1)])
def test_a_moment_needs_its_zone(value):
    """A time without a zone is some other time somewhere else."""
    with pytest.raises(Reject, match=r"moment: (a time needs its zone|not a time)"):
        Open(number="1", moment=value)


def test_a_moment_of_a_subclass_is_a_moment():
    """Data-frame and date libraries bring datetimes of their own."""

    class Stamp(datetime):
        def isoformat(self, *_: Any) -> str:  # type: ignore[override]
            return "something else"

    assert (
        encode(Open(number="1", moment=Stamp(2026, 1, 1, tzinfo=UTC)))
        == b'{"number":"1","moment":"2026-01-01T00:00:00Z"}'
    )


def test_a_moment_outside_the_calendar_is_refused():
    """The first hour of year one, east of Greenwich, has no UTC."""
    with pytest.raises(Reject, match="years 1 to 9999"):
        Open(number="1", moment=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))


def test_a_time_of_day_has_no_zone():
    """Without a date a zone says nothing certain."""
    assert encode(Open(number="1", daytime=time(9, 30))) == b'{"number":"1","daytime":"09:30:00"}'
    with pytest.raises(Reject, match="daytime: a time of day has no zone"):
        Open(number="1", daytime=time(9, 30, tzinfo=UTC))


# Decoding


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"number":"1"}', r"Order: Object missing required field `customer`"),
        (b"{", "Order: Input data was truncated"),
        (b"[]", r"Order: Expected `object`, got `array`"),
        (b'{"number":"1","colour":"red"}', "unknown field `colour`"),
        (b'{"number":"\xff"}', "Order: "),
        (b'{"number":"\\ud800"}', "Order: "),
        (encode(order()).replace(b'"W-1"', b"1"), r"Expected `str`, got `int` - at `\$.number`"),
        (encode(order()).replace(b'"C-1"', b"1"), r"\$.customer"),
        (encode(order()).replace(b'"C-1"', b'""'), r"key: .* - at `\$.customer`"),
        (
            encode(order()).replace(b'"quantity":1', b'"quantity":1.0'),
            r"Expected `int`, got `float` - at `\$.lines\[0\].quantity`",
        ),
        (
            encode(order()).replace(b'"19.90","currency":"EUR"}}]', b'"NaN","currency":"EUR"}}]'),
            r"amount: a number is finite .* - at `\$.lines\[0\].price`",
        ),
        (encode(order()).replace(b"EUR", b"eur", 1), r"currency: .* - at `\$.total`"),
        (encode(order()).replace(b"T12:00:00Z", b"T12:00:00"), r"placed_at: a time needs its zone"),
        (b"[" * 100_000, "Order: "),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(data, complaint):
    """The message names the entity and the place inside it."""
    with pytest.raises(Reject, match=complaint):
        decode(Order, data)


def test_one_misfit_does_not_fail_its_batch():
    """Each good one is decoded, each bad one is a Reject in its place."""
    good = encode(order())
    bad = good.replace(b'"19.90"', b'"NaN"', 1)
    first, second, third, fourth = decode_many(Order, [good, bad, good[:-1], msgspec.Raw(good)])
    assert first == fourth == order()
    assert isinstance(second, Reject)
    assert isinstance(third, Reject)


def test_a_misfit_cannot_shift_its_neighbours():
    """Two values in one place are a Reject, and the others stay where they are."""
    good = encode(Customer(number="1"))
    found = decode_many(Customer, [good + b"," + good, good])
    assert [isinstance(one, Reject) for one in found] == [True, False]


def test_wrong_types_are_found_before_they_travel():
    """A mapping that gives an int for text is told so by field; a list for a set is put right."""
    good, wrong = encode(order()), encode(order(number=1))
    listed = encode(order(labels=["b", "a", "a"], guid="A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"))
    proved = prove(Order, [good, wrong, listed])
    assert proved[0] == (order(), good)
    assert isinstance(proved[1], Reject)
    assert "$.number" in str(proved[1])
    right = order(labels={"a", "b"}, guid=UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"))
    assert proved[2] == (right, encode(right))
    assert prove(Order, [good, good]) == [(order(), good)] * 2
    assert prove(Order, []) == []


@pytest.mark.parametrize("value", ["\ud800", "a\udfff"])
def test_half_a_character_has_no_canonical_form(value):
    """A lone surrogate comes from text that was decoded wrongly; the field is named, however deep it stands."""
    with pytest.raises(Reject, match=r"^name: half a character.*encoding.*\\ud"):
        encode(Customer(number="1", name=value))
    line = OrderLine(sku=value, quantity=1, price=Money(1, "EUR"))
    with pytest.raises(Reject, match=r"^lines\.1\.sku: half a character"):
        encode(order(lines=[order().lines[0], line]))


def test_what_no_json_can_hold_is_refused():
    """By name of what it is."""
    with pytest.raises(Reject, match=r"Open: .*object"):
        encode(Open(number="1", anything=object()))


# Keys and references


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (["1001"], "1001"),
        ([1001], "1001"),
        ([Decimal("1001.00")], "1001"),
        ([date(2026, 1, 31)], "2026-01-31"),
        ([UUID("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")], "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ([Priority.HIGH], "high"),
        ([datetime(2026, 1, 31, 13, tzinfo=ZoneInfo("Europe/Berlin"))], "2026-01-31T12:00:00+00:00"),
        (["a/b"], "a/b"),
        (["a/b", "c"], "a\\/b/c"),
        (["a\\", "/b"], "a\\\\/\\/b"),
        ([APART], COMPOSED),
        (["DE", 5], "DE/5"),
    ],
)
def test_a_key_has_one_text(parts, text):
    """One part stands as it is; several are joined by a slash, escaped inside."""
    assert key_text(parts) == text


@pytest.mark.parametrize(
    "part",
    [
        None,
        "",
        1.0,
        float("nan"),
        True,
        Decimal("1.5"),
        Decimal("NaN"),
        b"a",
        [],
        datetime(2026, 1, 1),
        "a\0b",
        "\ud800",
        "x" * 1001,
        "ö" * 501,
    ],
)
def test_what_is_no_identity_is_no_key(part):
    """Nothing that changes by being read by another program, and nothing that a store cannot keep."""
    with pytest.raises(Reject, match="key: "):
        key_text([part])
    with pytest.raises(Reject, match="key: "):
        key_text(["a", part])
    with pytest.raises(Reject, match="key: "):
        Ref(part)


def test_an_entity_without_a_key_says_so():
    """Instead of giving all of its kind the same, empty one."""

    class Thing(Entity):
        number: str

    with pytest.raises(Reject, match="there is no key; declare one"):
        key_of(Thing(number="1"))


@given(st.lists(keys, min_size=2, max_size=4), st.lists(keys, min_size=2, max_size=4))
def test_two_keys_are_the_same_text_only_if_their_parts_are(one, other):
    """Escaping is injective, whatever slashes and backslashes the parts hold."""
    normal = [[unicodedata.normalize("NFC", part) for part in parts] for parts in (one, other)]
    if len(one) == len(other):
        assert (key_text(one) == key_text(other)) == (normal[0] == normal[1])


@given(
    st.lists(st.text("/\\a", min_size=1), min_size=2, max_size=3),
    st.lists(st.text("/\\a", min_size=1), min_size=2, max_size=3),
)
def test_slashes_and_backslashes_do_not_run_together(one, other):
    """The same, where everything is slashes."""
    assert (key_text(one) == key_text(other)) == (one == other)


def test_an_event_is_ordered_by_its_subject():
    """An entity by its key, a reading by its meter."""
    reading = Reading(meter="M/1", at=datetime(2026, 1, 1, tzinfo=UTC), value=1)
    assert key_of(reading) == "M\\/1/2026-01-01T00:00:00+00:00"
    assert subject_of(reading) == "M/1"
    assert subject_of(order()) == key_of(order()) == "W-1"
    assert issubclass(Reading, Event)


class Asset(Entity, key=("site", "number")):
    site: str
    number: int
    parent: Ref["Asset"] | None = None
    owners: list[Ref[Customer]] = []
    work: list["Work"] = []


class Work(Value):
    done_for: Ref[Customer] | None = None
    parts: dict[str, Money] = {}


def test_references_are_found_wherever_they_are():
    """In lists, in values, in values of lists; nothing where there is none."""
    asset = Asset(
        site="A",
        number=1,
        parent=Ref(key_text(["A", 2])),
        owners=[Ref("C1"), Ref("C2")],
        work=[Work(), Work(done_for=Ref("C3"))],
    )
    back = decode(Asset, encode(asset))
    found = references(Asset)
    assert [(ref.entity, str(ref)) for ref in found(back)] == [
        (Asset, "A/2"),
        (Customer, "C1"),
        (Customer, "C2"),
        (Customer, "C3"),
    ]
    assert found(asset) == found(back)
    assert references(Customer)(Customer(number="1")) == []
    assert referenced(Asset) == {Asset, Customer}
    assert referenced(Order) == {Customer}


@given(keys)
def test_a_reference_is_its_key(key):
    """It travels as text and comes back knowing what it points to."""
    back = decode(Order, encode(order(customer=Ref(key)))).customer
    assert back == key_text([key])
    assert back.entity is Customer


# JSON Schema


def test_the_schema_has_a_reference_as_its_key_wherever_it_stands():
    """Alone, as an option, in lists, in values of lists, and where an entity refers to itself."""
    schema = json_schema(Asset)
    assert schema["$ref"] == "#/$defs/Asset"
    fields, inner = schema["$defs"]["Asset"]["properties"], schema["$defs"]["Work"]["properties"]
    key = {"type": "string", "minLength": 1, "description": "the key of another entity"}
    assert fields["parent"]["anyOf"] == inner["done_for"]["anyOf"] == [key, {"type": "null"}]
    assert fields["owners"]["items"] == key
    assert fields["work"]["items"] == {"$ref": "#/$defs/Work"}
    asset = Asset(site="A", number=1, owners=[Ref("C1")], work=[Work(done_for=Ref("C3"))])
    valid = jsonschema.Draft202012Validator(schema)
    valid.validate(msgspec.json.decode(encode(asset)))
    assert not valid.is_valid(msgspec.json.decode(encode(asset)) | {"owners": [""]})


class Bin(Value):
    customer: Ref[Customer] = Ref("C-0")
    inner: "list[Bin]" = []


class Article(Entity, key="number"):
    """An article, with a default of every kind."""

    number: str
    maker: Ref[Customer] = Ref("C-1")
    price: Money = Money(Decimal("1.5"), "EUR")
    other: Ref[Customer] | None = Ref("C-2")
    bin: Bin = Bin(customer=Ref("C-3"))
    bins: tuple[Bin, ...] = (Bin(), Bin(customer=Ref("C-4")))
    weight: Decimal = Decimal("1.50")
    since: datetime = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    maker_name: str = APART
    sizes: Annotated[tuple[int, ...], msgspec.Meta(max_length=3)] = ()
    notes: dict[str, Bin] = {}
    guid: UUID = msgspec.field(default_factory=uuid4)


def test_the_schema_has_each_default_as_on_the_wire():
    """References, money and whole values too, in their one spelling; what is made anew each time is none."""
    schema = json_schema(Article)
    article = schema["$defs"]["Article"]
    assert {name: field["default"] for name, field in article["properties"].items() if "default" in field} == {
        "maker": "C-1",
        "price": {"amount": "1.50", "currency": "EUR"},
        "other": "C-2",
        "bin": {"customer": "C-3"},
        "bins": [{}, {"customer": "C-4"}],
        "weight": "1.5",
        "since": "2025-12-31T22:00:00Z",
        "maker_name": COMPOSED,
        "sizes": [],
        "notes": {},
    }
    assert article["required"] == ["number"]
    assert article["description"] == "An article, with a default of every kind."
    assert article["additionalProperties"] is False
    assert article["properties"]["sizes"]["maxItems"] == 3
    assert article["properties"]["notes"]["additionalProperties"] == {"$ref": "#/$defs/Bin"}
    inner = schema["$defs"]["Bin"]["properties"]
    assert inner["customer"]["default"] == "C-0"
    assert inner["inner"]["items"] == {"$ref": "#/$defs/Bin"}
    assert set(schema["$defs"]) == {"Article", "Bin", "Money"}
    valid = jsonschema.Draft202012Validator(schema)
    valid.validate(msgspec.json.decode(encode(Article(number="1", bin=Bin(inner=[Bin(customer=Ref("C-9"))])))))
    assert not valid.is_valid({"number": "1", "bin": {"maker": "C-1"}})


@given(st.one_of(orders.map(lambda one: (Order, one)), readings.map(lambda one: (Reading, one))))
def test_the_schema_describes_the_canonical_form(pair):
    """Whatever is encoded is valid by the JSON Schema of its entity."""
    entity, one = pair
    jsonschema.Draft202012Validator(json_schema(entity)).validate(msgspec.json.decode(encode(one)))


def test_the_schema_refuses_what_is_not_canonical():
    """Money as a number, an unknown field or a missing one is not valid."""
    schema = jsonschema.Draft202012Validator(json_schema(Order))
    jsonschema.Draft202012Validator.check_schema(json_schema(Order))
    good = msgspec.json.decode(encode(order()))
    for broken in (
        good | {"total": 19.9},
        good | {"total": {"amount": 19.9, "currency": "EUR"}},
        good | {"colour": 1},
        {"number": "1"},
    ):
        assert not schema.is_valid(broken)
    assert json_schema(Order)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_strategies_reach_what_they_are_for():
    """These tests would prove little if no text needed composing."""
    found = []

    @given(texts)
    def look(text):
        found.append(unicodedata.is_normalized("NFC", text))

    look()
    assert False in found
    assert company.Order is Order
