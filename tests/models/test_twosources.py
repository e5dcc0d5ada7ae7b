"""Two sources: with the rules the row ends as both sources say, and each rule left out makes one that does not."""

from dataclasses import replace

import pytest
from tests.models.explorer import LONG
from tests.models.twosources import DIFFERS, Kind, Rule, TwoSources

pytestmark = pytest.mark.models

TRANSACTIONAL = TwoSources()
PATCH = TwoSources(kind=Kind.PATCH)
PUT = TwoSources(kind=Kind.PUT)

RIGHT = {
    "transactional": replace(TRANSACTIONAL, edits=(3, 2)),
    "transactional, rows dropped": replace(TRANSACTIONAL, edits=(3, 2), drops_rows=True),
    "patch": PATCH,
    "put": PUT,
    "patch, rows dropped, crash": replace(PATCH, drops_rows=True, freezes=0),
    "put, rows dropped, crash": replace(PUT, drops_rows=True, freezes=0),
    "put, rows dropped, freeze": replace(PUT, drops_rows=True, crashes=0),
}
if LONG:
    RIGHT |= {
        "long: patch": replace(PATCH, edits=(2, 2), deletes=False),
        "long: put": replace(PUT, edits=(2, 2), deletes=False),
        "long: patch, rows dropped": replace(PATCH, drops_rows=True),
        "long: put, rows dropped": replace(PUT, drops_rows=True),
    }

LEFT_OUT = [
    ({Rule.HELD_PER_SOURCE}, TRANSACTIONAL),
    ({Rule.CLEAR_OWN_FIELDS}, PATCH),
    ({Rule.DROP_SENDS_OTHERS}, replace(PATCH, drops_rows=True)),
    ({Rule.CLAIM_PER_KEY}, PUT),
    ({Rule.TAKEOVER_LOOKS_AGAIN}, PATCH),
    ({Rule.TAKEOVER_LOOKS_AGAIN, Rule.LATE_WRITER_REPORTS}, replace(PATCH, crashes=0)),
    ({Rule.AGAIN_FROM_ALL_SOURCES}, PUT),
    ({Rule.AGAIN_IS_WRITTEN}, PATCH),
]


@pytest.mark.parametrize("model", RIGHT.values(), ids=RIGHT)
def test_with_all_rules_the_row_is_what_both_sources_say(model: TwoSources) -> None:
    """Whatever crashed, froze or landed late."""
    report = model.explore()
    assert report.quiet > 0
    assert not report.wrong, report


@pytest.mark.parametrize(
    ("rules", "model"), LEFT_OUT, ids=["+".join(sorted(rule.name for rule in rules)) for rules, _ in LEFT_OUT]
)
def test_rules_left_out_leave_the_row_wrong(rules: set[Rule], model: TwoSources) -> None:
    """A quiet state in which the row is not what the sources say."""
    report = replace(model, left_out=frozenset(rules)).explore(until=DIFFERS)
    assert DIFFERS in report.wrong, report


def test_every_rule_is_left_out_once() -> None:
    """No rule is in the list without a run that shows what it is for."""
    assert set().union(*(rules for rules, _ in LEFT_OUT)) == set(Rule)


def test_a_late_writer_that_lives_may_report_itself() -> None:
    """While no worker dies in its call, its own report is enough; the look after a takeover is for those that do."""
    report = replace(PATCH, crashes=0, left_out=frozenset({Rule.TAKEOVER_LOOKS_AGAIN})).explore()
    assert not report.wrong, report


def test_the_look_after_a_takeover_needs_no_report() -> None:
    """The look finds what any late call has done: a late writer's report only makes it sooner."""
    report = replace(PATCH, left_out=frozenset({Rule.LATE_WRITER_REPORTS})).explore()
    assert not report.wrong, report


def test_a_target_with_transactions_needs_neither() -> None:
    """Its commit compares with held, so a late one is stale."""
    rules = {Rule.TAKEOVER_LOOKS_AGAIN, Rule.LATE_WRITER_REPORTS, Rule.CLAIM_PER_KEY, Rule.AGAIN_IS_WRITTEN}
    assert not replace(TRANSACTIONAL, left_out=frozenset(rules)).explore().wrong
