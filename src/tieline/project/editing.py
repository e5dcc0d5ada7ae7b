"""Changing single words of a project file, with its comments and order as they were."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import tomlkit
from tomlkit import TOMLDocument

from tieline.errors import ConfigurationError, Mistake


def write_way(file: Path, flow: str, via: str, partitions: int | None) -> None:
    """Write a flow's `via` and, where it is given, its `partitions`.

    Raises:
        ConfigurationError: where the file cannot be written; it is as it was then.
    """

    def change(document: TOMLDocument) -> None:
        table = document["flows"][flow]
        table["via"] = via
        if partitions is not None:
            table["partitions"] = partitions

    _change(file, change)


def write_bus(file: Path, name: str, url: str) -> None:
    """Add `[buses.NAME]` with an address.

    Raises:
        ConfigurationError: where the file cannot be written; it is as it was then.
    """

    def change(document: TOMLDocument) -> None:
        section = tomlkit.table()
        section["url"] = url
        document.setdefault("buses", tomlkit.table(is_super_table=True))[name] = section

    _change(file, change)


def _change(file: Path, change: Callable[[TOMLDocument], None]) -> None:
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            document = tomlkit.parse(stream.read())
        change(document)
        _replace(file, tomlkit.dumps(document))
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise ConfigurationError(
            Mistake(str(file), what, "let this user write it, or make the change by hand")
        ) from error


def _replace(file: Path, text: str) -> None:
    """Put a new file in the place of the old one, in one step."""
    real = file.resolve()
    number, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    try:
        with os.fdopen(number, "w", newline="", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(number)
        os.chmod(name, real.stat().st_mode & 0o7777)
        os.replace(name, real)
    except BaseException:
        os.unlink(name)
        raise
