"""Packs: with the rules every message of a batch is applied once, and each rule left out loses or repeats one."""

from dataclasses import replace

import pytest
from tests.models.explorer import LONG
from tests.models.packs import LOST, TWICE, Packs, Rule

pytestmark = pytest.mark.models

USUAL = Packs()

LEFT_OUT = [
    (Rule.ORDINAL_COUNTS, LOST),
    (Rule.ORDINAL_OF_MESSAGE, TWICE),
    (Rule.ORDINAL_OF_MESSAGE, LOST),
    (Rule.NUMBER_CHECK, TWICE),
    (Rule.PART_OF_PACK, LOST),
    (Rule.IN_ORDER, LOST),
    (Rule.RELEASE_KEEPS_ORDER, LOST),
]


@pytest.mark.parametrize("model", [USUAL, *([Packs(batches=3)] if LONG else [])])
def test_with_all_rules_each_message_is_applied_once(model: Packs) -> None:
    """However the batch was cut, published again or brought again."""
    report = model.explore()
    assert report.quiet > 0
    assert not report.wrong, report


@pytest.mark.parametrize(("rule", "kind"), LEFT_OUT, ids=[rule.name for rule, _ in LEFT_OUT])
def test_each_rule_left_out_goes_wrong(rule: Rule, kind: str) -> None:
    """Leaving one rule out loses or repeats a message."""
    report = replace(USUAL, left_out=frozenset({rule})).explore(until=kind)
    assert kind in report.wrong, report


def test_every_rule_is_left_out_once() -> None:
    """No rule is in the list without a run that shows what it is for."""
    assert {rule for rule, _ in LEFT_OUT} == set(Rule)
