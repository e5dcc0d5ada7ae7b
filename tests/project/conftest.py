"""A small company as a project on disk, to be spoilt in as many ways as the tests like."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tieline.errors import ConfigurationError
from tieline.project import Project, read

GOOD = Path(__file__).parent / "acme"


@dataclass
class Acme:
    """The project in `folder`."""

    folder: Path

    def write(self, path: str, text: str) -> None:
        """Put a file into the project."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def change(self, old: str, new: str, path: str = "tieline.toml") -> None:
        """Replace the one place where `old` stands."""
        text = (self.folder / path).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        self.write(path, text.replace(old, new))

    def add(self, text: str, path: str = "tieline.toml") -> None:
        """Add lines at the end."""
        self.write(path, (self.folder / path).read_text() + text)

    def read(self) -> Project:
        """The project as it stands."""
        return read(self.folder)

    def mistakes(self) -> list[str]:
        """Every mistake as its user sees it; none where the project is good."""
        try:
            self.read()
        except ConfigurationError as error:
            return [str(mistake) for mistake in error.mistakes]
        return []

    def mistake(self) -> str:
        """The only mistake."""
        found = self.mistakes()
        assert len(found) == 1, "\n".join(found) or "no mistake was found"
        return found[0]

    def line(self, text: str, path: str = "tieline.toml") -> str:
        """`file:line` of the one line that holds `text`."""
        lines = (self.folder / path).read_text().splitlines()
        found = [number for number, line in enumerate(lines, 1) if text in line]
        assert len(found) == 1, f"{text!r} stands in lines {found}"
        return f"{path}:{found[0]}"


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Acme:
    """A good project."""
    monkeypatch.setenv("SHOP_TOKEN", "s3cret")
    shutil.copytree(GOOD, tmp_path, dirs_exist_ok=True)
    return Acme(tmp_path)
