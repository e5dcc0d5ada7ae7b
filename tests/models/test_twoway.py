"""Two-way: with its rules two systems that feed each other agree, and each rule left out sets them at odds."""

from dataclasses import replace

import pytest
from tests.models.explorer import LONG
from tests.models.twoway import DIFFER, ECHOED, LOOPS, Form, Rule, TwoWay

pytestmark = pytest.mark.models

USUAL = TwoWay()
REVERTS = replace(USUAL, reverts=True)
CAPITALS = replace(USUAL, form=Form.UPPER)
DISAGREE = TwoWay(edits=(1, 0), crashes=0, disagree=True)

RIGHT = {
    "usual": replace(USUAL, edits=(2, 2)),
    "two crashes": replace(USUAL, crashes=2),
    "shop edits twice, reverts": replace(REVERTS, edits=(2, 1)),
    "erp edits twice, reverts": replace(REVERTS, edits=(1, 2)),
    "own form": replace(CAPITALS, edits=(2, 2), crashes=0),
    "own form, crash": replace(CAPITALS, edits=(2, 1)),
    "own form, reverts": replace(CAPITALS, reverts=True),
    "disagree": DISAGREE,
    "disagree, both edit": replace(DISAGREE, edits=(1, 1)),
}
if LONG:
    RIGHT |= {
        "long: both edit twice, reverts": replace(REVERTS, edits=(2, 2), crashes=0),
        "long: own form, both edit twice, reverts": replace(CAPITALS, edits=(2, 2), crashes=0, reverts=True),
        "long: disagree, crash": replace(DISAGREE, edits=(1, 1), crashes=1),
    }

LEFT_OUT = [
    (Rule.READER_SKIPS_CLAIMED, USUAL, DIFFER),
    (Rule.READER_SKIPS_CLAIMED, CAPITALS, ECHOED),
    (Rule.CHECK_CONFLICT_AFTER_CLAIM, USUAL, DIFFER),
    (Rule.CHECK_STALE_AFTER_CLAIM, USUAL, DIFFER),
    (Rule.COMPARE_WITH_HELD, REVERTS, DIFFER),
    (Rule.HELD_AS_STORED, CAPITALS, ECHOED),
    (Rule.STORED_FROM_ANSWER, USUAL, DIFFER),
    (Rule.OVERWRITTEN_ARE_STALE, USUAL, DIFFER),
    (Rule.ECHO_ENDS, CAPITALS, ECHOED),
    (Rule.ECHO_ENDS, CAPITALS, LOOPS),
    (Rule.THIRD_TIME_PARKS, DISAGREE, LOOPS),
]


@pytest.mark.parametrize("model", RIGHT.values(), ids=RIGHT)
def test_with_all_rules_the_systems_agree(model: TwoWay) -> None:
    """They end with one value, each in its own form, no echo, no ping-pong, or a person has been asked."""
    report = model.explore()
    assert report.quiet > 0
    assert not report.wrong, report


@pytest.mark.parametrize(("rule", "model", "kind"), LEFT_OUT, ids=[rule.name for rule, _, _ in LEFT_OUT])
def test_each_rule_left_out_goes_wrong(rule: Rule, model: TwoWay, kind: str) -> None:
    """Leaving one rule out makes a state that is wrong as the rule's sentence says."""
    report = replace(model, left_out=frozenset({rule})).explore(until=kind)
    assert kind in report.wrong, report


def test_every_rule_is_left_out_once() -> None:
    """No rule is in the list without a run that shows what it is for."""
    assert {rule for rule, _, _ in LEFT_OUT} == set(Rule)
