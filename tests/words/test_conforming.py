"""What conforms at a glance is what decoding its bytes gives; what does not is decoded."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.words.company import Order, OrderLine, orders

from tieline.conforming import conform
from tieline.entity import Entity, Measure, Money, Ref, Value, decode, encode
from tieline.errors import Reject


class _Text(str):
    """A text that is more than a text."""


ODD: list[Any] = [None, True, 0, 7, "x", _Text("x"), b"x", Decimal("1.5"), (), [], {}, set(), ["x"], ("x",), {"a": 1}]
EURO = Money(Decimal(1), "EUR")
ODD += [
    EURO,
    datetime(2026, 1, 1, tzinfo=UTC),
    OrderLine(sku="s", quantity=1, price=EURO),
]


def shown(value: Any) -> Any:
    """A value with the types of all its parts."""
    if isinstance(value, msgspec.Struct):
        return type(value), [shown(getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, dict):
        return type(value), sorted((shown(k), shown(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value), [shown(item) for item in value]
    return type(value), repr(value) if not isinstance(value, set) else sorted(map(repr, value))


@given(orders)
def test_what_conforms_reads_back_as_it_is(order: Order) -> None:
    assert conform(Order, [order])
    data = encode(order)
    if data.isascii():
        assert shown(decode(Order, data)) == shown(order)


def test_a_moment_in_utc_is_never_the_second_of_two() -> None:
    """A time of a zone that repeats an hour may say which one it is (PEP 495); on the wire there is no such thing."""
    moment = datetime(2026, 1, 1, fold=1, tzinfo=UTC)
    order = Order(number="1", customer=Ref("7"), placed_at=moment, total=EURO, lines=[])
    assert order.placed_at.fold == 0


@given(orders, st.sampled_from(Order.__struct_fields__), st.sampled_from(ODD))
def test_a_field_of_another_type_never_conforms(order: Order, field: str, odd: Any) -> None:
    """Whatever a mapping puts into a field: it is refused, does not conform, or reads back as it is."""
    try:
        made = msgspec.structs.replace(order, **{field: odd})
        data = encode(made)
    except Reject:
        return
    if conform(Order, [order, made]) and data.isascii():
        assert shown(decode(Order, data)) == shown(made)


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", 7), ("number", _Text("x")), ("status", None), ("lines", ()), ("lines", ["x"]), ("labels", ["x"])],
)
def test_one_among_many_is_found(field: str, value: Any) -> None:
    good = Order(
        number="1",
        customer=Ref("c"),
        placed_at=datetime(2026, 1, 1, tzinfo=UTC),
        total=Money(Decimal(1), "EUR"),
        lines=[],
    )
    bad = msgspec.structs.replace(good, **{field: value})
    assert conform(Order, [good] * 9)
    assert not conform(Order, [*[good] * 5, bad, good])


def test_a_line_is_looked_into() -> None:
    price = Money(Decimal(1), "EUR")
    good, bad = (OrderLine(sku="s", quantity=n, price=price) for n in (1, "1"))  # type: ignore[arg-type]
    assert conform(OrderLine, [good])
    assert not conform(OrderLine, [good, bad])


def test_what_cannot_be_told_at_a_glance_is_left_to_decoding() -> None:
    class Part(Value):
        parts: "list[Part]"

    class Choice(Entity, key="number"):
        number: str
        either: int | str = 0

    class Reading(Entity, key="number"):
        number: str
        value: Measure

    assert not conform(Choice, [Choice(number="1")])
    assert conform(Reading, [Reading(number="1", value=1.5)])
    assert not conform(Reading, [Reading(number="1", value=1)]) or Reading(number="1", value=1).value == 1.0
