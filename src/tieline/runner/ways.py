"""Ways: which channel a leg's messages take, how batches get there, and how a leg changes over.

A batch enters each way of its source in the reader's own commit: a channel in the ledger's store for
direct legs and for a bus that shares the store, an outbox for a bus elsewhere. A leg's ways are kept
in order; each serves the source's batches `(after, until]`, so a leg that changes over empties the
old way before it takes from the new one, and nothing is lost or repeated between them.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

import msgspec

from tieline.bus import Bus, Delivery
from tieline.connector import LegState
from tieline.entity import Entity, Event
from tieline.errors import ConfigurationError, Mistake
from tieline.flow import Flow
from tieline.ledger import NOT_BEGUN, Ledger, LegRow, Stores, Way
from tieline.message import Batch, Outcome, Reason, pack, split
from tieline.runner.decide import Work
from tieline.runner.epoch import trust
from tieline.runner.exact import too_weak
from tieline.runner.moves import as_moved
from tieline.runner.plan import LegPlan, SourcePlan
from tieline.runner.requests import Request, ask
from tieline.runner.shadows import end_shadow, outbox, published
from tieline.runner.upcasting import renew

DIRECT: Final = "direct"
_MAIN: Final = "main"
RETIRED: Final = "retired"


def wished_way(leg: LegPlan, moved: Flow | None = None) -> Way:
    """The way that the project file, or a move, asks for; where it begins is not known here."""
    flow = leg.flow if moved is None else moved
    bus = _MAIN if flow.via == "bus" else flow.via
    partitions = 1 if bus == DIRECT else flow.partitions
    return Way(bus=bus, channel=f"{bus}:{leg.source.name}/{partitions}", partitions=partitions)


Entities = Mapping[bytes, Entity]
"""Decoded entities by message id, as far as they are at hand."""


@dataclass(slots=True)
class Handover:
    """The last batches of each partition, so that a level leg need not read and decode what was just kept."""

    most: int = 3
    _recent: dict[tuple[str, int], deque[tuple[Delivery, Entities]]] = field(default_factory=dict)

    def add(self, channel: str, delivery: Delivery, entities: Entities) -> None:
        """Remember a batch that was just committed."""
        key = (channel, delivery.partition)
        self._recent.setdefault(key, deque(maxlen=self.most)).append((delivery, entities))

    def take(self, channel: str, after: Mapping[int, int], most: int) -> tuple[list[Delivery], Entities]:
        """What follows these positions without a hole, partition by partition in turn.

        Nothing where one of them is further behind than what is remembered.
        """
        ahead: list[tuple[int, int, Delivery, Entities]] = []
        for partition, position in after.items():
            recent = self._recent.get((channel, partition), ())
            if recent and recent[0][0].position > position + 1:
                return [], {}
            following = [one for one in recent if one[0].position > position]
            for place, (delivery, entities) in enumerate(following, 1):
                if delivery.position == position + place:  # another worker may have read the source in between
                    ahead.append((place, partition, delivery, entities))
        found: list[Delivery] = []
        known: dict[bytes, Entity] = {}
        count = 0
        for _, _, delivery, entities in sorted(ahead, key=itemgetter(0, 1)):
            if count >= most:
                break
            found.append(delivery)
            known.update(entities)
            count += len(delivery.batch.messages)
        return found, known


def bus_called(buses: Mapping[str, Bus], name: str) -> Bus:
    """The bus of this name.

    Raises:
        ConfigurationError: where there is none; a flow may have been moved there since this worker began.
    """
    try:
        return buses[name]
    except KeyError:
        what = f"there is no bus {name!r}, and a flow goes there"
        remedy = f"add [buses.{name}] to the project file; a worker that runs goes on then"
        raise ConfigurationError(Mistake(f"buses.{name}", what, remedy)) from None


def known_bus(buses: Mapping[str, Bus], name: str) -> Bus | None:
    """The bus of this name, None where there is none: for what must trouble nobody else."""
    try:
        return bus_called(buses, name)
    except ConfigurationError:
        return None


class Publisher:
    """Puts a source's batches on their ways, inside the reader's transaction."""

    def __init__(self, buses: Mapping[str, Bus], handover: Handover) -> None:
        self._buses = buses
        self._handover = handover
        self._kept: list[tuple[str, Delivery]] = []

    def shares(self, bus: str) -> bool:
        """Whether this bus keeps its channels in the ledger's own store."""
        return bus == DIRECT or bus_called(self._buses, bus).capabilities.shares_ledger

    def keep(self, stores: Stores, plan: SourcePlan, batches: Sequence[Batch]) -> None:
        """Append the batches to the channels of each leg's present way and its shadow, and count them in."""
        self._kept = []
        if not batches:
            return
        _exclude(stores, plan.name)
        legs = [leg for leg in stores.legs.of_source(plan.name) if leg.paused != RETIRED]
        shadows = {leg.leg: leg.ways[-1].shadow for leg in legs if leg.ways[-1].shadow is not None}
        goes = [(leg.leg, leg.ways[-1]) for leg in legs] + [(leg, one.way) for leg, one in shadows.items()]
        # Whether a shadow's channel is in the ledger's store is kept with it: its bus may not be known here.
        shared = {one.way.channel: one.shares for one in shadows.values()}
        for way in {way.channel: way for _, way in goes}.values():
            own = {leg for leg, its in goes if its.channel == way.channel}
            chosen = [b for b in batches if not b.to or b.to in own]
            if chosen:
                here = shared[way.channel] if way.channel in shared else self.shares(way.bus)
                self._append(stores, way, chosen, here)
        for name, shadow in shadows.items():
            published(stores, name, shadow, batches)
        for leg in legs:
            after = leg.ways[-1].after
            entered = sum(len(b.messages) for b in batches if b.to == leg.leg or (not b.to and b.sequence > after))
            if entered:
                stores.legs.count(leg.leg, entered=entered)

    def _append(self, stores: Stores, way: Way, batches: Sequence[Batch], shared: bool) -> None:
        if not shared:
            box = outbox(way.channel)
            stores.channels.append(box, [(0, b.sequence, len(b.messages), pack(b)) for b in batches])
            stores.notify(box)
            return
        parts = [(p, part) for b in batches for p, part in split(b, way.partitions).items()]
        ends = stores.channels.append(
            way.channel, [(p, part.sequence, len(part.messages), pack(part)) for p, part in parts]
        )
        # Positions are gapless within a partition, so they follow from its new end.
        for partition, part in reversed(parts):
            self._kept.append((way.channel, Delivery(partition, ends[partition], part)))
            ends[partition] -= 1
        stores.notify(way.channel)

    def published(self, entities: Entities) -> None:
        """The transaction is committed: hand its batches over to legs in this process."""
        for channel, delivery in reversed(self._kept):
            self._handover.add(channel, delivery, entities)
        self._kept = []


def works_of(
    deliveries: Sequence[Delivery],
    way: Way,
    leg: str,
    states: Mapping[int, LegState],
    entities: Entities,
    entity: type[Entity],
) -> tuple[list[Work], dict[int, LegState]]:
    """The messages that are for this leg and new to it, and where each partition stands behind them.

    Those of an earlier version of the entity are upcast.
    """
    works: list[Work] = []
    moves: dict[int, LegState] = {}
    for delivery in deliveries:
        partition, batch = delivery.partition, delivery.batch
        passed = moves.get(partition, states[partition]).sequence
        sequence = max(passed, batch.sequence)
        moves[partition] = LegState(position=delivery.position, sequence=sequence, made=batch.made)
        if batch.sequence <= passed or not _is_for(batch, way, leg):  # published twice by a relay, or not ours
            continue
        taken = [
            Work(message, batch.sequence, partition, force=batch.force, entity=entities.get(message.id))
            for message in batch.messages
        ]
        if batch.schema < entity.__version__:
            renew(entity, taken, batch.schema)
        works += taken
    return works, moves


def readable(deliveries: Sequence[Delivery], way: Way, leg: str, entity: type[Entity]) -> tuple[list[Delivery], int]:
    """What comes before the first batch of a newer version in each partition, and the newest version met, or 0."""
    blocked: dict[int, int] = {}
    found: list[Delivery] = []
    for delivery in deliveries:
        batch = delivery.batch
        late = way.until is not None and batch.sequence > way.until
        if batch.schema > entity.__version__ and not late and _is_for(batch, way, leg):
            blocked[delivery.partition] = max(batch.schema, blocked.get(delivery.partition, 0))
        if delivery.partition not in blocked:
            found.append(delivery)
    return found, max(blocked.values(), default=0)


def _is_for(batch: Batch, way: Way, leg: str) -> bool:
    """Whether a batch is meant for this leg, and not of before this way's time."""
    return batch.to == leg or (not batch.to and batch.sequence > way.after)


async def reach_way(
    ledger: Ledger, buses: Mapping[str, Bus], publisher: Publisher, leg: LegPlan, flow: Flow, subscription: str = ""
) -> None:
    """Make the channel of the way that a leg's flow asks for, where that is not in the ledger's own store.

    The leg subscribes to it, or whoever is named.

    Raises:
        ConfigurationError: where there is no such bus, or it does not do for the flow.
        Unavailable: where its engine cannot be reached.
    """
    way = wished_way(leg, flow)
    bus = bus_called(buses, way.bus)
    if not publisher.shares(way.bus):
        await bus.declare(way.channel, way.partitions, [subscription or leg.name])
    # By now the engine has been reached, and so is known as it is.
    if weak := too_weak(flow, way.bus, bus.capabilities, ledger):
        raise ConfigurationError(weak)


def settle_ways(stores: Stores, plans: Sequence[SourcePlan], publisher: Publisher) -> list[str]:
    """Bring the ledger's facts to the wish of the file, or of a move that it does not know yet.

    Gives a line for each leg that changes or begins.
    A new leg of a source with a history begins "from now" and is backfilled, as one step; so does a leg whose
    target is a new generation.
    """
    said: list[str] = []
    for plan in plans:
        _exclude(stores, plan.name)
        sequence = stores.sources.get(plan.name).sequence
        for leg in plan.legs:
            row = stores.legs.get(leg.name)
            why = _begins_anew(stores, leg, row) if sequence else ""
            begin = (why and in_order(leg)) or (row is not None and row.ways[-1].after == NOT_BEGUN)
            wished = wished_way(leg, as_moved(stores, leg.flow))
            wish = msgspec.structs.replace(wished, after=NOT_BEGUN if begin else sequence)
            if why:
                ask(stores, [Request("backfill", plan.name, leg.name, begin=bool(begin), why=why)])
                said.append(f"{leg.name}: {why}; current values are sent to it")
            if row is None:
                _begin(stores, leg, wish)
            elif row.ways[-1].channel != wish.channel or row.paused == RETIRED or why:
                row = end_shadow(stores, row)
                last = row.ways[-1]
                ways = [*row.ways[:-1], msgspec.structs.replace(last, until=sequence), wish]
                paused = "" if row.paused == RETIRED else row.paused
                stores.legs.put(msgspec.structs.replace(row, ways=ways, paused=paused))
                if last.channel != wish.channel:
                    said.append(f"{leg.name}: from {last.bus} to {wish.bus}, after what is under way on {last.bus}")
            else:
                wish = row.ways[-1]
            stores.notes.put(f"generation/{leg.name}", leg.generation)
            _declare(stores, leg.name, wish, publisher.shares(wish.bus))
    return said


def _begins_anew(stores: Stores, leg: LegPlan, row: LegRow | None) -> str:
    """Why a leg needs what went to others before, if it does.

    Raises:
        ConfigurationError: where a generation cannot change as the file asks.
    """
    if row is None:
        return "new"
    known = stores.notes.get(f"generation/{leg.name}") or 1
    if leg.generation < known:
        what = f"has generation {leg.generation}, and was {known} before; what it holds of the earlier one is old"
        raise ConfigurationError(Mistake(f"systems.{leg.target}", what, f"write generation = {known + 1}"))
    if leg.generation == known:
        return "back again" if row.paused == RETIRED else ""
    if in_order(leg) and _under_way(stores, row):
        what = f"has a new generation while events are under way on {leg.name}; they would come before earlier ones"
        remedy = f"write generation = {known}, let them arrive or drop them, then raise it"
        raise ConfigurationError(Mistake(f"systems.{leg.target}", what, remedy))
    _forget_doubts(stores, leg.name)
    trust(stores, leg.name)
    return "another system stands behind its name"


def _under_way(stores: Stores, row: LegRow) -> bool:
    return row.entered > sum(stores.legs.totals(row.leg).values())


def _forget_doubts(stores: Stores, leg: str) -> None:
    """Whether a call reached a system that is no longer there does not matter to the next one."""
    rows = stores.parked.list(leg, Reason.DOUBT, limit=NOT_BEGUN)
    stores.parked.put([msgspec.structs.replace(row, reason=Reason.RETRY, not_before=0.0) for row in rows])


def in_order(leg: LegPlan) -> bool:
    """Whether this leg's messages must arrive in order across keys: events that have a subject."""
    return issubclass(leg.entity, Event) and leg.entity.__subject__ is not None


def begin_stream(stores: Stores, leg: str, sequence: int) -> None:
    """The leg's backfill has ended: from the next batch on it gets what everybody gets."""
    row = stores.legs.get(leg)
    if row is not None and row.ways[-1].after == NOT_BEGUN:
        ways = [*row.ways[:-1], msgspec.structs.replace(row.ways[-1], after=sequence)]
        stores.legs.put(msgspec.structs.replace(row, ways=ways))


def _exclude(stores: Stores, source: str) -> None:
    """Readers publish, and legs change their ways, one after the other: both lock the same row first."""
    stores.notes.put(f"ways/{source}", True)


def _begin(stores: Stores, leg: LegPlan, way: Way) -> None:
    stores.legs.put(
        LegRow(
            leg=leg.name,
            flow=leg.flow.name,
            source=leg.source.name,
            target=leg.target,
            entity=leg.entity.__name__,
            ways=[way],
        )
    )


def begins_now(stores: Stores, source: str, subscriber: str, way: Way, shares: bool) -> Way:
    """The way from the source's next batch on, its channel declared for this subscriber."""
    _exclude(stores, source)
    _declare(stores, subscriber, way, shares)
    return msgspec.structs.replace(way, after=stores.sources.get(source).sequence)


def _declare(stores: Stores, leg: str, way: Way, shares: bool) -> None:
    if shares:
        stores.channels.declare(way.channel, way.partitions, [leg])
    else:
        stores.channels.declare(outbox(way.channel), 1, ["relay"])
    if not stores.legs.states(leg, way.channel):
        # What stands in the channel already went to this leg by another way, or was before its time.
        ends = stores.channels.ends(way.channel) if shares else {}
        stores.legs.move(leg, way.channel, {p: LegState(position=ends.get(p, 0)) for p in range(way.partitions)})


def retire(stores: Stores, claimed: set[str]) -> list[str]:
    """Legs that no flow claims any more get nothing new; what is under way to them stays."""
    gone = [row for row in stores.legs.all() if row.leg not in claimed and row.paused != RETIRED]
    for row in gone:
        stores.legs.put(msgspec.structs.replace(end_shadow(stores, row), paused=RETIRED))
    return [row.leg for row in gone]


def relayed(stores: Stores, way: Way) -> bool:
    """Whether no batch of a way that is to be left waits in the outbox of an engine elsewhere."""
    box = outbox(way.channel)
    state = stores.legs.states(f"relay:{way.channel}", box).get(0, LegState())
    ahead = stores.channels.read(box, {0: state.position}, 1)
    return not ahead or (way.until is not None and ahead[0].sequence > way.until)


def leave_way(stores: Stores, leg: str, way: Way) -> bool:
    """Drop the leg's first way, if it is still this one: another worker may have left it. Its counts stay.

    Gives whether the leg needs its channel no more.
    """
    row = stores.legs.get(leg)
    if row is None or len(row.ways) < 2 or row.ways[0] != way:
        return False
    left, *rest = row.ways
    stores.legs.put(msgspec.structs.replace(row, ways=rest))
    settled = sum(stores.legs.totals(leg).values()) + sum(stores.parked.counts(leg).values())
    if left.entered > settled:
        stores.legs.count(leg, counts={Outcome.SUPERSEDED: left.entered - settled})
    if any(way.channel == left.channel for way in rest):
        return False
    stores.channels.forget(left.channel, leg)
    return True
