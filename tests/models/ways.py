"""A leg's ways: changing over between direct and bus while it runs, a backfill beside live traffic, a new leg.

One source, one reader, two legs. Leg A may be new, may be backfilled and changes its way; leg B is direct and
always there, and must not notice. The source gives versions of one *entity*, or *events* of one subject, which
must arrive in order and each once.

A leg's ways are kept in order, each serving the batches with numbers in (after, until]. A direct way is a channel
in the ledger; the bus is an engine of its own, fed by a relay from an outbox. The target commits what it applies
together with its fence row (place in the channel, number, count), the ledger copies it; crashes come in between.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.models.explorer import Report, Step, explore, put, system, world


class Rule(StrEnum):
    """Each rule that may be left out, and why it is there."""

    WAY_IN_COMMIT = "a reader that remembers the way puts a batch where nobody looks any more"
    SWITCH_IN_COMMIT = "a batch published between looking at the number and writing it down belongs to no way"
    OLD_WAY_FIRST = "events that take the new way at once overtake those on the old one"
    STOP_AT_UNTIL = "coming back to a channel, its newer batches are not the old way's to take"
    DRAINED_BY_NUMBER = "an engine that looks empty may have its last batches still in the outbox"
    AFTER_IS_CHECKED = "coming back to an engine shows again what went before"
    ADDRESSED = "a backfill for one leg is nothing to the others"
    ONE_READER = "a backfill read beside the live reading commits what was current, not what is"
    BACKFILL_KEEPS_VERSION = "under a new version an old value would be the newest"
    HELD_DECIDES = "an event that live traffic has brought would be applied again"
    PRUNED_STAY_OUT = "an event that held has forgotten cannot be told from a new one"
    PRUNING_WAITS = "the same, for an event that is forgotten while a backfill brings it"
    NEW_LEG_IN_COMMIT = "a leg that begins from now, and whose backfill was never asked for, lacks the past for ever"
    EVENTS_BEGIN_BEHIND_BACKFILL = "live events of a leg that begins before its backfill arrive before older ones"


DIRECT, BUS = CHANNELS = ("direct", "bus")


class Item(NamedTuple):
    """A version of the entity with its value, or an event with its number in both."""

    version: int
    value: int


class Batch(NamedTuple):
    """Items under one number."""

    number: int
    items: tuple[Item, ...]
    to: str = ""  # the leg it is for; all of them if empty


class Way(NamedTuple):
    """Which batches a leg takes from which channel."""

    channel: str
    after: int
    until: int | None = None
    last: int = 0  # the last number that was put on it


class Passed(NamedTuple):
    """How far a leg is in one channel: its place in the engine, and the batch's number."""

    place: int = 0
    number: int = 0


class Target(NamedTuple):
    """A target: what it has, and the fence row: a place for each channel, and the count."""

    newest: Item = Item(0, 0)
    events: tuple[int, ...] = ()
    counted: int = 0
    passed: tuple[Passed, ...] = (Passed(), Passed())


class Leg(NamedTuple):
    """Leg A: its rows in the ledger, and its target."""

    ways: tuple[Way, ...] = ()
    entered: int = 0
    counted: int = 0
    passed: tuple[Passed, ...] = (Passed(), Passed())
    target: Target = Target()
    copying: bool = False  # its deliverer has a commit of the target to copy
    pruned: tuple[int, ...] = ()  # events that held has forgotten

    @property
    def last_number(self) -> int:
        """The last number that it has passed, by the ledger, on any way."""
        return max(passed.number for passed in self.passed)


class Other(NamedTuple):
    """Leg B, which takes each batch of the direct channel in one step."""

    place: int = 0
    entered: int = 0
    target: Target = Target()


class Left(NamedTuple):
    """What the world may still do."""

    items: int
    crashes: int
    switches: int
    backfills: int
    prunes: int
    new_legs: int


class State(NamedTuple):
    """All of it."""

    left: Left
    a: Leg
    b: Other = Other()
    current: Item = Item(0, 0)  # the source's newest
    number: int = 0  # of the last batch
    asked: bool = False  # a backfill of A
    backfill: tuple[Item, ...] | None = None  # what the reader has read for it
    remembered: str = DIRECT  # A's way as a reader remembers it that does not look
    looked: int | None = None  # the number as a switch saw it that is not one commit
    half_added: bool = False  # A begins, and its backfill is still to be asked for in a second commit
    channel: tuple[Batch, ...] = ()  # the direct one
    outbox: tuple[Batch, ...] = ()
    relayed: bool = False  # the outbox's first batch is published and not yet taken out
    engine: tuple[Batch, ...] = ()

    @property
    def kept(self) -> tuple[Batch, ...]:
        """Every batch that is somewhere between source and target."""
        return self.channel + self.outbox + self.engine


DIFFERS = "a target lacks what the source has"
TWICE = "an event was applied twice"
DISORDER = "events arrived out of order"
MISCOUNTED = "in is not the sum of outcomes"


@dataclass(frozen=True)
class Ways:
    """The model: events or an entity, how much the world may do, and which rules are left out."""

    events: bool = False
    items: int = 3
    crashes: int = 1
    switches: int = 0
    backfills: int = 0
    prunes: int = 0
    new_leg: bool = False
    via: str = DIRECT
    left_out: frozenset[Rule] = frozenset()

    def explore(self, until: str | None = None) -> Report:
        """Walk all of it, or until it is wrong in the way named."""
        left = Left(self.items, self.crashes, self.switches, self.backfills, self.prunes, int(self.new_leg))
        a = Leg(() if self.new_leg else (Way(self.via, 0),))
        start = State(left, a, remembered=self.via)
        return explore(start, self.steps, at_rest=self.at_rest, always=self.always, until=until)

    # What must hold

    def at_rest(self, state: State) -> Iterator[str]:
        """When all is quiet each target has everything, in order and once, and everything is counted."""
        legs = [(state.b.target, state.b.entered, state.b.target.counted)]
        if state.a.ways or state.half_added:
            legs.append((state.a.target, state.a.entered, state.a.counted))
        for target, entered, counted in legs:
            if entered != counted:
                yield MISCOUNTED
            if not self.events:
                if target.newest.value != state.current.value:
                    yield DIFFERS
            elif len(set(target.events)) < state.current.value:
                yield DIFFERS
            elif len(target.events) > state.current.value:
                yield TWICE
            elif list(target.events) != sorted(target.events):
                yield DISORDER

    def always(self, state: State) -> Iterator[str]:
        """At every moment nothing is counted that did not come in."""
        if state.a.counted > state.a.entered or state.b.target.counted > state.b.entered:
            yield MISCOUNTED

    # What can happen

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Everything that can happen next."""
        yield from self.publish(state)
        yield from self.add_leg(state)
        yield from self.backfill(state)
        yield from self.switch(state)
        yield from self.relay(state)
        yield from self.deliver(state)
        yield from self.deliver_other(state)

    # The reader

    def publish(self, state: State) -> Iterator[Step[State]]:
        """The source has something new; its one reader publishes it, unless it is busy with a backfill."""
        left = state.left
        if left.items and (state.backfill is None or Rule.ONE_READER in self.left_out):
            new = Item(state.current.version + 1, state.current.value + 1)
            published = self.commit(state._replace(left=left._replace(items=left.items - 1), current=new), (new,))
            yield world(f"{new.value} is published", published)

    def commit(self, state: State, items: tuple[Item, ...], to: str = "") -> State:
        """The reader's one commit: the batch goes on the present way of each leg, and is counted in."""
        batch = Batch(state.number + 1, items, to)
        state = state._replace(number=batch.number)
        channels = set()
        if not to:
            channels.add(DIRECT)
            state = state._replace(b=state.b._replace(entered=state.b.entered + len(items)))
        if state.a.ways:
            way = state.a.ways[-1]
            channels.add(state.remembered if Rule.WAY_IN_COMMIT in self.left_out else way.channel)
            ways = (*state.a.ways[:-1], way._replace(last=batch.number))
            a = state.a._replace(ways=ways, entered=state.a.entered + len(items))
            state = state._replace(a=a, remembered=way.channel)
        if DIRECT in channels:
            state = state._replace(channel=(*state.channel, batch))
        if BUS in channels:
            state = state._replace(outbox=(*state.outbox, batch))
        return state

    def add_leg(self, state: State) -> Iterator[Step[State]]:
        """A new leg: it begins from now, and its backfill is asked for, in one commit."""
        left = state.left
        if state.half_added:
            yield system("A's backfill is asked for", state._replace(asked=True, half_added=False))
            if left.crashes:
                # The ledger has the leg, so the next start finds nothing new.
                crashed = state._replace(left=left._replace(crashes=left.crashes - 1), half_added=False)
                yield world("crash", crashed)
        if not left.new_legs:
            return
        state = state._replace(left=left._replace(new_legs=0))
        if not self.begins_behind_backfill:
            state = state._replace(a=state.a._replace(ways=(Way(self.via, state.number),)))
        if Rule.NEW_LEG_IN_COMMIT in self.left_out:
            yield world("A is added", state._replace(half_added=True))
        else:
            yield world("A is added", state._replace(asked=True))

    @property
    def begins_behind_backfill(self) -> bool:
        """Events of a new leg: its way begins in the backfill's own commit."""
        return self.events and self.new_leg and Rule.EVENTS_BEGIN_BEHIND_BACKFILL not in self.left_out

    def backfill(self, state: State) -> Iterator[Step[State]]:
        """Read what is current (of events, all of them) and commit it as a batch for A alone."""
        left = state.left
        if left.backfills and state.a.ways and not state.asked:
            fewer = left._replace(backfills=left.backfills - 1)
            yield world("a backfill is asked for", state._replace(left=fewer, asked=True))
        if not state.asked:
            return
        if state.backfill is None:
            items: tuple[Item, ...] = (state.current,) if state.current.version else ()
            if self.events:
                pruned = () if Rule.PRUNED_STAY_OUT in self.left_out else state.a.pruned
                events = range(1, state.current.value + 1)
                items = tuple(Item(event, event) for event in events if event not in pruned)
            yield system("backfill is read", state._replace(backfill=items))
            return
        if left.crashes:
            crashed = state._replace(left=left._replace(crashes=left.crashes - 1), backfill=None)
            yield world("reader crashes", crashed)
        items = state.backfill
        state = state._replace(asked=False, backfill=None)
        if not self.events and Rule.BACKFILL_KEEPS_VERSION in self.left_out:
            items = tuple(Item(state.current.version + 1, item.value) for item in items)
            state = state._replace(current=state.current._replace(version=state.current.version + 1))
        if not state.a.ways:
            state = state._replace(a=state.a._replace(ways=(Way(self.via, state.number),)))
        yield system("backfill is committed", self.commit(state, items, to="A") if items else state)

    def switch(self, state: State) -> Iterator[Step[State]]:
        """A's way is changed: the old one ends and the new one begins at the last number, in one commit."""
        left, a = state.left, state.a
        if state.looked is not None:
            yield system("way is changed", changed_way(state, state.looked)._replace(looked=None))
        elif left.switches and a.ways:
            fewer = state._replace(left=left._replace(switches=left.switches - 1))
            if Rule.SWITCH_IN_COMMIT in self.left_out:
                yield world("number is looked at", fewer._replace(looked=state.number))
            else:
                yield world("way is changed", changed_way(fewer, state.number))

    def relay(self, state: State) -> Iterator[Step[State]]:
        """Publish the outbox's first batch, then take it out; a crash in between publishes it twice."""
        if state.relayed:
            yield system("relay takes out", state._replace(outbox=state.outbox[1:], relayed=False))
            if state.left.crashes:
                fewer = state.left._replace(crashes=state.left.crashes - 1)
                yield world("relay crashes", state._replace(left=fewer, relayed=False))
        elif state.outbox:
            published = state._replace(engine=(*state.engine, state.outbox[0]), relayed=True)
            yield system(f"relay publishes {state.outbox[0].number}", published)

    # The legs

    def deliver(self, state: State) -> Iterator[Step[State]]:
        """A takes the next batch of its first way, in two commits; an empty old way is left."""
        a, left = state.a, state.left
        if a.copying:
            yield system("A: copy", state._replace(a=copied(a)))
            if left.crashes:
                crashed = state._replace(left=left._replace(crashes=left.crashes - 1), a=a._replace(copying=False))
                yield world("A crashes", crashed)
            return
        for way in a.ways if Rule.OLD_WAY_FIRST in self.left_out else a.ways[:1]:
            yield from self.take(state, way)
        if len(a.ways) > 1 and self.is_drained(state, a.ways[0]):
            yield system("A leaves its old way", state._replace(a=left_way(a)))
        under_way = state.asked or any(batch.to and batch.number > a.last_number for batch in state.kept)
        if not left.prunes or (under_way and Rule.PRUNING_WAITS not in self.left_out):
            return
        for event in a.target.events:
            if event not in a.pruned:
                pruned = a._replace(pruned=(*a.pruned, event))
                fewer = left._replace(prunes=left.prunes - 1)
                yield world(f"held forgets {event}", state._replace(left=fewer, a=pruned))

    def take(self, state: State, way: Way) -> Iterator[Step[State]]:
        """The next batch of a way: applied and passed in one commit of the target."""
        a = state.a
        c = CHANNELS.index(way.channel)
        waiting = (state.channel, state.engine)[c][a.passed[c].place :]
        if a.target.passed[c].place > a.passed[c].place:
            yield system("A: the target is ahead", state._replace(a=copied(a)))
            return
        beyond = waiting and way.until is not None and waiting[0].number > way.until
        if not waiting or (beyond and Rule.STOP_AT_UNTIL not in self.left_out):
            return
        batch, fence = waiting[0], a.target.passed[c]
        seen_before = fence.number if Rule.AFTER_IS_CHECKED in self.left_out else max(fence.number, way.after)
        target = a.target
        if batch.number > seen_before and batch.to in ("", "A"):
            target = self.apply(target, batch, a.pruned)
        passed = Passed(fence.place + 1, max(fence.number, batch.number))
        target = target._replace(passed=put(target.passed, c, passed))
        yield system(
            f"A: takes {batch.number}, {way.channel}", state._replace(a=a._replace(target=target, copying=True))
        )

    def apply(self, target: Target, batch: Batch, pruned: tuple[int, ...] = ()) -> Target:
        """Held decides, per item; each is counted."""
        for item in batch.items:
            if self.events:
                known = item.value in target.events and item.value not in pruned
                if not known or Rule.HELD_DECIDES in self.left_out:
                    target = target._replace(events=(*target.events, item.value))
            elif item.version > target.newest.version:
                target = target._replace(newest=item)
        return target._replace(counted=target.counted + len(batch.items))

    def is_drained(self, state: State, way: Way) -> bool:
        """True when a way that has ended holds nothing for the leg any more."""
        passed = state.a.passed[CHANNELS.index(way.channel)]
        if Rule.DRAINED_BY_NUMBER in self.left_out:
            return passed.place == len((state.channel, state.engine)[CHANNELS.index(way.channel)])
        return max(passed.number, way.after) >= way.last

    def deliver_other(self, state: State) -> Iterator[Step[State]]:
        """B takes the next batch of the direct channel."""
        b = state.b
        if b.place < len(state.channel):
            batch = state.channel[b.place]
            mine = not batch.to or Rule.ADDRESSED in self.left_out
            target = self.apply(b.target, batch) if mine else b.target
            yield system(f"B: takes {batch.number}", state._replace(b=b._replace(place=b.place + 1, target=target)))


def changed_way(state: State, number: int) -> State:
    """The state after A's way was changed as of a number."""
    *before, old = state.a.ways
    new = Way(BUS if old.channel == DIRECT else DIRECT, number, last=number)
    return state._replace(a=state.a._replace(ways=(*before, old._replace(until=number), new)))


def copied(leg: Leg) -> Leg:
    """The ledger's rows after it copied the target's fence row."""
    return leg._replace(passed=leg.target.passed, counted=leg.target.counted, copying=False)


def left_way(leg: Leg) -> Leg:
    """The first way is given up, and its place forgotten on both sides; the counts stay."""
    old, *rest = leg.ways
    c = CHANNELS.index(old.channel)
    target = leg.target._replace(passed=put(leg.target.passed, c, Passed()))
    return leg._replace(ways=tuple(rest), passed=put(leg.passed, c, Passed()), target=target)
