"""Whether values are of exactly their declared types, found column by column and without decoding.

What conforms here, and was settled when it was made (`tieline.canonical`), reads back from its own
canonical bytes as it is. A type of which that cannot be said at a glance has no check: such values
are proved by decoding them.
"""

import enum
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgspec

from tieline.canonical import INEXACT
from tieline.money import Money

Check: TypeAlias = Callable[[Sequence[Any]], bool]
"""Whether all values of a column are of one declared type."""

_PLAIN: Final[set[type]] = {str, int, bool, bytes, Decimal, datetime, date, uuid.UUID, Money}


def conform(cls: type, values: Sequence[Any]) -> bool:
    """Whether all `values` are certainly of the class `cls`, through and through."""
    check = _of_class(cls)
    return check is not None and check(values)


def _of_class(cls: type) -> Check | None:
    if cls not in _checks:
        _checks[cls] = None  # one that holds itself has none
        _checks[cls] = _made(cls)
    return _checks[cls]


_checks: Final[dict[type, Check | None]] = {}


def _made(cls: type) -> Check | None:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [(name, _check(hints[name])) for name in cls.__struct_fields__]  # type: ignore[attr-defined]
    columns = [(attrgetter(name), check) for name, check in fields if check is not None]
    if len(columns) < len(fields):
        return None

    def all_conform(values: Sequence[Any]) -> bool:
        return _only(cls, values) and all(check(list(map(get, values))) for get, check in columns)

    return all_conform


def _check(hint: Any) -> Check | None:
    origin = typing.get_origin(hint) or hint
    arguments = typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return _optional(arguments)
    if origin in {list, set, frozenset} or (origin is tuple and arguments[1:] == (...,)):
        return _collected(origin, arguments[0]) if arguments else None
    if origin is dict:
        return _mapped(*arguments) if arguments else None
    if origin is typing.Annotated:
        inexact = arguments[0] is float and [note.extra for note in arguments[1:] if _is_meta(note)] == [INEXACT]
        return (lambda column: _only(float, column)) if inexact else None
    if not isinstance(origin, type):
        return None
    if origin in _PLAIN or hasattr(origin, "settler") or issubclass(origin, enum.Enum):
        return lambda column: _only(origin, column)
    return _of_class(origin) if hasattr(origin, "__canonical__") else None


def _is_meta(note: Any) -> bool:
    return isinstance(note, msgspec.Meta)


def _optional(members: Iterable[Any]) -> Check | None:
    some = [member for member in members if member is not type(None)]
    check = _check(some[0]) if len(some) == 1 else None
    return check and (lambda column: check([value for value in column if value is not None]))


def _collected(cls: type, item: Any) -> Check | None:
    check = _check(item)
    return check and (lambda column: _only(cls, column) and check(list(chain.from_iterable(column))))


def _mapped(key: Any, value: Any) -> Check | None:
    check = _check(value)
    return check and (
        lambda column: (
            _only(dict, column)
            and _only(key, list(chain.from_iterable(column)))
            and check([inner for one in column for inner in one.values()])
        )
    )


def _only(cls: type, column: Sequence[Any]) -> bool:
    return set(map(type, column)) <= {cls}
