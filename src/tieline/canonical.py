"""What makes a field canonical: floats are refused, and each value is brought to one spelling.

The rules are read once from a class's annotations; `plan` gives the fields that have more than one
spelling, or a default to leave out, each with the function that settles it.
"""

import dataclasses
import enum
import functools
import math
import re
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec

from tieline.errors import Misfit
from tieline.money import Money, exact, plain

Settler = Callable[[Any, str], Any]

INEXACT: Final = {"inexact": True}
"""Marks an annotation for which binary floating point is good enough."""


class Unfit(TypeError):
    """A field's type has no place in an entity."""


def hints_of(name: str, module: str, annotations: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations as objects, before their class exists; a text that names what is not there yet stays text."""
    known = vars(sys.modules[module]) if module in sys.modules else {}
    itself = type(name, (), {})
    found: dict[str, Any] = {}
    for field, hint in annotations.items():
        holder = type("Holder", (), {"__annotations__": {field: hint}, "__module__": module})
        try:
            found[field] = typing.get_type_hints(holder, {**known, name: itself}, include_extras=True)[field]
        except (NameError, AttributeError):  # named later in its module
            found[field] = hint if isinstance(hint, str) else repr(hint)
    return found


def settler(hint: Any) -> Settler | None:
    """What brings a value of this type to its canonical form; None where there is only one.

    Raises:
        Unfit: for floats, and for composites that are no Value: nothing could keep those canonical.
    """
    origin = typing.get_origin(hint)
    if isinstance(hint, str):
        if re.search(r"\bfloat\b", hint):
            raise Unfit("float is not exact")
        return None
    if origin is typing.Annotated:
        inner, *notes = typing.get_args(hint)
        inexact = any(isinstance(note, msgspec.Meta) and note.extra == INEXACT for note in notes)
        return _measure if inexact and inner is float else settler(inner)
    if origin in {typing.Union, types.UnionType}:
        return _of_union(typing.get_args(hint))
    if origin in COLLECTIONS:
        return _of_collection(origin, typing.get_args(hint))
    if hasattr(origin, "settler"):  # Ref[Customer]
        return typing.cast(Settler, origin.settler(*typing.get_args(hint)))
    if isinstance(hint, typing.NewType):
        return settler(hint.__supertype__)
    if hasattr(hint, "__value__"):  # `type Price = …`
        return settler(hint.__value__)
    if hint in {float, complex}:
        raise Unfit(f"{hint.__name__} is not exact")
    if _is_composite(hint):
        raise Unfit(f"{hint.__name__} is no Value, so it has no canonical form")
    return _LEAVES.get(hint)


def _is_composite(hint: Any) -> bool:
    if not isinstance(hint, type):
        return False
    if issubclass(hint, msgspec.Struct):
        return not (hint is Money or hasattr(hint, "__canonical__"))
    return dataclasses.is_dataclass(hint) or hasattr(hint, "__required_keys__") or hasattr(hint, "_fields")


def _of_union(members: tuple[Any, ...]) -> Settler | None:
    inner = [settler(member) for member in members if member is not type(None)]
    settle = next(filter(None, inner), None)
    if settle is None:
        return None
    if len(inner) > 1:
        return _reading_or_anything if _measure in inner else _anything
    return lambda raw, field: None if raw is None else settle(raw, field)


def _of_collection(kind: type, arguments: tuple[Any, ...]) -> Settler | None:
    if issubclass(kind, abc.Mapping):
        keys, values = settler(arguments[0]), settler(arguments[1])
        if keys is not None:
            raise Unfit("the keys of a dict are text or whole numbers")
        return values and (lambda raw, field: _each_value(raw, field, values))
    inner = [settler(argument) for argument in arguments if argument is not Ellipsis]
    if not any(inner):
        return None
    if len(inner) > 1:  # tuple[Decimal, str]
        return lambda raw, field: tuple(
            settle(item, field) if settle else item for settle, item in zip(inner, raw, strict=True)
        )
    return lambda raw, field: _each(raw, field, typing.cast(Settler, inner[0]))


def _each(raw: Any, field: str, settle: Settler) -> Any:
    if not isinstance(raw, list | tuple | set | frozenset):
        return raw  # not what the field says: decoding refuses it, and names its place
    return type(raw)([settle(item, field) for item in raw])


def _each_value(raw: Any, field: str, settle: Settler) -> Any:
    if not isinstance(raw, dict):
        return raw
    return {key: settle(item, field) for key, item in raw.items()}


def _decimal(raw: Any, field: str) -> Any:
    return plain(raw if type(raw) is Decimal else exact(raw, field), field)


def _moment(raw: Any, field: str) -> datetime:
    if type(raw) is not datetime:
        raw = _as_datetime(raw, field)
    zone = raw.tzinfo
    if zone is UTC:
        return typing.cast(datetime, raw.replace(fold=0) if raw.fold else raw)  # UTC repeats no hour
    if zone is None or raw.utcoffset() is None:
        raise Misfit("a time needs its zone; attach the system's zone in the mapping", field=field, value=raw)
    try:
        return typing.cast(datetime, raw.astimezone(UTC))
    except OverflowError:
        raise Misfit("a time lies in the years 1 to 9999, in UTC", field=field, value=raw) from None


def _as_datetime(raw: Any, field: str) -> datetime:
    """A subclass's value or RFC 3339 text as a plain datetime."""
    if isinstance(raw, datetime):
        return datetime.combine(raw.date(), raw.time(), raw.tzinfo)
    if isinstance(raw, str):
        try:
            return datetime.fromisoformat(raw)
        except ValueError:
            pass
    raise Misfit("not a time such as 2026-01-31T09:30:00+01:00", field=field, value=raw)


def _time_of_day(raw: Any, field: str) -> Any:
    if isinstance(raw, time) and raw.tzinfo is not None:
        raise Misfit("a time of day has no zone; a moment is a datetime", field=field, value=raw)
    return raw


def _measure(raw: Any, field: str) -> Any:
    if isinstance(raw, bool) or not isinstance(raw, float | int | Decimal):
        raise Misfit("a reading is a number", field=field, value=raw)
    reading = float(raw)
    if not math.isfinite(reading):
        raise Misfit("a reading is finite", field=field, value=raw)
    return reading or 0.0  # without the sign of zero


def _anything(raw: Any, field: str) -> Any:
    """Where the type leaves it open, the value decides."""
    if isinstance(raw, float):
        raise Misfit("a float is not exact; use Decimal", field=field, value=raw)
    if isinstance(raw, Decimal):
        return _decimal(raw, field)
    if isinstance(raw, datetime):
        return _moment(raw, field)
    if isinstance(raw, dict):
        return _each_value(raw, field, _anything)
    if isinstance(raw, list | tuple | set | frozenset):
        return _each(raw, field, _anything)
    return raw


def _reading_or_anything(raw: Any, field: str) -> Any:
    return _measure(raw, field) if isinstance(raw, float) else _anything(raw, field)


_LEAVES: Final[Mapping[Any, Settler]] = {
    Decimal: _decimal,
    datetime: _moment,
    time: _time_of_day,
    **dict.fromkeys([Any, object, list, dict, tuple, set, frozenset], _anything),
}
COLLECTIONS: Final = {list, tuple, set, frozenset, dict} | {
    abc.Sequence, abc.MutableSequence, abc.Collection, abc.Set, abc.MutableSet, abc.Mapping, abc.MutableMapping
}  # fmt: skip


class Plan(typing.NamedTuple):
    """What to do with the fields of a class: settle some, recognise the default of others."""

    settled: tuple[tuple[str, Settler], ...]
    defaults: tuple[tuple[str, Any], ...]


@functools.cache
def plan(cls: type) -> Plan:
    """The plan of a class, read once from its annotations."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = msgspec.structs.fields(cls)
    settlers = [(field.name, settler(hints[field.name])) for field in fields]
    return Plan(
        tuple((name, settle) for name, settle in settlers if settle is not None),
        tuple((field.name, field.default) for field in fields if recurs(field.default)),
    )


def recurs(default: Any) -> bool:
    """Whether an equal value may be another object: only then must it be recognised as the default."""
    if default is None or default is msgspec.NODEFAULT or isinstance(default, bool | enum.Enum):
        return False
    return default not in ("", b"", ()) and not (isinstance(default, int) and -5 <= default <= 256)


def settle_fields(value: Any) -> None:
    """Bring a new struct's fields to their canonical form, and defaults to the default itself.

    A default is left out of the canonical bytes only where the field is that very object.
    """
    settled, defaults = plan(type(value))  # type: ignore[arg-type]
    for name, settle in settled:
        raw = getattr(value, name)
        new = settle(raw, name)
        if new is not raw:
            msgspec.structs.force_setattr(value, name, new)
    for name, default in defaults:
        raw = getattr(value, name)
        if raw is not default and raw == default and type(raw) is type(default):
            msgspec.structs.force_setattr(value, name, default)
