"""Tryton's values on the wire: tagged Decimals, dates and times, and what each kind of field takes."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from tieline.errors import Reject

_DATE: Final = ("year", "month", "day")
_TIME: Final = ("hour", "minute", "second", "microsecond")


def plain(value: Any) -> Any:
    """A value as Python has it: Decimals, dates and times out of their tags; times are UTC."""
    if type(value) is dict:
        tag = value.get("__class__")
        if tag is not None:
            return _untagged(tag, value)
        found: dict[str, Any] = {}
        for name, inner in value.items():
            # `product.code` comes as {"product.": {"code": …}}.
            if name.endswith(".") and type(inner) is dict:
                found.update((f"{name}{key}", one) for key, one in plain(inner).items() if key != "id")
            else:
                found[name] = plain(inner)
        return found
    if type(value) is list:
        return [plain(inner) for inner in value]
    return value


def _untagged(tag: str, value: Mapping[str, Any]) -> Any:
    match tag:
        case "Decimal":
            return Decimal(value["decimal"])
        case "date":
            return date(*(value[part] for part in _DATE))
        case "datetime":
            return datetime.combine(_untagged("date", value), _untagged("time", value), UTC)
        case "time":
            return time(*(value[part] for part in _TIME))
        case "timedelta":
            return timedelta(seconds=float(value["seconds"]))
        case "bytes":
            return base64.b64decode(value["base64"])
        case _:
            return dict(value)


def tagged(value: Any) -> Any:
    """A value as Tryton's JSON has it."""
    match value:
        case Decimal():
            return {"__class__": "Decimal", "decimal": str(value)}
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo is not None else value
            return {"__class__": "datetime", **{part: getattr(moment, part) for part in (*_DATE, *_TIME)}}
        case date():
            return {"__class__": "date", **{part: getattr(value, part) for part in _DATE}}
        case time():
            return {"__class__": "time", **{part: getattr(value, part) for part in _TIME}}
        case timedelta():
            return {"__class__": "timedelta", "seconds": value.total_seconds()}
        case bytes():
            return {"__class__": "bytes", "base64": base64.b64encode(value).decode()}
        case dict():
            return {key: tagged(inner) for key, inner in value.items()}
        case list() | tuple():
            return [tagged(inner) for inner in value]
        case _:
            return value


def fitted(kind: str, name: str, value: Any) -> Any:
    """A value as a field of this kind takes it: ids as numbers, money as Decimal, quantities as exact numbers.

    Raises:
        Reject: where the value does not fit the field.
    """
    if value is None:
        return None
    match kind:
        case "many2one" | "one2one" | "integer":
            return number(name, value)
        case "numeric":
            return tagged(_decimal(name, value))
        case "float":
            return _decimal(name, value)  # written as an exact JSON number
        case "date":
            return tagged(_parsed(name, date, value))
        case "datetime" | "timestamp":
            return tagged(_parsed(name, datetime, value))
        case "time":
            return tagged(_parsed(name, time, value))
        case "char" | "text" | "selection":
            return value if isinstance(value, str) else str(value)
        case _:
            return tagged(value)


def number(name: str, value: Any) -> int:
    """An id or whole number.

    Raises:
        Reject: where it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise Reject("takes a whole number", field=name, value=value)
    digits = str(value)
    if not digits.removeprefix("-").isdecimal() or not digits.isascii():
        raise Reject("takes a whole number", field=name, value=value)
    return int(digits)


def _decimal(name: str, value: Any) -> Decimal:
    if isinstance(value, float | bool):
        raise Reject("a float is not exact; give a Decimal", field=name, value=value)
    try:
        found = Decimal(value)
    except (ArithmeticError, TypeError, ValueError):
        raise Reject("takes a number", field=name, value=value) from None
    if not found.is_finite():
        raise Reject("takes a finite number", field=name, value=value)
    return found


def _parsed(name: str, kind: type[date] | type[time], value: Any) -> Any:
    if isinstance(value, str):
        try:
            return kind.fromisoformat(value)
        except ValueError:
            raise Reject(f"takes an ISO 8601 {kind.__name__}", field=name, value=value) from None
    return value


def is_commands(value: Sequence[Any]) -> bool:
    """Whether a list is written as Tryton's own commands, such as ``[["add", [4]]]``, already."""
    return bool(value) and all(isinstance(one, list | tuple) and one and isinstance(one[0], str) for one in value)
