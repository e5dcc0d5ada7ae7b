"""Records as text: a CSV row's values, a JSON line, and what cannot be written as either."""

import csv
import decimal
import enum
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from io import TextIOWrapper
from typing import Any, BinaryIO, Final, Protocol
from uuid import UUID

import msgspec

from tieline.connector import Record
from tieline.connectors.files.part import LONGEST_LINE
from tieline.connectors.files.resources import Csv, JsonLines, Resource
from tieline.errors import Reject

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_POINT: Final = Decimal("0.1")
_WIDE: Final = decimal.Context(prec=1000)
LONGEST_FIELD: Final = csv.field_size_limit() - 1
_encoder: Final = msgspec.json.Encoder(decimal_format="number")


class Format(Protocol):
    """One way to write rows; `prepare` refuses what `rows` could not write."""

    def prepare(self, record: Record) -> Record:
        """The record as it will stand there; raises Reject, naming the field that cannot."""

    def rows(self, file: BinaryIO, columns: Sequence[str]) -> "Rows":
        """Begin a file."""


class Rows(Protocol):
    """A file that is being written."""

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write prepared records."""

    def end(self) -> None:
        """Hand everything to the file."""


def format_of(resource: Resource) -> Format:
    """The format of a resource's files."""
    return CsvFormat(resource) if isinstance(resource, Csv) else JsonFormat()


class CsvFormat:
    """Text, quoted where it has to be."""

    def __init__(self, csv_: Csv) -> None:
        self._csv = csv_

    def prepare(self, record: Record) -> Record:
        """Every value as text."""
        texts = {name: self._text(name, value) for name, value in record.items()}
        _refuse_long(sum(map(len, texts.values())) * 4)  # bytes at most, in any encoding
        return texts

    def rows(self, file: BinaryIO, columns: Sequence[str]) -> "CsvRows":
        """Begin with the header."""
        return CsvRows(file, self._csv, columns)

    def _text(self, name: str, value: Any) -> str:
        text = _as_text(name, value)
        if self._csv.escape_formulas and isinstance(value, str) and text.startswith(_FORMULA):
            text = f"'{text}"
        if len(text) > LONGEST_FIELD:
            raise Reject(f"a CSV field holds at most {LONGEST_FIELD:,} characters", field=name, value=value)
        if "\0" in text:
            raise Reject("a CSV file holds no NUL character", field=name, value=value)
        if not self._csv.quote and not {self._csv.delimiter, "\n", "\r"}.isdisjoint(text):
            raise Reject("without quotes a value holds no delimiter and no line end", field=name, value=value)
        try:
            text.encode(self._csv.encoding)
        except UnicodeEncodeError as error:
            odd = text[error.start]
            raise Reject(f"{self._csv.encoding} has no character {odd!r}", field=name, value=value) from None
        return text


class CsvRows:
    """Rows of one CSV file."""

    def __init__(self, file: BinaryIO, csv_: Csv, columns: Sequence[str]) -> None:
        self._text = TextIOWrapper(file, csv_.encoding, newline="")
        self._columns = columns
        options: dict[str, Any] = {"delimiter": csv_.delimiter, "lineterminator": csv_.newline}
        if csv_.quote:
            self._plain = csv.writer(self._text, quotechar=csv_.quote, **options)
            # A lone carriage return ends a line for whoever reads, and is not quoted by itself.
            self._quoted = csv.writer(self._text, quotechar=csv_.quote, quoting=csv.QUOTE_ALL, **options)
        else:
            self._plain = self._quoted = csv.writer(self._text, quoting=csv.QUOTE_NONE, quotechar=None, **options)
        if csv_.header:
            self._plain.writerow(columns)

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write prepared records."""
        for record in records:
            row = [record.get(column, "") for column in self._columns]
            (self._quoted if "\r" in "".join(row) else self._plain).writerow(row)

    def end(self) -> None:
        """Hand everything to the file."""
        self._text.flush()
        self._text.detach()


class JsonFormat:
    """One object a line. A Decimal is a number with a point: read again, it is a Decimal again."""

    def prepare(self, record: Record) -> Record:
        """The record as JSON can hold it."""
        prepared = {}
        size = 0
        for name, value in record.items():
            try:
                prepared[name] = _exact(value)
                size += len(_encoder.encode(prepared[name]))
            except Reject as error:
                raise Reject(str(error), field=name, value=value) from None
            except (TypeError, ValueError, RecursionError) as error:
                raise Reject(f"JSON cannot hold it: {error}", field=name, value=value) from None
        _refuse_long(size)
        return prepared

    def rows(self, file: BinaryIO, columns: Sequence[str]) -> "JsonRows":
        """Begin; there is no header."""
        return JsonRows(file)


class JsonRows:
    """Lines of one JSON lines file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write prepared records."""
        self._file.write(_encoder.encode_lines(records))

    def end(self) -> None:
        """Nothing is held back."""


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise Reject("JSON has no such number")
        has_point = int(value.as_tuple().exponent) < 0
        return value if has_point else value.quantize(_POINT, context=_WIDE)
    if isinstance(value, float) and not math.isfinite(value):
        raise Reject("JSON has no such number")
    if isinstance(value, dict):
        return {key: _exact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(inner) for inner in value]
    return value


def _refuse_long(size: int) -> None:
    """What is written must be read again."""
    if size > LONGEST_LINE - 100_000:  # room for names, quotes and separators
        raise Reject("a row is too long for a line of a file")


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return str(value)
        case Decimal() if value.is_finite():
            return f"{value:f}"
        case float() if math.isfinite(value):
            return repr(value)
        case int() | UUID():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            kind = type(value).__name__
            raise Reject(f"a CSV field holds one value, no {kind}; spread it in the sink", field=name, value=value)


def settled(resource: Resource, columns: Sequence[str], record: Record) -> None:
    """Refuse fields that the file has no column for; JSON lines have room for every field."""
    if isinstance(resource, JsonLines) or not columns:
        return
    odd = next((name for name in record if name not in columns), None)
    if odd is not None:
        raise Reject(f"the file has no column {odd!r} (it has: {', '.join(columns)})", field=odd, value=record[odd])
