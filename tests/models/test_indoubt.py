"""In doubt: with its rules nothing is created twice and nothing is lost, and each rule left out breaks that."""

from dataclasses import replace

import pytest
from tests.models.explorer import LONG
from tests.models.indoubt import TWICE, UNSEEN, InDoubt, Rule

pytestmark = pytest.mark.models

USUAL = InDoubt()
FREEZES = replace(USUAL, freezes=1)
RESTORED = replace(FREEZES, restores=1)
INSIDE = InDoubt(kills=0, losses=0, freezes_inside=1)

RIGHT = {
    "usual": USUAL,
    "two kills, two losses": replace(USUAL, kills=2, losses=2),
    "frozen before the call": replace(USUAL, freezes=2),
    "nothing to look it up with": replace(FREEZES, kills=2, losses=2, can_look_up=False),
    "restored": RESTORED,
    "restored, nothing to look it up with": replace(RESTORED, can_look_up=False),
}
if LONG:
    RIGHT |= {"long: three of each": InDoubt(kills=3, losses=3, freezes=2)}

LEFT_OUT = [
    (Rule.CLAIM_BEFORE_CALL, USUAL, TWICE),
    (Rule.CLAIM_PER_KEY, USUAL, TWICE),
    (Rule.HELD_IN_CLAIM_COMMIT, USUAL, TWICE),
    (Rule.LOOK_UP_FIRST, USUAL, TWICE),
    (Rule.SETTLING_TIME, USUAL, TWICE),
    (Rule.NEWER_WAITS, USUAL, TWICE),
    (Rule.LEASE_BEFORE_CALL, FREEZES, TWICE),
    (Rule.LOOK_UP_AFTER_RESTORE, RESTORED, TWICE),
    (Rule.CONFIRM_IS_FENCED, INSIDE, UNSEEN),
]


@pytest.mark.parametrize("model", RIGHT.values(), ids=RIGHT)
def test_with_all_rules_it_is_created_once(model: InDoubt) -> None:
    """Once, by one of the two flows, and no message is lost; or it is in doubt and a person is asked."""
    report = model.explore()
    assert report.quiet > 0
    assert not report.wrong, report


@pytest.mark.parametrize(("rule", "model", "kind"), LEFT_OUT, ids=[rule.name for rule, _, _ in LEFT_OUT])
def test_each_rule_left_out_goes_wrong(rule: Rule, model: InDoubt, kind: str) -> None:
    """Leaving one rule out creates the key twice."""
    report = replace(model, left_out=frozenset({rule})).explore(until=kind)
    assert kind in report.wrong, report


def test_every_rule_is_left_out_once() -> None:
    """No rule is in the list without a run that shows what it is for."""
    assert {rule for rule, _, _ in LEFT_OUT} == set(Rule)


def test_frozen_inside_the_call_is_the_exception_and_is_seen() -> None:
    """No design can help there: it is created twice; the late worker finds its claim gone and says so."""
    report = INSIDE.explore()
    assert set(report.wrong) == {TWICE}, report


def test_a_worker_that_froze_inside_and_then_died_tells_nobody() -> None:
    """The limit of what Tieline sees by itself; only a comparison of the two systems finds this one."""
    report = replace(INSIDE, kills=1).explore(until=UNSEEN)
    assert UNSEEN in report.wrong, report
