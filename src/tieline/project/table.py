"""A table of the project file that knows its place, and which of its keys were asked for.

Reading a section is asking its table for each key that may stand there; what nobody asked for is
unknown. So the code that reads a section is the only description of it.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from tieline.errors import ConfigurationError
from tieline.project import times
from tieline.project.findings import Findings, Place, meant
from tieline.project.lines import Path as KeyPath
from tieline.settings import Secret, resolve_secret

T = TypeVar("T")

_REFERENCE: Final = re.compile(r"\$\{[^}]*\}?")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_KINDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    dict: "a table",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "text",
}


class Table:
    """A table at `path`; every read notes a mistake where the value does not fit, and gives the default."""

    def __init__(
        self, file: str, values: Mapping[str, Any], path: KeyPath, lines: Mapping[KeyPath, int], findings: Findings
    ) -> None:
        self.file = file
        self.path = path
        self.findings = findings
        self._values = values
        self._lines = lines
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def place(self, *key: str | int) -> Place:
        """Where this key stands, or the nearest thing above it."""
        path = (*self.path, *key)
        while path not in self._lines and path:
            path = path[:-1]
        return Place(self.file, self._lines.get(path, 1))

    def mistake(self, key: str, what: str, remedy: str) -> None:
        """Note a mistake in the value of `key`."""
        self.findings.mistake(self.place(key), what, remedy)

    def text(self, key: str, default: str = "") -> str:
        """Text, as it stands."""
        value = self._get(key, str)
        return default if value is None else value

    def required(self, key: str, example: str) -> str:
        """Text that must be there and not be empty."""
        value = self._get(key, str)
        if value == "" or (value is None and key not in self._values):
            self.mistake(key, f"{self._called(key)} is missing", f"write {example}")
        return value or ""

    def number(self, key: str, default: float, *, least: float = 0, most: float = math.inf) -> float:
        """A number from `least` to `most`."""
        value = self._get(key, int, float)
        if value is None:
            return default
        if not (least <= value <= most) or value in (math.inf, -math.inf):
            bounds = f"{least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
            self.mistake(key, f"{self._called(key)} is {value}", f"write a number, {bounds}")
            return default
        try:
            return float(value)
        except OverflowError:
            self.mistake(key, f"{self._called(key)} is beyond all numbers", "write a smaller one")
            return default

    def whole(self, key: str, default: int, *, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self._get(key, int)
        if value is None:
            return default
        if not least <= value <= most:
            self.mistake(key, f"{self._called(key)} is out of range", f"write a whole number, {least} to {most}")
            return default
        return int(value)

    def seconds(self, key: str, default: float, *, never: bool = False) -> float:
        """A duration such as "5m", in seconds; "never", where it may be, is 0."""
        value = self._get(key, str, wanted=times.HOW_LONG)
        if value is None or (never and value == "never"):
            return default if value is None else 0.0
        return self._parsed(key, value, times.seconds, times.HOW_LONG, default)

    def parsed(self, key: str, parse: Callable[[str], T], remedy: str) -> list[T]:
        """A text or a list of texts, each through `parse`, which raises ValueError."""
        found = (self._parsed(key, text, parse, remedy, None) for text in self.texts(key))
        return [value for value in found if value is not None]

    def texts(self, key: str) -> list[str]:
        """Text, or a list of texts."""
        value = self._get(key, str, list)
        if isinstance(value, str):
            return [value]
        texts = [item for item in value or () if isinstance(item, str)]
        if len(texts) != len(value or ()):
            self.mistake(key, f"{self._called(key)} holds more than text", 'write a list such as ["a", "b"]')
        return texts

    def table(self, key: str) -> "Table":
        """The table under `key`; empty where there is none."""
        return self._inner(key, self._get(key, dict) or {})

    def tables(self, key: str) -> Iterator[tuple[str, "Table"]]:
        """The tables under `key`, by the names somebody gave them; a name is one word."""
        outer = self.table(key)
        for name, value in outer._values.items():
            if not isinstance(value, dict):
                called = outer._called(name)
                outer.mistake(name, f"{called} is {_kind(value)}", f"write a table: [{called}]")
            elif _NAME.fullmatch(name) is None:
                outer.mistake(name, f"{name!r} is no name", "use letters, digits, _ and -, and begin with a letter")
            else:
                yield name, outer._inner(name, value)

    def is_table(self, key: str) -> bool:
        """Whether a table stands there."""
        return isinstance(self._values.get(key), dict)

    def words(self) -> list[str]:
        """The keys of this table, whatever they are."""
        self._asked.update(self._values)
        return list(self._values)

    def resolved(self, key: str, folder: Path) -> str:
        """Text with its ``${env:…}`` and ``${file:…}`` replaced by what stands behind them."""
        return str(self._resolve(self.text(key), self.place(key), folder))

    def free(self, key: str, folder: Path) -> dict[str, Any]:
        """A table that only a connector knows, references in its texts replaced."""

        def replaced(value: Any, path: KeyPath) -> Any:
            match value:
                case str():
                    return self._resolve(value, self.place(*path), folder)
                case dict():
                    return {name: replaced(inner, (*path, name)) for name, inner in value.items()}
                case list():
                    return [replaced(inner, (*path, index)) for index, inner in enumerate(value)]
                case _:
                    return value

        found: dict[str, Any] = replaced(self._get(key, dict) or {}, (key,))
        return found

    def secrets(self, key: str, plain: Callable[[str], bool], folder: Path) -> dict[str, Any]:
        """A table of secrets by reference; only a key that is `plain` may hold its text as it is."""
        table = self.table(key)
        found: dict[str, Any] = {}
        for name in table.words():
            value = table._values[name]
            if isinstance(value, dict):
                found[name] = table.secrets(name, plain, folder)
            elif isinstance(value, bool):
                found[name] = value
            elif not isinstance(value, str):
                table.mistake(name, f"{table._called(name)} is {_kind(value)}", "write text, or a ${env:NAME}")
            elif value.startswith("${") or not plain(name):
                found[name] = table._secret(value, table.place(name), folder)
            else:
                found[name] = table._resolve(value, table.place(name), folder)
        return found

    def close(self) -> None:
        """Note every key that nobody asked for."""
        for key in self._values:
            if key not in self._asked:
                inside = f"in [{'.'.join(map(str, self.path))}]" if self.path else "at the top of the file"
                self.mistake(key, f"unknown key {key!r} {inside}", meant(key, self._asked))

    def _get(self, key: str, *kinds: type, wanted: str = "") -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is None or type(value) in kinds:
            return value
        remedy = wanted or f"write {' or '.join(_KINDS[kind] for kind in kinds)}"
        self.mistake(key, f"{self._called(key)} is {_kind(value)}", remedy)
        return None

    def _parsed(self, key: str, text: str, parse: Callable[[str], T], remedy: str, default: T) -> T:
        try:
            return parse(text)
        except ValueError as error:
            self.mistake(key, f"{self._called(key)}: {error}", remedy)
            return default

    def _resolve(self, text: str, place: Place, folder: Path) -> str:
        def behind(match: re.Match[str]) -> str:
            secret = self._secret(match[0], place, folder)
            return secret.reveal() if secret else ""

        return _REFERENCE.sub(behind, text)

    def _secret(self, reference: str, place: Place, folder: Path) -> Secret | None:
        try:
            return resolve_secret(reference, str(place), folder)
        except ConfigurationError as error:
            self.findings.take_over(place, error)
        except ValueError:  # a file that is no text, a name that no file can have
            self.findings.mistake(place, "this secret cannot be read as text", "write ${env:NAME} or ${file:path}")
        return None

    def _inner(self, key: str, values: Mapping[str, Any]) -> "Table":
        return Table(self.file, values, (*self.path, key), self._lines, self.findings)

    def _called(self, key: str) -> str:
        return ".".join(str(part) for part in (*self.path, key))


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a date or time")
