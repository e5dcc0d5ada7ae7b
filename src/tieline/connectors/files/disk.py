"""Files on disk: found and opened with care, replaced at once or not at all."""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote

from tieline.connectors.files.resources import Resource
from tieline.errors import AccessRefused, ConfigurationError, Mistake, TielineError, Unavailable
from tieline.settings import SystemSettings

_UNFINISHED: Final = (
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".swp",
    ".lock",
    ".error",
    "~",
)

_ABANDONED: Final = 3600.0  # seconds


def root_of(system: SystemSettings) -> Path:
    """The folder behind a url such as ``file:///srv/exchange`` or ``file:exchange`` (within the project).

    Raises:
        ConfigurationError: for another kind of address, or one on another machine.
    """
    where = f"systems.{system.name}"
    remedy = 'write url = "file:///folder", or "file:folder" for one in the project'
    scheme, colon, rest = system.url.partition(":")
    if not colon:
        rest = system.url
    elif scheme.lower() != "file":
        raise ConfigurationError(Mistake(where, f"{scheme}: is no folder", remedy))
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in {"", "localhost", "."}:
            raise ConfigurationError(Mistake(where, f"the folder lies on another machine ({host})", remedy))
        rest = path if host == "." else slash + path
    if not rest:
        raise ConfigurationError(Mistake(where, "has no folder", remedy))
    return (system.folder / unquote(rest)).absolute()


def found(root: Path, resource: Resource) -> list[Path]:
    """The resource's files, in order of name; hidden and unfinished ones are none of them."""
    folder = root / resource.folder
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if fnmatchcase(entry.name, resource.pattern)]
    return [folder / name for name in sorted(names) if resource.single or not is_unfinished(name)]


def is_unfinished(name: str) -> bool:
    """Whether a name says that its file is hidden, or still being written."""
    return name.startswith((".", "~", "#")) or name.lower().endswith(_UNFINISHED)


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file; never a pipe, which would wait, nor a device, nor (without `follow`) a link.

    Raises:
        OSError: where it cannot be opened, or is something else.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is no regular file")
    return BufferedReader(os.fdopen(descriptor, "rb", buffering=0))


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when all of it is on disk; on an error it vanishes.

    Only a file of the same owner's program may stand there: its permissions are kept.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def forget_unfinished(folder: Path, pattern: str) -> None:
    """Take away what writers left half done when they were killed, an hour ago and more."""
    for path in folder.glob(f".{pattern}.part"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes that write `path` through here."""
    with path.with_name(f".{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel lets go of it with the process
        yield


def free_name(folder: Path, name: str) -> Path:
    """A path in `folder` with this name, or with a number where it is taken."""
    path, number = folder / name, 1
    stem, dot, ending = name.partition(".")
    while path.exists() or path.is_symlink():
        number += 1
        path = folder / f"{stem}-{number}{dot}{ending}"
    return path


def translated(error: OSError, what: str) -> TielineError:
    """An operating system's error by what happens next."""
    reason = f"{what}: {error.strerror or error}"
    if isinstance(error, PermissionError):
        return AccessRefused(f"{reason}; give Tieline's user the right to it")
    return Unavailable(reason)
