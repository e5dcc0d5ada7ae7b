"""From a source to its targets: the ledger's channel is a transactional outbox.

One source, one key, two legs. The source's reader makes one ledger commit per batch: what it has seen, the batch
itself in the source's channel, and the cursor. Each leg takes the channel in order and has a position of its own.
Leg A is direct and always up. Leg B goes down and comes back, and may travel over an engine, to which a relay
publishes the channel. The key can be given by two record ids, is deleted and made again, and returns to old
values. Crashes come in every gap; a reader, a relay and a deliverer may freeze and thaw after a takeover. The
ledger may be restored from a back-up taken at the start, which opens the next epoch and its accounting.

A batch is one message here. A leg may take several batches as one slice, which collapses to its newest message.
A level leg that is handed its batch in-process gets just what the channel would give it, so that is no step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.models.explorer import Report, Step, explore, put, system, world


class Rule(StrEnum):
    """Each rule that may be left out, and why it is there."""

    CURSOR_WITH_CHANNEL = "a cursor that moves before the batch is in the channel forgets the batch in a crash"
    SEEN_NOT_BEFORE_CHANNEL = "a record seen before its message is safe looks unchanged when it is read again"
    SEEN_NOT_AFTER_CHANNEL = "a message whose record was not seen hides the way back to the old value, and a delete"
    READER_FENCE = "a reader that thaws after a takeover would publish an old value as the newest"
    VERSION_PER_SOURCE = "a key made again under another record id would start below the version of its delete"
    LOOK_UP_THE_OTHER = "a second record takes the key, then the late delete of the first takes it away"
    WAKE_THE_SECOND = "a second living record that waits for the key is read when the first gives it up"
    HAND_OVER_WHEN_LEVEL = "a batch handed to a leg that lags jumps over those that wait in the channel"
    KEEP_UNTIL_ALL_PASSED = "a batch dropped when the first leg has passed it is lost for the slower one"
    TARGET_BEFORE_LEDGER = "a position that moves before the target's commit loses the batch in a crash"
    NUMBER_CHECK = "what comes twice is counted twice unless its number is compared in the commit that counts"
    VERSION_CHECK = "the number guards the count, the version guards the value from a late write"
    LEG_FENCE = "a deliverer that lost its lease confirms nothing"
    CLAIM_NAMES_VERSION = "after a crash in the call, a shorter slice would write below what the call has written"
    PUBLISH_BEFORE_RELAY = "a relay position that moves before the engine has the batch loses it in a crash"
    ONE_UNCONFIRMED = "a later batch that overtakes an unconfirmed one makes the number check skip the earlier"
    SLICE_RISES = "a repeated pack inside one slice must be skipped too, and is not the slice's newest message"
    EPOCH_IN_NUMBERS = "after a restore the channel would give numbers again that the target has passed"
    EPOCH_IN_TOKENS = "after a restore leases would start below the token in the target's fence row"
    READ_ALL_AFTER_RESTORE = "a restored ledger believes the targets still have what they had at the back-up"


class Kind(StrEnum):
    """What a target can do."""

    TRANSACTIONAL = "rows, held and the fence row (position and counts) in one commit of the target"
    CONDITIONAL = "refuses a write older than what it has; position and counts are the ledger's"
    PLAIN = "takes every write; claimed before the call and confirmed after; never frozen in the call here"


class Record(NamedTuple):
    """A row of the source system."""

    value: str | None
    stamp: int  # which edit made it so; an ordered reader pages by it


class Seen(NamedTuple):
    """What the source has shown of a record."""

    value: str | None
    waits: bool = False  # another living record gives the key
    version: int = 0  # counted only where the rule of one counter per source is left out


class Message(NamedTuple):
    """One change of the key, alone in its batch."""

    number: int  # of the batch; grows in the source's channel
    version: int
    value: str | None


class Part(NamedTuple):
    """What one ledger commit of the reader writes."""

    seen: tuple[Seen, ...] | None
    message: Message | None
    cursor: int | None


class Reading(NamedTuple):
    """What a reader has in memory between its read and its commit."""

    token: int
    record: int
    value: str | None
    stamp: int
    other_gone: bool  # what the look-up of the other record said
    due: tuple[Part, ...] = ()  # the second of two commits, where a rule is left out


class Ledger(NamedTuple):
    """What the reader writes."""

    token: int = 0
    cursor: int = 0
    number: int = 0  # of the last batch
    seen: tuple[Seen, ...] = (Seen("0"), Seen(None))
    channel: tuple[Message, ...] = ()


class Tally(NamedTuple):
    """Outcomes of one leg, counted at commit points."""

    done: int = 0
    unchanged: int = 0
    stale: int = 0
    superseded: int = 0

    def plus(self, outcome: str, count: int = 1) -> "Tally":
        """The same with more of one outcome."""
        return self._replace(**{outcome: getattr(self, outcome) + count})


class Passed(NamedTuple):
    """How far a leg is and what became of everything up to there: one row, so the two never part."""

    position: int = 0
    tally: Tally = Tally()


class Target(NamedTuple):
    """The target system: its row and, where it is transactional, held and the fence row beside it."""

    value: str | None = "0"
    version: int = 0  # of the value; a plain target does not know it, the model watches it
    went_back: bool = False
    token: int = 0
    passed: Passed = Passed()


class Work(NamedTuple):
    """What a deliverer has in memory."""

    token: int
    slice: tuple[Message, ...]
    phase: str  # the step to come
    taken: int  # what to acknowledge over an engine: the slice and the repeats among it
    outcome: str = ""  # of the slice's newest message


class Relay(NamedTuple):
    """The way of a leg over an engine."""

    position: int = 0
    half: Message | None = None  # published, its position not yet moved
    frozen: Message | None = None
    engine: tuple[Message, ...] = ()


class Leg(NamedTuple):
    """One leg: its rows in the ledger, its target, its deliverer."""

    passed: Passed = Passed()
    held: int = 0  # the version a plain target has of ours
    claim: int = 0  # the version an open claim names
    token: int = 0
    target: Target = Target()
    work: Work | None = None
    frozen: Work | None = None
    up: bool = True
    relay: Relay = Relay()


class Left(NamedTuple):
    """What the world may still do."""

    edits: int
    crashes: int
    freezes: int
    downs: int
    restores: int


class State(NamedTuple):
    """All of it."""

    left: Left
    source: tuple[Record, ...]
    ledger: Ledger
    legs: tuple[Leg, ...]
    reading: Reading | None = None
    frozen: Reading | None = None


A, B = 0, 1
EPOCH = 100  # numbers and tokens carry their epoch: the second one's begin at 100
DIFFERS = "a target differs from the source"
WENT_BACK = "a target went from a newer version to an older one"
TWICE = "counted twice"
UNCOUNTED = "passed but not counted"
BEHIND = "a leg never passed the last batch"


@dataclass(frozen=True)
class Outbox:
    """The model: how much the world may do, what the targets can do, and which rules are left out."""

    edits: int = 3
    crashes: int = 1
    freezes: int = 0
    downs: int = 1
    restores: int = 0
    kinds: tuple[Kind, Kind] = (Kind.TRANSACTIONAL, Kind.TRANSACTIONAL)
    over_bus: bool = False  # leg B
    two_living: bool = False
    left_out: frozenset[Rule] = frozenset()

    def explore(self, until: str | None = None) -> Report:
        """Walk all of it, or until it is wrong in the way named."""
        left = Left(self.edits, self.crashes, self.freezes, self.downs, self.restores)
        start = State(left, (Record("0", 0), Record(None, 0)), Ledger(), (Leg(), Leg()))
        return explore(start, self.steps, at_rest=self.at_rest, always=self.always, until=until)

    # What must hold

    def at_rest(self, state: State) -> Iterator[str]:
        """When all is quiet both targets have what the source gives for the key."""
        givers = [
            record.value
            for record, seen in zip(state.source, state.ledger.seen, strict=True)
            if seen.value is not None
        ]
        alive = any(record.value is not None for record in state.source)
        truth = givers[0] if givers else None
        for leg in state.legs:
            if leg.target.value != truth or alive != (truth is not None):
                yield DIFFERS
            if leg.passed.position != state.ledger.number:
                yield BEHIND

    def always(self, state: State) -> Iterator[str]:
        """At every moment: in = done + unchanged + stale + superseded + in flight (what is above the position)."""
        for leg in state.legs:
            if leg.target.went_back:
                yield WENT_BACK
            for passed in (leg.passed, leg.target.passed):
                if sum(passed.tally) > passed.position % EPOCH:
                    yield TWICE
                if sum(passed.tally) < passed.position % EPOCH:
                    yield UNCOUNTED

    # What can happen

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Everything that can happen next."""
        yield from self.edit(state)
        yield from self.restore(state)
        yield from self.read(state)
        yield from self.publish(state)
        for which in (A, B):
            yield from self.deliver(state, which)
        if self.over_bus:
            yield from self.relay(state)

    def edit(self, state: State) -> Iterator[Step[State]]:
        """A user changes, deletes or makes a record."""
        if not state.left.edits:
            return
        left = state.left._replace(edits=state.left.edits - 1)
        stamp = self.edits - left.edits
        for r in (0, 1):
            here, other = state.source[r].value, state.source[1 - r].value
            if here is None and other is not None and not self.two_living:
                continue
            for value in ("0", "a", None):
                if value != here:
                    source = put(state.source, r, Record(value, stamp))
                    yield world(f"record {r} becomes {value}", state._replace(left=left, source=source))

    def restore(self, state: State) -> Iterator[Step[State]]:
        """The ledger goes back to its back-up, with everything stopped but what is frozen. A new epoch begins."""
        if not state.left.restores:
            return
        left = state.left._replace(restores=state.left.restores - 1)
        numbers = 0 if Rule.EPOCH_IN_NUMBERS in self.left_out else EPOCH
        token = 0 if Rule.EPOCH_IN_TOKENS in self.left_out else EPOCH
        ledger = Ledger(token, number=numbers)
        if Rule.READ_ALL_AFTER_RESTORE not in self.left_out:
            ledger = ledger._replace(cursor=-1, seen=(Seen("unknown"), Seen(None)))
        legs = tuple(
            leg._replace(
                passed=Passed(numbers),
                held=0,
                claim=0,
                token=token,
                work=None,
                relay=leg.relay._replace(position=numbers, half=None),
            )
            for leg in state.legs
        )
        yield world("ledger is restored", state._replace(left=left, ledger=ledger, legs=legs, reading=None))

    # The reader

    def read(self, state: State) -> Iterator[Step[State]]:
        """The reader pages after its cursor, sweeps for what is gone, and reads again whoever waited for the key."""
        if state.reading is not None:
            return
        ledger, source = state.ledger, state.source
        changed = [r for r in (0, 1) if source[r].stamp > ledger.cursor and source[r].value is not None]
        found = sorted(changed, key=lambda r: source[r].stamp)[:1]
        for r in (0, 1):
            seen, other = ledger.seen[r], ledger.seen[1 - r]
            gone = source[r].value is None and (seen.value is not None or seen.waits)
            woken = seen.waits and other.value is None and Rule.WAKE_THE_SECOND not in self.left_out
            if (gone or woken) and r not in found:
                found.append(r)
        for r in found:
            reading = Reading(ledger.token, r, *source[r], other_gone=source[1 - r].value is None)
            yield system(f"read record {r}", state._replace(reading=reading))

    def publish(self, state: State) -> Iterator[Step[State]]:
        """The reader's one commit, fenced by its lease; or it crashes, or freezes and is taken over."""
        reading, left = state.reading, state.left
        if state.frozen is not None:
            ledger, _ = self.commit(state.ledger, state.frozen)
            yield system("frozen reader thaws", state._replace(ledger=ledger, frozen=None))
        if reading is None:
            return
        ledger, rest = self.commit(state.ledger, reading)
        yield system("commit batch", state._replace(ledger=ledger, reading=rest))
        if left.crashes:
            fewer = left._replace(crashes=left.crashes - 1)
            yield world("reader crashes", state._replace(left=fewer, reading=None))
        if left.freezes and state.frozen is None and not reading.due:
            fewer = left._replace(freezes=left.freezes - 1)
            ledger = state.ledger._replace(token=state.ledger.token + 1)
            taken_over = state._replace(left=fewer, ledger=ledger, reading=None, frozen=reading)
            yield world("reader freezes, another takes over", taken_over)

    def commit(self, ledger: Ledger, reading: Reading) -> tuple[Ledger, Reading | None]:
        """The ledger after the reader's next commit, and what is still due after it."""
        if reading.token < ledger.token and Rule.READER_FENCE not in self.left_out:
            return ledger, None
        now, *later = reading.due or self.commits(self.compare(ledger, reading))
        if now.seen is not None:
            ledger = ledger._replace(seen=now.seen)
        if now.message is not None:
            ledger = ledger._replace(number=now.message.number, channel=(*ledger.channel, now.message))
        if now.cursor is not None:
            ledger = ledger._replace(cursor=max(ledger.cursor, now.cursor))
        return ledger, reading._replace(due=tuple(later)) if later else None

    def commits(self, batch: Part) -> tuple[Part, ...]:
        """The batch as the commits it is made in: one."""
        seen, message, cursor = batch
        if Rule.CURSOR_WITH_CHANNEL in self.left_out:
            return Part(None, None, cursor), Part(seen, message, None)
        if Rule.SEEN_NOT_BEFORE_CHANNEL in self.left_out:
            return Part(seen, None, None), Part(None, message, cursor)
        if Rule.SEEN_NOT_AFTER_CHANNEL in self.left_out:
            return Part(None, message, cursor), Part(seen, None, None)
        return (batch,)

    def compare(self, ledger: Ledger, reading: Reading) -> Part:
        """What was read against what was seen: nothing new, changed, gone, or a second record for the key."""
        r, value = reading.record, reading.value
        mine, other = ledger.seen[r], ledger.seen[1 - r]
        cursor = None if value is None else reading.stamp
        seen = put(ledger.seen, r, mine._replace(value=value, waits=False))
        if value == mine.value:
            return Part(seen, None, cursor)
        second = value is not None and mine.value is None and other.value is not None
        if second and Rule.LOOK_UP_THE_OTHER not in self.left_out:
            if not reading.other_gone:
                return Part(put(ledger.seen, r, mine._replace(waits=True)), None, cursor)
            seen = put(seen, 1 - r, other._replace(value=None))
        version = number = ledger.number + 1
        if Rule.VERSION_PER_SOURCE in self.left_out:
            version = mine.version + 1
            seen = put(seen, r, seen[r]._replace(version=version))
        return Part(seen, Message(number, version, value), cursor)

    # The legs

    def deliver(self, state: State, which: int) -> Iterator[Step[State]]:
        """A leg takes a slice and delivers it step by step; it crashes, freezes, goes down and comes back."""
        leg, left, name, kind = state.legs[which], state.left, "AB"[which], self.kinds[which]

        def after(leg: Leg, left: Left = left) -> State:
            return self.sweep_channel(state._replace(left=left, legs=put(state.legs, which, leg)))

        if not leg.up:
            yield system(f"{name} comes back", after(leg._replace(up=True)))
        elif left.downs and which == B:
            yield world(f"{name} goes down", after(leg._replace(up=False), left._replace(downs=left.downs - 1)))
        if leg.frozen is not None and leg.up:
            yield system(f"frozen deliverer of {name} thaws", after(self.thaw(leg, kind)))
        for work in (leg.work,) if leg.work is not None else self.take(state, which):
            numbers = "+".join(str(message.number) for message in work.slice)
            if leg.up or work.phase != "write":
                yield system(f"{name}: {work.phase} {numbers}", after(self.advance(leg, work, which)))
            if leg.work is not None and left.crashes:
                fewer = left._replace(crashes=left.crashes - 1)
                yield world(f"deliverer of {name} crashes", after(leg._replace(work=None), fewer))
            if leg.work is None and left.freezes and leg.frozen is None and kind != Kind.PLAIN:
                fewer = left._replace(freezes=left.freezes - 1)
                taken_over = leg._replace(frozen=work, token=leg.token + 1)
                yield world(f"deliverer of {name} freezes with {numbers}", after(taken_over, fewer))

    def take(self, state: State, which: int) -> Iterator[Work]:
        """The slices a deliverer may take next: the first batch that waits, or all of them."""
        leg = state.legs[which]
        waiting = leg.relay.engine if self.travels(which) else above(leg.passed.position, state.ledger.channel)
        phase = "claim" if self.kinds[which] == Kind.PLAIN else "write"
        if Rule.TARGET_BEFORE_LEDGER in self.left_out:
            phase = "confirm early"
        slices = [waiting[:1], waiting] if len(waiting) > 1 else [waiting] if waiting else []
        if len(waiting) > 1 and Rule.HAND_OVER_WHEN_LEVEL in self.left_out:
            slices.append(waiting[-1:])
        for batches in slices:
            kept = batches if Rule.SLICE_RISES in self.left_out else rising(batches)
            yield Work(leg.token, kept, phase, len(batches))

    def advance(self, leg: Leg, work: Work, which: int) -> Leg:
        """One step of the work: (claim,) write, confirm, and over an engine acknowledge."""
        match work.phase:
            case "claim":
                return self.claim(leg, work)
            case "confirm early":
                passed = self.count(leg.passed, work.slice, "done")
                return leg._replace(passed=passed, work=work._replace(phase="write"))
            case "write":
                target, outcome = self.write(leg.target, work, self.kinds[which])
                early = Rule.TARGET_BEFORE_LEDGER in self.left_out
                work = work._replace(phase="confirm", outcome=outcome)
                return leg._replace(target=target, work=None if early else work)
            case "confirm":
                leg = self.confirm(leg, work, self.kinds[which])
                return leg._replace(work=work._replace(phase="acknowledge") if self.travels(which) else None)
            case _:
                engine = leg.relay.engine[work.taken :]
                return leg._replace(work=None, relay=leg.relay._replace(engine=engine))

    def claim(self, leg: Leg, work: Work) -> Leg:
        """The claim commit of a plain target: it names the version that is about to be written."""
        newest = work.slice[-1].version
        if work.slice[-1].number <= leg.passed.position and Rule.NUMBER_CHECK not in self.left_out:
            return leg._replace(work=work._replace(phase="confirm", outcome="passed before"))
        if newest <= leg.held and Rule.VERSION_CHECK not in self.left_out:
            outcome = "unchanged" if newest == leg.held else "stale"
            return leg._replace(work=work._replace(phase="confirm", outcome=outcome))
        if newest < leg.claim and Rule.CLAIM_NAMES_VERSION not in self.left_out:
            return leg._replace(work=work._replace(phase="confirm", outcome="superseded"))
        return leg._replace(claim=newest, work=work._replace(phase="write"))

    def write(self, target: Target, work: Work, kind: Kind) -> tuple[Target, str]:
        """The write, and what became of the slice's newest message. All of it is one commit of the target."""
        newest, passed = work.slice[-1], target.passed
        if kind == Kind.TRANSACTIONAL:
            if work.token < target.token and Rule.LEG_FENCE not in self.left_out:
                return target, "refused"
            if newest.number <= passed.position and Rule.NUMBER_CHECK not in self.left_out:
                return target._replace(token=work.token), "passed before"
        outcome = "done" if newest.value != target.value else "unchanged"
        checked = kind != Kind.PLAIN and Rule.VERSION_CHECK not in self.left_out
        if checked and newest.version <= target.version:
            outcome = "unchanged" if newest.version == target.version else "stale"
        else:
            went_back = target.went_back or newest.version < target.version
            target = target._replace(value=newest.value, version=newest.version, went_back=went_back)
        if kind == Kind.TRANSACTIONAL:
            target = target._replace(token=work.token, passed=self.count(passed, work.slice, outcome))
        return target, outcome

    def confirm(self, leg: Leg, work: Work, kind: Kind) -> Leg:
        """The ledger commit after the target's: copy from the fence row, or count here."""
        if work.outcome == "refused" or (work.token < leg.token and Rule.LEG_FENCE not in self.left_out):
            return leg
        if kind == Kind.TRANSACTIONAL:
            return leg._replace(passed=max(leg.passed, leg.target.passed, key=lambda passed: passed.position))
        newest = work.slice[-1].version
        held = max(leg.held, newest) if work.outcome in ("done", "unchanged") else leg.held
        claim = 0 if leg.claim <= newest else leg.claim
        return leg._replace(passed=self.count(leg.passed, work.slice, work.outcome), held=held, claim=claim)

    def count(self, passed: Passed, batch: tuple[Message, ...], outcome: str) -> Passed:
        """The position after the slice, each of its messages counted once."""
        fresh = batch if Rule.NUMBER_CHECK in self.left_out else above(passed.position, batch)
        if not fresh:
            return passed
        epoch = fresh[-1].number // EPOCH
        tally = passed.tally if epoch <= passed.position // EPOCH else Tally()
        counted = [message for message in fresh if message.number // EPOCH == epoch]
        tally = tally.plus("superseded", len(counted) - 1).plus(outcome)
        return Passed(max(passed.position, fresh[-1].number), tally)

    def thaw(self, leg: Leg, kind: Kind) -> Leg:
        """A frozen deliverer goes on where it stood: just before the write."""
        assert leg.frozen is not None
        target, outcome = self.write(leg.target, leg.frozen, kind)
        return self.confirm(leg._replace(target=target, frozen=None), leg.frozen._replace(outcome=outcome), kind)

    # The channel and the engine

    def travels(self, which: int) -> bool:
        """True for the leg that goes over an engine."""
        return self.over_bus and which == B

    def sweep_channel(self, state: State) -> State:
        """Drop the batches that all legs have passed; over an engine, that the relay has passed."""
        if not state.ledger.channel:
            return state
        positions = [
            leg.relay.position if self.travels(which) else leg.passed.position for which, leg in enumerate(state.legs)
        ]
        passed = max(positions) if Rule.KEEP_UNTIL_ALL_PASSED in self.left_out else min(positions)
        channel = above(passed, state.ledger.channel)
        return state._replace(ledger=state.ledger._replace(channel=channel))

    def relay(self, state: State) -> Iterator[Step[State]]:
        """Publish the next batch to the engine, then move the relay's position; a crash between publishes twice."""
        leg, left = state.legs[B], state.left
        relay = leg.relay

        def after(relay: Relay, left: Left = left) -> State:
            legs = put(state.legs, B, leg._replace(relay=relay))
            return self.sweep_channel(state._replace(left=left, legs=legs))

        def published(message: Message) -> Relay:
            return relay._replace(engine=(*relay.engine, message))

        fewer = left._replace(crashes=left.crashes - 1)
        move_first = Rule.PUBLISH_BEFORE_RELAY in self.left_out
        if relay.frozen is not None:
            yield system("frozen relay thaws", after(published(relay.frozen)._replace(frozen=None)))
        if relay.half is not None:
            number = relay.half.number
            if move_first:
                yield system(f"relay publishes {number}", after(published(relay.half)._replace(half=None)))
            else:
                yield system(f"relay moves to {number}", after(relay._replace(position=number, half=None)))
            if left.crashes:
                yield world("relay crashes", after(relay._replace(half=None), fewer))
            return
        waiting = above(relay.position, state.ledger.channel)
        if not waiting:
            return
        batch = waiting[0]
        if move_first:
            moved = relay._replace(position=batch.number, half=batch)
            yield system(f"relay moves to {batch.number}", after(moved))
        else:
            yield system(f"relay publishes {batch.number}", after(published(batch)._replace(half=batch)))
        if left.freezes and relay.frozen is None:
            frozen = relay._replace(frozen=batch)
            yield world(f"relay freezes with {batch.number}", after(frozen, left._replace(freezes=left.freezes - 1)))
        if left.crashes and len(waiting) > 1 and Rule.ONE_UNCONFIRMED in self.left_out:
            overtaking = published(waiting[1])
            yield world(f"relay sends two, only {waiting[1].number} arrives", after(overtaking, fewer))


def above(position: int, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages past a position."""
    return tuple(message for message in messages if message.number > position)


def rising(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages whose number is above that of all before them."""
    kept: tuple[Message, ...] = ()
    for message in messages:
        if not kept or message.number > kept[-1].number:
            kept = (*kept, message)
    return kept
