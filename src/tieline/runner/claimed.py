"""Targets without transactions: claim, call, confirm; held lives in the ledger.

A claim is kept before a call that cannot be repeated harmlessly, and closed by the commit that
confirms it. Whoever finds a claim open asks the target what became of the call: "found" counts at
once, "none" only after the system's settling time; nothing is ever tried again blindly.
"""

import asyncio
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from tieline.adapter import Sink
from tieline.connector import Connector, HeldRow, LegState, Record, Result, guarding
from tieline.errors import (
    NO_MESSAGES_FAULT,
    AccessRefused,
    Fenced,
    InDoubt,
    RetryLater,
    TielineError,
    Unavailable,
)
from tieline.ledger import Stores
from tieline.message import Outcome, Version
from tieline.runner.applying import Behind, Desk, Holding, PutOff, Settlement, Waiting, moved
from tieline.runner.breaking import BrokenOff
from tieline.runner.decide import Work
from tieline.runner.doubts import Call, Doubts, Unsettled, open_claim
from tieline.runner.gaps import Gap, gap
from tieline.runner.watches import Watch, Watches, flag_late, watched

log = structlog.get_logger()

_SLICE: Final = 50  # calls in flight that one kill can leave in doubt
_FEW: Final = 4  # calls in a slice at least
_LASTS: Final = 0.5  # seconds that a slice should last at most, for a worker that is called away leaves after one
_PROOF: Final = 1.0  # seconds; leases live much longer than that


class ClaimedApplier:
    """Applies a batch by calls, in slices, each claimed and confirmed in the ledger."""

    def __init__(self, desk: Desk, connector: Connector) -> None:
        self._desk = desk
        self._connector = connector
        assert desk.leg.sink is not None
        self._sink: Sink = desk.leg.sink
        facts = connector.capabilities(self._sink.resource)
        self._claims = not facts.upsert or bool(self._sink.steps)
        self._can_ask = facts.lookup
        self._doubts = Doubts(desk, connector, self._sink)
        self._watches = Watches(desk, connector, self._sink)
        self._watched: dict[str, Watch] = {}
        self._least = self._slice = min(_SLICE, max(_FEW, facts.bulk))  # calls in a slice
        self._proved = 0.0  # when a fenced commit last proved that the leases are ours, by the loop's clock

    async def meet(self, holding: Holding) -> None:
        """See `Applier`. What such a target has of ours is in the ledger."""

    async def apply(
        self, works: Sequence[Work], moves: Mapping[int, LegState], holding: Holding, waiting: Waiting
    ) -> None:
        """See `Applier`."""
        desk, entity = self._desk, self._desk.leg.entity.__name__
        keys = list({w.message.key for w in works})
        held, self._watched = await desk.ledger.transact(
            lambda s: (s.held.get(desk.leg.held_in, entity, keys), watched(s, desk.leg.name))
        )
        decision = desk.decide(
            works,
            held,
            waiting,
            sure=self._claims and not (desk.forgotten and self._doubts.can_find),
            trusted=bool(self._sink.frozen),
        )
        final = Settlement()
        desk.settle(decision, waiting, final)
        failures: dict[int, TielineError] = {id(w): Behind(w.subject) for w in decision.behind}
        for work, landed in await self._doubts.settle_drops(decision.dropped, waiting, failures):
            if landed is None:
                desk.done(work, desk.passed_over(work, waiting.now), Outcome.DROPPED, waiting, final)
            else:
                desk.done(work, desk.held_row(work, waiting.now, landed), Outcome.DONE, waiting, final)
        passed_over = {w.message.key for w, outcome in decision.settled if outcome is Outcome.SUPERSEDED}
        writing = await self._put_off(decision.apply, waiting, failures, final)
        calls = await self._calls(writing, passed_over, waiting, failures, final)
        final.held += self._doubts.marks([work for work in decision.apply if id(work) in failures], waiting)
        calls, settled = await self._doubts.settle(calls, waiting, failures)
        for work, target_id in settled:
            desk.done(work, desk.held_row(work, waiting.now, target_id), Outcome.UNCHANGED, waiting, final)
        absent = [work for work, target_id in settled if target_id is None]
        calls = self._in_order(decision.apply, calls, failures)
        made = 0
        for piece in self._slices(calls, failures):
            await self._call(piece, waiting, failures, final, holding)
            made += len(piece)
            if made < len(calls) and await holding.called_away():
                raise BrokenOff
        asked = [*decision.behind, *decision.dropped, *decision.apply]
        final.parked = [desk.park(w, failures[id(w)], waiting.now) for w in asked if id(w) in failures]
        final.asked = desk.resends(absent, 0.0)
        watches = self._watches_of(((work, None, None) for work in absent), waiting)
        new = moved(moves, holding.states, holding.tokens, final)

        def finish(stores: Stores) -> None:
            self._keep(stores, final.held, absent)
            self._watches.keep(stores, watches)
            desk.write_down(stores, final)
            self._recheck(stores, final)
            stores.legs.move(desk.leg.name, holding.channel, new)

        await gap(Gap.CONFIRMED)
        await desk.ledger.transact(finish, holding.fences())
        holding.states.update(new)
        await gap(Gap.MOVED)
        if watches:
            await self._watches.read_back(watches, holding)

    async def look_again(self, watches: Sequence[Watch], holding: Holding) -> None:
        """Look for what was written late."""
        await self._watches.look(watches, holding)

    def _keep(self, stores: Stores, rows: Sequence[HeldRow], settled: Sequence[Work]) -> None:
        """Put what is held now; others' rows are looked at here, since their legs may have moved them meanwhile."""
        leg, entity = self._desk.leg, self._desk.leg.entity.__name__
        stores.held.put(leg.held_in, entity, rows)
        if gone := [work for work in settled if self._desk.drops_row(work)]:
            there = stores.held.get(leg.held_in, entity, [work.message.key for work in gone])
            stores.held.put(leg.held_in, entity, self._desk.without_row(gone, there))

    async def _put_off(
        self, works: Sequence[Work], waiting: Waiting, failures: dict[int, TielineError], final: Settlement
    ) -> list[Work]:
        """What may be written. After a recovery, older values give way to those that its sources are read to give."""
        desk, lost = self._desk, self._desk.forgotten
        old = [
            work
            for work in works
            if lost and work.message.version.epoch < lost.epoch and work.message.key in waiting.forgotten
        ]
        if lost is None or not old or desk.event:
            return list(works)
        source, keys = desk.leg.source.name, [work.message.key for work in old]
        rows = await desk.ledger.transact(lambda s: s.seen.by_key(source, keys))
        given = {row.key for row in rows if row.version.epoch >= lost.epoch}
        left_out: set[int] = set()
        for work in old:
            if work.message.key in given:
                left_out.add(id(work))
                if work.parked is None:
                    final.count(work, Outcome.SUPERSEDED)
                else:
                    final.unparked.append((work.parked, Outcome.SUPERSEDED))
            elif not lost.ends:
                left_out.add(id(work))
                failures[id(work)] = PutOff(source)
        return [work for work in works if id(work) not in left_out]

    async def _held(self, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        target = self._desk.leg.held_in
        return await self._desk.ledger.transact(lambda s: s.held.get(target, entity, keys))

    def _recheck(self, stores: Stores, final: Settlement) -> None:
        """What a message waits for may have come while it was on its way among the parked."""
        leg = self._desk.leg
        for row in final.parked:
            if row.waits_for is not None:
                name, key = row.waits_for
                if any(r.target_id is not None and not r.deleted for r in stores.held.get(leg.held_in, name, [key])):
                    stores.parked.wake(leg.target, name, [key])

    # -- what to call --------------------------------------------------------------------------------

    async def _calls(
        self,
        works: Sequence[Work],
        passed_over: Container[str],
        waiting: Waiting,
        failures: dict[int, TielineError],
        final: Settlement,
    ) -> list[Call]:
        desk = self._desk
        entities, wanted = desk.referred(works)
        ids = await desk.identities(wanted, self._held)
        calls = []
        for work, entity in zip(works, entities, strict=True):
            try:
                change = desk.to_change(work, entity, ids)
            except TielineError as error:
                failures[id(work)] = error
                continue
            if change is None:
                desk.done(work, desk.passed_over(work, waiting.now), Outcome.FILTERED, waiting, final)
            else:
                step = work.held.step if work.held else 0
                parked = waiting.by_key.get(work.message.key)
                leaps = work.message.key in passed_over or (parked is not None and parked is not work.parked)
                calls.append(Call(work, change, fresh=change.target_id is None, leaps=leaps, step=step))
        return calls

    def _in_order(
        self, works: Sequence[Work], calls: Sequence[Call], failures: dict[int, TielineError]
    ) -> list[Call]:
        """Events whose earlier one of the same subject cannot be called for must wait behind it."""
        if not self._desk.event or not failures:
            return list(calls)
        stuck: set[str] = set()
        for work in works:
            if id(work) in failures:
                stuck.add(work.subject)
            elif work.subject in stuck:
                failures[id(work)] = Behind(work.subject)
        return [call for call in calls if id(call.work) not in failures]

    def _slices(self, calls: Sequence[Call], failures: dict[int, TielineError]) -> Iterator[list[Call]]:
        """Calls in slices; of an event's subject one at a time, and none after a failed one."""
        if not self._desk.event:
            start = 0
            while start < len(calls):
                end = start + self._slice
                yield list(calls[start:end])
                start = end
            return
        rest = list(calls)
        while rest:
            piece: list[Call] = []
            later: list[Call] = []
            subjects: set[str] = set()
            for call in rest:
                if call.work.subject in subjects or len(piece) == self._slice:
                    later.append(call)
                else:
                    subjects.add(call.work.subject)
                    piece.append(call)
            yield piece
            stuck = {call.work.subject for call in piece if id(call.work) in failures}
            for call in later:
                if call.work.subject in stuck:
                    failures[id(call.work)] = Behind(call.work.subject)
            rest = [call for call in later if call.work.subject not in stuck]

    # -- claim, call, confirm --------------------------------------------------------------------------

    async def _call(
        self,
        calls: list[Call],
        waiting: Waiting,
        failures: dict[int, TielineError],
        final: Settlement,
        holding: Holding,
    ) -> None:
        if self._claims:
            calls = await self._claim(calls, failures, holding)
            await gap(Gap.CLAIMED)
        elif leaps := [call for call in calls if call.leaps]:
            await self._announce(leaps, holding)
            await gap(Gap.CLAIMED)
        if not calls:
            return
        await self._prove(holding)
        begun = asyncio.get_running_loop().time()
        with guarding(partial(self._prove, holding)):
            results = await self._unless_down(await self._write(calls))
        lasted = asyncio.get_running_loop().time() - begun
        self._slice = max(self._least, min(_SLICE, round(len(calls) * _LASTS / max(lasted, 0.001))))
        outage = await self._confirm(calls, results, waiting, failures, final, holding)
        if outage is not None:
            raise outage

    async def _prove(self, holding: Holding) -> None:
        """A call is not begun by a worker that stood still meanwhile and may have been taken over."""
        now = asyncio.get_running_loop().time()
        if now - self._proved > _PROOF:
            await self._desk.ledger.transact(lambda stores: None, holding.fences())
            self._proved = now

    async def _claim(self, calls: list[Call], failures: dict[int, TielineError], holding: Holding) -> list[Call]:
        """Claim keys, unless somebody else's claim came between; that key is then in doubt."""
        desk, entity = self._desk, self._desk.leg.entity.__name__
        settling = desk.leg.settling

        def claim(stores: Stores) -> dict[str, float]:
            keys = [call.work.message.key for call in calls]
            now = stores.now()
            taken: dict[str, float] = {}
            before = {call.work.message.key: open_claim(call.work) for call in calls}
            for row in stores.held.get(desk.leg.held_in, entity, keys):
                known = before[row.key]
                if row.claim and (known is None or (known.claim, known.claimed_at) != (row.claim, row.claimed_at)):
                    taken[row.key] = row.claimed_at + settling
            rows = [self._claimed(call, now) for call in calls if call.work.message.key not in taken]
            stores.held.put(desk.leg.held_in, entity, rows)
            return taken

        begun = asyncio.get_running_loop().time()
        taken = await desk.ledger.transact(claim, holding.fences())
        self._proved = begun
        for call in calls:
            until = taken.get(call.work.message.key)
            if until is not None:
                failures[id(call.work)] = Unsettled("another call for this key is under way", until)
        return [call for call in calls if call.work.message.key not in taken]

    async def _announce(self, calls: Sequence[Call], holding: Holding) -> None:
        """Name versions that leave older ones behind: whoever takes over may be given those by themselves."""
        desk, entity = self._desk, self._desk.leg.entity.__name__
        keys = [call.work.message.key for call in calls]

        def announce(stores: Stores) -> None:
            now = stores.now()
            rows = stores.held.get(desk.leg.held_in, entity, keys)
            there = {row.key: row for row in rows if row.source == desk.leg.source.name}
            begun = [(there.get(call.work.message.key) or self._unheld(call.work), call.work) for call in calls]
            named = [
                msgspec.structs.replace(row, claimed_at=now, claim_version=work.message.version)
                for row, work in begun
            ]
            stores.held.put(desk.leg.held_in, entity, named)

        await desk.ledger.transact(announce, holding.fences())

    def _unheld(self, work: Work) -> HeldRow:
        """The row of a key of which nothing is held yet."""
        return HeldRow(key=work.message.key, source=self._desk.leg.source.name, version=Version(0, 0), message_id=b"")

    def _claimed(self, call: Call, now: float) -> HeldRow:
        work = call.work
        return msgspec.structs.replace(
            work.held or self._unheld(work),
            target_id=call.change.target_id,
            claim=work.message.id,
            claimed_at=now,
            claim_version=work.message.version,
        )

    async def _write(self, calls: Sequence[Call]) -> list[Result]:
        """Write, then take what was written through its steps."""
        results = list(await self._connector.write(self._sink.resource, [call.change for call in calls]))
        await gap(Gap.CALLED)
        if not self._sink.steps:
            return results
        open_steps = await self._open_steps(calls, results)
        for number, step in enumerate(self._sink.steps):
            chosen = [i for i, r in enumerate(results) if r.error is None and number in open_steps[i]]
            if not chosen:
                continue
            ids = [results[i].target_id or "" for i in chosen]
            stepped = await self._connector.call(self._sink.resource, step.action, ids)
            await gap(Gap.STEPPED)
            for i, one in zip(chosen, stepped, strict=True):
                if one.error is None:
                    calls[i].step = number + 1
                else:
                    results[i] = msgspec.structs.replace(results[i], error=one.error)
        return results

    async def _unless_down(self, results: list[Result]) -> list[Result]:
        """Where each call is to be tried later, the target is asked how it is: if it is down, none is to blame."""
        if not all(isinstance(result.error, RetryLater) for result in results):
            return results
        try:
            await self._connector.check()
        except TielineError as error:
            if isinstance(error, Unavailable | AccessRefused):
                return [msgspec.structs.replace(result, error=error) for result in results]
        return results

    async def _open_steps(self, calls: Sequence[Call], results: Sequence[Result]) -> list[set[int]]:
        """Which steps each document still has before it: all for a new one, else as its record says."""
        steps = self._sink.steps
        every = set(range(len(steps)))
        pending = [every if call.change.record is not None else set() for call in calls]
        known = [i for i, call in enumerate(calls) if not call.fresh and results[i].error is None and pending[i]]
        if known:
            ids = [results[i].target_id or "" for i in known]
            records = await self._connector.lookup(self._sink.resource, ids) if self._can_ask else [None] * len(ids)
            for i, record in zip(known, records, strict=True):
                pending[i] = {
                    number
                    for number, step in enumerate(steps)
                    if not (step.done_when(record) if step.done_when and record else number < calls[i].step)
                }
        return pending

    async def _confirm(
        self,
        calls: Sequence[Call],
        results: Sequence[Result],
        waiting: Waiting,
        failures: dict[int, TielineError],
        final: Settlement,
        holding: Holding,
    ) -> TielineError | None:
        """Close claims and keep what is held, in one commit; gives the outage that cut the slice short."""
        desk = self._desk
        confirmed = Settlement()
        outage: TielineError | None = None
        rows: list[HeldRow] = []
        for call, result in zip(calls, results, strict=True):
            work = call.work
            if result.error is None:
                row = desk.held_row(work, waiting.now, result.target_id, result.version_tag)
                if waiting.now < call.begun_at + desk.leg.settling:  # what it repeated may land after something newer
                    row = msgspec.structs.replace(
                        row, claim=work.message.id, claimed_at=call.begun_at, claim_version=work.message.version
                    )
                desk.done(work, row, Outcome.DONE, waiting, confirmed)
            elif isinstance(result.error, InDoubt):
                failures[id(work)] = Unsettled(str(result.error), waiting.now + desk.leg.settling)
            elif isinstance(result.error, Fenced):
                continue  # not begun: the commit below is refused
            elif isinstance(result.error, NO_MESSAGES_FAULT):
                outage = result.error
                rows.append(self._released(call, result))
            else:
                failures[id(work)] = result.error
                rows.append(self._released(call, result))
        for partition, counts in confirmed.counts.items():
            final.counts.setdefault(partition, type(counts)()).update(counts)
        confirmed.counts = {}
        written = [call.work for call, result in zip(calls, results, strict=True) if result.error is None]
        confirmed.asked = desk.resends(written, 0.0)

        watches = self._watches_of(
            (
                (call.work, call.change.record, result.target_id)
                for call, result in zip(calls, results, strict=True)
                if result.error is None
            ),
            waiting,
        )

        def confirm(stores: Stores) -> None:
            self._keep(stores, [*confirmed.held, *rows], written)
            self._watches.keep(stores, watches)
            desk.write_down(stores, confirmed)

        try:
            await desk.ledger.transact(confirm, holding.fences())
        except Fenced:
            both = zip(calls, results, strict=True)
            begun = [call for call, result in both if not isinstance(result.error, Fenced)]
            if begun:
                await self._flag_late(begun)
            raise
        if watches:
            await self._watches.read_back(watches, holding)
        return outage

    def _released(self, call: Call, result: Result) -> HeldRow:
        """The row after a call that did not take effect, or not wholly: what is known stays known, and so does
        a doubt that the call was to settle by repeating what was begun."""
        row = call.work.held or self._unheld(call.work)
        return msgspec.structs.replace(
            row,
            claim=row.claim if call.begun_at else b"",
            claim_version=call.work.message.version,
            target_id=result.target_id or call.change.target_id,
            step=call.step,
        )

    def _watches_of(self, done: Iterable[tuple[Work, Record | None, str | None]], waiting: Waiting) -> list[Watch]:
        """Watches of keys that are confirmed now, and for which a call was begun that may land at any time."""
        if not self._can_ask:
            return []
        found = (
            self._watches.of(work, record, target_id, waiting.now, self._watched.get(work.message.key))
            for work, record, target_id in done
            if open_claim(work) is not None or _was_announced(work) or work.message.key in self._watched
        )
        return [watch for watch in found if watch is not None]

    async def _flag_late(self, calls: Sequence[Call]) -> None:
        """We were taken over inside the call: it may have landed on a newer value. Send that again."""
        leg = self._desk.leg
        keys = [call.work.message.key for call in calls]
        await self._desk.ledger.transact(lambda stores: flag_late(stores, leg, keys))
        log.warning("written late", leg=leg.name, keys=len(keys))


def _was_announced(work: Work) -> bool:
    """Whether a call for this key was begun before, without a claim, and nobody has heard what became of it."""
    row = work.held
    return row is not None and bool(row.claimed_at) and row.version < row.claim_version
