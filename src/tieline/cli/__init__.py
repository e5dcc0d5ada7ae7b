"""The command line: ``tieline``. Each command stands in a file of its own, and is imported when it is called.

Exit codes: 0 good, 1 failed, 2 wrong use, 3 finished but something waits for a person.
"""

import importlib
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from tieline.errors import ConfigurationError, TielineError

__all__ = ["app", "main"]


class _Command(NamedTuple):
    module: str
    help: str


COMMANDS: Final = {
    "new": _Command("new", "Start a project that runs at once, with sample data."),
    "check": _Command("check", "Find every mistake, and try every connection."),
    "run": _Command("run", "Run the flows, until stopped or once."),
    "backfill": _Command("backfill", "Send current values to a flow's targets on purpose."),
    "status": _Command("status", "Show what came in, what became of it, what waits."),
    "trace": _Command("trace", "Show where one key is: every system, version, time."),
    "move": _Command("move", "Move a flow between direct and a bus, while it runs."),
    "recover": _Command("recover", "Go on from an older ledger, put back from a back-up."),
    "parked": _Command("parked", "Look at messages that wait, and decide about them."),
    "demo": _Command("demo", "Run a small company on this machine."),
}


class Commands(TyperGroup):
    """The commands by name; errors raised on purpose are shown without a traceback."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in the place of its line in the help."""
        if args and args[0] in COMMANDS:
            module = importlib.import_module(f"tieline.cli.{COMMANDS[args[0]].module}")
            self.commands[args[0]] = get_command(module.app)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a failure is told on stderr and is exit code 1."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            for mistake in error.mistakes:
                typer.secho(str(mistake), err=True, fg=typer.colors.RED)
            raise typer.Exit(1) from error
        except TielineError as error:
            typer.secho(f"{type(error).__name__}: {error}", err=True, fg=typer.colors.RED)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Connects a company's business systems, and keeps the company in control of it.",
    epilog="Exit codes: 0 good, 1 failed, 2 wrong use, 3 finished but something waits for a person.",
)


def _stands_in() -> None:
    """What `Commands.resolve_command` replaces before it is called."""


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.help)(_stands_in)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.import_module("importlib.metadata").version("tieline"))
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """What every command shares stands in `tieline.cli.options`."""


def main() -> None:
    """The entry point of ``tieline``."""
    app()
