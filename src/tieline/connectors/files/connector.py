"""The files of a folder as a connector; each call works on a thread of its own."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from tieline.connector import (
    Capabilities,
    Change,
    Checkpoint,
    Discovered,
    Page,
    Record,
    Result,
    TargetTransaction,
)
from tieline.connectors.files.batches import BatchWriter
from tieline.connectors.files.disk import found, is_unfinished, root_of, translated
from tieline.connectors.files.drop import Drop
from tieline.connectors.files.part import UnreadableFile, name_of
from tieline.connectors.files.reading import faults_of, fields_of
from tieline.connectors.files.resources import Csv, JsonLines, Resource
from tieline.connectors.files.state import State
from tieline.connectors.files.state_writing import StateWriter
from tieline.errors import AccessRefused, ConfigurationError, Mistake, Unavailable
from tieline.settings import SystemSettings
from tieline.throttle import Throttle

T = TypeVar("T")

_KINDS: Final[Mapping[str, type[Resource]]] = {".csv": Csv, ".jsonl": JsonLines, ".ndjson": JsonLines}
_MOST_FOUND: Final = 500
_MOST_HEADERS: Final = 20


class Files:
    """Files by resource name: ``Files(orders=Csv("orders/*.csv", id="number"))``."""

    def __init__(self, **resources: Resource) -> None:
        self.resources: Mapping[str, Resource] = resources

    def open(self, system: SystemSettings, throttle: Throttle | None = None) -> "FilesConnector":
        """A connector on the folder behind the system's url.

        Raises:
            ConfigurationError: with all that is wrong with the url and the resources.
        """
        mistakes: list[Mistake] = []
        root = Path()
        try:
            root = root_of(system)
        except ConfigurationError as error:
            mistakes += error.mistakes
        for name, resource in self.resources.items():
            mistakes += resource.mistakes(f"{system.name}.{name}")
        if mistakes:
            raise ConfigurationError(*mistakes)
        return FilesConnector(root, self.resources, system.name)

    def identify(self, resource: str, record: Record) -> str:
        """The id of a record as text; raises Reject where it has none."""
        return self.resources[resource].identify(record)


class FilesConnector:
    """A folder and the files declared in it. One writer at a time per resource."""

    def __init__(self, root: Path, resources: Mapping[str, Resource], system: str) -> None:
        self._root = root
        self._resources = resources
        self._system = system
        self._writers: dict[str, StateWriter | BatchWriter] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def capabilities(self, resource: str) -> Capabilities:
        return self._resources[resource].capabilities

    async def check(self) -> None:
        await asyncio.to_thread(self._check)

    async def discover(self) -> list[Discovered]:
        return await asyncio.to_thread(self._discover)

    async def read(
        self, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        declared = self._resources[resource]
        if not declared.capabilities.reads:
            raise self._mistake(resource, "its files are written, not read", 'say mode="state" or mode="drop"')
        reader = Drop(self._root, declared) if declared.mode == "drop" else State(self._root, declared)
        async for page in _on_a_thread(reader.read(since)):
            yield page

    async def keys(self, resource: str) -> AsyncIterator[list[str]]:
        async for ids in _on_a_thread(self._state(resource).keys()):
            yield ids

    def listen(self, resource: str) -> AsyncIterator[Page]:
        raise self._mistake(resource, "files do not push", 'use a trigger such as "every 1m"')

    async def lookup(self, resource: str, ids: Sequence[str], by: str | None = None) -> list[Record | None]:
        return await asyncio.to_thread(self._state(resource).lookup, ids, by)

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        writer = self._writers.setdefault(resource, self._writer(resource))
        async with self._turns.setdefault(resource, asyncio.Lock()):
            return await asyncio.to_thread(writer.write, changes)

    async def call(self, resource: str, action: str, target_ids: Sequence[str]) -> list[Result]:
        raise self._mistake(resource, f"has no action {action!r}", "leave out then= in the sink")

    def transaction(self) -> AbstractAsyncContextManager[TargetTransaction]:
        raise NotImplementedError("files have no transactions; see Capabilities.transactional")

    async def close(self) -> None:
        return

    def _state(self, resource: str) -> State:
        declared = self._resources[resource]
        if declared.mode != "state":
            raise self._mistake(resource, f"mode {declared.mode!r} answers no look-up", 'say mode="state"')
        return State(self._root, declared)

    def _writer(self, resource: str) -> StateWriter | BatchWriter:
        declared = self._resources[resource]
        if declared.mode == "batches":
            return BatchWriter(self._root, declared)
        if not declared.capabilities.writes:
            remedy = 'name one file, or say mode="batches"'
            raise self._mistake(resource, f"{declared.path!r} cannot be written", remedy)
        # A link stays where it is; the file behind it is the one that is replaced.
        return StateWriter(Path(os.path.realpath(self._root / declared.path)), declared)

    def _mistake(self, resource: str, what: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(Mistake(f"{self._system}.{resource}", what, remedy))

    def _check(self) -> None:
        folders = {self._root: os.R_OK | os.X_OK}
        for resource in self._resources.values():
            writes = resource.mode == "drop" or resource.capabilities.writes
            folders[self._root / resource.folder] = os.R_OK | os.X_OK | (os.W_OK if writes else 0)
        for folder, rights in folders.items():
            if not folder.is_dir():
                raise Unavailable(f"there is no folder {folder}; make it, or mount it")
            if not os.access(folder, rights):
                right = "write to" if rights & os.W_OK else "read"
                raise AccessRefused(f"Tieline's user may not {right} {folder}; give it the right to")
        if mistakes := [mistake for name in self._resources for mistake in self._in_headers(name)]:
            raise ConfigurationError(*mistakes)

    def _in_headers(self, name: str) -> Iterator[Mistake]:
        """What is wrong with the headers of files that are there; one that cannot be opened is no mistake."""
        resource = self._resources[name]
        if not isinstance(resource, Csv) or not resource.header or resource.mode == "batches":
            return
        with suppress(OSError):
            files = Drop(self._root, resource).settled() if resource.mode == "drop" else self._files_of(resource)
            for path in files[:_MOST_HEADERS]:
                for fault in faults_of(path, resource, name_of(path)):
                    yield Mistake(f"{self._system}.{name}", f"{fault.place}: {fault.what}", fault.remedy)

    def _discover(self) -> list[Discovered]:
        try:
            known = {path: name for name, resource in self._resources.items() for path in self._files_of(resource)}
            listed = [path for folder in (self._root, *_folders(self._root)) for path in sorted(folder.iterdir())]
        except OSError as error:
            raise translated(error, "the folder") from error
        seen: dict[str, Discovered] = {}
        for path in listed[:_MOST_FOUND]:
            name = known.get(path, str(path.relative_to(self._root)))
            resource = self._resources[name] if path in known else _undeclared(path)
            if resource is None or name in seen or is_unfinished(path.name) or not path.is_file():
                continue
            try:
                fields = fields_of(path, resource, name_of(path))
            except (UnreadableFile, OSError):
                fields = []  # it is there all the same
            seen[name] = Discovered(name, resource.keys, dict.fromkeys(fields, "text"), "folder")
        return list(seen.values())

    def _files_of(self, resource: Resource) -> list[Path]:
        return found(self._root, resource) if (self._root / resource.folder).is_dir() else []


def _undeclared(path: Path) -> Resource | None:
    kind = _KINDS.get(path.suffix.lower())
    return None if kind is None else kind(path.name)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


async def _on_a_thread(values: Iterator[T]) -> AsyncIterator[T]:
    """The values of a blocking iterator, one at a time, without blocking the loop."""
    end: Any = object()
    step: Callable[[], T] = lambda: next(values, end)  # noqa: E731 -- a def would need its own name for a type
    try:
        while True:
            running = asyncio.create_task(asyncio.to_thread(step))
            try:
                value = await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])  # the thread is in the file still; it takes milliseconds
                raise
            if value is end:
                return
            yield value
    finally:
        if hasattr(values, "close"):
            values.close()
