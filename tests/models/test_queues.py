"""Queues: with batch numbers as positions every batch is applied once, in order; each rule left out goes wrong."""

from dataclasses import replace

import pytest
from tests.models.explorer import LONG
from tests.models.queues import LOST, TOO_EARLY, TWICE, Queues, Rule

pytestmark = pytest.mark.models

USUAL = Queues()

LEFT_OUT = [
    (Rule.NUMBERS, TWICE),
    (Rule.ONE_UNCONFIRMED, LOST),
    (Rule.IN_ORDER_BACK, LOST),
    (Rule.ACKNOWLEDGE_PREFIX, LOST),
    (Rule.PROBE, TOO_EARLY),
]


@pytest.mark.parametrize("model", [USUAL, *([Queues(batches=4, crashes=3)] if LONG else [])])
def test_with_all_rules_each_batch_is_applied_once(model: Queues) -> None:
    """Whoever publishes again, and whoever takes over."""
    report = model.explore()
    assert report.quiet > 0
    assert not report.wrong, report


@pytest.mark.parametrize(("rule", "kind"), LEFT_OUT, ids=[rule.name for rule, _ in LEFT_OUT])
def test_each_rule_left_out_goes_wrong(rule: Rule, kind: str) -> None:
    """Leaving one rule out loses a batch, repeats one, or leaves a way too early."""
    report = replace(USUAL, left_out=frozenset({rule})).explore(until=kind)
    assert kind in report.wrong, report


def test_every_rule_is_left_out_once() -> None:
    """No rule is in the list without a run that shows what it is for."""
    assert {rule for rule, _ in LEFT_OUT} == set(Rule)
