"""What SQLite's loose types mean. It keeps what it is given, so that is read off the declared type.

- DECIMAL, NUMERIC, NUMBER, MONEY: `Decimal`, whether stored as integer, text or binary fraction; a
  binary fraction is read as the shortest decimal that names it. A column of NUMERIC affinity stores
  nothing else for 0.1, and about 15 digits: what would not come back to the last digit is rejected.
  Declared as DECIMALTEXT, a column has TEXT affinity and keeps every digit.
- TIMESTAMP, DATETIME: `datetime`, with a zone where the text has one; DATE: `date`; BOOL: `bool`; JSON.

A value that does not fit its declared type is given as it is stored.
"""

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from math import isnan
from typing import Any, Final
from uuid import UUID

import msgspec

from tieline.connectors.sql.dialect import Fit
from tieline.connectors.sql.names import is_integer, is_utf8
from tieline.connectors.sql.shape import Column, Kind

_CENT: Final = Decimal("0.01")
_WHOLE: Final = 2**63

_KINDS: Final = (  # the first that stands in the declared type wins
    (("DEC", "NUM", "MONEY"), Kind.DECIMAL),
    (("TIMESTAMP", "DATETIME"), Kind.NAIVE),
    (("DATE",), Kind.DATE),
    (("BOOL",), Kind.BOOLEAN),
    (("JSON",), Kind.JSON),
    (("INT",), Kind.INTEGER),
    (("CHAR", "CLOB", "TEXT"), Kind.TEXT),
    (("BLOB",), Kind.BYTES),
    (("REAL", "FLOA", "DOUB"), Kind.FLOAT),
)


def kind_of(declared: str) -> Kind:
    """What sort of values a column of this declared type holds."""
    upper = declared.upper()
    for parts, kind in _KINDS:
        if any(part in upper for part in parts):
            return kind
    return Kind.OTHER


def identity(text: str, column: Column) -> Any:
    """The parameter for an id's text; None where no row can have it."""
    if column.kind is Kind.BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            return text
    if column.kind is Kind.BOOLEAN and text in {"true", "false"}:
        return int(text == "true")
    if column.kind is Kind.NAIVE:
        return text.replace("T", " ", 1)
    if column.kind is Kind.INTEGER and _is_other_number(text):
        return None
    return text if is_utf8(text) else None


def fit(column: Column) -> Fit | None:
    """How a value is brought into the column."""
    if column.kind is Kind.DECIMAL and not any(part in column.type.upper() for part in ("CHAR", "CLOB", "TEXT")):
        return _fit_numeric
    if column.kind is Kind.JSON:
        return _fit_json
    return _fit


def fit_all(column: Column, values: Sequence[Any]) -> Sequence[Any] | None:
    """What `fit` makes of values that all go as they are, or nearly so; None where it is not that easy."""
    types = set(map(type, values))
    if types <= {str, type(None)} and column.kind is not Kind.JSON:
        return values
    if types == {int} and column.kind is not Kind.JSON and min(values) >= -_WHOLE and max(values) < _WHOLE:
        return values
    return None


def _is_other_number(text: str) -> bool:
    """Whether SQLite would take a text such as 007 for the number 7."""
    try:
        float(text)
    except ValueError:
        return False
    return not is_integer(text)


def _read_decimal(value: Any) -> Any:
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, str):
        try:
            return Decimal(value)
        except ArithmeticError:
            return value
    return value


def _read_text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except ValueError:
            return value

    return read


READ: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.DECIMAL: _read_decimal,
    Kind.NAIVE: _read_text(datetime.fromisoformat),
    Kind.DATE: _read_text(date.fromisoformat),
    Kind.BOOLEAN: lambda value: bool(value) if value in {0, 1} else value,
    Kind.JSON: _read_text(partial(json.loads, parse_float=Decimal)),
}
"""How a stored value of each kind is given, where that is not as it is."""


def _fit_float(value: float) -> float:
    if isnan(value):
        raise ValueError("not a number, which SQLite keeps as NULL")
    return value


def _fit_int(value: int) -> int:
    if not -_WHOLE <= value < _WHOLE:
        raise ValueError("a whole number beyond 64 bits")
    return value


def _fit_nested(value: Any) -> Any:
    raise ValueError("a list or an object fits a child or a JSON column only")


def _fit_decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError("not a finite number")
    return f"{value:f}"


_FITS: Final[dict[type, Fit]] = {
    str: lambda value: value,
    bool: int,
    int: _fit_int,
    float: _fit_float,
    Decimal: _fit_decimal_text,
    datetime: lambda value: value.isoformat(" "),
    date: date.isoformat,
    time: time.isoformat,
    timedelta: str,
    UUID: str,
    list: _fit_nested,
    tuple: _fit_nested,
    dict: _fit_nested,
    type(None): lambda value: value,
}


def _fit(value: Any) -> Any:
    found = _FITS.get(type(value))
    if found is not None:
        return found(value)
    if isinstance(value, Enum) and not isinstance(value, str | int):
        return _fit(value.value)
    return value


def _fit_numeric(value: Any) -> Any:
    """Bind what a column of NUMERIC affinity gives back to the last digit."""
    if type(value) is not Decimal:
        return _fit(value)
    binary = float(value)
    if value.same_quantum(_CENT) and -1e13 < binary < 1e13:
        return binary  # 15 digits or fewer always come back
    if value.is_finite():
        if value == value.to_integral_value() and -_WHOLE <= value < _WHOLE:
            return int(value)
        if Decimal(repr(binary)) == value:
            return binary
    raise ValueError("more digits than this column keeps; declare it DECIMALTEXT")


_json: Final = msgspec.json.Encoder(decimal_format="number")


def _fit_json(value: Any) -> Any:
    return None if value is None else _json.encode(value).decode()
