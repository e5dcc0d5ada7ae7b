"""The command line explains itself, and starts fast."""

import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tieline.cli import COMMANDS, app

SLOW = {"sqlalchemy", "aiohttp", "psycopg", "structlog", "rich.console", "asyncio", "croniter", "starlette"}


def test_help_lists_every_command():
    """Each with its line, unbroken in a window of 80 columns."""
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    for name, command in COMMANDS.items():
        assert f"{name} " in shown
        assert command.help in shown


def test_help_imports_nothing_slow():
    """`tieline --help` is answered before anything heavy is imported."""
    program = (
        "import sys\nsys.argv = ['tieline', '--help']\nfrom tieline.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('loaded:', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.partition("loaded:")[2].split())
    assert "typer" in loaded
    assert not loaded & SLOW


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name):
    """The real command stands behind the line in the list."""
    module = importlib.import_module(f"tieline.cli.{COMMANDS[name].module}")
    assert get_command(module.app).help
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0
    assert "--help" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_is_about_that_command(name):
    """In the looks of `tieline --help`, and without what belongs to all commands."""
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"}).stdout
    assert "completion" not in shown
    assert "╭" not in shown


def test_the_commands_of_parked_have_a_line_each():
    """Unbroken in a window of 80 columns."""
    shown = CliRunner().invoke(app, ["parked", "--help"], env={"COLUMNS": "80"}).stdout
    assert "replay  Try parked messages again." in shown
    assert "..." not in shown.partition("Commands:")[2]


def test_no_command_shows_the_help():
    """`tieline` alone is wrong use, and shows what there is."""
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 2
    assert "check" in done.output


def test_an_unknown_command_is_wrong_use():
    """The nearest one is offered."""
    done = CliRunner().invoke(app, ["stats"])
    assert done.exit_code == 2
    assert "status" in done.stderr


def test_the_version_is_that_of_the_package():
    """--version prints it, and nothing else."""
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == version("tieline")
