"""A folder that systems exchange files through, for tests."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tieline.connector import BadRecord, Change, Checkpoint, Page, Record
from tieline.connectors.files import Csv, Files, FilesConnector, JsonLines
from tieline.settings import SystemSettings

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def opened(folder: Path, **resources: Csv | JsonLines) -> FilesConnector:
    return Files(**resources).open(SystemSettings(name="exchange", url=f"file://{folder}"))


def put(path: Path, content: str | bytes, age: float = 60) -> Path:
    """Write a file that was last changed some seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    moment = time.time() - age
    os.utime(path, (moment, moment))
    return path


def pages(connector: FilesConnector, resource: str = "orders", since: Checkpoint = None) -> list[Page]:
    async def collect(read: AsyncIterator[Page]) -> list[Page]:
        return [page async for page in read]

    return run(collect(connector.read(resource, since)))


def records(found: Sequence[Page]) -> dict[str, Record]:
    """All good rows by id; an id that is met twice fails the test."""
    rows = [(one, record) for page in found for one, record in zip(page.ids, page.records, strict=True)]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def bad(found: Sequence[Page]) -> list[BadRecord]:
    return [one for page in found for one in page.bad]


def last(found: Sequence[Page]) -> Checkpoint:
    """The checkpoint that a finished run leaves."""
    return next((page.checkpoint for page in reversed(found) if page.checkpoint is not None), None)


def change(key: str, record: Record | None, target_id: str | None = None) -> Change:
    return Change(key, key.encode().ljust(16, b"0")[:16], record, target_id)


def names(folder: Path) -> list[str]:
    """The files below a folder, those that are nobody's business left out."""
    if not folder.is_dir():
        return []
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock")
    )
