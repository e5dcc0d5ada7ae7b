"""What reading gives: parts of a file, each with its good rows and its bad ones."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tieline.connector import BadRecord, Record
from tieline.errors import Reject

PART: Final = 2_000
"""Rows in a part, at most."""

BLOCK: Final = 1 << 20
"""Bytes, or characters, taken from a file at a time."""

LONGEST_LINE: Final = 4_000_000
"""Bytes of a line: more is no record but a wrong line end, or an attack."""

MOST_BAD: Final = 1_000
"""Bad rows after which the file is bad, not its rows."""

SHOWN: Final = 500


class UnreadableFile(Exception):
    """A whole file cannot be read; `place` is where, `remedy` what to do."""

    def __init__(self, place: str, what: str, remedy: str) -> None:
        super().__init__(f"{place}: {what} → {remedy}")
        self.place = place
        self.what = what
        self.remedy = remedy


@dataclass(slots=True)
class Part:
    """Some rows of a file, in order."""

    ids: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)


@dataclass(slots=True)
class BadRows:
    """Makes and counts what is bad in one file."""

    file: str
    count: int = 0

    def make(self, line: int, what: str, remedy: str, raw: str, id: str = "") -> BadRecord:
        """A bad row; with too many of them the file itself is what is wrong.

        Raises:
            UnreadableFile: at the thousandth.
        """
        self.count += 1
        if self.count > MOST_BAD:
            raise UnreadableFile(
                f"{self.file}:{line}",
                f"more than {MOST_BAD} rows cannot be read; the last: {what}",
                "look at the delimiter, the quotes and the encoding",
            )
        place = f"{self.file}:{line}"
        return BadRecord(id or place, place, shown(raw), Reject(f"{place}: {what} → {remedy}"))


def shown(text: str) -> str:
    """Text as it can be stored and shown: shortened, and with odd bytes spelt out."""
    text = text.rstrip("\r\n")
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def name_of(path: Path) -> str:
    """A file's name as it can be stored and shown."""
    return shown(os.fsencode(path.name).decode("utf-8", "backslashreplace"))
