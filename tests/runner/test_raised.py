"""What a mapping raised is told with the line that a person can look at."""

import json

import pytest

from tieline.errors import Reject
from tieline.money import Money
from tieline.runner.raised import placed, raised

LINE = 18


def mapping(text: str) -> object:
    """A user's function."""

    def amount() -> object:
        return json.loads(text)["total"]

    return amount()


def said(text: str) -> str:
    with pytest.raises((ValueError, KeyError)) as error:
        mapping(text)
    return raised(error.value)


def test_the_innermost_line_of_the_file_that_was_called_is_named() -> None:
    place = f"(at runner/test_raised.py:{LINE})"
    assert said("{}") == f"raised KeyError: 'total' {place}"
    assert said("x") == f"raised JSONDecodeError: Expecting value: line 1 column 1 (char 0) {place}"


def test_what_tieline_refuses_in_a_mapping_is_told_with_the_mappings_line() -> None:
    """Not with a line of Tieline's own, which is nothing a user could mend."""
    with pytest.raises(Reject) as error:
        Money(1.5, "EUR")  # type: ignore[arg-type]
    assert placed(error.value).startswith("amount: a float is not exact")
    assert "(at runner/test_raised.py:" in placed(error.value)


def test_an_error_that_nobody_raised_has_no_place() -> None:
    assert raised(ValueError("no")) == "raised ValueError: no"
