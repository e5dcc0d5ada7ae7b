"""Shadows at work: what comes over a leg's second way is compared with what the leg has delivered.

A shadow keeps behind its leg: a batch is compared once the leg has passed it, and not taken in before. So no
message needs to be remembered until the first way has brought it; the second way's channel keeps it. It reads
the target through a connection that cannot write, and in the ledger it changes its own books alone.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from tieline.bus import Bus, Delivery
from tieline.connector import LegState
from tieline.errors import Fenced, TielineError
from tieline.ledger import Ledger, Shadow, Stores, Way
from tieline.message import MAX_MESSAGES, pack_message, partition_of, schema_of, unpack_message
from tieline.runner.applying import Holding
from tieline.runner.comparing import Comparer, Looked
from tieline.runner.decide import Work
from tieline.runner.moves import WAYS
from tieline.runner.plan import LegPlan, SourcePlan
from tieline.runner.shadows import (
    BY_MESSAGE,
    Found,
    Verdict,
    Waits,
    added,
    forgotten,
    found_in,
    keep_found,
    left_behind,
    say_trouble,
    shadow_of,
)
from tieline.runner.shares import Shares
from tieline.runner.upcasting import outdated, renew_each
from tieline.runner.ways import RETIRED, bus_called, known_bus, readable, works_of

log = structlog.get_logger()

_IDLE: Final = 0.5  # seconds a take waits
_BEHIND: Final = 0.2  # seconds between looks whether the leg has passed a batch
_AGAIN: Final = 1.0  # seconds between looks at what the leg has parked
_AFTER_FAILURE: Final = 5.0  # seconds
_LONGEST: Final = 60.0  # seconds between looks at which shadows there are
_TRIM_EVERY: Final = 20  # batches


class ShadowLeg:
    """One shadow, as far as this worker holds partitions of it. `level` says that nothing waits for it here."""

    def __init__(
        self, plan: LegPlan, shadow: Shadow, ledger: Ledger, buses: Mapping[str, Bus], shares: Shares
    ) -> None:
        self.shadow = shadow
        self.failing = ""
        self._plan = plan
        self._ledger = ledger
        self._buses = buses
        self._shares = shares
        self._comparer = Comparer(plan, ledger)
        self._holding = Holding("")
        self._found: dict[int, Found] = {}
        self._looked = 0.0
        self._batches = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Compare until told to stop, or the shadow is over; whatever goes wrong here is its own affair."""
        while not stopping.is_set():
            try:
                if not await self._turn():
                    break
                await self._say("")
            except Fenced:
                self._holding = Holding("")
                self._shares.lost()
            except Exception as error:
                expected = isinstance(error, TielineError)
                reason = str(error) if expected else f"{type(error).__name__}: {error}"
                if reason != self.failing:
                    trace = {} if expected else {"exc_info": error}
                    log.warning("shadow waits", shadow=self.shadow.name, reason=reason, **trace)
                await self._release()
                await self._say(reason)
                await _sleep(stopping, _AFTER_FAILURE)
        await self._release()

    async def _release(self) -> None:
        holding, self._holding = self._holding, Holding("")
        try:
            if holding.lease:
                await self._shares.give_up(holding.lease, holding.tokens)
        except TielineError as error:
            log.warning("leases not given up", shadow=self.shadow.name, reason=str(error))

    async def _say(self, trouble: str) -> None:
        """Tell whoever looks why it stands still."""
        if trouble == self.failing:
            return
        self.failing = trouble

        def write(stores: Stores) -> None:
            if self._is_on(stores):
                say_trouble(stores, self.shadow, trouble)

        try:
            await self._ledger.transact(write)
        except TielineError as error:
            log.warning("trouble not noted", shadow=self.shadow.name, reason=str(error))

    def _is_on(self, stores: Stores) -> bool:
        there = shadow_of(stores.legs.get(self._plan.name))
        return there is not None and there.name == self.shadow.name

    # -- one turn --------------------------------------------------------------------------------

    async def _turn(self) -> bool:
        """False where the shadow is over."""
        if not await self._ledger.transact(self._is_on):
            return False
        bus = bus_called(self._buses, self.shadow.way.bus)  # where it is not known, another worker has the partitions
        await self._hold()
        if not self._holding.tokens:
            await asyncio.sleep(_IDLE)
            return True
        await self._look_again()
        name, way = self.shadow.name, self.shadow.way
        after = {p: state.position for p, state in self._holding.states.items()}
        deliveries = await bus.take(way.channel, after, most=MAX_MESSAGES, wait=_IDLE, subscription=name)
        if not deliveries:
            await self._trim(bus)
            return True
        ready = await self._passed(deliveries)
        if not ready:
            await asyncio.sleep(_BEHIND)
            return True
        entity = self._plan.entity
        ready, newest = readable(ready, way, self._plan.name, entity)
        if newest and not ready:
            raise outdated(f"what {name} is to compare", entity, newest)
        works, moves = works_of(ready, way, self._plan.name, self._holding.states, {}, entity)
        await self._settle(works, moves, [])
        self._batches += len(ready)
        if self._batches >= (_TRIM_EVERY if bus.capabilities.seeks else 1):
            await self._trim(bus)
        return True

    async def _hold(self) -> None:
        way = self.shadow.way
        if self._holding.channel != way.channel:
            self._holding = Holding(way.channel, lease=f"{self.shadow.name}|{way.channel}")
        wanted = await self._shares.of(self._holding.lease, way.partitions, self._holding.tokens)
        if wanted == self._holding.tokens:
            return
        new = {p: token for p, token in wanted.items() if self._holding.tokens.get(p) != token}

        def begin(stores: Stores) -> tuple[dict[int, LegState], dict[int, Found]]:
            if new and self._is_on(stores):
                say_trouble(stores, self.shadow, "")  # whoever takes over tries for itself
            return stores.legs.states(self.shadow.name, way.channel), found_in(stores, self.shadow, new)

        taken = Holding(way.channel, wanted, lease=self._holding.lease)
        states, found = await self._ledger.transact(begin, taken.fences())
        self._holding.tokens = wanted
        kept = {p: state for p, state in self._holding.states.items() if p in wanted and p not in new}
        self._holding.states = {**{p: states.get(p, LegState()) for p in new}, **kept}
        self._found = {**{p: one for p, one in self._found.items() if p in kept}, **found}

    async def _passed(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those that the leg has passed, up to the first of each partition that it has not."""
        leg, after = self._plan.name, self.shadow.way.after

        def look(stores: Stores) -> tuple[Way, dict[int, LegState]] | None:
            row = stores.legs.get(leg)
            return (row.ways[-1], stores.legs.states(leg, row.ways[-1].channel)) if row is not None else None

        if (there := await self._ledger.transact(look)) is None:
            return []
        stopped: set[int] = set()
        ready = []
        for delivery in deliveries:
            batch = delivery.batch
            others = batch.to not in {"", leg} or (batch.sequence <= after and not batch.to)
            if delivery.partition not in stopped and (others or _is_passed(*there, delivery)):
                ready.append(delivery)
            else:
                stopped.add(delivery.partition)
        return ready

    async def _look_again(self) -> None:
        """At what the leg had parked, or what could not be mapped yet."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < _AGAIN:
            return
        self._looked = now
        entity = self._plan.entity
        works = [
            _again(waits.message.encode(), waits.sequence, partition)
            for partition, found in self._found.items()
            for waits in found.waiting
        ]
        if (newest := max((work.schema for work in works), default=0)) > entity.__version__:
            raise outdated(f"what {self.shadow.name} is to compare", entity, newest)
        renew_each(entity, works)
        if works:
            await self._settle(works, {}, works)

    async def _settle(self, works: Sequence[Work], moves: Mapping[int, LegState], again: Sequence[Work]) -> None:
        """Compare, and write down what came of it and how far it is; `again` are those that waited."""
        for work in works:
            work.force = True  # what is frozen at the target is compared like anything else
        looked = await self._comparer.look(works) if works else Looked()
        if again and len(looked.waiting) == len(again):
            return
        found, verdicts = self._add(looked, waited=bool(again))
        counts: dict[int, Counter[str]] = {}
        for work, verdict in verdicts:
            count = counts.setdefault(work.partition, Counter())
            count[verdict] += 1
            count[BY_MESSAGE] += verdict is Verdict.EQUAL and work.message.id in looked.by_message
        states = {p: self._moved(p, moves.get(p), counts.get(p)) for p in moves.keys() | counts.keys()}
        name, way = self.shadow.name, self.shadow.way

        def write(stores: Stores) -> None:
            if self._is_on(stores):
                stores.legs.move(name, way.channel, states)
                keep_found(stores, self.shadow, found)

        await self._ledger.transact(write, self._holding.fences())
        self._holding.states.update(states)
        self._found.update(found)

    def _add(self, looked: Looked, waited: bool) -> tuple[dict[int, Found], list[tuple[Work, Verdict]]]:
        """What was found by now, by partition, and all that can be counted."""
        place = {work.message.key: work.partition for work, _ in looked.verdicts}
        verdicts = list(looked.verdicts)
        changed: dict[int, Found] = {}
        for partition, known in self._found.items():
            differences = [one for one in looked.differences if place.get(one.key) == partition]
            waits = {
                w.message.id: Waits(
                    w.message.key,
                    pack_message(w.message, w.schema or self._plan.entity.__version__).decode(),
                    w.sequence,
                )
                for w in looked.waiting
                if w.partition == partition
            }
            before = [] if waited else known.waiting
            found, rest = added(known, differences, [*before, *waits.values()])
            if found != known:
                changed[partition] = found
            too_many = {one.message for one in rest}
            verdicts += [
                (w, Verdict.UNSETTLED)
                for w in looked.waiting
                if w.partition == partition and waits[w.message.id].message in too_many
            ]
        return changed, verdicts

    def _moved(self, partition: int, to: LegState | None, counts: Mapping[str, int] | None) -> LegState:
        before = self._holding.states[partition]
        to = to or before
        return LegState(
            position=max(before.position, to.position),
            sequence=max(before.sequence, to.sequence),
            token=self._holding.tokens[partition],
            counts=dict(Counter(before.counts) + Counter(counts or {})),
        )

    async def _trim(self, bus: Bus) -> None:
        if self._batches:
            positions = {p: state.position for p, state in self._holding.states.items() if state.position}
            await bus.done(self.shadow.way.channel, self.shadow.name, positions)
            self._batches = 0

    async def is_level(self) -> bool:
        """Whether nothing is on the second way that this shadow could compare now."""
        if self.failing:
            return True
        name, way = self.shadow.name, self.shadow.way
        states = await self._ledger.transact(lambda s: s.legs.states(name, way.channel))
        positions = {p: states.get(p, LegState()).position for p in range(way.partitions)}
        return not await bus_called(self._buses, way.bus).depth(way.channel, positions)


def _again(message: bytes, sequence: int, partition: int) -> Work:
    return Work(unpack_message(message), sequence, partition, force=True, schema=schema_of(message))


def _is_passed(way: Way, states: Mapping[int, LegState], delivery: Delivery) -> bool:
    """Whether a leg is done with, or has parked, every message of a batch of its last way."""
    places = {partition_of(m.subject or m.key, way.partitions) for m in delivery.batch.messages}
    return all(states.get(place, LegState()).sequence >= delivery.batch.sequence for place in places)


class Shadows:
    """The shadows of a worker's legs: begun when they are asked for, ended with them."""

    def __init__(self, plans: Sequence[SourcePlan], ledger: Ledger, buses: Mapping[str, Bus], shares: Shares) -> None:
        self._plans = {leg.name: leg for plan in plans for leg in plan.legs}
        self._ledger = ledger
        self._buses = buses
        self._shares = shares
        self._running: dict[str, tuple[ShadowLeg, asyncio.Task[None]]] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow what the ledger says until told to stop."""
        while not stopping.is_set():
            since = self._ledger.rung
            try:
                await self._follow(stopping)
                pause = _LONGEST
            except Exception as error:  # a shadow stops nobody else
                log.warning("shadows not followed", reason=f"{type(error).__name__}: {error}")
                pause = _AFTER_FAILURE
            waiting = asyncio.create_task(self._ledger.wait([WAYS], pause, since))
            ending = asyncio.create_task(stopping.wait())
            await asyncio.wait([waiting, ending], return_when=asyncio.FIRST_COMPLETED)
            for task in (waiting, ending):
                task.cancel()
            await asyncio.gather(waiting, ending, return_exceptions=True)
        await asyncio.gather(*(task for _, task in self._running.values()))

    async def _follow(self, stopping: asyncio.Event) -> None:
        rows = await self._ledger.transact(lambda s: s.legs.all())
        self._running = {name: one for name, one in self._running.items() if not one[1].done()}
        for row in rows:
            shadow = shadow_of(row)
            if shadow is None or row.paused == RETIRED or row.leg not in self._plans or shadow.name in self._running:
                continue
            leg = ShadowLeg(self._plans[row.leg], shadow, self._ledger, self._buses, self._shares)
            self._running[shadow.name] = leg, asyncio.create_task(leg.run(stopping), name=shadow.name)
        await have_forgotten(self._ledger, self._buses)

    async def are_level(self) -> bool:
        """Whether none of them has anything to compare now."""
        legs = [leg for leg, task in self._running.values() if not task.done()]
        return all([await leg.is_level() for leg in legs])


async def have_forgotten(ledger: Ledger, buses: Mapping[str, Bus], names: Iterable[str] | None = None) -> None:
    """Have engines forget the subscriptions of shadows that are over: those named, or all that nobody sees to.

    Raises:
        Unavailable: where an engine cannot be reached; it is tried again later.
    """
    for left in await ledger.transact(lambda s: left_behind(s, names)):
        if (bus := known_bus(buses, left.bus)) is not None:
            await bus.forget(left.channel, left.name)
            await ledger.transact(lambda s, left=left: forgotten(s, left))  # type: ignore[misc]


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
