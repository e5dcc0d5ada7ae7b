"""Parking: with its rules no state is wrong, and each rule left out makes one that is."""

from dataclasses import replace

import pytest
from tests.models.explorer import LONG
from tests.models.parked import (
    CUSTOMER,
    DEAD_FOR_NOTHING,
    DROPPED_RISES,
    EDIT_LOST,
    FORGOTTEN,
    HEALED_WAITS,
    NEWEST_LOST,
    ORDER,
    OVER_THE_EDIT,
    TWICE,
    UNCOUNTED,
    WAITS_FOR_NOTHING,
    Parking,
    Rule,
)

pytestmark = pytest.mark.models

USUAL = Parking()
FROZEN = Parking(crashes=0, looks=0, freezes=1)
RESENT = Parking(resends=1)
CALLED = Parking(transactional=False)
DOWN = Parking(transients=0, downs=1)
BOTH_BAD = frozenset({(ORDER, 1), (CUSTOMER, 1)})

RIGHT = {
    "usual": USUAL,
    "frozen deliverer": FROZEN,
    "frozen deliverer, operator": replace(FROZEN, transients=0, looks=1),
    "frozen twice": replace(FROZEN, freezes=2),
    "backfill beside it": replace(RESENT, transients=0),
    "backfill beside a failure": replace(RESENT, looks=0),
    "target goes down": DOWN,
    "bad customer": Parking(versions=(1, 2), bad=frozenset({(CUSTOMER, 1)})),
    "both bad, two decisions": Parking(versions=(1, 1), bad=BOTH_BAD, looks=2),
    "target without transactions": CALLED,
    "target without transactions, two decisions": replace(CALLED, crashes=2, looks=2),
    "target without transactions, down, frozen": replace(CALLED, looks=0, downs=1, freezes=1),
}
if LONG:
    RIGHT |= {
        "long: backfill, failure, decision": RESENT,
        "long: three versions, two decisions": Parking(versions=(3, 1), looks=2),
        "long: two crashes, two decisions": Parking(bad=BOTH_BAD, crashes=2, looks=2),
        "long: crash, freeze, decision": Parking(freezes=1),
        "long: freeze, backfill": replace(FROZEN, crashes=1, resends=1),
        "long: two of each, freeze": Parking(versions=(2, 2), freezes=1),
    }

LEFT_OUT = [
    ({Rule.RETRY_WAITS_FOR_POSITION}, USUAL, TWICE),
    ({Rule.OWN_ROW_IS_PARKED}, USUAL, TWICE),
    ({Rule.OWN_ROW_IS_PARKED, Rule.PARKING_KEEPS_NEWER}, USUAL, FORGOTTEN),
    ({Rule.SLICE_ENDS_AT_ROW}, USUAL, TWICE),
    ({Rule.REPLACED_IS_SETTLED}, USUAL, UNCOUNTED),
    ({Rule.SETTLED_IN_LEDGER}, USUAL, TWICE),
    ({Rule.START_AT_LEDGER_POSITION}, USUAL, HEALED_WAITS),
    ({Rule.TARGET_FENCE}, FROZEN, TWICE),
    ({Rule.FENCE_BEFORE_PARKING}, FROZEN, TWICE),
    ({Rule.PARKING_FENCE}, FROZEN, TWICE),
    ({Rule.ASK_AFTER_PARKING, Rule.ASK_PERIODICALLY}, USUAL, WAITS_FOR_NOTHING),
    ({Rule.KNOWN_HEALS_AND_WAKES, Rule.ASK_PERIODICALLY}, USUAL, WAITS_FOR_NOTHING),
    ({Rule.START_AT_LEDGER_POSITION, Rule.ASK_PERIODICALLY}, USUAL, WAITS_FOR_NOTHING),
    ({Rule.KNOWN_HEALS_AND_WAKES}, USUAL, HEALED_WAITS),
    ({Rule.REFERENCE_HAS_ID}, USUAL, DEAD_FOR_NOTHING),
    ({Rule.NEWER_HEALS}, USUAL, HEALED_WAITS),
    ({Rule.PARKING_KEEPS_NEWER}, USUAL, OVER_THE_EDIT),
    ({Rule.RETRY_KEEPS_DECISION}, USUAL, FORGOTTEN),
    ({Rule.DECISION_NAMES_MESSAGE}, USUAL, NEWEST_LOST),
    ({Rule.DECISION_BY_HOLDER}, USUAL, DROPPED_RISES),
    ({Rule.OPEN_CLAIM_FIRST}, CALLED, DROPPED_RISES),
    ({Rule.DROP_MOVES_HELD}, RESENT, DROPPED_RISES),
    ({Rule.EDIT_ABOVE_ORIGINAL}, USUAL, OVER_THE_EDIT),
    ({Rule.EDIT_BELOW_NEXT}, USUAL, NEWEST_LOST),
    ({Rule.EDIT_LEAVES_HELD}, USUAL, EDIT_LOST),
    ({Rule.OUTAGE_IS_NO_FAILURE}, DOWN, DEAD_FOR_NOTHING),
]


@pytest.mark.parametrize("model", RIGHT.values(), ids=RIGHT)
def test_with_all_rules_nothing_is_ever_wrong(model: Parking) -> None:
    """Each message ends applied, superseded, dropped or waiting with cause, and is counted exactly once."""
    report = model.explore()
    assert report.quiet > 0
    assert not report.wrong, report


@pytest.mark.parametrize(
    ("rules", "model", "kind"), LEFT_OUT, ids=["+".join(sorted(rule.name for rule in row[0])) for row in LEFT_OUT]
)
def test_rules_left_out_go_wrong(rules: set[Rule], model: Parking, kind: str) -> None:
    """Leaving the rule out (for the ways to be woken: two of them) makes a state that is wrong as it says."""
    report = replace(model, left_out=frozenset(rules)).explore(until=kind)
    assert kind in report.wrong, report


def test_every_rule_is_left_out_once() -> None:
    """No rule is in the list without a run that shows what it is for."""
    assert set().union(*(rules for rules, _, _ in LEFT_OUT)) == set(Rule)


@pytest.mark.parametrize("rule", [Rule.ASK_AFTER_PARKING, Rule.ASK_PERIODICALLY], ids=lambda rule: rule.name)
def test_one_way_to_be_woken_may_fail(rule: Rule) -> None:
    """Asking after the parking commit and asking from time to time stand in for each other."""
    report = replace(USUAL, left_out=frozenset({rule})).explore()
    assert not report.wrong, report


def test_one_store_needs_no_position_below() -> None:
    """Where parking, held, position and counts are one commit, a message is never parked and to come again."""
    two_store_rules = {
        Rule.RETRY_WAITS_FOR_POSITION,
        Rule.OWN_ROW_IS_PARKED,
        Rule.SLICE_ENDS_AT_ROW,
        Rule.TARGET_FENCE,
        Rule.FENCE_BEFORE_PARKING,
    }
    report = replace(CALLED, crashes=2, left_out=frozenset(two_store_rules)).explore()
    assert not report.wrong, report
