"""Errors are named by what happens next, and each says what to do."""

import inspect

import pytest

from tieline import errors
from tieline.errors import (
    ConfigurationError,
    Misfit,
    MissingExtra,
    MissingReference,
    Mistake,
    Reject,
    RetryLater,
    Throttled,
    TielineError,
    Unavailable,
)
from tieline.settings import Secret


def _tree(cls: type) -> set[type]:
    return {cls}.union(*(_tree(child) for child in cls.__subclasses__() if child.__module__ == errors.__name__))


def test_the_drawing_shows_the_tree():
    """Each error stands in the module's drawing, below its parent and nowhere else."""
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        mark = max(line.find("├── "), line.find("└── "))
        if mark >= 0:
            drawn.append((mark // 4 + 1, line[mark + 4 :].split()[0]))
    parents = ["TielineError"]
    for depth, name in drawn:
        parents[depth:] = [name]
        assert getattr(errors, name).__bases__[0].__name__ == parents[depth - 1]
    assert {name for _, name in drawn} | {"TielineError"} == {cls.__name__ for cls in _tree(TielineError)}


def test_every_error_is_one_of_ours():
    """So that `except TielineError` catches what was raised on purpose, and only that."""
    raised = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, BaseException)]
    assert all(issubclass(cls, TielineError) for cls in raised)


def test_a_rejection_names_field_and_value():
    """Long values are cut, and line ends and control characters shown for what they are."""
    error = Reject("not a number", field="price", value="12\n\x00" + "9" * 200)
    assert str(error).startswith(r"price: not a number (got '12\n\x00999")
    assert len(str(error)) < 150
    assert (error.field, str(Reject("just so"))) == ("price", "just so")


def test_a_rejection_does_not_show_a_secret():
    """Whatever value is handed to it."""
    assert "hunter2" not in str(Reject("refused", field="password", value=Secret("hunter2")))


def test_a_misfit_is_a_rejection_and_a_value_error():
    """Decoders add the place to a ValueError; everyone else sees a Reject."""
    assert issubclass(Misfit, Reject)
    assert issubclass(Misfit, ValueError)


def test_all_mistakes_come_at_once():
    """Each with its place and remedy, one a line."""
    first, second = Mistake("tieline.toml:3", "no such system: erb", "did you mean erp?"), Mistake("a", "b", "c")
    error = ConfigurationError(first, second)
    assert error.mistakes == (first, second)
    assert str(error) == "tieline.toml:3: no such system: erb → did you mean erp?\na: b → c"


def test_a_missing_extra_answers_with_the_command():
    """Ready to be copied."""
    assert "pip install 'tieline[kafka]'" in str(MissingExtra("confluent-kafka", "kafka"))


def test_errors_carry_what_the_runner_needs():
    """Seconds to wait, and what is waited for."""
    assert RetryLater("busy", after=3.0).after == 3.0
    assert RetryLater("busy").after is None
    assert Throttled("429", after=60).after == 60
    assert Unavailable("refused").after is None
    missing = MissingReference("Customer", "C-1")
    assert (missing.entity, missing.key, str(missing)) == ("Customer", "C-1", "waits for Customer 'C-1'")


@pytest.mark.parametrize("cls", sorted(_tree(TielineError), key=lambda cls: cls.__name__))
def test_every_error_has_a_sentence(cls):
    """Its docstring says what it means."""
    assert (cls.__doc__ or "").strip().endswith((".", ")"))
