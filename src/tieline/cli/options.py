"""Options that commands share, and the project they point at."""

from pathlib import Path
from typing import Annotated, Final

import typer

from tieline.project import PROJECT_FILE, Project, find, read

FAILED: Final = 1
WAITS: Final = 3

ProjectOption = Annotated[
    Path | None,
    typer.Option("--project", "-p", help="The project's folder or file. Left out: here, or the nearest one above."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Log more, to stderr.")]


def command_app(about: str | None = None) -> typer.Typer:
    """The application of one command, or of several with `about` as their help, in the looks of `tieline --help`."""
    return typer.Typer(help=about, no_args_is_help=about is not None, rich_markup_mode=None, add_completion=False)


def project_at(path: Path | None) -> Project:
    """The project that `--project` names, or the nearest one at or above this folder.

    Raises:
        typer.BadParameter: where there is none.
        ConfigurationError: with all its mistakes.
    """
    return read(project_path(path))


def project_path(path: Path | None) -> Path:
    """Where the project is, read or not.

    Raises:
        typer.BadParameter: where there is none.
    """
    if path is not None:
        if not path.is_file() and not (path / PROJECT_FILE).is_file():
            raise typer.BadParameter(f"there is no {PROJECT_FILE} in {path}; `tieline new {path}` makes one")
        return path
    found = find(Path.cwd())
    if found is None:
        raise typer.BadParameter(f"no {PROJECT_FILE} here or above; use --project, or `tieline new DIR` to make one")
    return found
