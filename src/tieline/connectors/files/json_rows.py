"""Reading JSON lines: whole blocks are decoded at once, line by line only where that fails."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from io import BufferedReader
from typing import Any, Final

import msgspec

from tieline.connector import BadRecord, Record
from tieline.connectors.files.look import is_clean
from tieline.connectors.files.part import BLOCK, PART, BadRows, Part
from tieline.connectors.files.places import FirstPlaces, numbered, place_of
from tieline.connectors.files.resources import JsonLines
from tieline.entity import key_text
from tieline.errors import Reject

_decoder: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_MARK: Final = b"\xef\xbb\xbf"


def read_json_lines(
    file: BufferedReader, lines: JsonLines, files: Sequence[str], places: FirstPlaces
) -> Iterator[Part]:
    """The objects of a file in parts. `files` are the names of the run's files; this one's is the last.

    Raises:
        UnreadableFile: where this is no text, or too much cannot be read.
    """
    is_clean(file, files[-1], "utf-8")
    yield from _JsonFile(file, lines, files, places).parts()


class _JsonFile:
    def __init__(self, file: BufferedReader, lines: JsonLines, files: Sequence[str], places: FirstPlaces) -> None:
        self._file = file
        self._settings = lines
        self._files = files
        self._places = places
        self._bad = BadRows(files[-1])

    def parts(self) -> Iterator[Part]:
        """All objects, in parts of at most 2,000."""
        at = 0
        while lines := self._file.readlines(BLOCK):
            if at == 0:
                lines[0] = lines[0].removeprefix(_MARK)
            for start in range(0, len(lines), PART):
                part = self._part(lines[start : start + PART], at + start)
                if part.ids or part.bad:
                    yield part
            at += len(lines)

    def _part(self, lines: list[bytes], before: int) -> Part:
        part = Part()
        records, numbers = self._decoded(part, lines, before)
        ids, records, numbers = self._identified(part, records, numbers, lines, before)
        first = numbered(len(self._files) - 1, 0)
        again = self._places.meet(ids, [first + number for number in numbers])
        for index, earlier in again.items():
            what = f"{ids[index]!r} stands in {place_of(earlier, self._files)} already"
            part.bad.append(self._bad_line(lines, before, numbers[index], what, "keep one of the two"))
        part.ids = [one for index, one in enumerate(ids) if index not in again] if again else ids
        part.records = [one for index, one in enumerate(records) if index not in again] if again else records
        return part

    def _decoded(self, part: Part, lines: list[bytes], before: int) -> tuple[list[Record], Sequence[int]]:
        try:
            records = _decoder.decode_lines(b"".join(lines))
            if len(records) == len(lines):
                return records, range(before + 1, before + len(lines) + 1)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        found: list[tuple[Record, int]] = []
        for number, line in enumerate(lines, before + 1):
            if not line.strip():
                continue  # an empty line is no record
            try:
                found.append((_decoder.decode(line), number))
            except UnicodeDecodeError as error:
                what = f"byte {error.start + 1} of a text is 0x{error.object[error.start]:02x}, which is not utf-8"
                part.bad.append(self._bad_line(lines, before, number, what, "write JSON in UTF-8"))
            except (msgspec.MsgspecError, RecursionError) as error:
                part.bad.append(self._bad_line(lines, before, number, str(error), "write one JSON object a line"))
        return [record for record, _ in found], [number for _, number in found]

    def _identified(
        self, part: Part, records: list[Record], numbers: Sequence[int], lines: list[bytes], before: int
    ) -> tuple[list[str], list[Record], Sequence[int]]:
        keys = self._settings.keys
        if not keys:
            return [f"{self._files[-1]}:{number}" for number in numbers], records, numbers
        if len(keys) == 1:
            values: list[Any] = [record.get(keys[0]) for record in records]
            if set(map(type, values)) == {str} and (ids := self._settings.plain_ids(values)) is not None:
                return ids, records, numbers
        good: list[tuple[str, Record, int]] = []
        for record, number in zip(records, numbers, strict=True):
            try:
                good.append((key_text([record.get(key) for key in keys]), record, number))
            except Reject as error:
                what, remedy = f"has no id: {error}", f"fill in {', '.join(keys)}"
                part.bad.append(self._bad_line(lines, before, number, what, remedy))
        return [one for one, _, _ in good], [record for _, record, _ in good], [number for _, _, number in good]

    def _bad_line(self, lines: list[bytes], before: int, number: int, what: str, remedy: str) -> BadRecord:
        raw = lines[number - before - 1].decode("utf-8", "backslashreplace")
        return self._bad.make(number, what, remedy, raw)
