"""What becomes of a message at one target, from what is held and parked there; each rule a sentence."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.connector import HeldRow
from tieline.errors import AccessRefused, InDoubt, MissingReference, Reject, RetryLater, Throttled, Unavailable
from tieline.ledger import ParkedRow
from tieline.message import Message, Outcome, Reason, Version, message_id
from tieline.runner.decide import Decision, Work, decide, reason_of

SOURCE, TARGET = "shop.order", "erp"


def message(counter: int, key: str = "1", *, deleted: bool = False, origin: str = "", subject: str = "") -> Message:
    """The source's message number `counter`."""
    data = msgspec.Raw(b"null" if deleted else b"{}")
    return Message(_id(counter, key), key, Version(1, counter), data, origin, subject)


def _id(counter: int, key: str = "1") -> bytes:
    return message_id(SOURCE, key, b"", str(counter).encode())


def work(counter: int, key: str = "1", *, sequence: int | None = None, force: bool = False, **fields: object) -> Work:
    """That message, just delivered in the batch of the same number."""
    return Work(message(counter, key, **fields), counter if sequence is None else sequence, force=force)  # type: ignore[arg-type]


def held(
    counter: int, key: str = "1", *, source: str = SOURCE, claim: int = 0, target_id: str | None = None
) -> HeldRow:
    """The target has message number `counter` (0: none), and a call with number `claim` was begun (0: none)."""
    return HeldRow(
        key=key,
        source=source,
        version=Version(1, counter) if counter else Version(0, 0),
        message_id=_id(counter, key) if counter else b"",
        target_id=target_id,
        claim=_id(claim, key) if claim else b"",
        claim_version=Version(1, claim) if claim else Version(0, 0),
    )


def row(counter: int, key: str = "1", *, decision: str = "", edit: int = 0, subject: str = "") -> ParkedRow:
    """Message number `counter` is parked, from the batch of the same number."""
    return ParkedRow(
        leg="orders>erp",
        key=key,
        message_id=_id(counter, key) if not edit else b"an edit",
        version=Version(1, counter, edit),
        reason=Reason.DEAD,
        message=b"",
        error="",
        subject=subject or key,
        position=counter,
        decision=decision,
    )


def retry(parked: ParkedRow, **fields: object) -> Work:
    """A parked message as it is tried again."""
    what = message(parked.version.counter, parked.key, **fields)  # type: ignore[arg-type]
    what = msgspec.structs.replace(what, id=parked.message_id, version=parked.version)
    return Work(what, parked.position, parked=parked)


def decided(
    *works: Work,
    event: bool = False,
    has: list[HeldRow] | None = None,
    waits: list[ParkedRow] | None = None,
    ahead: list[ParkedRow] | None = None,
) -> Decision:
    """Decide about works where the target has some rows and others are parked."""
    return decide(
        works,
        source=SOURCE,
        target=TARGET,
        event=event,
        held=has or [],
        parked={r.key: r for r in waits or []},
        blocked={r.subject: r for r in ahead or []},
    )


def become(decision: Decision) -> dict[int, str]:
    """What each message becomes, by its number; every message has one place."""
    found: dict[int, str] = {}
    for name in ("apply", "behind", "known", "dropped"):
        for one in getattr(decision, name):
            assert one.message.version.counter not in found
            found[one.message.version.counter] = name
    for one, outcome in decision.settled:
        assert one.message.version.counter not in found
        found[one.message.version.counter] = str(outcome)
    return found


# -- versions ------------------------------------------------------------------------------------------------


def test_what_the_target_does_not_have_is_applied() -> None:
    assert become(decided(work(1))) == {1: "apply"}


def test_what_is_newer_than_held_is_applied_and_knows_its_held_row() -> None:
    one = work(2)
    assert become(decided(one, has=[held(1, target_id="17")])) == {2: "apply"}
    assert one.held is not None
    assert one.target_id == "17"


def test_what_is_held_already_is_unchanged() -> None:
    assert become(decided(work(2), has=[held(2)])) == {2: "unchanged"}


def test_what_was_applied_from_this_very_batch_and_not_counted_yet_is_done() -> None:
    has = [msgspec.structs.replace(held(2), sequence=2)]
    assert become(decided(work(2), has=has)) == {2: "done"}
    assert become(decided(work(2, sequence=7), has=has)) == {2: "unchanged"}
    assert become(decided(retry(row(2)), has=has)) == {2: "unchanged"}


def test_what_is_older_than_held_is_stale() -> None:
    assert become(decided(work(1), has=[held(2)])) == {1: "stale"}


def test_another_message_of_the_same_version_is_stale() -> None:
    other = msgspec.structs.replace(held(2), message_id=b"of a ledger before its back-up")
    assert become(decided(work(2), has=[other])) == {2: "stale"}


def test_a_later_epoch_is_newer_whatever_the_counter() -> None:
    one = Work(msgspec.structs.replace(message(1), version=Version(2, 1)), 1)
    assert become(decided(one, has=[held(900)])) == {1: "apply"}


def test_an_original_is_stale_where_its_edit_is_held() -> None:
    edit = msgspec.structs.replace(held(2), version=Version(1, 2, 1), message_id=b"an edit")
    assert become(decided(work(2), has=[edit])) == {2: "stale"}


def test_a_forced_message_is_applied_although_it_is_held() -> None:
    assert become(decided(work(2, force=True), has=[held(2)])) == {2: "apply"}


def test_what_another_source_gave_decides_nothing_but_tells_the_targets_own_id() -> None:
    one = work(1)
    assert become(decided(one, has=[held(900, source="pos.order", target_id="17")])) == {1: "apply"}
    assert one.held is None
    assert one.target_id == "17"


# -- several of one key ---------------------------------------------------------------------------------------


def test_of_several_versions_of_an_entity_only_the_newest_is_applied_in_whatever_order_they_come() -> None:
    for order in ((1, 2, 3), (3, 2, 1), (2, 3, 1)):
        assert become(decided(*map(work, order))) == {1: "superseded", 2: "superseded", 3: "apply"}


def test_a_forced_message_stands_in_for_its_equal_whichever_comes_first() -> None:
    for forced_first in (True, False):
        pair = [work(2, sequence=5, force=True), work(2, sequence=2)]
        decision = decided(*(pair if forced_first else reversed(pair)), has=[held(2)])
        assert [one.force for one in decision.apply] == [True]
        assert [(one.force, outcome) for one, outcome in decision.settled] == [(False, Outcome.SUPERSEDED)]


def test_every_event_counts_though_they_share_a_subject() -> None:
    events = [work(n, f"p{n}", subject="account") for n in (1, 2, 3)]
    assert become(decided(*events, event=True)) == {1: "apply", 2: "apply", 3: "apply"}


def test_an_event_that_is_held_is_unchanged_whatever_its_version() -> None:
    for version in (1, 2, 3):
        assert become(decided(work(version, "p"), event=True, has=[held(2, "p")])) == {version: "unchanged"}


# -- open claims ----------------------------------------------------------------------------------------------


def test_what_is_older_than_a_call_that_was_begun_is_stale_for_the_call_may_have_landed() -> None:
    assert become(decided(work(2), has=[held(1, claim=3)])) == {2: "stale"}
    assert become(decided(work(2), has=[held(0, claim=3)])) == {2: "stale"}


def test_the_message_of_the_call_itself_and_what_is_newer_settle_the_claim() -> None:
    for number in (3, 4):
        assert become(decided(work(number), has=[held(1, claim=3)])) == {number: "apply"}


def test_a_call_that_another_source_began_says_nothing_about_versions_of_this_one() -> None:
    other = held(0, source="pos.order", claim=900)
    assert become(decided(work(2), has=[other])) == {2: "apply"}


# -- parked messages ------------------------------------------------------------------------------------------


def test_what_is_parked_and_comes_again_with_its_batch_is_known_and_nothing_else() -> None:
    assert become(decided(work(2), waits=[row(2)])) == {2: "known"}


def test_what_is_parked_and_comes_in_a_later_batch_is_unchanged() -> None:
    assert become(decided(work(2, sequence=7), waits=[row(2)])) == {2: "unchanged"}


def test_what_is_older_than_a_parked_message_is_stale() -> None:
    assert become(decided(work(1), waits=[row(2)])) == {1: "stale"}


def test_what_was_edited_while_it_was_on_its_way_again_is_known() -> None:
    assert become(decided(work(2), waits=[row(2, edit=1)])) == {2: "known"}


def test_an_original_that_is_sent_once_more_is_stale_where_its_edit_is_parked() -> None:
    assert become(decided(work(2, sequence=7), waits=[row(2, edit=1)])) == {2: "stale"}


def test_an_event_that_comes_twice_at_a_time_is_applied_once() -> None:
    twice = [work(2, sequence=2), work(2, sequence=7)]
    decision = decided(*twice, event=True)
    assert [one.sequence for one in decision.apply] == [2]
    assert [(one.sequence, outcome) for one, outcome in decision.settled] == [(7, Outcome.UNCHANGED)]


def test_what_is_newer_than_a_parked_message_is_applied() -> None:
    assert become(decided(work(3), waits=[row(2)])) == {3: "apply"}


def test_a_parked_message_of_another_key_decides_nothing() -> None:
    assert become(decided(work(1), waits=[row(2, "other")])) == {1: "apply"}


def test_a_parked_message_that_is_tried_again_is_applied() -> None:
    assert become(decided(retry(row(2)), waits=[row(2)])) == {2: "apply"}


def test_a_parked_message_that_held_has_overtaken_is_stale() -> None:
    assert become(decided(retry(row(2)), waits=[row(2)], has=[held(3)])) == {2: "stale"}


def test_a_message_that_a_person_drops_is_dropped() -> None:
    dropped = row(2, decision="drop")
    assert become(decided(retry(dropped), waits=[dropped])) == {2: "dropped"}


def test_a_drop_of_what_the_target_has_already_is_unchanged() -> None:
    dropped = row(2, decision="drop")
    assert become(decided(retry(dropped), waits=[dropped], has=[held(2)])) == {2: "unchanged"}


# -- echoes, deletes, order ------------------------------------------------------------------------------------


def test_the_targets_own_change_is_an_echo() -> None:
    assert become(decided(work(1, origin=TARGET))) == {1: "echo"}


def test_another_systems_change_is_no_echo() -> None:
    assert become(decided(work(1, origin="crm"))) == {1: "apply"}


def test_a_delete_of_what_the_target_never_had_is_unchanged() -> None:
    assert become(decided(work(1, deleted=True))) == {1: "unchanged"}
    assert become(decided(work(1, deleted=True), has=[held(1, source="pos.order")])) == {1: "unchanged"}


def test_a_delete_of_what_the_target_has_is_applied() -> None:
    assert become(decided(work(2, deleted=True), has=[held(1)])) == {2: "apply"}


def test_an_event_waits_behind_a_parked_earlier_one_of_its_subject() -> None:
    one = work(2, "p2", subject="account")
    assert become(decided(one, event=True, ahead=[row(1, "p1", subject="account")])) == {2: "behind"}


@pytest.mark.parametrize(
    ("number", "key", "subject"),
    [(2, "p2", "other"), (1, "p1", "account"), (3, "p3", "account")],
    ids=["of another subject", "itself", "an earlier one"],
)
def test_an_event_does_not_wait_behind(number: int, key: str, subject: str) -> None:
    first = {"p3": row(9, "p9", subject="account")}.get(key, row(1, "p1", subject="account"))
    assert become(decided(work(number, key, subject=subject), event=True, ahead=[first])) == {number: "apply"}


def test_an_entity_never_waits_behind_another_key() -> None:
    assert become(decided(work(2, "2"), ahead=[row(1, "1", subject="2")])) == {2: "apply"}


# -- the subject and the reason ---------------------------------------------------------------------------------


def test_a_message_without_a_subject_is_ordered_by_its_key() -> None:
    assert work(1, "k").subject == "k"
    assert work(1, "k", subject="s").subject == "s"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MissingReference("Customer", "c"), Reason.REFERENCE),
        (InDoubt("cut off"), Reason.DOUBT),
        (RetryLater("later"), Reason.RETRY),
        (Unavailable("down"), Reason.RETRY),
        (Throttled("slowly", after=1.0), Reason.RETRY),
        (Reject("bad"), Reason.DEAD),
        (AccessRefused("no"), Reason.DEAD),
        (ZeroDivisionError(), Reason.DEAD),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_why_a_message_is_parked_follows_from_its_error(error: Exception, reason: Reason) -> None:
    assert reason_of(error) is reason


# -- for whatever comes -------------------------------------------------------------------------------------------

NUMBERS = st.integers(1, 4)
KEYS = st.sampled_from(["a", "b"])
WORKS = st.lists(
    st.builds(
        lambda n, key, sequence, force, deleted, origin: work(
            n, key, sequence=sequence, force=force, deleted=deleted, origin=origin, subject="s"
        ),
        NUMBERS, KEYS, NUMBERS, st.booleans(), st.booleans(), st.sampled_from(["", TARGET]),
    ),
    max_size=6,
)  # fmt: skip
HELD = st.lists(
    st.builds(
        lambda n, key, source, claim: held(n, key, source=source, claim=claim),
        st.integers(0, 4), KEYS, st.sampled_from([SOURCE, "pos.order"]), st.integers(0, 4),
    ),
    max_size=4,
    unique_by=lambda r: (r.key, r.source),
)  # fmt: skip
ROWS = st.lists(
    st.builds(lambda n, key, d: row(n, key, decision=d, subject="s"), NUMBERS, KEYS, st.sampled_from(["", "drop"])),
    max_size=2,
    unique_by=lambda r: r.key,
)


@settings(max_examples=300)
@given(works=WORKS, has=HELD, rows=ROWS, event=st.booleans(), retried=st.booleans())
def test_every_message_has_exactly_one_place_and_no_target_goes_back(
    works: list[Work], has: list[HeldRow], rows: list[ParkedRow], event: bool, retried: bool
) -> None:
    works = [*works, *(retry(r) for r in rows if retried)]
    ahead = sorted(rows, key=lambda r: r.version)[:1]
    decision = decided(*works, event=event, has=has, waits=rows, ahead=ahead if event else [])
    places = [
        *decision.apply,
        *decision.behind,
        *decision.known,
        *decision.dropped,
        *(w for w, _ in decision.settled),
    ]
    assert sorted(map(id, places)) == sorted(map(id, works))
    held_by_key = {r.key: r for r in has if r.source == SOURCE and r.message_id}
    for one in decision.apply:
        before = held_by_key.get(one.message.key)
        assert one.force or before is None or one.message.version > before.version
        waiting = next((r for r in rows if r.key == one.message.key), None)
        assert one.parked or waiting is None or one.message.version > waiting.version
    if not event:
        keys = [one.message.key for one in decision.apply]
        assert len(set(keys)) == len(keys)
    assert all(one.parked is None for one in decision.known), "what is tried again is not merely known"
    assert not decision.behind or event


@settings(max_examples=200)
@given(works=WORKS, event=st.booleans())
def test_what_was_applied_and_is_held_now_is_never_applied_again_unless_forced(
    works: list[Work], event: bool
) -> None:
    first = decided(*works, event=event)
    newest: dict[str, Message] = {}
    for one in first.apply:
        newest[one.message.key] = max(one.message, newest.get(one.message.key, one.message), key=lambda m: m.version)
    has = [held(m.version.counter, m.key) for m in newest.values()]
    again = [Work(one.message, one.sequence) for one in first.apply]
    assert not decided(*again, event=event, has=has).apply
