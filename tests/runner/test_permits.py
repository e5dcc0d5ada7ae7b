"""How limits are divided: who is silent keeps its places for a time, and then holds nothing."""

from typing import Any

import pytest

from tieline.runner.permits import HORIZON, Grant, Wish, ask, divide
from tieline.settings import Limits

TIMEOUT = 3.0
LIMITS = Limits(at_once=4)


class Kept:
    """What the ledger keeps, for workers that ask one after the other."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.value: Any = None
        self._limits = limits

    def ask(self, worker: str, now: float, holds: int = 0, living: str = "ab") -> Grant:
        wish = Wish(slots=1_000, places=4, holds=holds)
        self.value, grant = ask(self.value, self._limits, TIMEOUT, worker, wish, now, living)
        return grant


def test_places_of_a_silent_worker_are_nobodys_while_its_calls_may_be_open() -> None:
    """Its word ends with the horizon; a call that it began then lasts as long as the system's timeout."""
    kept = Kept()
    assert kept.ask("a", 0.0).holds == 4
    assert kept.ask("b", HORIZON + TIMEOUT - 0.1).holds == 0
    assert kept.ask("b", HORIZON + TIMEOUT + 0.1).holds == 4


def test_places_of_a_worker_whose_leases_have_passed_are_free() -> None:
    """Killed and begun again, a worker does not wait for calls that nobody has open."""
    kept = Kept()
    kept.ask("a", 0.0)
    assert kept.ask("b", HORIZON - 0.1, living="b").holds == 0
    assert kept.ask("b", HORIZON + 0.1, living="b").holds == 4


def test_who_comes_back_after_that_holds_nothing_whatever_it_thinks() -> None:
    """Its places are with others by then."""
    kept = Kept()
    kept.ask("a", 0.0)
    later = HORIZON + TIMEOUT + 1
    assert kept.ask("b", later).holds == 4
    back = kept.ask("a", later + 0.1, holds=4)
    assert (back.holds, back.aim) == (0, 2)


def test_a_place_is_given_on_when_its_holder_has_said_that_it_holds_less() -> None:
    """The answer to one that holds too many names an aim, and takes nothing away."""
    kept = Kept()
    kept.ask("a", 0.0)
    assert kept.ask("b", 0.1).holds == 0
    told = kept.ask("a", 0.2, holds=4)
    assert (told.holds, told.aim) == (4, 2)
    assert kept.ask("b", 0.3).holds == 0
    assert kept.ask("a", 0.4, holds=2).holds == 2
    assert kept.ask("b", 0.5).holds == 2


def test_no_slot_is_given_twice() -> None:
    """Whoever asks when, the sum of slots is what the limit allows."""
    kept, given = Kept(Limits(per_second=10, at_once=4)), []
    for step in range(60):
        given += kept.ask("abc"[step % 3], step * 0.17).slots
    assert len(set(given)) == len(given)
    assert len(given) >= 0.9 * 10 * 60 * 0.17


@pytest.mark.parametrize(
    ("total", "wants", "shares"),
    [
        (10, {"a": 2, "b": 2}, {"a": 5, "b": 5}),
        (10, {"a": 9, "b": 2}, {"a": 8, "b": 2}),
        (10, {"a": 9, "b": 9, "c": 9}, {"a": 4, "b": 3, "c": 3}),
        (1, {"a": 4, "b": 4}, {"a": 1, "b": 0}),
        (4, {"a": 0}, {"a": 4}),
    ],
)
def test_wants_that_fit_are_met_and_others_are_cut_to_equal_parts(
    total: int, wants: dict[str, int], shares: dict[str, int]
) -> None:
    """What is left goes to all."""
    assert divide(total, wants) == shares
