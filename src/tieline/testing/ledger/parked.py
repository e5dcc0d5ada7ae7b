"""Parked messages: the newest of each key waits, and a person's decision is never overwritten."""

from functools import partial
from itertools import pairwise

import msgspec
import pytest

from tieline.ledger import NEVER, LegRow, ParkedRow, Stores
from tieline.message import Reason, Version, pack_message, unpack_message
from tieline.testing.ledger.bench import Bench, Suite
from tieline.testing.ledger.samples import HOSTILE, leg, message, parked

LEG = "orders→erp"


def _put(bench: Bench, *rows: ParkedRow) -> list[ParkedRow]:
    return bench(lambda stores: stores.parked.put(rows))


def _there(bench: Bench, key: str = "a") -> list[ParkedRow]:
    return bench(lambda stores: stores.parked.by_key(LEG, [key]))


def _decide(bench: Bench, row: ParkedRow, decision: str, data: bytes = b"") -> bool:
    return bench(lambda stores: stores.parked.decide(row.leg, row.key, row.message_id, decision, "ann", data))


class ParkedKept(Suite):
    """What `Stores.parked` promises."""

    def test_a_row_comes_back_whole(self, bench: Bench) -> None:
        """Every field, and the message byte for byte."""
        row = parked(
            "a",
            counter=2**40,
            edit=2,
            reason=Reason.REFERENCE,
            subject="meter 1",
            attempt=3,
            not_before=12.5,
            waits_for=("Customer", "4711"),
            partition=3,
            position=2**40,
            decision="replay",
            decided_by="ann",
        )
        assert _put(bench, row) == []
        assert _there(bench) == [row]

    def test_a_row_without_a_time_is_parked_now(self, bench: Bench) -> None:
        """The ledger's clock says when; a retry of the same message keeps the time it was first parked."""
        before = bench(lambda stores: stores.now())
        _put(bench, parked("a", parked_at=0.0))
        (row,) = _there(bench)
        assert before <= row.parked_at <= bench(lambda stores: stores.now())
        _put(bench, parked("a", parked_at=0.0, attempt=1))
        assert _there(bench)[0].parked_at == row.parked_at

    def test_a_newer_message_replaces_an_older_one(self, bench: Bench) -> None:
        """The older one is given back, for it is superseded."""
        _put(bench, parked("a", 1))
        assert _put(bench, parked("a", 2)) == [parked("a", 1)]
        assert _there(bench) == [parked("a", 2)]

    def test_an_older_message_replaces_nothing(self, bench: Bench) -> None:
        """What comes late stays away; the newer row is untouched."""
        _put(bench, parked("a", 2))
        assert _put(bench, parked("a", 1)) == []
        assert _there(bench) == [parked("a", 2)]

    def test_another_message_of_the_same_version_replaces_nothing(self, bench: Bench) -> None:
        """Equal is not newer."""
        _put(bench, parked("a", 1))
        other = parked("a", 1, message_id=b"another message.", error="other")
        assert _put(bench, other) == []
        assert _there(bench) == [parked("a", 1)]

    def test_versions_compare_by_epoch_then_counter_then_edit(self, bench: Bench) -> None:
        """An edit is newer than its original, a later counter than any edit, a later epoch than any counter."""
        versions = [Version(1, 9, 0), Version(1, 9, 5), Version(1, 10, 0), Version(2, 1, 0)]
        rows = [parked("a", version=v, message_id=bytes([n]) * 16) for n, v in enumerate(versions)]
        for older, newer in pairwise(rows):
            _put(bench, newer)
            assert _put(bench, older) == []
            assert _there(bench) == [newer]

    def test_a_retry_updates_its_own_row(self, bench: Bench) -> None:
        """The same message parked again has its new attempt, time, reason and error."""
        _put(bench, parked("a"))
        again = parked("a", reason=Reason.DEAD, attempt=9, not_before=99.0, error="gave up")
        assert _put(bench, again) == []
        assert _there(bench) == [again]

    def test_a_retry_does_not_overwrite_a_decision(self, bench: Bench) -> None:
        """What a person decided in the meantime stays."""
        _put(bench, parked("a"))
        assert _decide(bench, parked("a"), "drop")
        _put(bench, parked("a", attempt=1, error="failed again"))
        (row,) = _there(bench)
        assert (row.decision, row.decided_by, row.attempt) == ("drop", "ann", 0)

    def test_a_newer_message_outdates_a_decision(self, bench: Bench) -> None:
        """A decision is about one message; the next one is a new case."""
        _put(bench, parked("a", 1))
        _decide(bench, parked("a", 1), "drop")
        (superseded,) = _put(bench, parked("a", 2))
        assert superseded.decision == "drop"
        assert _there(bench) == [parked("a", 2)]

    def test_a_decision_names_its_message(self, bench: Bench) -> None:
        """Where another message waits by now, nothing is decided, and the person is told."""
        _put(bench, parked("a", 2))
        assert not _decide(bench, parked("a", 1), "drop")
        assert not _decide(bench, parked("b", 1), "drop")
        assert _there(bench)[0].decision == ""

    def test_an_edit_puts_a_newer_message_in_the_row(self, bench: Bench) -> None:
        """Id, version and message are the edited one's, so that the redelivered original is stale."""
        _put(bench, parked("a", 5, subject="s"))
        edited = msgspec.structs.replace(message("a", 5, edit=1), data=msgspec.Raw(b'{"a":2}'), subject="s")
        assert _decide(bench, parked("a", 5), "edit", pack_message(edited))
        (row,) = _there(bench)
        assert (row.message_id, row.version, row.subject) == (edited.id, edited.version, "s")
        assert unpack_message(row.message) == edited
        assert _put(bench, parked("a", 5)) == []
        assert not _decide(bench, parked("a", 5), "drop")

    def test_within_one_call_the_newest_counts(self, bench: Bench) -> None:
        """Several messages of a key in one batch leave the newest, whatever their order, and give back the rest."""
        superseded = _put(bench, parked("a", 1), parked("a", 3), parked("a", 2), parked("b", 1))
        assert superseded == [parked("a", 1)]
        assert _there(bench) == [parked("a", 3)]

    def test_legs_do_not_mix(self, bench: Bench) -> None:
        """A key may be parked at one target and be well at another."""
        _put(bench, parked("a"), parked("a", leg="orders→crm", error="other"))
        assert _there(bench) == [parked("a")]
        assert bench(lambda stores: stores.parked.remove("orders→crm", [("a", parked("a").message_id)])) == 1
        assert _there(bench) == [parked("a")]

    def test_removing_names_the_message(self, bench: Bench) -> None:
        """A row that holds another message by now stays; the number of rows removed is told."""
        _put(bench, parked("a", 2), parked("b", 1), parked("c", 1))
        ids = [("a", parked("a", 1).message_id), ("b", parked("b", 1).message_id), ("x", b"x" * 16)]
        assert bench(lambda stores: stores.parked.remove(LEG, ids)) == 1
        assert [row.key for row in bench(lambda stores: stores.parked.list(LEG))] == ["a", "c"]
        assert bench(lambda stores: stores.parked.remove(LEG, [])) == 0

    def test_rows_are_due_by_time_or_by_decision(self, bench: Bench) -> None:
        """Retries and doubts whose time has come, and whatever was decided; nothing else."""
        decided = [parked(f"decided {r.value}", reason=r, decision="replay", not_before=1e12) for r in Reason]
        due = [
            parked("retry", reason=Reason.RETRY, not_before=10),
            parked("doubt", reason=Reason.DOUBT, not_before=9),
        ]
        others = [
            parked("later", reason=Reason.RETRY, not_before=10.5),
            parked("dead", reason=Reason.DEAD),
            parked("reference", reason=Reason.REFERENCE),
            parked("order", reason=Reason.ORDER),
            parked("another leg", leg="orders→crm"),
        ]
        _put(bench, *decided, *due, *others)
        found = bench(lambda stores: stores.parked.due(LEG, 10.0, 100))
        assert {row.key for row in found} == {row.key for row in [*decided, *due]}

    def test_the_longest_due_come_first(self, bench: Bench) -> None:
        """In order of their time, and of their version where that is the same; as many as asked for."""
        rows = [parked("c", 3, not_before=5), parked("a", 4, not_before=7), parked("b", 1, not_before=7)]
        _put(bench, *rows, parked("d", 2, not_before=9))
        found = bench(lambda stores: stores.parked.due(LEG, 100.0, 3))
        assert [row.key for row in found] == ["c", "b", "a"]

    def test_rows_that_wait_for_something_are_told_in_order(self, bench: Bench) -> None:
        """For a reference, or behind another event: oldest version first."""
        rows = [
            parked("c", 3, reason=Reason.ORDER),
            parked("a", 1, reason=Reason.REFERENCE, waits_for=("Customer", "1")),
            parked("b", 2, reason=Reason.ORDER),
        ]
        _put(bench, *rows, parked("d", 4), parked("e", 1, reason=Reason.DEAD))
        assert [row.key for row in bench(lambda stores: stores.parked.waiting(LEG, 10))] == ["a", "b", "c"]
        assert [row.key for row in bench(lambda stores: stores.parked.waiting(LEG, 2))] == ["a", "b"]

    def test_a_reference_that_arrives_wakes_who_waits_for_it(self, bench: Bench) -> None:
        """In every leg to that target, for that entity and key, at once; and nobody else."""
        for name, target in _LEGS.items():
            bench(partial(_put_leg, row=leg(name, target)))
        waits = parked("a", reason=Reason.REFERENCE, waits_for=("Customer", "1"), not_before=1e12)
        _put(bench, *(msgspec.structs.replace(waits, leg=name) for name in _LEGS))
        _put(
            bench,
            parked("other key", reason=Reason.REFERENCE, waits_for=("Customer", "2")),
            parked("other entity", reason=Reason.REFERENCE, waits_for=("Product", "1")),
            parked("dead", reason=Reason.DEAD, waits_for=("Customer", "1")),
            parked("later", reason=Reason.RETRY, waits_for=("Customer", "1"), not_before=1e12),
        )
        assert bench(lambda stores: stores.parked.wake("erp", "Customer", ["1", "3"])) == 2
        due = {name: bench(partial(_due_now, leg=name)) for name in _LEGS}
        assert {name: [row.key for row in rows] for name, rows in due.items()} == {
            LEG: ["a"],
            "invoices→erp": ["a"],
            "orders→crm": [],
        }
        assert due[LEG][0].reason is Reason.RETRY
        assert bench(lambda stores: stores.parked.wake("erp", "Customer", ["1"])) == 0
        assert bench(lambda stores: stores.parked.wake("erp", "Customer", [])) == 0

    def test_rows_are_found_by_subject_in_order(self, bench: Bench) -> None:
        """All events of a subject, oldest version first."""
        rows = [parked("r2", 2, subject="m"), parked("r1", 1, subject="m"), parked("r3", 3, subject="n")]
        _put(bench, *rows, parked("r4", 4, subject="m", leg="orders→crm"))
        assert [row.key for row in bench(lambda stores: stores.parked.by_subject(LEG, ["m"]))] == ["r1", "r2"]
        assert [row.key for row in bench(lambda stores: stores.parked.by_subject(LEG, ["m", "n"]))] == [
            "r1",
            "r2",
            "r3",
        ]
        assert bench(lambda stores: stores.parked.by_subject(LEG, [])) == []

    def test_lists_and_counts(self, bench: Bench) -> None:
        """By leg, by reason or all of it, oldest first; counted by reason."""
        _put(
            bench,
            parked("a", reason=Reason.DEAD, parked_at=3.0),
            parked("b", reason=Reason.DEAD, parked_at=1.0),
            parked("c", reason=Reason.RETRY, parked_at=2.0),
            parked("d", reason=Reason.DEAD, parked_at=0.5, leg="orders→crm"),
        )
        assert [row.key for row in bench(lambda stores: stores.parked.list())] == ["d", "b", "c", "a"]
        assert [row.key for row in bench(lambda stores: stores.parked.list(LEG, Reason.DEAD))] == ["b", "a"]
        assert [row.key for row in bench(lambda stores: stores.parked.list(None, Reason.DEAD, 2))] == ["d", "b"]
        assert bench(lambda stores: stores.parked.counts(LEG)) == {Reason.DEAD: 2, Reason.RETRY: 1}
        assert bench(lambda stores: stores.parked.counts("nobody's")) == {}
        assert bench(lambda stores: stores.parked.all_counts())[LEG] == {Reason.DEAD: 2, Reason.RETRY: 1}

    def test_what_waits_for_a_person_is_counted(self, bench: Bench) -> None:
        """As the rows say of themselves."""
        rows = [
            parked("a", reason=Reason.DEAD),
            parked("b", reason=Reason.DEAD, decision="replay"),
            parked("c", reason=Reason.DOUBT, not_before=NEVER),
            parked("d", reason=Reason.DOUBT, not_before=2_000_000_000.0),
            parked("e", reason=Reason.RETRY, not_before=NEVER),
        ]
        _put(bench, *rows, parked("f", reason=Reason.DEAD, leg="orders→crm"))
        assert [row.key for row in rows if row.for_a_person] == ["a", "c"]
        assert bench(lambda stores: stores.parked.for_a_person(LEG)) == 2
        assert bench(lambda stores: stores.parked.for_a_person("nobody's")) == 0

    @pytest.mark.parametrize("crowd", [0, 300])
    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
    def test_any_text_can_be_parked(self, bench: Bench, text: str, crowd: int) -> None:
        """Keys, subjects and references come back as they were; an error's text stays readable."""
        bench(lambda stores: stores.legs.put(leg()))
        row = parked("a", subject=f"s {text}", reason=Reason.REFERENCE, waits_for=("Customer", text))
        row = msgspec.structs.replace(row, key=text)
        _put(bench, *(parked(f"{n}") for n in range(crowd)), msgspec.structs.replace(row, error=text))
        (found,) = _there(bench, text)
        assert msgspec.structs.replace(found, error=row.error) == row
        assert len(found.error) == len(text)
        assert bench(lambda stores: stores.parked.by_subject(LEG, [f"s {text}"])) == [found]
        assert bench(lambda stores: stores.parked.wake("erp", "Customer", [text])) == 1
        assert _decide(bench, row, "drop")
        assert bench(lambda stores: stores.parked.remove(LEG, [(text, row.message_id)])) == 1


def _put_leg(stores: Stores, row: LegRow) -> None:
    stores.legs.put(row)


def _due_now(stores: Stores, leg: str) -> list[ParkedRow]:
    return stores.parked.due(leg, stores.now(), 100)


_LEGS = {LEG: "erp", "invoices→erp": "erp", "orders→crm": "crm"}


class StirringKept(Suite):
    """What `Stores.parked.stirring` promises: it names exactly the legs that have something to do."""

    def _stirring(self, bench: Bench, now: float = 100.0) -> list[str]:
        return sorted(bench(lambda stores: stores.parked.stirring(now)))

    def test_a_leg_stirs_when_a_retry_is_due(self, bench: Bench) -> None:
        """From its time on; what is to be tried later, or never, stirs nobody."""
        _put(
            bench,
            parked("a", leg="early", not_before=99.0),
            parked("b", leg="early", not_before=99.5),
            parked("a", leg="late", not_before=101.0),
            parked("a", leg="doubt", reason=Reason.DOUBT, not_before=100.0),
            parked("a", leg="never", reason=Reason.DOUBT, not_before=NEVER),
            parked("a", leg="dead", reason=Reason.DEAD),
        )
        assert self._stirring(bench, 98.0) == []
        assert self._stirring(bench) == ["doubt", "early"]
        assert self._stirring(bench, 200.0) == ["doubt", "early", "late"]

    def test_a_leg_stirs_when_somebody_has_decided(self, bench: Bench) -> None:
        """Whatever it waited for."""
        _put(bench, parked("a", reason=Reason.DEAD), parked("a", leg="other", reason=Reason.DEAD))
        _decide(bench, parked("a"), "drop")
        assert self._stirring(bench) == [LEG]

    def test_a_leg_stirs_when_a_reference_is_to_be_asked_for_again(self, bench: Bench) -> None:
        """From its time on."""
        _put(
            bench,
            parked("a", reason=Reason.REFERENCE, not_before=99.0, waits_for=("Customer", "1")),
            parked("a", leg="late", reason=Reason.REFERENCE, not_before=101.0, waits_for=("Customer", "1")),
        )
        assert self._stirring(bench) == [LEG]

    def test_a_leg_stirs_when_an_event_is_first_of_its_subject(self, bench: Bench) -> None:
        """Not while an earlier one is parked, whatever that waits for."""
        _put(
            bench,
            parked("a", 1, reason=Reason.DEAD, subject="meter 1"),
            parked("b", 2, reason=Reason.ORDER, subject="meter 1"),
            parked("c", 3, reason=Reason.ORDER, subject="meter 1"),
        )
        assert self._stirring(bench) == []
        bench(lambda stores: stores.parked.remove(LEG, [("a", parked("a", 1).message_id)]))
        assert self._stirring(bench) == [LEG]
