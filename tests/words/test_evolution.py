"""An entity's schema on the wire: what changes it, and what an earlier message still means under a later one."""
# ruff: noqa: RUF012 -- an empty default is copied for each value

import enum
import json
import typing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tieline.entity import Entity, Event, Measure, Money, Ref, Value, decode, encode, key_of, wire_schema
from tieline.errors import Reject
from tieline.evolution import Difference, differences


class Customer(Entity, key="number"):
    number: str


class Supplier(Entity, key="number"):
    number: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class More(enum.Enum):
    """The same colours by other names, and one more."""

    CRIMSON = "red"
    AZURE = "blue"
    GREEN = "green"


class Line(Value):
    sku: str
    count: int = 1


class Position(Value):
    """A line by another name."""

    count: int = 1
    sku: str


class Tree(Value):
    name: str
    parts: list["Tree"] = []


def made(*, like: type[Entity] = Entity, key: Any = "number", subject: str | None = None, **fields: Any) -> Any:
    """A class `Order` with these fields, each a type or (type, default)."""
    namespace: dict[str, Any] = {"__module__": __name__, "__annotations__": {"number": str}}
    for name, one in fields.items():
        hint, *default = one if isinstance(one, tuple) else (one,)
        namespace["__annotations__"][name] = hint
        if default:
            namespace[name] = default[0]
    options = {"key": key} | ({"subject": subject} if subject else {})
    return type(like)("Order", (like,), namespace, **options)


def between(old: Any, new: Any) -> list[Difference]:
    """What is otherwise, after the way through the ledger, which keeps JSON."""
    return differences(json.loads(json.dumps(wire_schema(old))), wire_schema(new))


SAME = {
    "the order of fields": (made(a=str, b=int), made(b=int, a=str)),
    "the name of a Value": (made(lines=list[Line]), made(lines=list[Position])),
    "the name of a field in Python": (
        made(total=str),
        made(sum=(str, msgspec.field(name="total"))),
    ),
    "the way a choice is declared": (made(c=Colour), made(c=Literal["blue", "red"])),
    "a list that is a tuple in Python": (made(a=list[str]), made(a=tuple[str, ...])),
    "a Value that holds itself": (made(tree=Tree), made(tree=Tree)),
    "another spelling of a default": (made(a=(Decimal, Decimal("1.5"))), made(a=(Decimal, Decimal("1.50")))),
}
COMPATIBLE = {
    "a new field with a default": (made(), made(a=(str, "x")), "a"),
    "a default for what had none": (made(a=str), made(a=(str, "x")), "a"),
    "None is allowed": (made(a=str), made(a=str | None), "a"),
    "another choice": (made(c=Colour), made(c=More), "c"),
    "a looser limit": (made(a=Annotated[int, msgspec.Meta(ge=1)]), made(a=Annotated[int, msgspec.Meta(ge=0)]), "a"),
    "no limit any more": (made(a=Annotated[str, msgspec.Meta(max_length=9)]), made(a=str), "a"),
    "a new field with a default in a Value": (
        made(lines=list[Line]),
        made(
            lines=list[type(Value)("Line", (Line,), {"__annotations__": {"a": str}, "a": "", "__module__": __name__})]
        ),
        "lines.a",
    ),
}
INCOMPATIBLE = {
    "a field is gone": (made(a=str), made(), "a"),
    "a field has another name": (made(a=str), made(b=str), "a"),
    "a new field without a default": (made(), made(a=str), "a"),
    "a default that is made anew": (made(), made(a=(str, msgspec.field(default_factory=lambda: "x"))), "a"),
    "another type": (made(a=str), made(a=int), "a"),
    "a limit": (made(a=str), made(a=Annotated[str, msgspec.Meta(min_length=1)]), "a"),
    "a tighter limit": (made(a=Annotated[int, msgspec.Meta(le=9)]), made(a=Annotated[int, msgspec.Meta(le=8)]), "a"),
    "None is allowed no more": (made(a=str | None), made(a=str), "a"),
    "the currency apart from the amount": (made(total=Money), made(total=Decimal, currency=str), "total"),
    "cents that are Euros now": (made(total=int), made(total=Decimal), "total"),
    "another default": (made(a=(str, "x")), made(a=(str, "y")), "a"),
    "a default is gone": (made(a=(str, "x")), made(a=str), "a"),
    "a choice is gone": (made(c=More), made(c=Colour), "c"),
    "a list that is a set now": (made(a=list[str]), made(a=set[str]), "a"),
    "a reference to something else": (made(a=Ref[Customer]), made(a=Ref[Supplier]), "a"),
    "another key": (made(id=str), made(id=str, key="id"), ""),
    "another subject": (made(like=Event, a=str), made(like=Event, a=str, subject="a"), ""),
    "an event of an entity": (made(), made(like=Event), ""),
    "a field of a Value is gone": (made(lines=list[Line]), made(lines=list[Tree]), "lines.sku"),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_on_the_wire(name: str) -> None:
    """Nobody is asked for a new version because of what no message shows."""
    old, new = SAME[name]
    assert between(old, new) == []


def test_texts_about_an_entity_are_none_of_its_schema() -> None:
    """A docstring may change at any time."""
    told = type(Entity)("Order", (Entity,), {"__annotations__": {"number": str}, "__doc__": "told"}, key="number")
    assert between(made(), told) == []


@pytest.mark.parametrize("name", COMPATIBLE)
def test_a_compatible_change(name: str) -> None:
    """Earlier messages decode to what they meant; the field is named all the same."""
    old, new, field = COMPATIBLE[name]
    found = between(old, new)
    assert [(one.field, one.compatible) for one in found] == [(field, True)]


@pytest.mark.parametrize("name", INCOMPATIBLE)
def test_a_change_that_needs_an_upcaster(name: str) -> None:
    """The field is named, and what is otherwise."""
    old, new, field = INCOMPATIBLE[name]
    assert field in {one.field for one in between(old, new) if not one.compatible}


def test_a_field_with_another_name_is_recognised() -> None:
    """What to look for is said, where there is only one."""
    assert str(between(made(a=Money), made(b=Money))[0]) == "a: the field is gone; it may be b now"


# -- any two schemas ------------------------------------------------------------------------------------

_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
_LEAVES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "str": (str, _texts),
    "limited": (Annotated[str, msgspec.Meta(max_length=2)], st.text("ab", max_size=2)),
    "looser": (Annotated[str, msgspec.Meta(max_length=3)], st.text("ab", max_size=3)),
    "int": (int, st.integers(-5, 5)),
    "at least 0": (Annotated[int, msgspec.Meta(ge=0)], st.integers(0, 5)),
    "Decimal": (Decimal, st.decimals(-9, 9, places=2)),
    "Money": (Money, st.builds(Money, st.decimals(-9, 9, places=2), st.sampled_from(["EUR", "JPY"]))),
    "bool": (bool, st.booleans()),
    "Measure": (Measure, st.floats(-9, 9)),
    "date": (date, st.dates()),
    "datetime": (datetime, st.datetimes(datetime(1999, 1, 1), timezones=st.just(UTC))),  # noqa: DTZ001
    "Colour": (Colour, st.sampled_from(Colour)),
    "More": (More, st.sampled_from(More)),
    "Ref": (Ref[Customer], st.text("ab", min_size=1).map(Ref)),
    "Line": (Line, st.builds(Line, sku=_texts, count=st.integers(0, 2))),
    "Position": (Position, st.builds(Position, sku=_texts, count=st.integers(0, 2))),
}
_GROUND = st.sampled_from(sorted(_LEAVES)).map(_LEAVES.__getitem__)


def _around(inner: tuple[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    hint, values = inner
    shapes = [inner, inner, (hint | None, st.none() | values), (list[hint], st.lists(values, max_size=3))]
    if hint in {str, int, Decimal, date}:
        shapes.append((set[hint], st.sets(values, max_size=3)))
        shapes.append((dict[str, hint], st.dictionaries(_texts, values, max_size=2)))
    return st.sampled_from(shapes)


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of an entity by name: type, values and default (or ...)."""
    found = {}
    for name in draw(st.sets(st.sampled_from("abc"))):
        hint, values = draw(_GROUND.flatmap(_around))
        default = draw(values) if draw(st.booleans()) else ...
        plain = not isinstance(default, list | set | dict)
        found[name] = (hint, values, default if plain or not default else ...)
    return found


@st.composite
def _next(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields like these, as somebody leaves them who works on the entity."""
    later = dict(fields)
    for name in draw(st.sets(st.sampled_from("abcd"), min_size=1, max_size=2)):
        fresh = draw(_fields().filter(bool))
        if name not in later or draw(st.integers(0, 5)) == 0:
            later[name] = next(iter(fresh.values()))
            continue
        hint, values, default = later[name]
        match draw(st.integers(0, 3)):
            case 0:
                del later[name]
            case 1 if type(None) not in typing.get_args(hint):
                later[name] = (hint | None, st.none() | values, default)
            case _:
                another = draw(values)
                later[name] = (hint, values, ... if isinstance(another, list | set | dict) else another)
    return later


def _entity(fields: dict[str, Any]) -> Any:
    return made(
        **{name: (hint,) if default is ... else (hint, default) for name, (hint, _, default) in fields.items()}
    )


@settings(max_examples=200)
@given(st.data())
def test_compatible_means_that_every_earlier_message_means_the_same(data: st.DataObject) -> None:
    """Whatever two schemas: where no difference needs an upcaster, each old value decodes and keeps every field."""
    fields = data.draw(_fields())
    old, new = _entity(fields), _entity(data.draw(_next(fields)))
    found = between(old, new)
    if not all(one.compatible for one in found):
        event("needs an upcaster")
        return
    event("compatible" if found else "the same")
    some = {
        name: data.draw(values)
        for name, (_, values, default) in fields.items()
        if default is ... or data.draw(st.booleans())
    }
    value = old(number="1", **some)
    again = decode(new, encode(value))
    assert key_of(again) == key_of(value)
    for name in fields:
        # As JSON has it: the classes of choices and Values may be others.
        assert msgspec.json.decode(encode(made(x=Any)(number="1", x=_plain(getattr(again, name))))) == (
            msgspec.json.decode(encode(made(x=Any)(number="1", x=_plain(getattr(value, name)))))
        ), name
    if not found:
        assert encode(again) == encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return {name: _plain(getattr(value, name)) for name in sorted(value.__struct_fields__)}
    if isinstance(value, list | set):
        return [_plain(one) for one in (sorted(value, key=str) if isinstance(value, set) else value)]
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, float | Money) else value


# -- upcasters ------------------------------------------------------------------------------------------


def test_an_upcaster_is_declared_at_its_entity() -> None:
    """The function stays what it was."""

    class Order(Entity, key="number", version=3):
        number: str

    @Order.upcaster(2)
    def second(data: dict[str, Any]) -> dict[str, Any]:
        return data

    @Order.upcaster(1)
    def first(data: dict[str, Any]) -> dict[str, Any]:
        return data

    assert Order.__upcasters__ == {1: first, 2: second}
    assert Entity.__upcasters__ == {}


@pytest.mark.parametrize("version", [0, -1, 2, 3, "1", None, 1.5])
def test_a_step_that_is_none_is_refused(version: Any) -> None:
    """An upcaster takes a version before the entity's own."""

    class Order(Entity, key="number", version=2):
        number: str

    with pytest.raises(TypeError, match=r"Order has version 2, so nothing is to be made of version"):
        Order.upcaster(version)


def test_two_upcasters_of_a_version_are_refused() -> None:
    """Which of the two counts would be a matter of luck."""

    class Order(Entity, key="number", version=2):
        number: str

    Order.upcaster(1)(lambda data: data)
    with pytest.raises(TypeError, match="two upcasters of version 1"):
        Order.upcaster(1)


@pytest.mark.parametrize("version", [0, -1, 1.0, True, "2", 20261130])
def test_a_version_that_is_no_count_is_refused(version: Any) -> None:
    """A date as version could not be followed step by step."""
    with pytest.raises(TypeError, match="versions count 1, 2, 3"):
        type(Entity)("Order", (Entity,), {"__annotations__": {"number": str}}, key="number", version=version)


def test_what_an_old_message_lacks_is_refused_without_an_upcaster() -> None:
    """The verdict is no formality: such a message does not decode."""
    with pytest.raises(Reject):
        decode(made(a=str), encode(made()(number="1")))
