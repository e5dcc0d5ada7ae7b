"""Ways and backfills: with the rules nothing is lost, repeated or miscounted, and each rule left out does that."""

from dataclasses import replace
from typing import Any

import pytest
from tests.models.explorer import LONG
from tests.models.ways import BUS, DIFFERS, DISORDER, MISCOUNTED, TWICE, Rule, Ways

pytestmark = pytest.mark.models

ENTITY = Ways(items=2)
EVENTS = replace(ENTITY, events=True)

WORLDS: dict[str, dict[str, Any]] = {
    "to bus": {"switches": 1},
    "to direct": {"switches": 1, "via": BUS},
    "to bus and back": {"switches": 2},
    "to direct and back": {"switches": 2, "via": BUS},
    "backfill": {"items": 3, "backfills": 1},
    "backfill over the bus": {"backfills": 1, "via": BUS},
    "backfill and to bus": {"backfills": 1, "switches": 1},
    "new leg": {"items": 3, "new_leg": True},
    "new leg on the bus": {"new_leg": True, "via": BUS},
    "new leg, changed at once": {"new_leg": True, "switches": 1},
}
RIGHT = {f"entity, {name}": replace(ENTITY, **world) for name, world in WORLDS.items()}
RIGHT |= {f"events, {name}": replace(EVENTS, **world) for name, world in WORLDS.items()}
RIGHT["events, held forgets"] = replace(EVENTS, backfills=1, prunes=1)
if LONG:
    RIGHT |= {f"long: {name}": replace(model, items=3, crashes=2) for name, model in RIGHT.items()}

LEFT_OUT = [
    ({Rule.WAY_IN_COMMIT}, replace(ENTITY, switches=1), DIFFERS),
    ({Rule.SWITCH_IN_COMMIT}, replace(ENTITY, switches=1), DIFFERS),
    ({Rule.OLD_WAY_FIRST}, replace(EVENTS, switches=1), DISORDER),
    ({Rule.STOP_AT_UNTIL}, replace(ENTITY, switches=1), MISCOUNTED),
    ({Rule.STOP_AT_UNTIL}, replace(EVENTS, items=3, switches=2, via=BUS), DISORDER),
    ({Rule.DRAINED_BY_NUMBER}, replace(ENTITY, switches=1, via=BUS), DIFFERS),
    ({Rule.AFTER_IS_CHECKED}, replace(ENTITY, switches=2), MISCOUNTED),
    ({Rule.ADDRESSED}, replace(ENTITY, backfills=1), MISCOUNTED),
    ({Rule.ONE_READER}, replace(EVENTS, new_leg=True), DIFFERS),
    ({Rule.ONE_READER, Rule.BACKFILL_KEEPS_VERSION}, replace(ENTITY, backfills=1), DIFFERS),
    ({Rule.HELD_DECIDES}, replace(EVENTS, backfills=1), TWICE),
    ({Rule.PRUNED_STAY_OUT}, replace(EVENTS, backfills=1, prunes=1), TWICE),
    ({Rule.PRUNING_WAITS}, replace(EVENTS, backfills=1, prunes=1), TWICE),
    ({Rule.NEW_LEG_IN_COMMIT}, replace(ENTITY, new_leg=True), DIFFERS),
    ({Rule.EVENTS_BEGIN_BEHIND_BACKFILL}, replace(EVENTS, new_leg=True), DISORDER),
]


@pytest.mark.parametrize("model", RIGHT.values(), ids=RIGHT)
def test_with_all_rules_nothing_is_lost_repeated_or_miscounted(model: Ways) -> None:
    """Whatever changed its way, was backfilled or began, and whoever crashed meanwhile."""
    report = model.explore()
    assert report.quiet > 0
    assert not report.wrong, report


@pytest.mark.parametrize(
    ("rules", "model", "kind"), LEFT_OUT, ids=["+".join(sorted(rule.name for rule in row[0])) for row in LEFT_OUT]
)
def test_rules_left_out_go_wrong(rules: set[Rule], model: Ways, kind: str) -> None:
    """Leaving the rule out makes a state that is wrong as it says."""
    report = replace(model, left_out=frozenset(rules)).explore(until=kind)
    assert kind in report.wrong, report


def test_every_rule_is_left_out_once() -> None:
    """No rule is in the list without a run that shows what it is for."""
    assert set().union(*(rules for rules, _, _ in LEFT_OUT)) == set(Rule)


@pytest.mark.parametrize("via", ["direct", "bus"])
def test_an_entity_may_take_its_new_way_at_once(via: str) -> None:
    """Versions sort out what two ways bring, and numbers keep the count, as long as the ways are two channels."""
    model = replace(ENTITY, switches=1, via=via, left_out=frozenset({Rule.OLD_WAY_FIRST}))
    assert not model.explore().wrong


def test_an_entity_may_not_skip_a_way_that_comes_back_to_its_channel() -> None:
    """Two ways in one channel share a place in it: the second must wait for the first."""
    model = replace(ENTITY, switches=2, via=BUS, left_out=frozenset({Rule.OLD_WAY_FIRST}))
    assert MISCOUNTED in model.explore(until=MISCOUNTED).wrong
