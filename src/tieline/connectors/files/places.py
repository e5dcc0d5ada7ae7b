"""Where each id of a file was first met: the second row of an id is told where the first one is."""

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

IN_MEMORY: Final = 20_000


class FirstPlaces:
    """Ids and the place, a number, at which each was met first.

    Some 20,000 ids are kept in memory; more go into a temporary file, so a file of any length costs
    the same memory. As long as no id is met twice, only the ids are looked at: nearly always.
    Not for use by two threads at once.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._ids: set[str] = set()
        self._met: list[tuple[Sequence[str], Sequence[int]]] = []
        self._on_disk: sqlite3.Connection | None = None

    def meet(self, ids: Sequence[str], places: Sequence[int]) -> dict[int, int]:
        """Take note of ids; gives the index of each that was met before, and its first place."""
        known = len(self._ids)
        self._ids.update(ids)
        if len(self._ids) - known == len(ids) and not self._known_on_disk(ids):
            self._note(ids, places)
            return {}
        fresh = set(ids)
        first = self._known_on_disk(ids)
        for earlier, where in self._met:
            if not fresh.isdisjoint(earlier):
                first.update((one, at) for one, at in zip(earlier, where, strict=True) if one in fresh)
        again: dict[int, int] = {}
        new: dict[str, int] = {}
        for index, (one, place) in enumerate(zip(ids, places, strict=True)):
            if one in first:
                again[index] = first[one]
            else:
                first[one] = new[one] = place
        self._note(list(new), list(new.values()))
        return again

    def close(self) -> None:
        """Drop the temporary file."""
        if self._on_disk is not None:
            self._on_disk.close()

    def _note(self, ids: Sequence[str], places: Sequence[int]) -> None:
        self._met.append((ids, places))
        if len(self._ids) < self._in_memory:
            return
        if self._on_disk is None:
            # An empty name is a file of its own, which vanishes with the connection.
            self._on_disk = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._on_disk.execute("PRAGMA journal_mode = OFF")
            self._on_disk.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID")
        rows = sorted(pair for met in self._met for pair in zip(*met, strict=True))
        self._on_disk.execute("BEGIN")
        self._on_disk.executemany("INSERT INTO ids VALUES (?, ?)", rows)
        self._on_disk.execute("COMMIT")
        self._ids.clear()
        self._met.clear()

    def _known_on_disk(self, ids: Sequence[str]) -> dict[str, int]:
        if self._on_disk is None:
            return {}
        asked = [msgspec.json.encode(ids).decode()]
        query = "SELECT id, place FROM ids WHERE id IN (SELECT value FROM json_each(?))"
        return dict(self._on_disk.execute(query, asked))


def numbered(file: int, line: int) -> int:
    """A line of the nth file of a run as one number."""
    return file << 40 | line


def place_of(number: int, files: Sequence[str]) -> str:
    """The place behind `numbered`, such as ``orders.csv:17``."""
    return f"{files[number >> 40]}:{number & ((1 << 40) - 1)}"
