"""What an adapter's author says about files: where they lie, how they are written, what identifies a row."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, Literal

from tieline.connector import Capabilities, Record
from tieline.entity import MAX_KEY, key_text
from tieline.errors import ConfigurationError, Mistake

BULK: Final = 2_000

Mode = Literal["state", "drop", "batches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Files of one kind in one folder.

    `path` is relative to the system's folder; `*` and `?` may stand in its last part. `id` is the
    field, or fields, that identify a row. What the files are is their `mode`:

    - ``state``: together they are the state, read whole, and only when one of them has changed. A
      single file may be written too: rows are merged by id and the file is replaced at once.
    - ``drop``: each file is taken over once, in order of name (or of time), and moved to `done` or
      `failed` beside it. Without `id` a row is identified by its file's name and its line.
    - ``batches``: each write makes a new file, whose name takes the place of the `*`.

    A dropped file is left alone until it has not changed for `settle` seconds and, where `ready` is
    an ending such as ".ready", until a file of its name with that ending is there; a written batch
    gets such a file too. `operation` names the field of a batch that says "change" or "delete".
    """

    path: str = field(kw_only=False)
    id: str | Sequence[str] = ()
    mode: Mode = "state"
    order: Literal["name", "time"] = "name"
    settle: float = 2.0
    ready: str = ""
    operation: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The fields that identify a row."""
        return (self.id,) if isinstance(self.id, str) else tuple(self.id)

    @property
    def folder(self) -> PurePosixPath:
        """The files' folder, relative to the system's."""
        return PurePosixPath(self.path).parent

    @property
    def pattern(self) -> str:
        """What the files' names look like."""
        return PurePosixPath(self.path).name

    @property
    def single(self) -> bool:
        """Whether this is one file by name."""
        return not set("*?[") & set(self.pattern)

    @property
    def capabilities(self) -> Capabilities:
        """The facts that follow from the mode."""
        if self.mode == "drop":
            return Capabilities(incremental=True, ordered=True, rereads=False)
        if self.mode == "batches":
            return Capabilities(reads=False, writes=True, deletes=bool(self.operation), bulk=BULK)
        return Capabilities(
            keys=True, lookup=True, writes=self.single, deletes=self.single, upsert=self.single, bulk=BULK
        )

    def identify(self, record: Record) -> str:
        """The id of a record as text; raises Reject where it has none."""
        if not self.keys:
            raise ConfigurationError(Mistake(self.path, "has no id to find a row by", "say id= in the adapter"))
        return key_text([record.get(key) for key in self.keys])

    def plain_ids(self, texts: list[str]) -> list[str] | None:
        """The texts of a single id field where all can be ids as they are; None where one needs a closer look."""
        if len(self.keys) != 1 or not texts:
            return None
        whole = "".join(texts)
        if "" in texts or max(map(len, texts)) > MAX_KEY or not whole.isascii() or "\0" in whole:
            return None
        return texts

    def mistakes(self, where: str) -> Iterator[Mistake]:
        """All that cannot work in these settings."""
        parts = PurePosixPath(self.path).parts
        if not parts or PurePosixPath(self.path).is_absolute() or ".." in parts or self.pattern in {".", ""}:
            yield Mistake(where, f"the path {self.path!r} leaves the system's folder", "write it relative to the url")
        if any(set("*?[") & set(part) for part in parts[:-1]):
            yield Mistake(where, f"{self.path!r} has a wildcard in a folder", "declare a resource for each folder")
        if self.mode == "state" and not self.keys:
            yield Mistake(where, "state files need to know what identifies a row", 'say id="…"')
        if self.mode == "batches" and self.pattern.count("*") != 1:
            yield Mistake(where, f"{self.path!r} leaves no place for a name", 'write one *, as in "out/orders-*.csv"')
        if self.operation and self.mode != "batches":
            yield Mistake(where, "operation= belongs to batches", 'say mode="batches" or leave it out')


@dataclass(frozen=True, slots=True, kw_only=True)
class Csv(Resource):
    """Comma-separated values, or separated otherwise; every value is text.

    `columns` names the fields of files without a header, and the order of those that are written.
    `quote` is "" where nothing is ever quoted. `escape_formulas` writes an apostrophe before text
    that a spreadsheet would run as a formula.
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    columns: Sequence[str] = ()
    header: bool = True
    newline: str = "\n"
    escape_formulas: bool = False

    def mistakes(self, where: str) -> Iterator[Mistake]:
        """All that cannot work in these settings."""
        yield from Resource.mistakes(self, where)
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            yield Mistake(where, f"there is no encoding {self.encoding!r}", 'try "utf-8", "cp1252" or "utf-16"')
        if len(self.delimiter) != 1 or self.delimiter in "\r\n\0" or self.delimiter == self.quote:
            yield Mistake(where, f"{self.delimiter!r} cannot separate values", "use one character, such as ;")
        if len(self.quote) > 1 or self.quote in set("\r\n\0"):
            yield Mistake(where, f"{self.quote!r} cannot quote values", 'use one character, or "" for none')
        if not self.header and not self.columns:
            yield Mistake(where, "files without a header need names for their fields", "say columns=[…]")
        if len(set(self.columns)) < len(self.columns):
            yield Mistake(where, "two columns have the same name", "give each its own in columns=[…]")
        if self.columns and not set(self.keys) <= set(self.columns):
            yield Mistake(where, f"the id {self.id!r} is no column", f"use one of: {', '.join(self.columns)}")
        if self.newline not in {"\n", "\r\n"}:
            yield Mistake(where, f"{self.newline!r} is no line end", r'use "\n" or "\r\n"')


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLines(Resource):
    """One JSON object a line, in UTF-8; numbers with a fraction are read and written as exact Decimals."""
