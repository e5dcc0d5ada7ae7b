"""State files: together they are the state. They are read whole, and skipped while none has changed."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tieline.connector import Checkpoint, Page, Record
from tieline.connectors.files.disk import found, translated
from tieline.connectors.files.part import Part, UnreadableFile, name_of
from tieline.connectors.files.places import FirstPlaces
from tieline.connectors.files.reading import parts_of
from tieline.connectors.files.resources import Resource
from tieline.errors import Hold, Reject, Unavailable

_RESTLESS: Final = 2_000_000_000  # nanoseconds in which a second change may leave no trace in a file's times


class BadRow(Record):
    """Stands in a look-up for a row that is there and cannot be read: whoever takes a field of it is told why."""

    def __init__(self, known: Record, error: Reject) -> None:
        super().__init__(known)
        self._error = error

    def __missing__(self, field: str) -> Any:
        raise Reject(str(self._error))

    def get(self, field: str, default: Any = None) -> Any:
        """The field's value; raises Reject for one that could not be read."""
        return self[field]


class State:
    """Reads one resource of state files."""

    def __init__(self, root: Path, resource: Resource) -> None:
        self._root = root
        self._resource = resource

    def read(self, since: Checkpoint) -> Iterator[Page]:
        """All rows, or nothing where no file has changed since the checkpoint.

        Raises:
            Unavailable, AccessRefused: where a file is missing, cannot be opened, or changes meanwhile.
            Hold: where a file cannot be read as a whole: its absence must not look like a delete.
        """
        now = _traces(self._files())
        if since is not None and since == now:
            return
        waiting: Part | None = None
        for part in self._parts():
            if waiting is not None:
                yield Page(waiting.ids, waiting.records, bad=waiting.bad)
            waiting = part
        last = waiting or Part()
        yield Page(last.ids, last.records, now, bad=last.bad)

    def keys(self) -> Iterator[list[str]]:
        """The ids of all rows, readable or not."""
        for part in self._parts():
            yield part.ids + [bad.id for bad in part.bad if bad.id != bad.place]

    def lookup(self, ids: Sequence[str], by: str | None) -> list[Record | None]:
        """The rows with these ids, or these values of a field."""
        wanted = set(ids)
        rows: dict[str, Record] = {}
        for part in self._parts():
            if by is None:
                rows.update(
                    (one, record) for one, record in zip(part.ids, part.records, strict=True) if one in wanted
                )
                rows.update((bad.id, BadRow({}, bad.error)) for bad in part.bad if bad.id in wanted - rows.keys())
            else:
                for record in part.records:
                    if (value := str(record.get(by, ""))) in wanted:
                        rows.setdefault(value, record)
        return [rows.get(one) for one in ids]

    def _files(self) -> list[Path]:
        try:
            files = found(self._root, self._resource)
        except OSError as error:
            raise translated(error, f"the folder {self._resource.folder}") from error
        if not files:
            raise Unavailable(f"there is no file {self._resource.path}; an empty state is a file without rows")
        return files

    def _parts(self) -> Iterator[Part]:
        places = FirstPlaces()
        names: list[str] = []
        try:
            for path in self._files():
                names.append(name_of(path))
                try:
                    yield from parts_of(path, self._resource, names, places)
                except UnreadableFile as error:
                    raise Hold(str(error)) from error
                except OSError as error:
                    raise translated(error, names[-1]) from error
        finally:
            places.close()


def _traces(files: Sequence[Path]) -> str | None:
    """A digest that differs when a file has changed; None while one has changed just now."""
    digest = hashlib.blake2b(digest_size=16)
    now = time.time_ns()
    for path in files:
        try:
            state = os.stat(path)
        except OSError as error:
            raise translated(error, name_of(path)) from error
        if abs(now - state.st_mtime_ns) < _RESTLESS:
            return None
        digest.update(f"{path.name}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ino}\0".encode(errors="replace"))
    return digest.hexdigest()
