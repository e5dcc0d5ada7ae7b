"""What PostgreSQL's types mean: which values fit a column, and which ids may stand in one."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from operator import attrgetter
from typing import Any, Final

import msgspec

from tieline.connectors.sql.dialect import Fit
from tieline.connectors.sql.names import is_integer, is_utf8, is_uuid
from tieline.connectors.sql.shape import Column, Kind

NESTED: Final = "a list or an object fits a child, an array or a JSON column only"
_KINDS: Final = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), Kind.INTEGER),
    **dict.fromkeys(("numeric", "money"), Kind.DECIMAL),
    **dict.fromkeys(("float4", "float8"), Kind.FLOAT),
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "citext"), Kind.TEXT),
    **dict.fromkeys(("json", "jsonb"), Kind.JSON),
    "bool": Kind.BOOLEAN,
    "date": Kind.DATE,
    "timestamptz": Kind.ZONED,
    "timestamp": Kind.NAIVE,
    "uuid": Kind.UUID,
    "bytea": Kind.BYTES,
}
_LIMITS: Final = {"int2": 2**15, "int4": 2**31, "int8": 2**63}


class Array(list[Any]):
    """A list on its way into an array column; elsewhere PostgreSQL would keep one as the text `{a,b}`."""

    __slots__ = ()


def as_column(
    name: str, sql: str, shown: str, cast: str, base: str, category: str, modifier: int, not_null: bool, filled: bool
) -> Column:
    """A column as the catalog describes it."""
    kind = Kind.ARRAY if category == "A" else _KINDS.get(base, Kind.OTHER)
    scale, digits = None, 0
    if base == "numeric" and modifier >= 0:
        scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
        digits = ((modifier - 4) >> 16) - scale
    if kind is Kind.INTEGER:
        cast = "bigint"  # to look for a number out of the column's range finds nothing, and is no error
    read = f"{sql}::numeric" if base == "money" else ""
    return Column(
        name, sql, shown, kind, cast, not not_null, not_null and not filled, scale, digits, _LIMITS.get(base), read
    )


def identity(text: str, column: Column) -> Any:
    """The parameter for an id's text; None where no row can have it."""
    check = _IDENTITIES.get(column.kind, _is_text)
    if not check(text):
        return None
    return bytes.fromhex(text) if column.kind is Kind.BYTES else text


def fit(column: Column) -> Fit | None:
    """How a value is brought into the column, or None where the driver does it."""
    if column.scale is not None:
        return _fit_scale(column.scale, column.digits)
    if column.limit is not None:
        return _fit_range(column.limit)
    return _FITS.get(column.kind)


def fit_all(column: Column, values: Sequence[Any]) -> Sequence[Any] | None:
    """What `fit` makes of values of one type that all fit, a column at a time; None where it is not that easy."""
    types = set(map(type, values))
    if types == {int} and column.limit is not None and -column.limit <= min(values) and max(values) < column.limit:
        return values
    if types == {Decimal} and column.scale is not None:
        quantum, bound = Decimal((0, (1,), -column.scale)), Decimal(10) ** column.digits
        if all(map(quantum.same_quantum, values)) and -bound < min(values) and max(values) < bound:
            return values
    if types == {datetime} and column.kind is Kind.ZONED and set(map(attrgetter("tzinfo"), values)) == {UTC}:
        return list(map(str, values))
    return None


def as_moment(text: Any, *, date: bool) -> Any:
    """What a moment's text means, where Python can say it; else the text."""
    if not isinstance(text, str):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if date:
        return moment.date()
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


def _fit_range(limit: int) -> Fit:
    """PostgreSQL would not say which column a number is too large for."""

    def fit(value: Any) -> Any:
        if type(value) is int and not -limit <= value < limit:
            raise ValueError("the number is too large for the column")
        return value

    return fit


def _fit_scale(scale: int, digits: int) -> Fit:
    """PostgreSQL would round to the column's scale, silently, and not say which column a number is too large for."""
    quantum = Decimal((0, (1,), -scale))

    def fit(value: Any) -> Any:
        exact = value
        if type(value) is not Decimal:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                return value
            try:
                exact = Decimal(repr(value) if isinstance(value, float) else value)
            except ArithmeticError:
                return value  # the database says what is wrong with it
        if exact.same_quantum(quantum) and exact.adjusted() < digits:
            return exact
        if not exact.is_finite():
            raise ValueError("not a finite number")
        if exact != exact.quantize(quantum, context=_WIDE):
            raise ValueError(f"the column keeps {scale} decimals, and this would be rounded")
        if exact and exact.adjusted() >= digits:
            raise ValueError(f"the column keeps {digits} digits before the point")
        return exact

    return fit


def _fit_zoned(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError("the column keeps a time with its zone: give it one")
    return value.isoformat(" ")  # much faster than the driver's own way


def _fit_naive(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is not None:
        raise ValueError("the column keeps no zone: give the time as the system means it, with .replace(tzinfo=None)")
    return value.isoformat(" ")


_encode_json: Final = msgspec.json.Encoder(decimal_format="number").encode

_FITS: Final[dict[Kind, Fit]] = {
    Kind.ZONED: _fit_zoned,
    Kind.NAIVE: _fit_naive,
    Kind.JSON: lambda value: None if value is None else _encode_json(value).decode(),
    Kind.ARRAY: lambda value: Array(value) if isinstance(value, list) else value,
}
_WIDE: Final = Context(prec=1_000)


def _is_text(text: str) -> bool:
    return "\0" not in text and is_utf8(text)


def _is_decimal(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text, re.ASCII) is not None


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_IDENTITIES: Final[dict[Kind, Callable[[str], bool]]] = {
    Kind.INTEGER: is_integer,
    Kind.DECIMAL: _is_decimal,
    Kind.FLOAT: _is_decimal,
    Kind.UUID: is_uuid,
    Kind.DATE: _is_moment,
    Kind.ZONED: _is_moment,
    Kind.NAIVE: _is_moment,
    Kind.BOOLEAN: lambda text: text in {"true", "false"},
    Kind.BYTES: lambda text: re.fullmatch(r"(?:[0-9a-f]{2})*", text) is not None,
}
