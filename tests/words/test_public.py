"""The public surface is what `tieline` lists, and nothing else."""

import inspect
import types

import tieline


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
