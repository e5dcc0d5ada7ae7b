"""Reading CSV: fast where rows are as they should be, row by row only where they are not.

`csv.reader` runs over whole blocks of lines; a page of rows is checked at once. The lines of the page
are kept while it is read, so a row that cannot be parsed spoils its own line and nothing after it.
"""

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from io import BufferedReader, TextIOWrapper
from itertools import islice
from operator import itemgetter
from typing import Any, Final, TextIO

from tieline.connector import BadRecord
from tieline.connectors.files.look import is_clean, keeps_ascii
from tieline.connectors.files.part import BLOCK, PART, BadRows, Part, UnreadableFile
from tieline.connectors.files.places import FirstPlaces, numbered, place_of
from tieline.connectors.files.resources import Csv
from tieline.entity import key_text
from tieline.errors import Reject

Row = list[str]

_STEP: Final = 250  # rows checked at once: few enough to stay in the processor's cache
_HEAVY: Final = 16 * BLOCK
_NEAR: Final = 0.7  # how alike two names are, of 1, for one to be meant by the other
_LINE_END: Final = re.compile("\r\n|\r|\n")
_BROKEN: Final = re.compile("[\ud800-\udfff]")


def read_csv(file: BufferedReader, csv_: Csv, files: Sequence[str], places: FirstPlaces) -> Iterator[Part]:
    """The rows of a file in parts. `files` are the names of the run's files; this one's is the last.

    Raises:
        UnreadableFile: where there is no header to read by, or too much cannot be read.
    """
    clean = is_clean(file, files[-1], csv_.encoding)
    with _as_text(file, csv_.encoding, clean or not keeps_ascii(csv_.encoding)) as text:
        yield from _CsvFile(text, csv_, files, places, clean).parts()


def columns_of(file: BufferedReader, csv_: Csv, name: str) -> Row:
    """The names of a file's fields; raises UnreadableFile as `read_csv` does."""
    with _as_text(file, csv_.encoding, sound=False) as text:
        return _CsvFile(text, csv_, [name], FirstPlaces(), clean=True).header()


def header_faults(file: BufferedReader, csv_: Csv, name: str) -> list[UnreadableFile]:
    """What is wrong with a file's header: each name it lacks that the adapter says, or why it is no header."""
    with _as_text(file, csv_.encoding, sound=False) as text:
        try:
            return _CsvFile(text, csv_, [name], FirstPlaces(), clean=False).faults()
        except UnreadableFile as fault:
            return [fault]
        except UnicodeError:  # such an encoding has no way to show a broken character
            return [
                UnreadableFile(name, f"is not {csv_.encoding}", "save it again, or name its encoding in the adapter")
            ]


@contextmanager
def _as_text(file: BufferedReader, encoding: str, sound: bool) -> Iterator[TextIO]:
    """The file's text, without the mark that some programs put before UTF-8; the file itself stays open."""
    if file.peek(3)[:3] == codecs.BOM_UTF8:
        file.read(3)
    errors = "strict" if sound else "surrogateescape"
    text = TextIOWrapper(file, encoding, errors, newline="")
    try:
        yield text
    finally:
        text.detach()


class _Lines:
    """Physical lines of a file; those after the last `forget` can be read again."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._blocks: deque[tuple[int, list[str]]] = deque()  # the number of lines before it, and the lines
        self._end = 0

    def after(self, position: int) -> Iterator[str]:
        """The lines after the first `position` of the file."""
        while True:
            for before, lines in self._blocks:
                if before <= position < before + len(lines):
                    break
            else:
                lines, before = self._file.readlines(BLOCK), self._end
                if not lines:
                    return
                self._blocks.append((before, lines))
                self._end += len(lines)
            yield from islice(lines, position - before, None)
            position = before + len(lines)

    def text(self, number: int) -> str:
        """A line as it stands in the file."""
        return next(self.after(number - 1), "")

    def forget(self, position: int) -> None:
        """Let go of the lines up to `position`."""
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= position:
            self._blocks.popleft()

    @property
    def held(self) -> int:
        """About how many characters are kept."""
        return len(self._blocks) * BLOCK


class _CsvFile:
    def __init__(self, file: TextIO, csv_: Csv, files: Sequence[str], places: FirstPlaces, clean: bool) -> None:
        self._csv = csv_
        self._files = files
        self._name = files[-1]
        self._places = places
        self._clean = clean
        self._bad = BadRows(self._name)
        self._lines = _Lines(file)
        quoting = {"quotechar": csv_.quote} if csv_.quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
        self._options: dict[str, Any] = {"delimiter": csv_.delimiter, "strict": True, **quoting}
        self._restart(0)

    def _restart(self, at: int) -> None:
        self._at = at  # lines that are read for good
        self._base = at  # lines before the parser's first
        self._parser = csv.reader(self._lines.after(at), **self._options)

    # The header

    def header(self) -> Row:
        """The names of the fields; the parser stands at the first row afterwards."""
        self._names, place = self._header_and_place()
        for fault in self._lacking(self._csv.keys, place):
            raise fault
        self._width = len(self._names)
        self._id_fields = [self._names.index(key) for key in self._csv.keys]
        return self._names

    def faults(self) -> list[UnreadableFile]:
        """Each name that the adapter says and the header lacks; raises where it is no header at all."""
        self._names, place = self._header_and_place()
        return self._lacking(dict.fromkeys((*self._csv.keys, *self._csv.columns)), place)

    def _header_and_place(self) -> tuple[Row, str]:
        if not self._csv.header:
            return list(self._csv.columns), self._name
        try:
            names = next((row for row in self._parser if row), [])
        except csv.Error as error:
            what = f"the header cannot be read: {error}"
            raise UnreadableFile(f"{self._name}:1", what, "mend its quotes") from None
        self._at = self._parser.line_num
        place = f"{self._name}:{max(1, self._at)}"
        self._check_header(names, place)
        return names, place

    def _check_header(self, names: Row, place: str) -> None:
        if not names:
            raise UnreadableFile(place, "is empty: there is no header", "write the names of the fields in line 1")
        if not self._clean and (problem := self._odd_character(names, 1)):
            raise UnreadableFile(place, f"the header {problem[0]}", problem[1])
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice and twice[0]:
            raise UnreadableFile(place, f"the header has {twice[0]!r} twice", "give each field its own name")
        if "" in names:
            what = f"field {names.index('') + 1} of the header has no name"
            raise UnreadableFile(place, what, "name it, or look at the delimiter")

    def _lacking(self, wanted: Iterable[str], place: str) -> list[UnreadableFile]:
        names = self._names
        other = next((mark for mark in ";\t|," if mark != self._csv.delimiter and mark in names[0]), None)
        found = []
        for name in wanted:
            if name not in names:
                near = get_close_matches(name, names, 1, _NEAR)
                remedy = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(names)}"
                remedy = f"say delimiter={other!r}" if other else remedy
                found.append(UnreadableFile(place, f"there is no field {name!r} in the header", remedy))
        return found

    # Rows

    def parts(self) -> Iterator[Part]:
        """All rows, in parts of at most 2,000."""
        self.header()
        more = True
        while more:
            part = Part()
            while more and len(part.ids) + len(part.bad) < PART and self._lines.held < _HEAVY:
                more = self._fill(part)
            self._lines.forget(self._at)
            if part.ids or part.bad:
                yield part

    def _fill(self, part: Part) -> bool:
        """Add some rows to a part, up to the first that cannot be parsed; False at the end of the file."""
        rows: list[Row] = []
        failure = None
        try:
            rows.extend(islice(self._parser, min(_STEP, PART - len(part.ids) - len(part.bad))))
        except csv.Error as error:
            failure = str(error)  # the rows before it are there
        start, end = self._at, self._base + self._parser.line_num
        lines: Sequence[int] = range(start + 1, end + 1)
        if failure is not None or len(lines) != len(rows):
            lines, end = _line_numbers(rows, start)
        self._add(part, rows, lines)
        self._at = end
        if failure is not None:
            # Whatever the parser took for one row: only the line that it began in is given up.
            part.bad.append(self._unparsed(failure, end + 1))
            self._restart(end + 1)
        return bool(rows) or failure is not None

    def _add(self, part: Part, rows: list[Row], lines: Sequence[int]) -> None:
        if not rows:
            return
        if set(map(len, rows)) != {self._width}:
            rows, lines = self._of_right_width(part, rows, lines)
        if not self._clean:
            rows, lines = self._of_sound_text(part, rows, lines)
        rows, ids, lines = self._identified(part, rows, lines)
        file = len(self._files) - 1
        first = numbered(file, 0)
        places = (
            range(first + lines.start, first + lines.stop)
            if isinstance(lines, range)
            else [first + line for line in lines]
        )
        again = self._places.meet(ids, places)
        if again:
            for index, earlier in again.items():
                what = f"{ids[index]!r} stands in {place_of(earlier, self._files)} already"
                part.bad.append(self._bad_row(lines[index], what, "keep one of the two"))
            ids = [one for index, one in enumerate(ids) if index not in again]
            rows = [row for index, row in enumerate(rows) if index not in again]
        names = self._names
        part.ids += ids
        part.records += [dict(zip(names, row)) for row in rows]  # noqa: B905 -- of one length by now

    def _of_right_width(self, part: Part, rows: list[Row], lines: Sequence[int]) -> tuple[list[Row], list[int]]:
        good = []
        for row, line in zip(rows, lines, strict=True):
            if len(row) == self._width:
                good.append((row, line))
            elif row:  # an empty line is no row
                what = f"has {len(row)} of {self._width} fields"
                part.bad.append(self._bad_row(line, what, "look for a missing or unquoted delimiter", row))
        return [row for row, _ in good], [line for _, line in good]

    def _of_sound_text(self, part: Part, rows: list[Row], lines: Sequence[int]) -> tuple[list[Row], list[int]]:
        good = []
        for row, line in zip(rows, lines, strict=True):
            problem = self._odd_character(row, line)
            if problem is None:
                good.append((row, line))
            else:
                part.bad.append(self._bad_row(line, *problem, row))
        return [row for row, _ in good], [line for _, line in good]

    def _identified(
        self, part: Part, rows: list[Row], lines: Sequence[int]
    ) -> tuple[list[Row], list[str], Sequence[int]]:
        if not self._id_fields:
            return rows, [f"{self._name}:{line}" for line in lines], lines
        values = list(map(itemgetter(*self._id_fields), rows))
        ids = self._csv.plain_ids(values)
        if ids is not None:
            return rows, ids, lines
        good: list[tuple[Row, str, int]] = []
        for row, line in zip(rows, lines, strict=True):
            try:
                good.append((row, key_text([row[field] for field in self._id_fields]), line))
            except Reject as error:
                part.bad.append(self._bad_row(line, f"has no id: {error}", f"fill in {', '.join(self._csv.keys)}"))
        return [row for row, _, _ in good], [one for _, one, _ in good], [line for _, _, line in good]

    # What is wrong with a row

    def _bad_row(self, line: int, what: str, remedy: str, row: Row | None = None) -> BadRecord:
        """A bad row; where its fields are given, under its own id if that can be told."""
        id = ""
        if row is not None and self._id_fields and max(self._id_fields) < len(row):
            with suppress(Reject):
                id = key_text([row[field] for field in self._id_fields])
        return self._bad.make(line, what, remedy, self._lines.text(line), id)

    def _unparsed(self, failure: str, line: int) -> BadRecord:
        if "end of data" in failure or "field limit" in failure:
            return self._bad_row(line, "has a quote that is never closed, or a field without end", "close it")
        return self._bad_row(line, f"cannot be parsed ({failure})", "double the quotes inside quoted fields")

    def _odd_character(self, row: Row, line: int) -> tuple[str, str] | None:
        text = "".join(row)
        if "\0" in text:
            return "holds a NUL character", "export it as text"
        if text.isascii() or not _BROKEN.search(text):
            return None
        raw = self._lines.text(line)
        found = _BROKEN.search(raw)
        if found is None:  # in a later line of the same row
            return f"holds bytes that are not {self._csv.encoding}", "save the file again in that encoding"
        byte = len(raw[: found.start()].encode(self._csv.encoding, "surrogateescape")) + 1
        what = f"byte {byte} is 0x{ord(found[0]) & 0xFF:02x}, which is not {self._csv.encoding}"
        return what, 'save the file again in that encoding, or name its own, such as encoding="cp1252"'


def _line_numbers(rows: list[Row], start: int) -> tuple[list[int], int]:
    """The line each row begins in, and the last line of all; some have line ends inside their fields."""
    numbers = []
    for row in rows:
        numbers.append(start + 1)
        start += 1 + sum(len(_LINE_END.findall(value)) for value in row if "\n" in value or "\r" in value)
    return numbers, start
