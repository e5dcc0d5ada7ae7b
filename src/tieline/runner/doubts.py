"""What became of calls that were begun and never confirmed, and where the rows of deletes are.

"Found" counts at once, "none" only after the system's settling time: until then the cut-off call may
still land, also on top of a newer one. So a key in doubt waits, with whatever is newer. A call that
merely repeats what was begun does no harm and waits for nothing; the claim stays open behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from tieline.adapter import Sink
from tieline.connector import Change, Connector, HeldRow, Record
from tieline.errors import InDoubt, TielineError
from tieline.ledger import NEVER
from tieline.message import Reason, Version
from tieline.runner.applying import Desk, Waiting
from tieline.runner.decide import Work

log = structlog.get_logger()

_FORGOTTEN: Final = b"forgotten".ljust(16, b"\0")
"""The claim of a call that was perhaps made in the time that a recovered ledger has forgotten."""


class Unsettled(InDoubt):
    """Still in doubt; `until` is the ledger's time from which a look-up that finds nothing counts."""

    def __init__(self, reason: str, until: float) -> None:
        super().__init__(reason)
        self.until = until


@dataclass(slots=True)
class Call:
    """A work and what is asked of the target for it."""

    work: Work
    change: Change
    fresh: bool  # the target has no row of this key as far as anyone knows
    leaps: bool = False  # older versions of the key came with it, or are parked, and are passed over
    step: int = 0
    begun_at: float = 0.0  # when a call in doubt that this one repeats was claimed


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A call that may still land until then; `same` where to make this one is to repeat it, and no more.

    `lost` where it may have been made in a time that a recovered ledger has forgotten.
    """

    until: float
    same: bool
    lost: bool = False


class Doubts:
    """Asks one target about keys of one entity."""

    def __init__(self, desk: Desk, connector: Connector, sink: Sink) -> None:
        self._desk = desk
        self._connector = connector
        self._sink = sink
        facts = connector.capabilities(sink.resource)
        self._can_ask = facts.lookup
        self.can_find = facts.lookup and sink.match is not None
        self._by_key = facts.upsert

    async def settle(
        self, calls: Sequence[Call], waiting: Waiting, failures: dict[int, TielineError]
    ) -> tuple[list[Call], list[tuple[Work, str | None]]]:
        """The calls that may be made, and what needs none; the rest is in `failures`.

        None is needed for a delete whose row is not there, and for what stands there under this id.
        """
        doubts = {id(call): self._doubt(call.work, waiting) for call in calls}
        open_ = [call for call in calls if doubts[id(call)] is not None or self._lacks_row(call)]
        if not open_:
            return list(calls), []
        settled: list[tuple[Work, str | None]] = []
        nameless, known = [call for call in open_ if call.fresh], [call for call in open_ if not call.fresh]
        nameless += await self._settle_known(known, doubts, waiting.now, failures, settled)
        found = await self._find(nameless)
        for call in nameless:
            self._settle_nameless(call, doubts[id(call)], found.get(id(call)), waiting.now, failures, settled)
        out = failures.keys() | {id(work) for work, _ in settled}
        return [call for call in calls if id(call.work) not in out], settled

    async def settle_drops(
        self, works: Sequence[Work], waiting: Waiting, failures: dict[int, TielineError]
    ) -> list[tuple[Work, str | None]]:
        """What a person lets go, each with the target's id where a call for it landed after all.

        While it may still land it waits, so that nothing comes to stand behind it; the rest is in `failures`.
        """
        settled: list[Work] = []
        begun: list[Work] = []
        for work in works:
            until = self._may_land_until(work)
            if self.can_find and waiting.now < until:
                failures[id(work)] = self._not_yet(work, _Doubt(until, same=False))
                continue
            settled.append(work)
            if until and work.target_id is None:
                begun.append(work)
        ids = (
            await self._desk.ask_target(self._desk.leg.entity, [work.message.key for work in begun]) if begun else {}
        )
        landed = {id(work): ids.get(work.message.key) for work in begun}
        return [(work, landed.get(id(work))) for work in settled]

    def _may_land_until(self, work: Work) -> float:
        """Until when a call with this very message may land; 0 where none was begun."""
        if work.held is not None and work.held.claim:
            return work.held.claimed_at + self._desk.leg.settling if work.held.claim == work.message.id else 0.0
        row = work.parked
        return row.not_before if row is not None and row.reason is Reason.DOUBT else 0.0

    def _doubt(self, work: Work, waiting: Waiting) -> _Doubt | None:
        claim, lost = open_claim(work), self._may_be_lost(work, waiting)
        if claim is not None:
            same = claim.claim == work.message.id and not self._sink.steps and not lost
            return _Doubt(claim.claimed_at + self._desk.leg.settling, same, lost)
        row = waiting.by_key.get(work.message.key)
        if row is not None and row.reason is Reason.DOUBT and row.message_id != work.message.id:
            return _Doubt(row.not_before, same=False, lost=lost)
        return _Doubt(0.0, same=False, lost=True) if lost else None

    def marks(self, works: Sequence[Work], waiting: Waiting) -> list[HeldRow]:
        """Claims for keys of which the target was not asked yet: what follows must not pass for new."""
        lost, source = self._desk.forgotten, self._desk.leg.source.name
        return [
            msgspec.structs.replace(
                work.held or HeldRow(work.message.key, source, Version(0, 0), b""),
                claim=_FORGOTTEN,
                claimed_at=lost.at,
            )
            for work in works
            if lost and open_claim(work) is None and self._may_be_lost(work, waiting)
        ]

    def _may_be_lost(self, work: Work, waiting: Waiting) -> bool:
        """Whether a recovered ledger may not know of this key's row; where it is written by our key, no matter."""
        lost, claim = self._desk.forgotten, open_claim(work)
        if lost is None or (work.message.deleted and not self.can_find):
            return False
        if self._by_key and not self._sink.steps and not self._sink.frozen:
            return False
        if claim is not None and claim.claim == _FORGOTTEN:
            return True
        if self.can_find and work.target_id is None:
            return True  # a row may be left of a key that came and went before its source was read again
        in_step = work.held is not None and work.held.version.epoch >= lost.epoch
        return work.message.key in waiting.forgotten and not in_step

    def _lacks_row(self, call: Call) -> bool:
        """A delete of which nobody knows the row; where rows go by our keys, the key is enough."""
        return call.fresh and call.change.record is None and not self._by_key

    # -- rows whose id nobody knows ----------------------------------------------------------------

    async def _find(self, calls: Sequence[Call]) -> dict[int, Record]:
        match = self._sink.match
        if not calls or not self.can_find or match is None:
            return {}
        values = [_value(call, match) for call in calls]
        records = await self._connector.lookup(self._sink.resource, values, by=match)
        return {id(call): record for call, record in zip(calls, records, strict=True) if record is not None}

    def _settle_nameless(
        self,
        call: Call,
        doubt: _Doubt | None,
        record: Record | None,
        now: float,
        failures: dict[int, TielineError],
        settled: list[tuple[Work, str | None]],
    ) -> None:
        work, settings = call.work, self._desk.leg.settings
        deleting = call.change.record is None
        if record is not None:
            assert settings is not None
            target_id = settings.identify(self._sink.resource, record)
            call.change = msgspec.structs.replace(call.change, target_id=target_id)
            call.fresh = False
            if doubt is not None and doubt.lost:
                self._let_stand(call, record, settled)
            elif doubt is not None:
                if now < doubt.until and not doubt.same and not self._has_landed(record, deleting):
                    failures[id(work)] = self._not_yet(work, doubt)
                else:
                    log.warning("doubt settled: it took effect", leg=self._desk.leg.name, key=work.message.key)
        elif doubt is not None and not self.can_find and (not self._by_key or self._sink.steps):
            if not _looked_by_person(work):
                failures[id(work)] = self._nobody_knows(work)
            elif deleting:
                settled.append((work, None))
        elif doubt is not None and now < doubt.until and not (doubt.same and self._by_key):
            failures[id(work)] = self._not_yet(work, doubt)
        elif deleting and not self._by_key:
            settled.append((work, None))

    # -- rows whose id is known -----------------------------------------------------------------------

    async def _settle_known(
        self,
        calls: Sequence[Call],
        doubts: dict[int, _Doubt | None],
        now: float,
        failures: dict[int, TielineError],
        settled: list[tuple[Work, str | None]],
    ) -> list[Call]:
        """Gives those whose row is gone and may be there again, under an id that a recovered ledger does not know."""
        asked: list[Call] = []
        again: list[Call] = []
        for call in calls:
            doubt = doubts[id(call)]
            if doubt is None:
                continue
            if doubt.same:
                call.begun_at = doubt.until - self._desk.leg.settling
            elif now < doubt.until:
                failures[id(call.work)] = self._not_yet(call.work, doubt)
            else:
                asked.append(call)
        if not asked or not self._can_ask:
            return again
        ids = [call.change.target_id or "" for call in asked]
        for call, record in zip(asked, await self._connector.lookup(self._sink.resource, ids), strict=True):
            doubt = doubts[id(call)]
            lost = doubt is not None and doubt.lost
            if record is not None:
                if lost:
                    self._let_stand(call, record, settled)
                continue
            if call.change.record is None and not lost:
                settled.append((call.work, None))
            else:  # the call in doubt was a delete
                call.change = msgspec.structs.replace(call.change, target_id=None, version_tag=None)
                call.fresh, call.step = True, 0
                if lost:
                    again.append(call)
        return again

    def _let_stand(self, call: Call, record: Record, settled: list[tuple[Work, str | None]]) -> None:
        """What must not change once it is complete, and is complete, was so in the time that is forgotten."""
        if self._sink.frozen and call.change.record is not None and self._finished(record):
            settled.append((call.work, call.change.target_id))

    def _has_landed(self, record: Record, deleting: bool) -> bool:
        """Whether a record proves that nothing of the call is under way any more.

        Where rows go by our keys it may have been there before; after a create its steps may follow.
        """
        return not self._by_key and (deleting or self._finished(record))

    def _finished(self, record: Record) -> bool:
        return all(step.done_when is not None and step.done_when(record) for step in self._sink.steps)

    def _not_yet(self, work: Work, doubt: _Doubt) -> Unsettled:
        what = f"a call for {work.message.key!r} was cut off and may still reach {self._desk.leg.target}"
        return Unsettled(what, doubt.until)

    def _nobody_knows(self, work: Work) -> Unsettled:
        return Unsettled(
            f"{self._desk.leg.target} may or may not have {work.message.key!r} and cannot be asked; "
            "look there, then: tieline parked replay (it is not there) or drop (it is)",
            NEVER,
        )


def open_claim(work: Work) -> HeldRow | None:
    """The key's open claim, whoever's it is."""
    return next((row for row in (work.held, *work.others) if row is not None and row.claim), None)


def _looked_by_person(work: Work) -> bool:
    """Whether a person has looked where we cannot, and says that a call in doubt took no effect."""
    row = work.parked
    return row is not None and row.reason is Reason.DOUBT and row.decision in {"replay", "edit"}


def _value(call: Call, match: str) -> str:
    """What finds the row at the target; a delete has only the key, which is what `match` holds."""
    message, record = call.work.message, call.change.record
    return message.key if message.deleted or record is None else str(record.get(match))
