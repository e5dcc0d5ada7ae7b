"""A company's language, as a user would write it, and Hypothesis strategies for it."""
# ruff: noqa: RUF012 -- an empty default is copied for each value

import enum
import string
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tieline.entity import Entity, Event, Measure, Money, Ref, Value


class Priority(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Customer(Entity, key="number"):
    number: str
    name: str = ""


class OrderLine(Value):
    sku: str
    quantity: int
    price: Money
    weight: Decimal = Decimal("1.5")


class Order(Entity, key="number", version=3):
    number: str
    customer: Ref[Customer]
    placed_at: datetime
    total: Money
    lines: list[OrderLine]
    shipping: Money | None = None
    status: str = "an open order"
    priority: Priority = Priority.LOW
    labels: set[str] = set()
    attributes: dict[str, Decimal] = {}
    due: date | None = None
    guid: UUID | None = None


class Reading(Event, key=("meter", "at"), subject="meter"):
    meter: str
    at: datetime
    value: Measure
    extra: dict[str, Any] = {}


# What may stand in a text: everything that UTF-8 can hold, accents apart from their letters among it.
_pieces = st.sampled_from(["e\u0301", "\u0301", "A\u030a", "\u1100\u1161\u11a8", "n", "\\", "\n", '"', "\u00e9"])
texts = st.lists(_pieces | st.characters(codec="utf-8"), max_size=12).map("".join)
keys = texts.filter(lambda text: text and "\0" not in text)
currencies = st.sampled_from(["EUR", "USD", "JPY", "KWD", "CLF"])
numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e30"), max_value=Decimal("1e30"))
moneys = st.builds(Money, numbers, currencies)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1900, 1, 2), datetime(2200, 1, 1), timezones=zones)  # noqa: DTZ001
lines = st.builds(OrderLine, sku=texts, quantity=st.integers(-(10**12), 10**12), price=moneys, weight=numbers)
orders = st.builds(
    Order,
    number=keys,
    customer=keys.map(Ref),
    placed_at=moments,
    total=moneys,
    lines=st.lists(lines, max_size=3),
    shipping=st.none() | moneys,
    status=texts | st.just("an open order"),
    priority=st.sampled_from(Priority),
    labels=st.sets(texts, max_size=3),
    due=st.none() | st.dates(),
    guid=st.none() | st.uuids(),
)
readings = st.builds(
    Reading,
    meter=keys,
    at=moments,
    value=st.floats(allow_nan=False, allow_infinity=False),
    extra=st.dictionaries(st.text(string.ascii_letters, min_size=1), st.booleans() | numbers | texts, max_size=3),
)


def order(**changes: Any) -> Order:
    """An order like any other, with changes."""
    fields: dict[str, Any] = {
        "number": "W-1",
        "customer": Ref("C-1"),
        "placed_at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "total": Money(Decimal("19.90"), "EUR"),
        "lines": [OrderLine(sku="A", quantity=1, price=Money(Decimal("19.90"), "EUR"))],
    }
    return Order(**(fields | changes))
