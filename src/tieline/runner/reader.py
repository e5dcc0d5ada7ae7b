"""A source's one reader: pages become messages, and seen, channel and cursor change in one commit.

A page is digested record by record; what seen knows unchanged is left alone, the rest is mapped,
encoded and compared. One ledger transaction then keeps the new seen rows, the batch in every channel
that a leg of this source reads, the counters and, where the page has one, the checkpoint.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec
import structlog

from tieline.connector import Checkpoint, Connector, Page
from tieline.entity import Event, digest
from tieline.errors import Outdated
from tieline.ledger import Fence, Ledger, ParkedRow, SeenRow, SourceState, Stores
from tieline.message import MAX_MESSAGES, Batch, Message, Reason, Version, in_pieces
from tieline.runner.changes import Changes, Clash, clashes
from tieline.runner.epoch import in_this_epoch, is_to_be_read_again, was_read_again
from tieline.runner.gaps import Gap, gap
from tieline.runner.mapping import MappedPage, map_page
from tieline.runner.plan import SourcePlan, function_version, inbox_record
from tieline.runner.requests import Request, ask, requests_for, settle
from tieline.runner.schemas import newest_seen, note_schema
from tieline.runner.upcasting import outdated, schema_in
from tieline.runner.ways import Publisher, begin_stream

T = TypeVar("T")

log = structlog.get_logger()

_NOTED: Final = 1.0  # seconds within which it is not noted once more that a source was read in vain
_FEW: Final = 10  # deletes that never wait for a person
_BRAKE: Final = "*deletes*"


@dataclass(slots=True)
class Summary:
    """What a run of a source came to."""

    records: int = 0
    messages: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: what it answers, whether it reads everything, and whether it marks for a sweep."""

    requests: Sequence[Request]
    whole: bool
    marking: bool


class Room(Protocol):
    """Waits until a source, at this batch number, may go on reading; then looks, in the transaction that said so."""

    async def __call__(self, source: str, sequence: int, look: Callable[[Stores], T]) -> T:
        """What `look` gives."""
        ...


@dataclass(slots=True)
class _Known:
    """What seen has of a page: rows by record, rows by key, and the keys that were asked for."""

    by_record: dict[str, list[SeenRow]] = field(default_factory=dict)
    by_key: dict[str, SeenRow] = field(default_factory=dict)
    asked: Collection[str] = ()


class Reader:
    """Reads one source under its lease. Not for use by two tasks at once."""

    def __init__(self, plan: SourcePlan, ledger: Ledger, publisher: Publisher, room: Room) -> None:
        self.plan = plan
        self._room = room
        self._ledger = ledger
        self._publisher = publisher
        self.read_at = 0.0  # when this worker has read it, by the ledger's clock
        self._fence = Fence("", 0)
        self._state = SourceState()
        self._now = 0.0  # when this run began, by the ledger's clock
        self._known = True  # whether seen holds rows of this source
        self._any_parked = True  # whether records of this source are parked
        self._noted = False  # whether the ledger has the schema under which this worker publishes
        self._alike = True  # whether the last page's keys were its records' ids
        self._again = False  # whether everything is to be read again, after a recovery
        self._question: ParkedRow | None = None  # whether many deletes are right, as it stood when this run began

    @property
    def lease(self) -> str:
        """The name of the lease that lets one worker read this source."""
        return f"read:{self.plan.name}"

    async def run(self, token: int) -> Summary:
        """Read once: what changed since the cursor, or everything where a sweep or backfill is due.

        Raises:
            Unavailable, AccessRefused, Fenced, Outdated: the source's next move; what was read is kept.
        """
        self._fence = Fence(self.lease, token)
        name, entity = self.plan.name, self.plan.entity
        self._state, self._again, requests, waiting, questions, self._now, newest = await self._ledger.transact(
            lambda s: (
                in_this_epoch(s, s.sources.get(name)),
                is_to_be_read_again(s, name),
                requests_for(s, name),
                sum(s.parked.counts(name).values()),
                s.parked.by_key(name, [_BRAKE]),
                s.now(),
                newest_seen(s, entity),
            )
        )
        self._any_parked = waiting > 0
        self._question = questions[0] if questions else None
        self._known = self._state.counter > 0
        if newest > entity.__version__:
            raise outdated("what was published last", entity, newest)
        if self._state.mapping > self.plan.version:
            # Of what makes a mapping's version, only its function's can be ahead where its entity's is not.
            known, own = (function_version(version) for version in (self._state.mapping, self.plan.version))
            what = f"{name}: seen was written by mapping version {known} and this worker has {own}"
            raise Outdated(f"{what}; deploy the newer adapter here")
        summary = Summary()
        resends = [r for r in requests if r.kind == "resend"]
        backfills = [r for r in requests if r.kind == "backfill"]
        await self._send_tombstones(resends)
        if self.plan.connector is None:
            await self._drain_inbox(backfills, resends, summary)
            if self._state.failure:
                await self._finish(None, (), self._state.swept_at)
        else:
            left = await self._answer(self.plan.connector, resends, summary)
            await self._read(self.plan.connector, [*backfills, *left], self._now, summary)
        return summary

    # -- where records come from -----------------------------------------------------------------

    async def _read(self, connector: Connector, backfills: Sequence[Request], now: float, summary: Summary) -> None:
        facts = connector.capabilities(self.plan.resource)
        every = self.plan.settings.sweep
        sweeping = self._granted > 0 or (every > 0 and now - self._state.swept_at >= every)
        remapped = self._state.mapping not in {0, self.plan.version}
        anew = facts.rereads and (sweeping or remapped or bool(backfills) or self._again)
        whole = anew or not facts.incremental or self._state.cursor is None
        # Where nobody can tell what exists, a sweep finds what came late; but what it does not show is not gone.
        run = _Run(backfills, whole, marking=sweeping and facts.keys and self._known)
        if run.marking:
            await self._ledger.transact(lambda s: s.seen.sweep_start(self.plan.name), [self._fence])
        last: Checkpoint = None
        since = None if anew else self._state.cursor
        async for page in _ahead(connector.read(self.plan.resource, since, {"overlap": self.plan.settings.overlap})):
            await gap(Gap.READ)
            known = await self._room(self.plan.name, self._state.sequence, partial(self._known_of, page=page))
            last = page.checkpoint if page.checkpoint is not None else last
            # Within a whole read the cursor stays: a crash must not leave the rest of it unread.
            stored = page.checkpoint if facts.ordered and (not whole or self._state.cursor is None) else None
            await self._take(page, run, summary, checkpoint=stored, known=known)
        if run.marking:
            await gap(Gap.SWEPT)
            await self._publish_missing(connector, facts.lookup, summary)
        elif self._granted:
            await self._close_question()
        if self._again:
            await self._repeat_tombstones(summary)
        swept_at = now if sweeping else self._state.swept_at
        await self._finish(last, backfills, swept_at)

    async def _finish(self, checkpoint: Checkpoint, backfills: Sequence[Request], swept_at: float) -> None:
        known = self._state
        state = msgspec.structs.replace(
            known,
            cursor=checkpoint if checkpoint is not None else known.cursor,
            mapping=self.plan.version,
            swept_at=swept_at,
            failure="",
        )
        self.read_at = self._now
        if state == known and self._now - known.read_at < _NOTED and not backfills and not self._again:
            return

        def work(stores: Stores) -> SourceState:
            nonlocal state
            state = msgspec.structs.replace(state, read_at=stores.now())
            stores.sources.put(self.plan.name, state)
            self._end_backfills(stores, backfills)
            if self._again and self.plan.connector is not None:
                was_read_again(stores, self.plan.name, state.counter)
            return state

        self._state = await self._ledger.transact(work, [self._fence])

    async def _drain_inbox(self, backfills: Sequence[Request], resends: Sequence[Request], summary: Summary) -> None:
        """Read what a process has put here. Its outputs cannot be read again: a backfill computes them anew."""
        name = self.plan.name
        if resends:
            await self._ledger.transact(lambda s: self._ask_whole(s, resends), [self._fence])
        if backfills:
            await self._ledger.transact(self._ask_inputs, [self._fence])
        run = _Run(backfills, whole=False, marking=False)
        while rows := await self._ledger.transact(lambda s: s.inbox.read(name, MAX_MESSAGES)):
            newest = max((schema_in(row.data) for row in rows if row.data), default=0)
            if newest > self.plan.entity.__version__:
                raise outdated(f"what waits for {name}", self.plan.entity, newest)
            latest = {row.record: row for row in rows}
            page = Page(
                ids=[row.record for row in latest.values() if row.data],
                records=[inbox_record(row) for row in latest.values() if row.data],
                gone=[row.record for row in latest.values() if not row.data],
            )
            await gap(Gap.READ)
            await self._take(page, run, summary, inbox=rows[-1].position)
        if self._again and await self._ledger.transact(self._inputs_are_through):
            await self._repeat_tombstones(summary)
        if backfills or self._again:
            await self._ledger.transact(lambda s: self._end_refill(s, backfills), [self._fence])

    def _end_backfills(self, stores: Stores, backfills: Sequence[Request]) -> None:
        for request in backfills:
            if request.begin:
                begin_stream(stores, request.leg, self._state.sequence)
        settle(stores, backfills)

    def _ask_whole(self, stores: Stores, resends: Sequence[Request]) -> None:
        """Single outputs cannot be had again: a leg that needs one gets all of them."""
        wholes = {r.leg: Request("backfill", r.source, r.leg, force=r.force, why=r.why) for r in resends}
        ask(stores, wholes.values())
        settle(stores, resends)

    def _ask_inputs(self, stores: Stores) -> None:
        """Have the process's inputs sent to it once more, unless that is under way."""
        note = f"refill/{self.plan.name}"
        if stores.notes.get(note):
            return
        asked = [Request("backfill", feeds.source, feeds.leg, force=True, why=note) for feeds in self.plan.inputs]
        ask(stores, asked)
        stores.notes.put(note, [request.note for request in asked])

    def _end_refill(self, stores: Stores, backfills: Sequence[Request]) -> None:
        """The backfill is done when the inputs were sent, have all gone through, and nothing is in the inbox."""
        if not self._inputs_are_through(stores):
            return
        stores.notes.put(f"refill/{self.plan.name}", None)
        self._end_backfills(stores, backfills)
        if self._again:
            was_read_again(stores, self.plan.name, self._state.counter)

    def _inputs_are_through(self, stores: Stores) -> bool:
        asked = stores.notes.get(f"refill/{self.plan.name}") or ()
        if any(stores.notes.get(note) for note in asked) or stores.inbox.depth(self.plan.name):
            return False
        for feeds in self.plan.inputs:
            if is_to_be_read_again(stores, feeds.source):
                return False
            row = stores.legs.get(feeds.leg)
            for way in row.ways if row else ():
                positions = {p: state.position for p, state in stores.legs.states(feeds.leg, way.channel).items()}
                if stores.channels.depth(way.channel, positions):
                    return False
        return True

    async def _send_tombstones(self, asked: Sequence[Request]) -> None:
        """The current value of a key may be that it is gone."""
        if not asked:
            return
        rows = await self._ledger.transact(lambda s: s.seen.by_key(self.plan.name, [r.key for r in asked]))
        gone = {row.key: row for row in rows if row.gone}
        addressed: dict[tuple[str, bool], list[Message]] = {}
        for request in asked:
            row = gone.get(request.key)
            if row is not None:
                message = Message(id=row.message_id, key=row.key, version=row.version, origin=row.origin)
                addressed.setdefault((request.leg, request.force), []).append(message)
        if addressed:
            changes = Changes(self.plan.name, self._state.epoch, self._state.counter, self.plan.version, at=self._now)
            await self._commit(changes, addressed, (), set(), None, (), 0)

    async def _answer(self, connector: Connector, asked: Sequence[Request], summary: Summary) -> Sequence[Request]:
        """Look records up again: for a leg that needs a key's current value, or for a person's replay.

        Gives the requests that only a whole read can answer.
        """
        name = self.plan.name
        if not (asked or self._any_parked):
            return ()
        rows, decided = await self._ledger.transact(
            lambda s: (
                s.seen.by_key(name, [r.key for r in asked]) if asked else [],
                s.parked.due(name, s.now(), MAX_MESSAGES),
            )
        )
        decided = [row for row in decided if row.key != _BRAKE or row.decision == "drop"]
        left: Sequence[Request] = ()
        wanted = [row.record for row in rows if not row.gone]
        wanted += [row.key for row in decided if row.decision != "drop"]
        if wanted and connector.capabilities(self.plan.resource).lookup:
            found = dict(zip(wanted, await connector.lookup(self.plan.resource, wanted), strict=True))
            page = Page(
                ids=[i for i, record in found.items() if record is not None],
                records=[record for record in found.values() if record is not None],
                gone=[i for i, record in found.items() if record is None],
            )
            await self._take(page, _Run(asked, whole=False, marking=False), summary)
        elif wanted:
            # Nobody can be asked for single records: the next whole read shows them.
            self._state = msgspec.structs.replace(self._state, cursor=None)
            living = {row.key for row in rows if not row.gone}
            left = [request for request in asked if request.key in living]
            asked = [request for request in asked if request.key not in living]
        if asked or decided:
            done = [(row.key, row.message_id) for row in decided]

            def answered(stores: Stores) -> None:
                settle(stores, asked)
                stores.parked.remove(name, done)

            await self._ledger.transact(answered, [self._fence])
        return left

    # -- one page ----------------------------------------------------------------------------------

    def _known_of(self, stores: Stores, page: Page) -> _Known:
        """What seen has of a page's records, and of keys that are the records' ids where those were it before."""
        known = _Known()
        if not self._known:
            return known
        for row in stores.seen.by_record(self.plan.name, [*page.ids, *page.gone]):
            known.by_record.setdefault(row.record, []).append(row)
            known.by_key[row.key] = row
        if self._alike and (asked := [i for i in page.ids if i not in known.by_key]):
            known.by_key.update((row.key, row) for row in stores.seen.by_key(self.plan.name, asked))
            known.asked = frozenset(asked)
        return known

    async def _take(
        self,
        page: Page,
        run: _Run,
        summary: Summary,
        *,
        checkpoint: Checkpoint = None,
        inbox: int = 0,
        known: _Known | None = None,
    ) -> None:
        name = self.plan.name
        if known is None:
            known = await self._ledger.transact(partial(self._known_of, page=page))
        by_record, by_key = known.by_record, known.by_key
        mapped = await map_page(self.plan, page, self._believed(by_record))
        new = [m.key for m in mapped.mapped if m.key not in by_key and m.key not in known.asked]
        if self._known and new:
            by_key.update((row.key, row) for row in await self._ledger.transact(lambda s: s.seen.by_key(name, new)))
        self._alike = all(m.key == m.record for m in mapped.mapped)
        parked = [self._park(f.record, f.raw, f.reason) for f in mapped.failures]
        parked += await self._settle_clashes(page, mapped, by_key)
        origins = await self._origins(mapped) if self.plan.also_target else {}
        changes = Changes(
            *(name, self._state.epoch, self._state.counter, self.plan.version, origins, self._now),
            believed=self._believed_since,
        )
        changes.compare(mapped, by_key, by_record)
        for row in (row for i in page.gone for row in by_record.get(i, ()) if not row.gone):
            if row.key not in changes.rows:
                changes.delete(row)
        addressed = await self._addressed(page, run, mapped, by_key, changes) if run.requests else {}
        summary.records += len(page.ids) + len(page.gone)
        summary.messages += len(changes.messages)
        summary.parked += len(parked)
        marks = [*page.ids, *(bad.id for bad in page.bad)] if run.marking else ()
        # A record that is again as it was before it was bad, or is no longer there, is in order too.
        in_order = (mapped.read | mapped.unchanged | set(page.gone)) - {row.key for row in parked}
        await self._commit(changes, addressed, parked, in_order, checkpoint, marks, inbox)

    @property
    def _believed_since(self) -> int:
        """The epoch from which on targets have what was seen. Events do not change: they have those of any epoch."""
        return 0 if issubclass(self.plan.entity, Event) else self._state.epoch

    def _believed(self, seen: Mapping[str, list[SeenRow]]) -> Mapping[str, list[SeenRow]]:
        """The records that may be left alone where they did not change."""
        since = self._believed_since
        return {record: rows for record, rows in seen.items() if all(row.version.epoch >= since for row in rows)}

    async def _origins(self, mapped: MappedPage) -> dict[str, str]:
        """Keys that read back as another system's write through us, and that system: an echo of it."""
        plan, keys = self.plan, [m.key for m in mapped.mapped]
        entity = plan.entity.__name__
        rows = await self._ledger.transact(lambda s: s.held.get(plan.held_in, entity, keys))
        if plan.connector is not None and plan.connector.capabilities(plan.resource).transactional:
            async with plan.connector.transaction() as tx:
                rows += await tx.held(entity, keys)
        digests = {m.key: digest(m.data) for m in mapped.mapped}
        return {row.key: row.source.partition(".")[0] for row in rows if row.digest == digests[row.key]}

    def _park(self, record: str, raw: bytes, reason: str) -> ParkedRow:
        return ParkedRow(
            leg=self.plan.name,
            key=record,
            message_id=digest(raw),
            version=Version(self._state.epoch, self._state.counter + 1),
            reason=Reason.DEAD,
            message=raw,
            error=reason,
        )

    async def _settle_clashes(self, page: Page, mapped: MappedPage, by_key: dict[str, SeenRow]) -> list[ParkedRow]:
        """Let a key pass over from a record that is gone; park the second of two living givers."""
        found, _ = clashes(mapped, by_key, page.gone)
        if not found:
            return []
        still = await self._still_given({clash.holder.record for clash in found} - mapped.read)
        parked = []
        for clash in found:
            holder = clash.holder
            if holder.record in mapped.read or (holder.record, holder.key) in still:
                mapped.mapped.remove(clash.second)
                mapped.read.discard(clash.second.record)
                parked.append(self._park(clash.second.record, clash.second.data, _clash_reason(clash)))
        return parked

    async def _still_given(self, records: set[str]) -> set[tuple[str, str]]:
        """Which (record, key) pairs of these records exist now; without a look-up, all are believed."""
        connector = self.plan.connector
        if not records:
            return set()
        if connector is None or not connector.capabilities(self.plan.resource).lookup:
            rows = await self._ledger.transact(lambda s: s.seen.by_record(self.plan.name, list(records)))
            return {(row.record, row.key) for row in rows if not row.gone}
        ids = list(records)
        found = await connector.lookup(self.plan.resource, ids)
        living = [(i, record) for i, record in zip(ids, found, strict=True) if record is not None]
        page = await map_page(self.plan, Page(ids=[i for i, _ in living], records=[r for _, r in living]), {})
        return {(m.record, m.key) for m in page.mapped}

    async def _addressed(
        self, page: Page, run: _Run, mapped: MappedPage, by_key: dict[str, SeenRow], changes: Changes
    ) -> dict[tuple[str, bool], list[Message]]:
        """Current values for single legs: of keys that did not change, under their known id and version."""
        fresh = {message.key for message in changes.messages}
        records = dict(zip(page.ids, page.records, strict=True))
        again = await map_page(self.plan, Page(ids=list(records), records=list(records.values())), {})
        wanted: dict[tuple[str, bool], list[Message]] = {}
        for request in run.requests:
            chosen = wanted.setdefault((request.leg, request.force), [])
            for one in again.mapped:
                row = changes.rows.get(one.key) or by_key.get(one.key)
                if row is None or row.gone or row.record != one.record or (request.key and request.key != one.key):
                    continue
                if one.key in fresh and not (request.force or request.begin):
                    continue  # it is among the batch for everybody
                chosen.append(
                    Message(
                        id=row.message_id,
                        key=one.key,
                        version=row.version,
                        data=msgspec.Raw(one.data),
                        origin=row.origin,
                        subject=one.subject,
                    )
                )
        return wanted

    async def _commit(
        self,
        changes: Changes,
        addressed: dict[tuple[str, bool], list[Message]],
        parked: Sequence[ParkedRow],
        healthy: set[str],
        checkpoint: Checkpoint,
        marks: Sequence[str],
        inbox: int,
    ) -> None:
        """Everything a page came to, in one transaction."""
        name, plan = self.plan.name, self.plan
        batches: list[Batch] = []
        sequence = self._state.sequence
        groups = [(("", False), changes.messages), *addressed.items()]
        for (leg, force), messages in groups:
            for piece in in_pieces(messages):
                sequence += 1
                batches.append(
                    Batch(
                        source=name,
                        entity=plan.entity.__name__,
                        schema=plan.entity.__version__,
                        sequence=sequence,
                        time=datetime.now(UTC),
                        messages=piece,
                        to=leg,
                        force=force,
                    )
                )
        cursor = checkpoint if checkpoint is not None else self._state.cursor
        state = msgspec.structs.replace(self._state, counter=changes.counter, sequence=sequence, cursor=cursor)

        healing = self._any_parked and bool(healthy)

        def work(stores: Stores) -> None:
            if batches and not self._noted:
                note_schema(stores, plan.entity)
            stores.seen.put(name, list(changes.rows.values()))
            self._publisher.keep(stores, plan, batches)
            if parked:
                _park_as_read(stores, parked)
            if healing:
                rows = stores.parked.by_key(name, list(healthy))
                stores.parked.remove(name, [(row.key, row.message_id) for row in rows])
            if marks:
                stores.seen.sweep_mark(name, marks)
            if inbox:
                stores.inbox.remove(name, inbox)
            stores.sources.put(name, state)

        if not (changes.rows or batches or parked or healing or marks or inbox or cursor != self._state.cursor):
            return
        await self._ledger.transact(work, [self._fence])
        self._state = state
        self._noted = self._noted or bool(batches)
        self._known = self._known or bool(changes.rows)
        self._any_parked = self._any_parked or bool(parked)
        await gap(Gap.PUBLISHED)
        self._publisher.published(changes.entities)

    async def _repeat_tombstones(self, summary: Summary) -> None:
        """What had gone before the back-up may have come and gone once more, and be left at a target."""
        name, epoch, after = self.plan.name, self._believed_since, ""
        while rows := await self._ledger.transact(partial(_gone, source=name, before=epoch, after=after)):
            changes = Changes(name, self._state.epoch, self._state.counter, self.plan.version, at=self._now)
            for row in rows:
                changes.delete(row)
            summary.messages += len(changes.messages)
            await self._commit(changes, {}, (), set(), None, (), 0)
            after = rows[-1].key

    # -- deletes --------------------------------------------------------------------------------------

    async def _publish_missing(self, connector: Connector, can_ask: bool, summary: Summary) -> None:
        """Tombstones for what a full sweep did not show: asked again, or missing twice, and within the brake."""
        name = self.plan.name
        await self._spare(connector, can_ask)
        missing, living = await self._ledger.transact(lambda s: (s.seen.sweep_count(name), s.seen.count(name)))
        if missing > max(_FEW, self.plan.settings.brake * living) + self._granted:
            await self._hold_deletes(missing, living)
            return
        async for rows in self._missing():
            changes = Changes(name, self._state.epoch, self._state.counter, self.plan.version, at=self._now)
            for row in rows:
                changes.delete(row)
            summary.messages += len(changes.messages)
            await self._commit(changes, {}, (), set(), None, (), 0)
        await self._close_question()

    async def _close_question(self) -> None:
        if (question := self._question) is not None:
            settled = [(_BRAKE, question.message_id)]
            await self._ledger.transact(lambda s: s.parked.remove(self.plan.name, settled), [self._fence])

    @property
    def _granted(self) -> int:
        """How many deletes a person has said are right."""
        question = self._question
        return int(question.message.split()[0]) if question is not None and question.decision == "replay" else 0

    async def _missing(self) -> AsyncIterator[list[SeenRow]]:
        """What the sweep has not marked, a batch at a time."""
        after = ""
        while rows := await self._ledger.transact(partial(_missing_after, source=self.plan.name, key=after)):
            yield rows
            after = rows[-1].key

    async def _spare(self, connector: Connector, can_ask: bool) -> None:
        """Mark what the sweep did not show and is there all the same, or was missed for the first time."""
        name = self.plan.name
        if not can_ask:
            await self._ledger.transact(lambda s: s.seen.sweep_spare(name), [self._fence])
            return
        async for rows in self._missing():
            found = await connector.lookup(self.plan.resource, [row.record for row in rows])
            there = [row.record for row, record in zip(rows, found, strict=True) if record is not None]
            await self._ledger.transact(partial(_mark, source=name, records=there), [self._fence])

    async def _hold_deletes(self, missing: int, living: int) -> None:
        """Ask whether so many deletes are right. An answer to the question about fewer of them is none to this."""
        share = 100 * missing / max(1, living)
        some = await self._ledger.transact(lambda s: s.seen.sweep_missing(self.plan.name, "", 5))
        sample = ", ".join(row.key for row in some)
        reason = (
            f"{self.plan.name} no longer shows {missing} of {living} keys ({share:.0f} %), such as {sample}. "
            f"Nothing was deleted. If that is right: tieline parked replay {self.plan.name} '{_BRAKE}'"
        )
        row = self._park(_BRAKE, f"{missing} of {living}".encode(), reason)
        if self._question is not None and self._question.message_id == row.message_id:
            return
        log.warning("deletes held", source=self.plan.name, missing=missing, living=living)

        def ask_anew(stores: Stores) -> None:
            if stores.parked.by_key(row.leg, [_BRAKE]) == ([self._question] if self._question else []):
                stores.parked.remove(row.leg, [(_BRAKE, self._question.message_id)] if self._question else [])
                stores.parked.put([row])

        await self._ledger.transact(ask_anew, [self._fence])


def _missing_after(stores: Stores, source: str, key: str) -> list[SeenRow]:
    return stores.seen.sweep_missing(source, key, MAX_MESSAGES)


def _mark(stores: Stores, source: str, records: Sequence[str]) -> None:
    stores.seen.sweep_mark(source, records)


def _gone(stores: Stores, source: str, before: int, after: str) -> list[SeenRow]:
    return stores.seen.gone(source, before, after, MAX_MESSAGES)


def _clash_reason(clash: Clash) -> str:
    return (
        f"key {clash.second.key!r} is given by record {clash.holder.record!r} already; "
        "correct one of the two in the source system"
    )


async def _ahead(pages: AsyncIterator[Page]) -> AsyncIterator[Page]:
    """Read one page ahead of the one in work."""
    iterator = aiter(pages)

    async def following() -> Page | None:
        return await anext(iterator, None)

    task = asyncio.ensure_future(following())
    try:
        while (page := await task) is not None:
            task = asyncio.ensure_future(following())
            yield page
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _park_as_read(stores: Stores, rows: Sequence[ParkedRow]) -> None:
    """Park records as they are now: a bad record that is bad in another way takes the place of what it was.

    A record has no version of its own, so the store cannot tell which of the two is newer.
    """
    read = {row.key: row.message_id for row in rows}
    before = stores.parked.by_key(rows[0].leg, list(read))
    changed = [(row.key, row.message_id) for row in before if row.message_id != read[row.key] and not row.decision]
    stores.parked.remove(rows[0].leg, changed)
    stores.parked.put(rows)
