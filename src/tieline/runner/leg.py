"""A leg at work: takes batches from its way, in order, applies them, retries what is parked.

One task per leg and process. A leg's partitions are shared between workers by leases; whoever takes
one starts behind the ledger's position. A target that is down pauses its leg, which then probes.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Final

import msgspec
import structlog

from tieline.bus import Bus, Delivery
from tieline.connector import LegState
from tieline.errors import (
    AccessRefused,
    ConfigurationError,
    Fenced,
    Hold,
    LedgerUnavailable,
    Mistake,
    Outdated,
    RetryLater,
    TielineError,
    Unavailable,
)
from tieline.ledger import NEVER, Ledger, LegRow, ParkedRow, Stores, Way
from tieline.message import MAX_MESSAGES, Outcome, Reason, partition_of, schema_of, unpack_message
from tieline.runner.applying import Applier, Desk, Holding, Waiting, park
from tieline.runner.breaking import BrokenOff
from tieline.runner.claimed import ClaimedApplier
from tieline.runner.decide import Work, is_parked_as
from tieline.runner.epoch import OLDER_LEDGER, Forgotten
from tieline.runner.gaps import Gap, gap
from tieline.runner.internal import ProcessApplier
from tieline.runner.plan import LegPlan
from tieline.runner.shares import Shares
from tieline.runner.transactional import TargetAhead, TransactionalApplier, is_published
from tieline.runner.upcasting import outdated, renew_each
from tieline.runner.watches import due_watches
from tieline.runner.ways import RETIRED, Entities, Handover, bus_called, leave_way, readable, relayed, works_of

log = structlog.get_logger()

_IDLE: Final = 0.5  # seconds a take waits, and between looks at what is due
_PROBES: Final = (1.0, 60.0)  # first and longest pause between probes, seconds
_AFTER_FAILURE: Final = 5.0  # seconds
_FOR_LEDGER: Final = 1.0  # seconds between attempts to reach the ledger
_TRIM_EVERY: Final = 20  # batches
_STUBBORN: Final = 3  # outages in a row, each with a good probe between, before messages go one at a time

Progress = Callable[[str, int], None]


class Leg:
    """Delivers one leg's messages. `way` is the one it takes from, `paused` why it stands still."""

    def __init__(
        self, plan: LegPlan, ledger: Ledger, buses: Mapping[str, Bus], handover: Handover, shares: Shares
    ) -> None:
        self.plan = plan
        self.paused = ""
        self.way: Way | None = None
        self.progress: Progress = lambda leg, count: None
        self._ledger = ledger
        self._buses = buses
        self._handover = handover
        self._shares = shares
        self._desk = Desk(plan, ledger)
        self._holding = Holding("")
        self._known: LegRow | None = None  # as it was a moment ago: good for taking, not for delivering
        self._looked = 0.0
        self._stopping = asyncio.Event()
        self._begins = 0.0  # when delivering may, by the loop's clock
        self._batches = 0
        self._outages = 0

    @cached_property
    def _applier(self) -> Applier:
        """Made when there is something to apply: where the target cannot take it, this leg alone is held."""
        return _applier(self._desk, self.plan)

    async def run(self, stopping: asyncio.Event) -> None:
        """Deliver until told to stop; every failure has its next move here."""
        self._stopping = stopping
        while not stopping.is_set():
            try:
                await self._turn()
                await self._go_on()
            except BrokenOff:
                continue
            except Fenced:
                await self._fenced(stopping)
            except LedgerUnavailable as error:
                await self._wait_for_ledger(error, stopping)
            except (Unavailable, AccessRefused) as error:
                await self._pause(error, stopping)
            except Outdated as error:
                await self._stand_down(error, stopping)
            except Exception as error:
                await self._stand_still(error, stopping)
        try:
            await self._release()
        except LedgerUnavailable as error:
            log.warning("leases not given up", leg=self.plan.name, reason=str(error))

    # -- one turn --------------------------------------------------------------------------------

    async def _turn(self) -> None:
        row, self._known = self._known, None
        if row is None:
            row = await self._ledger.transact(lambda s: s.legs.get(self.plan.name))
        if row is None or row.paused == RETIRED:
            await asyncio.sleep(_IDLE)
            return
        way = self.way = row.ways[0]
        await self._hold(way)
        if not self._holding.tokens or asyncio.get_running_loop().time() < self._begins:
            await asyncio.sleep(_IDLE)
            return
        busy, newest = await self._retry(way)
        deliveries, entities = await self._take(way, wait=0.0 if busy or newest else _IDLE)
        deliveries, met = readable(deliveries, way, self.plan.name, self.plan.entity)
        newest = max(newest, met)
        if deliveries:
            works, moves = self._works(deliveries, entities, way)
            look = self._desk.look_for(works)
            # What was published after the way's end was set was taken after it, too: so the end is known now.
            row, waiting = await self._ledger.transact(lambda s: (s.legs.get(self.plan.name), look(s)))
            if row is None or row.ways[0].channel != way.channel:
                return
            way = self.way = row.ways[0]
            if way.until is not None:
                deliveries = [d for d in deliveries if d.batch.sequence <= (way.until or 0)]
                works, moves = self._works(deliveries, entities, way)
        if deliveries:
            await gap(Gap.TAKEN)
            try:
                await self._applier.meet(self._holding)
                if any(_is_parked(work, waiting) for work in works):
                    await self._deliver_singly(deliveries, entities, way)
                else:
                    await self._deliver(works, moves, waiting, way)
            except TargetAhead as truth:
                await self._catch_up(truth.states, way)
            self._known = row
        elif newest:
            raise outdated(f"what {self.plan.name} is to bring", self.plan.entity, newest)
        elif not busy:
            await self._level(row, way)

    async def _level(self, row: LegRow, way: Way) -> None:
        """Nothing is left on this way: trim, and leave it where another one follows."""
        await self._trim(way)
        if way.until is None:
            return
        if not await self._drained(way):
            # What follows may be there already, while another worker is not done with this.
            await asyncio.sleep(_IDLE)
            return
        await gap(Gap.SWITCHED)
        # The flow may have been moved back meanwhile: whether the channel is needed is known in that commit.
        needless = await self._ledger.transact(lambda s: leave_way(s, self.plan.name, way), self._holding.fences())
        bus = self._bus(way)
        if needless and not bus.capabilities.shares_ledger:
            await bus.forget(way.channel, self.plan.name)
        log.info("leg goes another way now", leg=self.plan.name, way=row.ways[1].bus)
        await self._release()

    async def _drained(self, way: Way) -> bool:
        """Whether a way that is to be left holds nothing for this leg any more, in outbox and engine."""
        if not await self._ledger.transact(lambda s: relayed(s, way)):
            return False
        if not self._bus(way).capabilities.seeks:
            return await self._passed_to_the_end(way, way.until or 0)
        states = await self._ledger.transact(lambda s: s.legs.states(self.plan.name, way.channel))
        for partition in range(way.partitions):
            position = states.get(partition, LegState()).position
            ahead = await self._from_bus(way, {partition: position}, most=1)
            if ahead and ahead[0].batch.sequence <= (way.until or 0):
                return False
        return True

    async def _passed_to_the_end(self, way: Way, until: int) -> bool:
        """Whether every worker has said of its partitions that they are empty up to the way's end; this one does.

        Where a bus does not seek, nobody can look into another worker's partitions.
        """
        after = {p: state.position for p, state in self._holding.states.items()}
        if any(delivery.batch.sequence <= until for delivery in await self._from_bus(way, after, most=1)):
            return False
        end = LegState(position=until, sequence=until)  # there, positions are the batches' numbers
        behind = [p for p, state in self._holding.states.items() if state.sequence < until]
        if behind:
            await self._pass_over(dict.fromkeys(behind, end))
        states = await self._ledger.transact(lambda s: s.legs.states(self.plan.name, way.channel))
        return all(states.get(p, LegState()).sequence >= until for p in range(way.partitions))

    async def _hold(self, way: Way) -> None:
        """Take this worker's share of the way's partitions, starting behind the ledger's positions."""
        if self._holding.channel != way.channel:
            await self._release()
            lease = f"leg:{self.plan.name}|{way.channel}"
            self._holding = Holding(way.channel, lease=lease, called_away=partial(self._called_away, way))
        wanted = await self._shares.of(self._holding.lease, way.partitions, self._holding.tokens)
        if wanted == self._holding.tokens:
            return
        new = {p: token for p, token in wanted.items() if self._holding.tokens.get(p) != token}

        def begin(stores: Stores) -> tuple[dict[int, LegState], tuple[int, Forgotten | None], float]:
            if new:
                # A pause is a matter of the worker that saw the outage; whoever takes over tries for itself.
                self._say_paused(stores)
            return stores.legs.states(self.plan.name, way.channel), self._desk.recall(stores), stores.now()

        taken = Holding(way.channel, wanted, lease=self._holding.lease)
        states, (self._desk.lost, self._desk.forgotten), now = await self._ledger.transact(begin, taken.fences())
        self._begins = asyncio.get_running_loop().time() + self._settles_in(now)
        self._holding.tokens = wanted
        kept = {p: state for p, state in self._holding.states.items() if p in wanted and p not in new}
        self._holding.states = {**{p: states.get(p, LegState()) for p in new}, **kept}

    async def _called_away(self, way: Way) -> bool:
        """Whether to leave a batch before its end: a slow target would keep others waiting for minutes."""
        if self._stopping.is_set():
            return True
        return await self._shares.are_too_many(self._holding.lease, way.partitions, self._holding.tokens)

    def _settles_in(self, now: float) -> float:
        """Seconds until no call of the time that a recovered ledger has forgotten can land any more."""
        forgotten = self._desk.forgotten
        if forgotten is None or not isinstance(self._applier, ClaimedApplier):
            return 0.0
        left = max(0.0, forgotten.at + self.plan.settling - now)
        if left:
            log.info("leg waits: calls of the time that the ledger has forgotten may still land", seconds=round(left))
        return left

    async def _take(self, way: Way, wait: float) -> tuple[list[Delivery], Entities]:
        after = {p: state.position for p, state in self._holding.states.items()}
        found, entities = self._handover.take(way.channel, after, MAX_MESSAGES)
        if not found:
            found = await self._from_bus(way, after, MAX_MESSAGES, wait)
        return found, entities

    async def _from_bus(self, way: Way, after: Mapping[int, int], most: int, wait: float = 0.0) -> list[Delivery]:
        bus = self._bus(way)
        return await bus.take(way.channel, after, most=most, wait=wait, subscription=self.plan.name)

    def _bus(self, way: Way) -> Bus:
        return bus_called(self._buses, way.bus)

    async def _deliver_singly(self, deliveries: Sequence[Delivery], entities: Entities, way: Way) -> None:
        """Delivered again after a crash: a slice ends with the batch of a message that was parked.

        So a newer one of its key finds it passed, and it is counted once.
        """
        for delivery in deliveries:
            works, moves = self._works([delivery], entities, way)
            await self._deliver(works, moves, await self._desk.waiting_for(works), way)

    async def _deliver(
        self, works: Sequence[Work], moves: Mapping[int, LegState], waiting: Waiting, way: Way
    ) -> None:
        if works:
            await self._apply(works, moves, waiting)
        else:
            await self._pass_over(moves)
        self.progress(self.plan.name, len(works))
        self._batches += 1
        # An engine that does not seek gives only so much ahead of what is done.
        if self._batches % (_TRIM_EVERY if self._bus(way).capabilities.seeks else 1) == 0:
            await self._trim(way)

    def _works(
        self, deliveries: Sequence[Delivery], entities: Entities, way: Way
    ) -> tuple[list[Work], dict[int, LegState]]:
        return works_of(deliveries, way, self.plan.name, self._holding.states, entities, self.plan.entity)

    async def _apply(self, works: Sequence[Work], moves: Mapping[int, LegState], waiting: Waiting) -> None:
        if self._outages >= _STUBBORN:
            await self._one_by_one(works, moves, waiting)
        else:
            await self._applier.apply(works, moves, self._holding, waiting)
        self._outages = 0

    async def _one_by_one(self, works: Sequence[Work], moves: Mapping[int, LegState], waiting: Waiting) -> None:
        """The target is well but this batch keeps failing it: park it all, then try each message alone."""
        waiting = await self._desk.waiting_for(works)
        if moves:
            rows = [
                self._desk.park(w, RetryLater("set apart: its batch kept failing", after=0), waiting.now)
                for w in works
            ]
            await self._pass_over(moves, rows)
            return
        for work in works:
            try:
                await self._applier.apply([work], {}, self._holding, waiting)
            except Unavailable as error:
                assert self.plan.connector is not None
                await self.plan.connector.check()
                row = self._desk.park(work, RetryLater(str(error)), waiting.now)
                await self._ledger.transact(partial(_park, rows=[row]), self._holding.fences())

    async def _pass_over(self, moves: Mapping[int, LegState], parked: Sequence[ParkedRow] = ()) -> None:
        """Move on in the ledger alone; what is parked on the way replaces what was parked before."""
        states = {
            p: msgspec.structs.replace(
                self._holding.states[p],
                position=max(s.position, self._holding.states[p].position),
                sequence=max(s.sequence, self._holding.states[p].sequence),
                token=self._holding.tokens[p],
            )
            for p, s in moves.items()
        }

        def work(stores: Stores) -> None:
            stores.legs.move(self.plan.name, self._holding.channel, states)
            _park(stores, parked)

        await self._ledger.transact(work, self._holding.fences())
        self._holding.states.update(states)

    async def _catch_up(self, truth: Mapping[int, LegState], way: Way) -> None:
        """The target committed and the ledger did not hear of it: make the ledger's part good."""
        await self._recognise(truth, way)
        after = {p: self._holding.states[p].position for p in truth}
        found = await self._from_bus(way, after, MAX_MESSAGES)
        works, moves = self._works([d for d in found if d.position <= truth[d.partition].position], {}, way)
        waiting = await self._desk.waiting_for(works)
        assert isinstance(self._applier, TransactionalApplier)
        await self._applier.catch_up(works, moves, truth, self._holding, waiting)

    async def _recognise(self, truth: Mapping[int, LegState], way: Way) -> None:
        """See that the batches at which the target stands are this ledger's.

        Raises:
            Hold: where they are not: the ledger is an older one, whose next batches are others.
        """
        for partition, state in truth.items():
            if not await is_published(self._bus(way), self.plan.name, way.channel, partition, state):
                raise self._older()

    def _older(self) -> Hold:
        """The target knows more than the ledger, and no crash between two commits explains it."""
        return Hold(f"{self.plan.target} has taken what this ledger has not given: {OLDER_LEDGER}")

    async def _trim(self, way: Way) -> None:
        positions = {p: state.position for p, state in self._holding.states.items() if state.position}
        if positions and self._batches:
            await self._bus(way).done(way.channel, self.plan.name, positions)
            self._batches = 0

    # -- parked messages ----------------------------------------------------------------------------

    async def _retry(self, way: Way) -> tuple[bool, int]:
        """Try again what is due, and look again at what is watched.

        Gives whether something was tried, and the newest version that waits for a worker with newer entities.
        """
        now = asyncio.get_running_loop().time()
        if now - self._looked < _IDLE:
            return False, 0
        self._looked = now
        rows, watches = await self._ledger.transact(
            lambda s: (due(s, self.plan.name), due_watches(s, self.plan.name))
        )
        if watches and isinstance(self._applier, ClaimedApplier):
            await self._applier.look_again(watches, self._holding)
        found = [work for row in rows if (work := self._again(row, way)) is not None]
        works = [work for work in found if work.schema <= self.plan.entity.__version__]
        newest = max((work.schema for work in found), default=0) if len(works) < len(found) else 0
        renew_each(self.plan.entity, works)
        if not works:
            return False, newest
        self._looked = 0.0
        try:
            await self._applier.meet(self._holding)
            await self._apply(works, {}, await self._desk.waiting_for(works))
        except TargetAhead as truth:
            await self._catch_up(truth.states, way)
        return True, newest

    def _again(self, row: ParkedRow, way: Way) -> Work | None:
        """A parked row as work, if its partition is ours and its first delivery is behind us."""
        message = unpack_message(row.message)
        partition = partition_of(message.subject or message.key, way.partitions)
        state = self._holding.states.get(partition)
        if state is None or row.position > max(state.sequence, way.begins_after):
            return None
        return Work(message, row.position, partition, force=row.force, parked=row, schema=schema_of(row.message))

    # -- outages --------------------------------------------------------------------------------------

    async def _pause(self, error: TielineError, stopping: asyncio.Event) -> None:
        """Leave the target alone, and probe it ever less often until it answers."""
        connector, name = self.plan.connector, self.plan.name
        self.paused = str(error)
        self._outages += 1
        log.warning("leg paused", leg=name, reason=str(error))
        await self._write_pause()
        pause, longest = _PROBES
        if isinstance(error, AccessRefused):
            pause = longest
        while not stopping.is_set():
            await _sleep(stopping, max(pause, getattr(error, "after", None) or 0.0))
            pause = min(longest, pause * 2)
            if connector is None:
                break
            try:
                await connector.check()
            except (Unavailable, AccessRefused) as again:
                error = again
            except ConfigurationError:
                break  # it answers; whoever needs what is wrong there will be held by it
            except Exception as other:
                log.error("probe failed", leg=name, error=f"{type(other).__name__}: {other}")
            else:
                break
        else:
            return
        await self._go_on()

    async def _go_on(self) -> None:
        """What the leg stood still for is over."""
        if self.paused:
            self.paused = ""
            await self._write_pause()
            log.info("leg goes on", leg=self.plan.name)

    async def _wait_for_ledger(self, error: LedgerUnavailable, stopping: asyncio.Event) -> None:
        """No fault of the target's. Its last commit may have been kept or not: begin behind what is kept."""
        log.warning("leg waits for the ledger", leg=self.plan.name, reason=str(error))
        self._holding = Holding("")
        self.paused = str(error)
        await _sleep(stopping, _FOR_LEDGER)
        self.paused = ""

    async def _stand_down(self, error: Outdated, stopping: asyncio.Event) -> None:
        """What is next is for a worker with newer entities: leave the partitions to it, as long as there is one."""
        lease = self._holding.lease
        if str(error) != self.paused:
            log.warning("leg stands down", leg=self.plan.name, reason=str(error))
        self.paused = str(error)
        try:
            await self._write_pause()
            await self._release()
            await _sleep(stopping, _AFTER_FAILURE)
            while not stopping.is_set() and await self._shares.led_elsewhere(lease):
                await _sleep(stopping, _AFTER_FAILURE)
        except LedgerUnavailable as unavailable:
            await self._wait_for_ledger(unavailable, stopping)

    async def _stand_still(self, error: Exception, stopping: asyncio.Event) -> None:
        """What needs a person, or what nobody foresaw, holds this leg alone, until a turn of it goes well again."""
        expected = isinstance(error, TielineError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        if reason != self.paused:
            trace = {} if expected else {"exc_info": error}
            log.error("leg held", leg=self.plan.name, reason=reason, **trace)
        self.paused = reason
        await self._write_pause()
        await _sleep(stopping, _AFTER_FAILURE)

    async def _write_pause(self) -> None:
        """Tell whoever asks the ledger; who holds no partition has nothing to say about the leg."""
        if not self._holding.tokens:
            return
        try:
            await self._ledger.transact(self._say_paused, self._holding.fences())
        except (Fenced, Unavailable) as error:
            log.warning("pause not written", leg=self.plan.name, reason=str(error))
            self._holding = Holding("")  # whoever takes the partitions anew, says how the leg stands

    def _say_paused(self, stores: Stores) -> None:
        row = stores.legs.get(self.plan.name)
        if row is not None and row.paused not in {RETIRED, self.paused}:
            stores.legs.put(msgspec.structs.replace(row, paused=self.paused))

    async def _fenced(self, stopping: asyncio.Event) -> None:
        """Somebody took over; unless the ledger says that nobody did: then the target has seen a later ledger."""
        try:
            await self._ledger.transact(lambda s: None, self._holding.fences())
        except (Fenced, Unavailable):
            pass
        else:
            if self._holding.tokens:
                await self._stand_still(self._older(), stopping)
        self._holding = Holding("")
        self._shares.lost()

    async def _release(self) -> None:
        if self._holding.lease:
            await self._shares.give_up(self._holding.lease, self._holding.tokens)
        self._holding = Holding("")


def _is_parked(work: Work, waiting: Waiting) -> bool:
    """Whether this very message, as it came with this batch, is parked already."""
    row = waiting.by_key.get(work.message.key)
    return row is not None and is_parked_as(work, row)


def _park(stores: Stores, rows: Sequence[ParkedRow]) -> None:
    if rows and (replaced := park(stores, rows)):
        stores.legs.count(rows[0].leg, counts={Outcome.SUPERSEDED: replaced})


def due(stores: Stores, leg: str) -> list[ParkedRow]:
    """A leg's rows whose time has come: retries, decisions, references to ask for again, events now first in line."""
    now = stores.now()
    rows = [row for row in stores.parked.due(leg, now, MAX_MESSAGES) if not _may_still_land(row, now)]
    chosen = {row.key for row in rows}
    waiting = [row for row in stores.parked.waiting(leg, MAX_MESSAGES) if row.key not in chosen]
    rows += [row for row in waiting if row.reason is Reason.REFERENCE and row.not_before <= now]
    behind = [row for row in waiting if row.reason is Reason.ORDER]
    if behind:
        first: dict[str, ParkedRow] = {}
        for row in stores.parked.by_subject(leg, list({row.subject for row in behind})):
            if row.subject not in first or row.version < first[row.subject].version:
                first[row.subject] = row
        rows += [row for row in first.values() if row.reason is Reason.ORDER and row.key not in chosen]
    return rows


def _may_still_land(row: ParkedRow, now: float) -> bool:
    """A decision waits while the call that it is about may still land, on top of what the decision brings."""
    return bool(row.decision) and row.reason is Reason.DOUBT and now < row.not_before < NEVER


def _applier(desk: Desk, plan: LegPlan) -> Applier:
    if plan.rule is not None:
        return ProcessApplier(desk)
    assert plan.connector is not None
    assert plan.sink is not None
    if not plan.connector.capabilities(plan.sink.resource).writes:
        what, remedy = f"{plan.target} cannot write {plan.sink.resource!r}", "take another resource in its adapter"
        raise ConfigurationError(Mistake(f"flow {plan.flow.name}", what, remedy))
    return TransactionalApplier(desk, plan.connector) if plan.commits else ClaimedApplier(desk, plan.connector)


async def _sleep(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
