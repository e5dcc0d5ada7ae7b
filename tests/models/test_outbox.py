"""The outbox: with its rules no state is wrong, and each rule left out makes one that is."""

from dataclasses import replace

import pytest
from tests.models.explorer import LONG
from tests.models.outbox import BEHIND, DIFFERS, TWICE, UNCOUNTED, WENT_BACK, Kind, Outbox, Rule

pytestmark = pytest.mark.models

SMALL = Outbox(edits=2, crashes=1, freezes=0, downs=0)
FROZEN = replace(SMALL, crashes=0, freezes=1)
BUS = replace(SMALL, over_bus=True)
CONDITIONAL = (Kind.TRANSACTIONAL, Kind.CONDITIONAL)
PLAIN = (Kind.TRANSACTIONAL, Kind.PLAIN)
RESTORED = replace(SMALL, crashes=0, restores=1)

RIGHT = {
    "B goes down": replace(SMALL, downs=1),
    "three edits": replace(SMALL, edits=3),
    "crash and freeze": replace(SMALL, freezes=1),
    "conditional target": replace(SMALL, freezes=1, kinds=CONDITIONAL),
    "plain target": replace(SMALL, downs=1, kinds=PLAIN),
    "two living records": replace(SMALL, edits=3, crashes=0, two_living=True),
    "bus, crash": BUS,
    "bus, freeze": replace(FROZEN, over_bus=True),
    "bus, conditional target": replace(BUS, kinds=CONDITIONAL),
    "bus, plain target": replace(BUS, kinds=PLAIN),
    "restored ledger": RESTORED,
    "restored ledger, plain target": replace(RESTORED, kinds=(Kind.CONDITIONAL, Kind.PLAIN)),
}
if LONG:
    RIGHT |= {
        "long: three edits, B down": replace(SMALL, edits=3, downs=1),
        "long: three edits, two crashes": replace(SMALL, edits=3, crashes=2),
        "long: three edits, freeze": replace(FROZEN, edits=3, downs=1),
        "long: two living records, crash": replace(SMALL, edits=3, two_living=True),
        "long: bus, crash and freeze": replace(BUS, freezes=1),
        "long: bus, three edits": replace(BUS, edits=3),
        "long: restored ledger, freeze": replace(RESTORED, freezes=1),
        "long: restored ledger, bus": replace(RESTORED, over_bus=True),
    }

LEFT_OUT = [
    (Rule.CURSOR_WITH_CHANNEL, SMALL, DIFFERS),
    (Rule.SEEN_NOT_BEFORE_CHANNEL, SMALL, DIFFERS),
    (Rule.SEEN_NOT_AFTER_CHANNEL, SMALL, DIFFERS),
    (Rule.READER_FENCE, FROZEN, DIFFERS),
    (Rule.VERSION_PER_SOURCE, SMALL, DIFFERS),
    (Rule.LOOK_UP_THE_OTHER, SMALL, DIFFERS),
    (Rule.WAKE_THE_SECOND, replace(SMALL, crashes=0, two_living=True), DIFFERS),
    (Rule.HAND_OVER_WHEN_LEVEL, SMALL, UNCOUNTED),
    (Rule.KEEP_UNTIL_ALL_PASSED, SMALL, BEHIND),
    (Rule.TARGET_BEFORE_LEDGER, SMALL, DIFFERS),
    (Rule.NUMBER_CHECK, SMALL, TWICE),
    (Rule.NUMBER_CHECK, BUS, TWICE),
    (Rule.VERSION_CHECK, replace(FROZEN, kinds=CONDITIONAL), WENT_BACK),
    (Rule.CLAIM_NAMES_VERSION, replace(SMALL, kinds=PLAIN), WENT_BACK),
    (Rule.PUBLISH_BEFORE_RELAY, BUS, DIFFERS),
    (Rule.ONE_UNCONFIRMED, BUS, UNCOUNTED),
    (Rule.SLICE_RISES, BUS, TWICE),
    (Rule.EPOCH_IN_NUMBERS, RESTORED, DIFFERS),
    (Rule.EPOCH_IN_TOKENS, replace(RESTORED, freezes=1), DIFFERS),
    (Rule.READ_ALL_AFTER_RESTORE, RESTORED, DIFFERS),
]

SPARE = {Rule.LEG_FENCE}


@pytest.mark.parametrize("model", RIGHT.values(), ids=RIGHT)
def test_with_all_rules_nothing_is_ever_wrong(model: Outbox) -> None:
    """Nothing lost, nothing twice, no target goes back, every count exact, and it always comes to rest."""
    report = model.explore()
    assert report.quiet > 0
    assert not report.wrong, report


@pytest.mark.parametrize(("rule", "model", "kind"), LEFT_OUT, ids=[rule.name for rule, _, _ in LEFT_OUT])
def test_each_rule_left_out_goes_wrong(rule: Rule, model: Outbox, kind: str) -> None:
    """Leaving one rule out makes a state that is wrong in the way the rule's sentence says."""
    report = replace(model, left_out=frozenset({rule})).explore(until=kind)
    assert kind in report.wrong, report


def test_every_rule_is_left_out_once() -> None:
    """No rule is in the list without a run that shows what it is for."""
    assert {rule for rule, _, _ in LEFT_OUT} | SPARE == set(Rule)


@pytest.mark.parametrize("kinds", [(Kind.TRANSACTIONAL,) * 2, CONDITIONAL], ids=["transactional", "conditional"])
def test_the_number_check_does_the_work_of_the_leg_fence(kinds: tuple[Kind, Kind]) -> None:
    """What carries a number needs no token: a late deliverer's batch is passed. (Parking does: see there.)"""
    report = replace(FROZEN, kinds=kinds, left_out=frozenset({Rule.LEG_FENCE})).explore()
    assert not report.wrong, report


def test_the_leg_fence_does_not_do_the_work_of_the_number_check() -> None:
    """A late deliverer commits before the new holder's first commit has shown its token to the target."""
    report = replace(FROZEN, left_out=frozenset({Rule.NUMBER_CHECK})).explore(until=TWICE)
    assert TWICE in report.wrong, report


def test_in_a_transaction_the_number_check_guards_the_value_too() -> None:
    """Channel order and number suffice while everything has a number; without both checks the target goes back."""
    without_version = replace(FROZEN, left_out=frozenset({Rule.VERSION_CHECK}))
    assert not without_version.explore().wrong
    without_both = replace(FROZEN, left_out=frozenset({Rule.VERSION_CHECK, Rule.NUMBER_CHECK}))
    assert WENT_BACK in without_both.explore(until=WENT_BACK).wrong
