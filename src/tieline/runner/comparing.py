"""Compares messages that a leg has passed with what its target has of them; it only looks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tieline.connector import Change, HeldRow, Record
from tieline.entity import digest
from tieline.errors import MissingReference, RetryLater, TielineError
from tieline.ledger import Ledger, ParkedRow
from tieline.runner.applying import Desk
from tieline.runner.decide import Work
from tieline.runner.likeness import ABSENT, unlike
from tieline.runner.plan import LegPlan
from tieline.runner.readonly import ReadOnly
from tieline.runner.shadows import Difference, Verdict

CONTENT: Final = "(content)"


@dataclass(slots=True)
class Looked:
    """What came of a look at messages. `by_message` of those that are equal were compared by id and content alone."""

    verdicts: list[tuple[Work, Verdict]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    waiting: list[Work] = field(default_factory=list)
    by_message: set[bytes] = field(default_factory=set)  # ids


class Comparer:
    """Compares messages that a leg has passed with what its target has of them."""

    def __init__(self, plan: LegPlan, ledger: Ledger) -> None:
        self._target = None if plan.connector is None else ReadOnly(plan.connector)
        self._commits = plan.commits
        self._plan = replace(plan, connector=self._target)
        self._desk = Desk(self._plan, ledger)
        self._ledger = ledger

    async def look(self, works: Sequence[Work]) -> Looked:
        """Compare them.

        Raises:
            Unavailable, AccessRefused: the target cannot be asked now.
        """
        looked = Looked()
        leg = self._plan.name
        keys = list({work.message.key for work in works})
        parked = await self._ledger.transact(lambda s: {row.key: row for row in s.parked.by_key(leg, keys)})
        held = await self._held(self._plan.entity.__name__, keys)  # after what is parked: it may have left there
        there: list[Work] = []
        for work in works:
            work.held, work.others = self._rows(held, work.message.key)
            verdict = _before_reading(work, parked.get(work.message.key), self._plan.target)
            if verdict is not None:
                looked.verdicts.append((work, verdict))
            elif work.held is not None and work.held.version == work.message.version:
                there.append(work)
            else:
                looked.waiting.append(work)
        if there:
            await self._compare(there, looked)
        return looked

    async def _held(self, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        if self._commits and self._target is not None:
            return await self._target.held(entity, keys)
        held_in = self._plan.held_in
        return await self._ledger.transact(lambda s: s.held.get(held_in, entity, keys))

    def _rows(self, held: Iterable[HeldRow], key: str) -> tuple[HeldRow | None, list[HeldRow]]:
        rows = [row for row in held if row.key == key]
        own = [row for row in rows if row.source == self._plan.source.name]
        return own[0] if own else None, [row for row in rows if row.source != self._plan.source.name]

    async def _compare(self, works: Sequence[Work], looked: Looked) -> None:
        """Those of which the target has this very version."""
        found: dict[bytes, list[Difference]] = {work.message.id: _by_message(work) for work in works}
        changes, filtered = await self._changes(works, found, looked)
        records = await self._records(changes)
        keys = [work.message.key for work in works]
        now = {row.key: row for row in await self._held(self._plan.entity.__name__, keys) if self._is_own(row)}
        waiting = {id(work) for work in looked.waiting}
        for work in works:
            message = work.message
            if id(work) in waiting:
                continue
            if _has_moved(work.held, now.get(message.key)):
                looked.verdicts.append((work, Verdict.SUPERSEDED))
                continue
            if message.id in records:
                found[message.id] += _by_record(message.key, *records[message.id])
            elif message.id not in filtered:
                looked.by_message.add(message.id)
            different = found[message.id]
            looked.differences += different
            looked.verdicts.append((work, Verdict.DIFFERENT if different else Verdict.EQUAL))

    def _is_own(self, row: HeldRow) -> bool:
        return row.source == self._plan.source.name

    async def _changes(
        self, works: Sequence[Work], found: dict[bytes, list[Difference]], looked: Looked
    ) -> tuple[list[tuple[Work, Change]], set[bytes]]:
        """What these messages would have written, where that can be compared; and the ids of those filtered."""
        if self._plan.sink is None:
            return [], set()
        entities, wanted = self._desk.referred(works)
        ids = await self._desk.identities(wanted, self._held)
        changes: list[tuple[Work, Change]] = []
        filtered: set[bytes] = set()
        for work, entity in zip(works, entities, strict=True):
            try:
                change = self._desk.to_change(work, entity, ids)
            except (MissingReference, RetryLater):
                looked.waiting.append(work)
                continue
            except TielineError as error:
                found[work.message.id].append(Difference("(mapping)", work.message.key, str(error), "written"))
                continue
            if change is None:
                filtered.add(work.message.id)
                left = [one for one in found[work.message.id] if one.field != CONTENT]  # filtered: none is left there
                found[work.message.id] = left
            elif not work.others:  # else the row is not of this source alone
                changes.append((work, change))
        return changes, filtered

    async def _records(
        self, changes: Sequence[tuple[Work, Change]]
    ) -> dict[bytes, tuple[Record | None, Record | None]]:
        """Ours and theirs by message, of those whose row can be looked up."""
        sink, target = self._plan.sink, self._target
        if sink is None or target is None or not target.capabilities(sink.resource).lookup:
            return {}
        by_id = [(w, c, w.target_id) for w, c in changes if w.target_id is not None]
        by_match = [
            (w, c, w.message.key if c.record is None else str(c.record.get(sink.match)))
            for w, c in changes
            if w.target_id is None and sink.match is not None
        ]
        result: dict[bytes, tuple[Record | None, Record | None]] = {}
        for asked, by in ((by_id, None), (by_match, sink.match)):
            if asked:
                rows = await target.lookup(sink.resource, [value for _, _, value in asked], by)
                for (work, change, _), row in zip(asked, rows, strict=True):
                    result[work.message.id] = (change.record, row)
        return result


def _before_reading(work: Work, parked: ParkedRow | None, target: str) -> Verdict | None:
    """What can be said of a message that the leg has passed without looking at the target's row."""
    message, row = work.message, work.held
    if row is not None and max(row.claim_version, row.version) > message.version:
        return Verdict.SUPERSEDED
    if row is not None and row.message_id and row.version == message.version:
        return Verdict.EQUAL if message.origin == target and row.message_id == message.id else None
    if parked is not None and parked.version >= message.version:
        return None if parked.version[:2] == message.version[:2] else Verdict.SUPERSEDED
    return Verdict.EQUAL if message.deleted and row is None else Verdict.MISSING


def _by_message(work: Work) -> list[Difference]:
    """Whether what is held is this very message, by id and content."""
    message, row = work.message, work.held
    assert row is not None
    if row.message_id != message.id:
        return [Difference("(message)", message.key, message.id.hex(), row.message_id.hex())]
    if message.deleted or row.deleted:
        return [] if message.deleted and row.deleted else [_presence(message.key, there=row.deleted)]
    own = digest(bytes(message.data))
    return [] if row.digest == own else [Difference(CONTENT, message.key, own.hex(), row.digest.hex())]


def _by_record(key: str, ours: Record | None, theirs: Record | None) -> list[Difference]:
    """Where the target's row is not what the message would have written."""
    if ours is None:
        return [] if theirs is None else [_presence(key, there=False)]
    if theirs is None:
        return [_presence(key, there=True)]
    return [Difference(one.field, key, one.ours, one.theirs) for one in unlike(ours, theirs)]


def _presence(key: str, *, there: bool) -> Difference:
    ours, theirs = ("there", ABSENT) if there else (ABSENT, "there")
    return Difference("(row)", key, ours, theirs)


def _has_moved(before: HeldRow | None, now: HeldRow | None) -> bool:
    """Whether the target was given something else while it was read."""
    places = [(r.version, r.claim, r.claim_version) for r in (before, now) if r is not None]
    return len(places) < 2 or places[0] != places[1]
