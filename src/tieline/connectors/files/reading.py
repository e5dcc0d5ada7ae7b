"""One file of either kind, in parts."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tieline.connectors.files.csv_rows import columns_of, header_faults, read_csv
from tieline.connectors.files.disk import open_regular
from tieline.connectors.files.json_rows import read_json_lines
from tieline.connectors.files.part import Part, UnreadableFile
from tieline.connectors.files.places import FirstPlaces
from tieline.connectors.files.resources import Csv, JsonLines, Resource
from tieline.errors import Unavailable


def parts_of(
    path: Path, resource: Resource, files: Sequence[str], places: FirstPlaces, *, follow: bool = True
) -> Iterator[Part]:
    """The rows of a file in parts; `files` are the names of the run's files so far, with this one's at the end.

    Raises:
        UnreadableFile: where it cannot be read as a whole.
        Unavailable: where it was changed while it was read.
        OSError: where it cannot be opened.
    """
    with open_regular(path, follow=follow) as file:
        before = os.fstat(file.fileno())
        match resource:
            case Csv():
                yield from read_csv(file, resource, files, places)
            case JsonLines():
                yield from read_json_lines(file, resource, files, places)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Unavailable(f"{files[-1]} was changed while it was read; write it elsewhere and move it there")


def fields_of(path: Path, resource: Resource, name: str) -> list[str]:
    """The names of a file's fields, as its header or its first object gives them."""
    with open_regular(path) as file:
        if isinstance(resource, Csv):
            return columns_of(file, resource, name)
        part = next(read_json_lines(file, JsonLines(resource.path), [name], FirstPlaces()), Part())
        return list(part.records[0]) if part.records else []


def faults_of(path: Path, resource: Csv, name: str) -> list[UnreadableFile]:
    """What is wrong with a file's header."""
    with open_regular(path) as file:
        return header_faults(file, resource, name)
