"""What all ways of applying a batch share: mapping to changes, references, parking, accounting."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from tieline.connector import Change, HeldRow, LegState, Record
from tieline.entity import Entity, Event, Ref, decode_many, digest, references
from tieline.errors import MissingReference, Reject, RetryLater, TielineError
from tieline.ledger import Fence, Ledger, ParkedRow, Stores
from tieline.message import Outcome, Reason, pack_message
from tieline.runner.breaking import Called, never
from tieline.runner.decide import Decision, Work, decide, reason_of
from tieline.runner.epoch import Forgotten, forgotten, last_recovery
from tieline.runner.plan import LegPlan
from tieline.runner.raised import raised
from tieline.runner.requests import Request, ask, over_their_legs

_PUT_OFF: Final = 5.0  # seconds between looks whether a source was read again
_ASK_AGAIN: Final = 60.0  # seconds after which a missing reference is asked for again


@dataclass(slots=True)
class Holding:
    """What a worker holds of a leg: its partitions of one channel, their tokens and states."""

    channel: str
    tokens: dict[int, int] = field(default_factory=dict)
    states: dict[int, LegState] = field(default_factory=dict)
    lease: str = ""
    called_away: Called = never

    def fences(self) -> list[Fence]:
        """Proof of every partition's lease."""
        return [Fence(f"{self.lease}/{p}", token) for p, token in self.tokens.items()]


@dataclass(slots=True)
class Settlement:
    """What an apply came to, on its way into the ledger.

    A message that is not parked is counted in `counts`, in the commit that moves its position; one
    that is parked is counted by the ledger commit that removes its row, and by nothing else.
    """

    counts: dict[int, Counter[str]] = field(default_factory=dict)
    held: list[HeldRow] = field(default_factory=list)
    parked: list[ParkedRow] = field(default_factory=list)
    unparked: list[tuple[ParkedRow, Outcome]] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)

    def count(self, work: Work, outcome: Outcome) -> None:
        """Count a message once, at the partition it came through."""
        counts = self.counts.get(work.partition)
        if counts is None:
            counts = self.counts[work.partition] = Counter()
        counts[outcome] += 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """A leg's parked rows by key, the oldest by subject (events only), and the ledger's time.

    Of the keys in `forgotten` the target may have been given what a recovered ledger does not know of.
    """

    by_key: Mapping[str, ParkedRow]
    by_subject: Mapping[str, ParkedRow]
    now: float
    forgotten: frozenset[str] = frozenset()


class Behind(RetryLater):
    """An earlier event of the same subject has not been applied."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"waits behind an earlier event of {subject!r}")


class PutOff(RetryLater):
    """A source is read again first, after a recovery; a target may have what is newer than this message."""

    def __init__(self, source: str) -> None:
        super().__init__(f"older than the recovery; waits until {source} was read again", after=_PUT_OFF)


class Applier(Protocol):
    """One way of bringing a batch into a target."""

    async def meet(self, holding: Holding) -> None:
        """See how the target stands, before anything moves under leases that are new."""
        ...

    async def apply(
        self, works: Sequence[Work], moves: Mapping[int, LegState], holding: Holding, waiting: Waiting
    ) -> None:
        """Apply works and move the holding's positions to `moves` (counts are added here).

        `waiting` is what `Desk.waiting_for` says of the works.

        Raises:
            Unavailable, AccessRefused: the target; nothing moved, what was confirmed stays confirmed.
            BrokenOff: this worker is called away; just so.
            Fenced: the lease has passed on.
        """
        ...


class TargetIds:
    """The target's ids of everything a batch refers to, loaded at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def learn(self, entity: str, key: str, target_id: str) -> None:
        """Remember one identity."""
        self._known[entity, key] = target_id

    def __call__(self, ref: "Ref[Any] | str", entity: type[Entity] | None = None) -> str:
        """The target's id.

        Raises:
            MissingReference: where the target does not have it yet; the message waits for it.
        """
        cls = entity or getattr(ref, "entity", None)
        if cls is None:
            raise Reject("ids() needs a Ref of a decoded entity, or the entity's class beside a key")
        name = cls.__name__
        found = self._known.get((name, str(ref)))
        if found is None:
            raise MissingReference(name, str(ref))
        return found


LoadHeld = Callable[[str, Sequence[str]], Awaitable[Iterable[HeldRow]]]


class Desk:
    """The clerk's side of applying: the same for targets with transactions and without."""

    def __init__(self, leg: LegPlan, ledger: Ledger) -> None:
        self.leg = leg
        self.ledger = ledger
        self.event = issubclass(leg.entity, Event)
        self.lost = -1  # tokens up to this one are of before the last recovery
        self.forgotten: Forgotten | None = None
        self._references = references(leg.entity)
        self._drops_rows = leg.sink is None or leg.sink.delete == "delete"

    def recall(self, stores: Stores) -> tuple[int, Forgotten | None]:
        """What a recovery means for this leg: for `lost` and `forgotten`."""
        recovery = last_recovery(stores)
        return -1 if recovery is None else recovery.token, forgotten(stores, self.leg.name, self.leg.source.name)

    async def waiting_for(self, works: Sequence[Work]) -> "Waiting":
        """What of these keys and subjects is parked on this leg."""
        return await self.ledger.transact(self.look_for(works))

    def look_for(self, works: Sequence[Work]) -> Callable[[Stores], "Waiting"]:
        """`waiting_for` as a part of a transaction."""
        leg, keys = self.leg.name, list({w.message.key for w in works})
        subjects = list({w.subject for w in works}) if self.event else []

        def look(stores: Stores) -> Waiting:
            rows = stores.parked.by_key(leg, keys)
            blocked: dict[str, ParkedRow] = {}
            for row in stores.parked.by_subject(leg, subjects) if subjects else ():
                other = blocked.get(row.subject)
                if other is None or row.version < other.version:
                    blocked[row.subject] = row
            if self.forgotten is not None and not self.forgotten.ends:
                self.lost, self.forgotten = self.recall(stores)
            return Waiting({row.key: row for row in rows}, blocked, stores.now(), self._forgotten_among(works))

        return look

    def _forgotten_among(self, works: Sequence[Work]) -> frozenset[str]:
        if self.forgotten is None:
            return frozenset()
        return frozenset(w.message.key for w in works if w.message.version <= self.forgotten.until)

    def decide(
        self,
        works: Sequence[Work],
        held: Iterable[HeldRow],
        waiting: "Waiting",
        sure: bool = True,
        trusted: bool = False,
    ) -> Decision:
        """Sort the works; see `tieline.runner.decide`."""
        return decide(
            works,
            source=self.leg.source.name,
            target=self.leg.target,
            event=self.event,
            held=held,
            parked=waiting.by_key,
            blocked=waiting.by_subject,
            sure=sure,
            trusted=trusted,
        )

    def referred(self, works: Sequence[Work]) -> tuple[list[Entity | Reject | None], dict[type[Entity], set[str]]]:
        """The works' decoded entities (None for deletes) and the keys they refer to, by entity."""
        foreign = [w.message.data for w in works if w.entity is None and not w.message.deleted]
        decoded = iter(decode_many(self.leg.entity, foreign) if foreign else ())
        entities = [w.entity or (None if w.message.deleted else next(decoded)) for w in works]
        wanted: dict[type[Entity], set[str]] = {}
        for entity in entities:
            if isinstance(entity, Entity):
                for ref in self._references(entity):
                    wanted.setdefault(ref.entity, set()).add(str(ref))
        return entities, wanted

    async def identities(self, wanted: Mapping[type[Entity], set[str]], load: LoadHeld) -> TargetIds:
        """Load the identities of a batch: from held, and failing that from the target itself."""
        ids = TargetIds()
        for entity, keys in wanted.items():
            name = entity.__name__
            found: set[str] = set()
            for row in await load(name, list(keys)):
                if row.target_id is not None and not row.deleted:  # a dropped or filtered key is none
                    ids.learn(name, row.key, row.target_id)
                    found.add(row.key)
            if missing := sorted(keys - found):
                for key, target_id in (await self.ask_target(entity, missing)).items():
                    ids.learn(name, key, target_id)
        return ids

    async def ask_target(self, entity: type[Entity], keys: Sequence[str]) -> dict[str, str]:
        """The target's own ids of these keys, as far as it has them and can be asked."""
        sink, connector, settings = self.leg.sinks.get(entity), self.leg.connector, self.leg.settings
        if sink is None or sink.match is None or connector is None or settings is None:
            return {}
        if not connector.capabilities(sink.resource).lookup:
            return {}
        found = await connector.lookup(sink.resource, keys, by=sink.match)
        return {
            key: settings.identify(sink.resource, record)
            for key, record in zip(keys, found, strict=True)
            if record is not None
        }

    def to_change(self, work: Work, entity: Entity | Reject | None, ids: TargetIds) -> Change | None:
        """The change that a message asks of the target; None where the sink filters it.

        Raises:
            TielineError: where it cannot be made, or what is complete there is frozen; anything else the
                mapping raises becomes `Reject`.
        """
        sink = self.leg.sink
        assert sink is not None
        if entity is None and sink.delete == "ignore":
            return None
        if sink.frozen and _complete(work.held) and not work.force:
            raise Reject(sink.frozen)
        if isinstance(entity, Reject):
            raise entity
        record: Record | None
        if entity is None:
            record = sink.delete(work.message.key) if callable(sink.delete) else None
        else:
            try:
                record = sink.function(entity, ids) if sink.wants_ids else sink.function(entity)
            except TielineError:
                raise
            except Exception as error:
                raise Reject(f"the mapping {sink.name} {raised(error)}") from error
            if record is None:
                return None
        return Change(
            key=work.message.key,
            message_id=work.message.id,
            record=record,
            target_id=work.target_id,
            version_tag=work.held.version_tag if work.held else None,
        )

    def held_row(
        self, work: Work, now: float, target_id: str | None = None, version_tag: str | None = None
    ) -> HeldRow:
        """What the target has of the key now that this message is applied (or passed over for good)."""
        message = work.message
        deleted = message.deleted
        return HeldRow(
            key=message.key,
            source=self.leg.source.name,
            version=message.version,
            message_id=message.id,
            digest=b"" if deleted else digest(bytes(message.data)),
            target_id=None if deleted and self._drops_rows else target_id or work.target_id,
            version_tag=version_tag,
            deleted=deleted,
            step=len(self.leg.sink.steps) if self.leg.sink and not deleted else 0,
            sequence=work.sequence,
            at=now,
        )

    def passed_over(self, work: Work, now: float) -> HeldRow:
        """Held after a message that changed nothing there (dropped, filtered, an echo): only its version moves."""
        row, before = self.held_row(work, now), work.held
        if before is None:
            return msgspec.structs.replace(row, digest=b"")
        return msgspec.structs.replace(
            before,
            version=row.version,
            message_id=row.message_id,
            deleted=before.deleted or before.target_id is None,
            sequence=row.sequence,
            at=row.at,
        )

    def park(self, work: Work, error: Exception, now: float) -> ParkedRow:
        """The row under which a failed message waits; `decision` is one that was carried out with it, in vain."""
        before = work.parked if work.parked and work.parked.message_id == work.message.id else None
        attempt = before.attempt + 1 if before else 1
        reason = Reason.ORDER if isinstance(error, Behind) else reason_of(error)
        not_before = now
        waits_for = None
        if isinstance(error, Behind):
            attempt -= 1
        elif isinstance(error, PutOff):
            attempt -= 1
            not_before = now + (error.after or 0.0)
        elif isinstance(error, RetryLater):
            not_before = now + max(error.after or 0.0, self.leg.flow.retries.delay(attempt))
        elif isinstance(error, MissingReference):
            not_before, waits_for = now + _ASK_AGAIN, (error.entity, error.key)
        elif reason is Reason.DOUBT:
            not_before = getattr(error, "until", now + self.leg.settling)
        elif reason is Reason.RETRY:
            not_before = now + self.leg.flow.retries.delay(attempt)
        if reason is Reason.RETRY and attempt >= self.leg.flow.retries.most():
            reason, error = Reason.DEAD, Reject(f"gave up after {attempt} attempts: {error}")
        return ParkedRow(
            leg=self.leg.name,
            key=work.message.key,
            message_id=work.message.id,
            version=work.message.version,
            reason=reason,
            message=pack_message(work.message, work.schema or self.leg.entity.__version__),
            error=str(error) or type(error).__name__,
            subject=work.subject,
            attempt=attempt,
            not_before=not_before,
            waits_for=waits_for,
            partition=work.partition,
            position=work.sequence,
            decision=before.decision if before else "",
            decided_by=before.decided_by if before else "",
            force=work.force,
            parked_at=before.parked_at if before else now,
        )

    def settle(self, decision: Decision, waiting: "Waiting", settlement: Settlement) -> None:
        """Count what needed no writing, and heal parked rows that held has overtaken."""
        for work in decision.same:
            self.done(work, self.passed_over(work, waiting.now), Outcome.UNCHANGED, waiting, settlement)
        for work, outcome in decision.settled:
            if work.parked is None:
                settlement.count(work, outcome)
            else:
                settlement.unparked.append((work.parked, self._outcome_of_parked(work, outcome)))
            if work.held is not None:
                self._heal(waiting.by_key.get(work.message.key), work.held, work.parked, settlement)
            if outcome in {Outcome.DONE, Outcome.UNCHANGED, Outcome.STALE}:
                settlement.woken.append(work.message.key)
            if outcome is Outcome.ECHO:
                settlement.held.append(self.passed_over(work, waiting.now))
            elif outcome is Outcome.UNCHANGED and self._ends_unseen(work, waiting):
                row = self.held_row(work, waiting.now)
                settlement.held.append(row)
                self._heal(waiting.by_key.get(work.message.key), row, work.parked, settlement)

    def _ends_unseen(self, work: Work, waiting: "Waiting") -> bool:
        """A delete of what never reached the target: nothing older of the key may reach it from now on."""
        if self.event or not work.message.deleted or (work.held is not None and work.held.message_id):
            return False
        waits = waiting.by_key.get(work.message.key)
        return work.parked is not None or waits is None or waits.version < work.message.version

    def _outcome_of_parked(self, work: Work, outcome: Outcome) -> Outcome:
        """A parked message that held has already was applied by us, before a crash kept its row."""
        if outcome is Outcome.STALE:
            return Outcome.SUPERSEDED
        if outcome is Outcome.UNCHANGED and work.held is not None and work.parked is not None:
            return _became(work.parked, work.held.message_id)
        return outcome

    def done(self, work: Work, row: HeldRow, outcome: Outcome, waiting: "Waiting", into: Settlement) -> None:
        """A message is applied (or filtered, or dropped): count it, keep held, heal and wake."""
        if work.parked is None:
            into.count(work, outcome)
        else:
            into.unparked.append((work.parked, outcome))
        into.held.append(row)
        into.woken.append(work.message.key)
        self._heal(waiting.by_key.get(work.message.key), row, work.parked, into)

    def _heal(self, row: ParkedRow | None, held: HeldRow, own: ParkedRow | None, into: Settlement) -> None:
        """A parked row that is no newer than what the target has needs nobody any more."""
        if row is None or row.version > held.version or (own is not None and own.message_id == row.message_id):
            return
        into.unparked.append((row, _became(row, held.message_id)))

    def make_good(self, works: Iterable[Work], held: Iterable[HeldRow], waiting: "Waiting") -> Settlement:
        """The ledger's part of a batch that the target has committed and the ledger has not heard of."""
        settlement = Settlement(woken=[work.message.key for work in works])
        for row in held:
            if row.source == self.leg.source.name:
                self._heal(waiting.by_key.get(row.key), row, None, settlement)
        return settlement

    def write_down(self, stores: Stores, settlement: Settlement) -> None:
        """The ledger's part of a settlement, inside one of its transactions."""
        leg = self.leg
        counts: Counter[str] = Counter()
        if settlement.unparked:
            # A person may have edited the row meanwhile: then it is another message, and stays.
            rows = stores.parked.by_key(leg.name, [row.key for row, _ in settlement.unparked])
            there = {(row.key, row.message_id) for row in rows}
            gone = {(r.key, r.message_id): o for r, o in settlement.unparked if (r.key, r.message_id) in there}
            stores.parked.remove(leg.name, list(gone))
            counts.update(gone.values())
        if settlement.parked:
            counts[Outcome.SUPERSEDED] += park(stores, settlement.parked)
        if settlement.woken:
            stores.parked.wake(leg.target, leg.entity.__name__, settlement.woken)
        if settlement.asked:
            ask(stores, over_their_legs(stores, leg.target, settlement.asked))
        if +counts:
            stores.legs.count(leg.name, counts=dict(+counts))

    def drops_row(self, work: Work) -> bool:
        """Whether a message takes its key's row away, for all sources."""
        return work.message.deleted and self._drops_rows

    def resends(self, works: Iterable[Work], not_before: float) -> list[Request]:
        """Ask other sources for their current values of keys whose row these messages have taken away."""
        return [
            Request("resend", row.source, "", row.key, force=True, not_before=not_before, why="its row was dropped")
            for work in works
            if work.others and self.drops_row(work)
            for row in work.others
            if row.message_id and not row.deleted
        ]

    def without_row(self, works: Iterable[Work], held: Iterable[HeldRow]) -> list[HeldRow]:
        """What is held of other sources now that these messages have taken the row away: it has no id any more."""
        keys = {work.message.key for work in works if self.drops_row(work)}
        return [
            msgspec.structs.replace(row, target_id=None, version_tag=None)
            for row in held
            if row.key in keys and row.source != self.leg.source.name and row.target_id is not None
        ]


def park(stores: Stores, rows: Sequence[ParkedRow]) -> int:
    """Park what `Desk.park` made; gives how many older messages that replaced.

    A decision that was carried out is spent, except a drop, which only waits for a doubt to be settled.
    One that a person took meanwhile stays.
    """
    carried = {(row.leg, row.key): row for row in rows if row.decision}
    for (leg, key), row in carried.items():
        for there in stores.parked.by_key(leg, [key]):
            if (there.message_id, there.decision) == (row.message_id, row.decision):
                stores.parked.remove(leg, [(key, row.message_id)])
    spent = [
        row if row.decision == "drop" else msgspec.structs.replace(row, decision="", decided_by="") for row in rows
    ]
    return len(stores.parked.put(spent))


def _became(row: ParkedRow, held_id: bytes) -> Outcome:
    """What a parked message came to, by what the target holds of its key now."""
    if row.message_id != held_id:
        return Outcome.SUPERSEDED
    return Outcome.DROPPED if row.decision == "drop" else Outcome.DONE


def moved(
    moves: Mapping[int, LegState], states: Mapping[int, LegState], tokens: Mapping[int, int], settlement: Settlement
) -> dict[int, LegState]:
    """New states of all partitions that moved or counted: position from `moves`, counts added up."""
    result: dict[int, LegState] = {}
    for partition in moves.keys() | settlement.counts.keys():
        before = states.get(partition, LegState())
        to = moves.get(partition, before)
        counts = Counter(before.counts)
        counts.update(settlement.counts.get(partition, {}))
        result[partition] = LegState(
            position=max(to.position, before.position),
            sequence=max(to.sequence, before.sequence),
            token=tokens.get(partition, before.token),
            counts=dict(counts),
            made=to.made,
        )
    return result


def _complete(held: HeldRow | None) -> bool:
    """Whether the target has the key's document, taken through all its steps."""
    return held is not None and bool(held.message_id) and not held.deleted
