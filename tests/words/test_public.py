"""The public surface is what `tieline` lists, and nothing else."""

import inspect
import subprocess
import sys
import types

import pytest

import tieline
import tieline.testing
from tieline.testing.bus import BusSuite
from tieline.testing.connector import ConnectorSuite
from tieline.testing.ledger import LedgerSuite


def test_the_surface_is_sorted_and_whole():
    """`__all__` lists every public name, in order, once."""
    visible = {
        name
        for name, value in vars(tieline).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert tieline.__all__ == sorted(visible)


def test_every_public_name_is_explained():
    """By its docstring, in a sentence."""
    for name in tieline.__all__:
        value = getattr(tieline, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").split("\n")[0].strip(), name


def test_public_names_come_from_words():
    """Importing Tieline imports no connector, bus, ledger, runner or face."""
    homes = {getattr(tieline, name).__module__ for name in tieline.__all__ if inspect.isclass(getattr(tieline, name))}
    words = {"adapter", "entity", "errors", "flow", "money", "process", "system"}
    assert homes <= {f"tieline.{word}" for word in words}


@pytest.mark.parametrize("suite", [BusSuite, ConnectorSuite, LedgerSuite])
def test_a_suite_has_its_plain_name_in_testing(suite):
    """As the ports' pages name it, and nothing else is there by chance."""
    assert getattr(tieline.testing, suite.__name__) is suite
    assert suite.__name__ in tieline.testing.__all__
    with pytest.raises(AttributeError, match="has no attribute 'Suite'"):
        tieline.testing.Suite


def test_trials_need_no_pytest():
    """Who only plays flows through imports none of the suites."""
    code = "import sys, tieline.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
