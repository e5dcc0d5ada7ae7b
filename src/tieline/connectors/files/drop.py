"""Drop folders: each file is taken over once, whatever is killed in between.

A file goes three ways, each by renaming it. It is *claimed* into a round, a folder of its own below
`work`, under a number that fixes its place in the order. It is read there; the page with its last
rows carries a checkpoint that names the round and the number. It *leaves* for `done` or `failed` when
a later `read` is handed a checkpoint at or beyond it: only then are its rows known to be safe.

So what stands in `work` is either covered by the checkpoint, and only has to leave, or is read again.
A round's name is never used twice: a checkpoint that is older, newer or lost covers nothing by chance.
"""

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from tieline.connector import BadRecord, Checkpoint, Page
from tieline.connectors.files.disk import found, free_name, sync_folder, translated
from tieline.connectors.files.part import Part, UnreadableFile, name_of
from tieline.connectors.files.places import FirstPlaces
from tieline.connectors.files.reading import parts_of
from tieline.connectors.files.resources import Resource
from tieline.errors import Reject

_ERROR: Final = ".error"
_LONGEST_NAME: Final = 200
_LISTED: Final = 100  # bad rows named beside a failed file


class Taken(msgspec.Struct, frozen=True):
    """The checkpoint: rounds of which every file is taken over, and the last file of the round after them."""

    round: str
    file: int
    before: list[str] = []


class Drop:
    """Reads one resource of dropped files."""

    def __init__(self, root: Path, resource: Resource) -> None:
        self._root = root
        self._resource = resource
        self._folder = root / resource.folder
        self._work = self._folder / "work"

    def read(self, since: Checkpoint) -> Iterator[Page]:
        """Let what is safe leave; then the rows of what is there, in order.

        Raises:
            Unavailable, AccessRefused: where the folder cannot be used; everything stays as it is.
        """
        try:
            self._tidy_markers()
            if since is not None:
                self._leave(msgspec.convert(since, Taken))
            rounds = [*self._rounds(), *self._claim()]
        except OSError as error:
            raise translated(error, f"the drop folder {self._resource.folder}") from error
        for index, folder in enumerate(rounds):
            before = [one.name for one in rounds[:index]]
            for path in _files(folder):
                checkpoint = msgspec.to_builtins(Taken(folder.name, _number(path), before))
                yield from self._pages(path, checkpoint)

    # Into work, and out of it

    def settled(self) -> list[Path]:
        """The files that nobody writes any more, in order of name."""
        return [path for path in found(self._root, self._resource) if self._is_settled(path)]

    def _claim(self) -> list[Path]:
        """Move what has settled into a round of its own, in order."""
        files = self.settled()
        if self._resource.order == "time":
            files.sort(key=lambda path: (path.lstat().st_mtime_ns, path.name))
        if not files:
            return []
        self._work.mkdir(exist_ok=True)
        last = max((int(one.name.partition("-")[0]) for one in self._rounds()), default=0)
        folder = self._work / f"{last + 1:08d}-{secrets.token_hex(8)}"
        folder.mkdir()
        for number, path in enumerate(files, 1):
            path.rename(folder / f"{number:08d}.{_shortened(path.name)}")
            if self._resource.ready:
                with suppress(FileNotFoundError):
                    self._marker(path).unlink()
        sync_folder(folder)
        return [folder]

    def _is_settled(self, path: Path) -> bool:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode):
            return False
        if self._resource.ready:
            try:
                if self._marker(path).lstat().st_mtime_ns < state.st_mtime_ns:
                    return False  # it was for an earlier file of this name
            except FileNotFoundError:
                return False
        return not 0 <= time.time() - state.st_mtime < self._resource.settle

    def _marker(self, path: Path) -> Path:
        return path.with_name(path.name + self._resource.ready)

    def _tidy_markers(self) -> None:
        """Take away markers that a kill has left behind when their files were claimed."""
        if not self._resource.ready:
            return
        for path in (path for folder in self._rounds() for path in _files(folder)):
            claimed = self._folder / _original(path)
            if not claimed.exists():
                with suppress(FileNotFoundError):
                    self._marker(claimed).unlink()

    def _rounds(self) -> list[Path]:
        """Rounds with files, in order; empty ones are tidied away."""
        if not self._work.is_dir():
            return []
        rounds = []
        for folder in sorted(self._work.iterdir()):
            if folder.is_dir() and folder.name.partition("-")[0].isdigit():
                if any(_files(folder)):
                    rounds.append(folder)
                else:
                    with suppress(OSError):
                        for text in folder.glob(f"*{_ERROR}"):  # of a file that left as its mover was killed
                            text.unlink()
                        folder.rmdir()
        return rounds

    def _leave(self, taken: Taken) -> None:
        """Move what the checkpoint covers to `done`, or with its errors to `failed`."""
        for name in (*taken.before, taken.round):
            folder = self._work / Path(name).name
            for path in _files(folder):
                if name == taken.round and _number(path) > taken.file:
                    break
                self._move_out(path)

    def _move_out(self, path: Path) -> None:
        errors = path.with_name(path.name + _ERROR)
        failed = errors.exists()
        folder = self._folder / ("failed" if failed else "done")
        folder.mkdir(exist_ok=True)
        target = free_name(folder, _original(path))
        if failed:  # first, and as a copy: the file stays failed until it stands there with its text
            target.with_name(target.name + _ERROR).write_bytes(errors.read_bytes())
        path.rename(target)
        if failed:
            errors.unlink()

    # Reading one

    def _pages(self, path: Path, checkpoint: Checkpoint) -> Iterator[Page]:
        """A file's rows; the last page, which may be empty, carries the checkpoint."""
        report = _Report(path)
        waiting = Part()
        for part in self._parts(path):
            if waiting.ids or waiting.bad:
                yield Page(waiting.ids, waiting.records, bad=waiting.bad)
            report.add(part)
            waiting = part
        try:
            report.write()
        except OSError as error:
            raise translated(error, report.name) from error
        yield Page(waiting.ids, waiting.records, checkpoint, bad=waiting.bad)

    def _parts(self, path: Path) -> Iterator[Part]:
        name = _shown(path)
        places = FirstPlaces()
        try:
            yield from parts_of(path, self._resource, [name], places, follow=False)
        except UnreadableFile as error:
            yield Part(bad=[BadRecord(name, error.place, "", Reject(str(error)))])
        except FileNotFoundError:
            return  # somebody took it away: there is nothing to take over
        except OSError as error:
            raise translated(error, name) from error
        finally:
            places.close()


class _Report:
    """What is written beside a file of which not every row was taken over."""

    def __init__(self, path: Path) -> None:
        self.name = _shown(path)
        self._path = path.with_name(path.name + _ERROR)
        self._good = 0
        self._bad = 0
        self._listed: list[str] = []

    def add(self, part: Part) -> None:
        """Count a part, and name its first bad rows."""
        self._good += len(part.ids)
        self._bad += len(part.bad)
        self._listed += [str(bad.error) for bad in part.bad[: _LISTED - len(self._listed)]]

    def write(self) -> None:
        """Write it, where there is anything to say."""
        if not self._bad:
            with suppress(FileNotFoundError):
                self._path.unlink()
            return
        more = [f"… and {self._bad - len(self._listed)} more"] * (self._bad > len(self._listed))
        lines = [
            f"{self.name}: rows taken over: {self._good}; problems: {self._bad}.",
            "Mend them and drop the file again: rows that are as they were change nothing.",
            "",
            *self._listed,
            *more,
        ]
        self._path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _files(folder: Path) -> list[Path]:
    """A round's files in order."""
    if not folder.is_dir():
        return []
    names = [path for path in folder.iterdir() if path.name.partition(".")[0].isdigit()]
    return sorted(path for path in names if not path.name.endswith(_ERROR))


def _number(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _original(path: Path) -> str:
    return path.name.partition(".")[2]


def _shortened(name: str) -> str:
    """A name that leaves room for what is put before and behind it: most systems allow 255 bytes."""
    raw = os.fsencode(name)
    return name if len(raw) <= _LONGEST_NAME else os.fsdecode(raw[: _LONGEST_NAME - 60] + b"~" + raw[-59:])


def _shown(path: Path) -> str:
    return name_of(Path(os.fsdecode(_original(path))))
