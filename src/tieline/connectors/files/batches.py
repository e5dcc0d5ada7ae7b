"""Writing batch by batch: each write makes one new file, which is there whole or not at all."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tieline.connector import Change, Record, Result
from tieline.connectors.files.disk import forget_unfinished, replacing, sync_folder, translated
from tieline.connectors.files.part import name_of
from tieline.connectors.files.resources import Csv, Resource
from tieline.connectors.files.writing import format_of, settled
from tieline.errors import InDoubt, Reject


class BatchWriter:
    """Writes one resource; the files' names sort in the order in which they were written."""

    def __init__(self, root: Path, resource: Resource) -> None:
        self._folder = root / resource.folder
        self._resource = resource
        self._format = format_of(resource)
        self._last = 0
        self._tidied = False

    def write(self, changes: Sequence[Change]) -> list[Result]:
        """One result per change; those that can be written stand in one file, in order."""
        prepared = [self._prepared(change) for change in changes]
        rows = [row for row in prepared if not isinstance(row, Reject)]
        results = [
            Result(change.target_id, error=row) if isinstance(row, Reject) else Result(self._id(change))
            for change, row in zip(changes, prepared, strict=True)
        ]
        if not rows:
            return results
        path = self._folder / self._name(changes[0].message_id)
        try:
            self._make(path, rows)
        except OSError as error:
            # It has its name only once it is whole; if it has, only the power could still take it away.
            failure = InDoubt(f"{name_of(path)}: {error}") if path.exists() else translated(error, name_of(path))
            return [
                result if result.error else Result(change.target_id, error=failure)
                for change, result in zip(changes, results, strict=True)
            ]
        return results

    def _make(self, path: Path, rows: Sequence[Record]) -> None:
        if not self._tidied:
            forget_unfinished(self._folder, self._resource.pattern)
            self._tidied = True
        with replacing(path) as file:
            writer = self._format.rows(file, self._columns(rows))
            writer.add(rows)
            writer.end()
        if self._resource.ready:
            path.with_name(path.name + self._resource.ready).touch()
            sync_folder(self._folder)

    def _columns(self, rows: Sequence[Record]) -> Sequence[str]:
        columns = self._resource.columns if isinstance(self._resource, Csv) else ()
        operation = [self._resource.operation] if self._resource.operation else []
        met = dict.fromkeys(name for row in rows for name in row)
        return list(dict.fromkeys([*operation, *(columns or met)]))

    def _prepared(self, change: Change) -> Record | Reject:
        resource = self._resource
        operation: dict[str, Any] = {}
        if resource.operation:
            operation = {resource.operation: "delete" if change.record is None else "change"}
        record = change.record
        if record is None:
            if not operation:
                return Reject('a delete has no row of its own; say operation="…" in the adapter, or ignore deletes')
            if len(resource.keys) != 1:
                return Reject("a delete needs one field for the id; say id= in the adapter")
            record = {resource.keys[0]: change.target_id or change.key}
        try:
            if isinstance(resource, Csv):
                settled(resource, resource.columns, record)
            return operation | self._format.prepare(record)
        except Reject as error:
            return error

    def _id(self, change: Change) -> str:
        if change.record is not None and self._resource.keys:
            try:
                return self._resource.identify(change.record)
            except Reject:
                pass
        return change.target_id or change.key

    def _name(self, message_id: bytes) -> str:
        """A name that sorts after the last one, whatever the clock does; nothing in it comes from a record."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        moment = datetime.fromtimestamp(self._last / 1e6, UTC)
        middle = f"{moment:%Y%m%dT%H%M%S}{self._last % 1_000_000:06d}Z-{message_id.hex()[:16]}-{os.getpid()}"
        return self._resource.pattern.replace("*", middle)
