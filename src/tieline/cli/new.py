"""``tieline new``: a project to start from."""

import re
import shlex
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final

import typer

from tieline.cli.options import command_app

app = command_app()

_TEMPLATE: Final = files("tieline.cli") / "scaffold"
_ENDING: Final = ".txt"  # so that no tool takes a file of the template for a part of Tieline
_DATABASE: Final = ("office.sql", "office.db")


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty, or not there yet.")],
) -> None:
    """Start a project that runs at once: two systems, two flows, sample data and a test."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise typer.BadParameter(f"{folder} is not empty; nothing was changed")
    name = re.sub(r"[^A-Za-z0-9]+", "-", folder.resolve().name).strip("-").lower() or "project"
    try:
        for path, text in _files(_TEMPLATE):
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("{{name}}", name), encoding="utf-8")
        _make_database(folder)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or folder}: {error.strerror}") from error
    typer.echo(f"{folder} is ready. Try:\n  cd {shlex.quote(str(folder))}\n  tieline check\n  tieline run --once")


def _files(folder: Traversable, path: str = "") -> Iterator[tuple[str, str]]:
    """Each file of the template: its path in a project, and its text."""
    for entry in folder.iterdir():
        name = entry.name.removeprefix("dot").removesuffix(_ENDING)
        if entry.is_dir():
            yield from _files(entry, f"{path}{name}/")
        elif entry.name.endswith(_ENDING):
            yield path + name, entry.read_text(encoding="utf-8")


def _make_database(folder: Path) -> None:
    script, database = _DATABASE
    connection = sqlite3.connect(folder / database)
    try:
        connection.executescript((folder / script).read_text(encoding="utf-8"))
    finally:
        connection.close()
