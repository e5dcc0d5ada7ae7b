"""The explorer itself: it must see what is wrong in models small enough to check by eye."""

from collections.abc import Iterator

import pytest
from tests.models.explorer import UNSETTLED, Step, explore, put, system, world

pytestmark = pytest.mark.models


def count_up(state: int) -> Iterator[Step[int]]:
    """The world adds one, up to four; the system makes an odd number even by adding one."""
    if state < 4:
        yield world("plus", state + 1)
    if state % 2:
        yield system("even", state + 1)


def odd(state: int) -> Iterator[str]:
    """Odd numbers are wrong."""
    if state % 2:
        yield "odd"


def is_four(state: int) -> Iterator[str]:
    """Four is wrong."""
    if state == 4:
        yield "four"


def test_only_quiet_states_are_judged_at_rest() -> None:
    """Odd numbers are passed through, never rested at."""
    report = explore(0, count_up, at_rest=odd)
    assert (report.states, report.quiet, report.wrong) == (5, 3, {})


def test_every_state_is_judged_always() -> None:
    """Both odd numbers are found."""
    assert explore(0, count_up, at_rest=odd, always=odd).wrong == {"odd": 2}


def test_the_trace_is_a_shortest_one() -> None:
    """Four is reached in four steps, whichever."""
    report = explore(0, count_up, at_rest=is_four)
    assert len(report.traces["four"]) == 4
    assert "four: plus > plus" in str(report)


def test_a_walk_may_end_at_the_first_wrong() -> None:
    """Nothing beyond the steps of the first odd number is walked."""
    assert explore(0, count_up, at_rest=odd, always=odd, until="odd").states == 3


def test_a_system_that_never_rests_is_wrong() -> None:
    """Two states that lead to each other for ever are reported, with the way there."""

    def spin(state: int) -> Iterator[Step[int]]:
        yield system("turn", 1 - state)

    assert explore(0, spin, at_rest=odd).wrong == {UNSETTLED: 2}


def test_put_replaces_one_item() -> None:
    """The others stay where they are."""
    assert put((1, 2, 3), 1, 9) == (1, 9, 3)
