"""Whether a target has what a message would have written, field by field. Pure.

A target gives values in its own types: a number as text, a time without its zone's name. Two values are alike
where they say the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final, NamedTuple

from tieline.connector import Record

ABSENT: Final = "absent"


class Unlike(NamedTuple):
    """A field with two values; `field` leaves out which of several lines it is in."""

    field: str
    ours: str
    theirs: str


def unlike(ours: Record, theirs: Record) -> list[Unlike]:
    """The fields of ours that are not the same in theirs; a field that only they have is nobody's business."""
    return [found for name, value in ours.items() for found in _fields(str(name), value, theirs.get(name, _ABSENT))]


class _Absent:
    def __str__(self) -> str:
        return ABSENT


_ABSENT: Final = _Absent()


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _fields(field: str, ours: Any, theirs: Any) -> Iterator[Unlike]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name, value in ours.items():
            yield from _fields(f"{field}.{name}", value, theirs.get(name, _ABSENT))
    elif _is_list(ours) and _is_list(theirs) and len(ours) == len(theirs):
        for one, other in zip(ours, theirs, strict=True):
            yield from _fields(field, one, other)
    elif not _alike(ours, theirs):
        yield Unlike(field, _shown(ours), _shown(theirs))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Enum):
        ours = ours.value
    if ours is None or theirs is None or theirs is _ABSENT:
        return ours is None and (theirs is None or theirs is _ABSENT)
    if ours == theirs or str(ours) == str(theirs):
        return True
    if isinstance(ours, date | datetime) or isinstance(theirs, date | datetime):
        moment = _moment(ours)
        return moment is not None and moment == _moment(theirs)
    number = _number(ours)
    return number is not None and number == _number(theirs)


def _number(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(int(value) if isinstance(value, bool) else value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 -- a zone is given below
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
