"""What to do with a batch's messages at one target: pure, from what is held and parked there.

The rules are those of docs/architecture.md, "Delivering"; the models in tests/models show what goes
wrong without each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tieline.connector import HeldRow
from tieline.entity import Entity, digest
from tieline.errors import InDoubt, MissingReference, Reject, RetryLater, Unavailable
from tieline.ledger import ParkedRow
from tieline.message import Message, Outcome, Reason


class Work(msgspec.Struct, gc=False):
    """One message on its way into a target.

    `entity` is its data decoded, where that is at hand, or why it cannot be. `schema` is its data's version of
    the entity; 0 is this worker's own. `sequence` is its batch's number; `parked`
    its own parked row where it is a retry. `force` asks to write what is held already. `others` are
    held rows of the key from other sources.
    """

    message: Message
    sequence: int
    partition: int = 0
    force: bool = False
    parked: ParkedRow | None = None
    entity: Entity | Reject | None = None
    schema: int = 0
    held: HeldRow | None = None
    others: list[HeldRow] = []

    @property
    def target_id(self) -> str | None:
        """The target's own id of the key, from whichever source it is known."""
        for row in (self.held, *self.others):
            if row is not None and row.target_id is not None:
                return row.target_id
        return None

    @property
    def subject(self) -> str:
        """What orders this message among others."""
        return self.message.subject or self.message.key


@dataclass(slots=True)
class Decision:
    """What becomes of a batch: `apply` is to be written; the rest is settled.

    `settled` holds (work, outcome), "done" where it was applied before and not counted; `behind` must
    wait behind a parked event of their subject; `dropped` are a person's decisions to let a parked message go;
    `known` are redeliveries of what is parked already, which count as parked and nothing else;
    `same` say, in a new epoch, what is held already: only its version moves.
    """

    apply: list[Work] = field(default_factory=list)
    settled: list[tuple[Work, Outcome]] = field(default_factory=list)
    behind: list[Work] = field(default_factory=list)
    known: list[Work] = field(default_factory=list)
    dropped: list[Work] = field(default_factory=list)
    same: list[Work] = field(default_factory=list)


def decide(
    works: Sequence[Work],
    *,
    source: str,
    target: str,
    event: bool,
    held: Iterable[HeldRow],
    parked: Mapping[str, ParkedRow],
    blocked: Mapping[str, ParkedRow] = {},
    sure: bool = True,
    trusted: bool = False,
) -> Decision:
    """Sort a batch's messages, in order, by what is to be done with them.

    `parked` maps keys and `blocked` subjects (events only) to this leg's parked rows. `sure` says that
    nothing reaches the target without a trace in held: else a delete goes there in any case. `trusted` says
    that the target has what held says, also after a recovery.
    """
    by_key: dict[str, list[HeldRow]] = {}
    for row in held:
        by_key.setdefault(row.key, []).append(row)
    decision = Decision()
    for work in _once(works, decision) if event else _newest(works, decision):
        work.held, work.others = None, []
        for row in by_key.get(work.message.key, ()):
            if row.source == source:
                work.held = row
            else:
                work.others.append(row)
        if trusted and not event and _says_the_same(work):
            decision.same.append(work)
        else:
            _decide_one(work, decision, target, event, parked, blocked, sure)
    return decision


def _newest(works: Sequence[Work], decision: Decision) -> Iterable[Work]:
    """Only the newest version of each key of an Entity; a forced one stands in for its equal."""
    newest: dict[str, Work] = {}
    for work in works:
        key = work.message.key
        other = newest.get(key)
        if other is None:
            newest[key] = work
            continue
        older, newer = (other, work) if _rank(work) >= _rank(other) else (work, other)
        decision.settled.append((older, Outcome.SUPERSEDED))
        newest[key] = newer
    return newest.values()


def _once(works: Sequence[Work], decision: Decision) -> Iterable[Work]:
    """Each event once, where the first of it came; it may be sent twice at a time, as by a backfill."""
    first: dict[str, Work] = {}
    for work in works:
        other = first.setdefault(work.message.key, work)
        if other is work:
            continue
        kept, again = (work, other) if work.force and not other.force else (other, work)
        decision.settled.append((again, Outcome.UNCHANGED))
        first[work.message.key] = kept
    return first.values()


def _rank(work: Work) -> tuple[object, bool]:
    return (work.message.version, work.force)


def _decide_one(
    work: Work,
    decision: Decision,
    target: str,
    event: bool,
    parked: Mapping[str, ParkedRow],
    blocked: Mapping[str, ParkedRow],
    sure: bool,
) -> None:
    message, waits = work.message, parked.get(work.message.key)
    row = work.held if work.held is not None and work.held.message_id else None
    if row is not None:
        if (row.message_id == message.id or event) and not work.force:
            decision.settled.append((work, Outcome.DONE if _is_confirmed(work, row) else Outcome.UNCHANGED))
            return
        if message.version < row.version or (message.version == row.version and not work.force):
            decision.settled.append((work, Outcome.STALE))
            return
    if work.held is not None and message.version < work.held.claim_version:
        # A call with a newer message of this source was begun: it comes again, and must not be written over.
        decision.settled.append((work, Outcome.STALE))
        return
    if work.parked is None and waits is not None and message.version <= waits.version:
        if is_parked_as(work, waits):
            decision.known.append(work)
        else:
            same = waits.message_id == message.id
            decision.settled.append((work, Outcome.UNCHANGED if same else Outcome.STALE))
        return
    if message.origin == target:
        decision.settled.append((work, Outcome.ECHO))
        return
    if work.parked is not None and work.parked.decision == "drop":
        decision.dropped.append(work)
        return
    if event:
        ahead = blocked.get(work.subject)
        if ahead is not None and ahead.key != message.key and ahead.version < message.version:
            decision.behind.append(work)
            return
    there = row is not None or (work.held is not None and work.held.target_id is not None)
    if message.deleted and not there and sure and not _in_doubt(work, waits):
        decision.settled.append((work, Outcome.UNCHANGED))
        return
    decision.apply.append(work)


def _says_the_same(work: Work) -> bool:
    """Whether a message of a later epoch says what is held since an earlier one."""
    row, message = work.held, work.message
    if row is None or work.force or not row.message_id or row.version.epoch >= message.version.epoch:
        return False
    return row.deleted if message.deleted else bool(row.digest) and row.digest == digest(bytes(message.data))


def _is_confirmed(work: Work, row: HeldRow) -> bool:
    """Whether held has this very delivery: it was applied, and an outage or a crash came before it was counted."""
    return work.parked is None and row.sequence == work.sequence and row.message_id == work.message.id


def is_parked_as(work: Work, row: ParkedRow) -> bool:
    """Whether this row is this delivery, parked before a crash; a person may have edited it since."""
    return row.position == work.sequence and row.version[:2] == work.message.version[:2]


def _in_doubt(work: Work, waits: ParkedRow | None) -> bool:
    """Whether a call for this key was begun of which nobody knows what became."""
    return (waits is not None and waits.reason is Reason.DOUBT) or any(
        row is not None and row.claim for row in (work.held, *work.others)
    )


_REASONS: Final = (
    (MissingReference, Reason.REFERENCE),
    (InDoubt, Reason.DOUBT),
    (RetryLater, Reason.RETRY),
    (Unavailable, Reason.RETRY),
)


def reason_of(error: Exception) -> Reason:
    """Why a message that failed with this error is parked."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), Reason.DEAD)
