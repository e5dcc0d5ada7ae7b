"""What is wrong with a project, collected: every mistake, in the order of the files and lines."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

from tieline.errors import ConfigurationError, Mistake

PROJECT_FILE = "tieline.toml"


class Place(NamedTuple):
    """A file, relative to the project, and a line in it; line 0 means the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Findings:
    """Mistakes, which stop a project, and warnings, which do not."""

    def __init__(self) -> None:
        self._mistakes: dict[Mistake, Place] = {}
        self._warnings: dict[Mistake, Place] = {}

    def mistake(self, place: Place, what: str, remedy: str) -> None:
        """Note a mistake; one that is noted already is not repeated."""
        self._mistakes.setdefault(Mistake(str(place), what, remedy), place)

    def warning(self, place: Place, what: str, remedy: str) -> None:
        """Note what is allowed and seldom meant."""
        self._warnings.setdefault(Mistake(str(place), what, remedy), place)

    def take_over(self, place: Place, error: ConfigurationError) -> None:
        """Note the mistakes of an error that was raised while something at `place` was read."""
        for found in error.mistakes:
            self.mistake(place, found.what, found.remedy)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """The mistakes, in order of file and line, the project file first."""
        return tuple(sorted(self._mistakes, key=lambda found: _order(self._mistakes[found])))

    @property
    def warnings(self) -> tuple[Mistake, ...]:
        """The warnings, in the same order."""
        return tuple(sorted(self._warnings, key=lambda found: _order(self._warnings[found])))


def _order(place: Place) -> tuple[bool, str, int]:
    return place.file.endswith(".py"), place.file, place.line


def meant(word: str, known: Iterable[str]) -> str:
    """A remedy for an unknown word: the nearest known one, or all of them."""
    words = sorted(str(one) for one in known)
    near = get_close_matches(word, words, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"use one of: {', '.join(words)}" if words else "there is none to choose from"
