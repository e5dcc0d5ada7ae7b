"""A worker: reads the sources and delivers the legs it holds leases for, until it is told to stop."""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec
import structlog

from tieline.bus import Bus
from tieline.connector import Connector
from tieline.errors import (
    ConfigurationError,
    Fenced,
    LedgerUnavailable,
    Mistake,
    Outdated,
    TielineError,
    Unavailable,
)
from tieline.ledger import Fence, Ledger, Stores, Way
from tieline.runner.breaking import BrokenOff
from tieline.runner.epoch import is_to_be_read_again
from tieline.runner.leg import Leg, Progress, due
from tieline.runner.moves import WAYS, as_moved
from tieline.runner.plan import LegPlan, SourcePlan, build
from tieline.runner.pulse import Pulse
from tieline.runner.reach import unreachable
from tieline.runner.reader import Reader, Summary
from tieline.runner.relay import Relay
from tieline.runner.requests import Request, ask, requests_for, source_topic
from tieline.runner.schedule import seconds_until
from tieline.runner.schemas import standings
from tieline.runner.shadowing import Shadows
from tieline.runner.shadows import shadow_of
from tieline.runner.shares import Shares
from tieline.runner.throttle import SharedThrottle
from tieline.runner.ways import (
    DIRECT,
    RETIRED,
    Handover,
    Publisher,
    bus_called,
    known_bus,
    reach_way,
    retire,
    settle_ways,
    wished_way,
)
from tieline.system import Landscape

T = TypeVar("T")

log = structlog.get_logger()

_LEASE: Final = 15.0  # seconds a silent worker keeps its leases
_LONGEST: Final = 60.0  # seconds between looks at a source that nothing wakes
_FOR_LEDGER: Final = 1.0  # seconds between attempts to reach the ledger
_REFILL: Final = 0.5  # seconds between looks whether a process's inputs have all come again
_LOOK_AGAIN: Final = 0.1  # seconds between looks at how far legs elsewhere are
_BACKLOG: Final = 20  # batches a source may be ahead of its fastest leg before it waits, if that is elsewhere


@dataclass(slots=True)
class Report:
    """What `--once` came to. `waiting` are parked messages, `paused` the legs that stand still and why."""

    read: dict[str, Summary] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
    paused: dict[str, str] = field(default_factory=dict)


class Runner:
    """Runs a landscape, or the named flows of it, over a ledger.

    `buses` holds a Bus for "direct" and for each name that flows use; `connectors` are opened from
    the systems' settings unless given. Not reusable after `run` has returned.

    Raises:
        ConfigurationError: at construction, where flows do not fit their adapters.
    """

    def __init__(
        self,
        landscape: Landscape,
        ledger: Ledger,
        buses: Mapping[str, Bus],
        *,
        worker: str | None = None,
        only: set[str] | None = None,
        connectors: Mapping[str, Connector] | None = None,
        progress: Progress | None = None,
        lease: float = _LEASE,
    ) -> None:
        self.landscape = landscape
        self.ledger = ledger
        self.buses = buses
        self.started = False
        self.worker = worker or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._only = only
        self._throttles: list[SharedThrottle] = []
        self._connectors = dict(connectors) if connectors is not None else self._opened(landscape, only)
        self.plans = build(landscape, self._connectors, only)
        self._stopping = asyncio.Event()
        self._handover = Handover()
        self._shares = Shares(ledger, self.worker, lease)
        self._progress = progress
        self._advanced = asyncio.Event()  # a leg of this worker has delivered
        self._legs: list[Leg] = []
        self._relays: list[Relay] = []
        self._shadows = Shadows(self.plans, ledger, buses, self._shares)
        self._read_once: set[str] = set()
        self._elsewhere: dict[str, tuple[str, float]] = {}  # sources that another worker was seen to have
        self.report = Report()

    # -- what a caller does ---------------------------------------------------------------------------

    async def run(self, once: bool = False) -> Report:
        """Run until `stop`; with `once` read each source once, deliver what follows from it, and return.

        Raises:
            ConfigurationError: before anything is read, where an entity is not what the ledger has seen.
        """
        await self._refuse_changed()
        await self._shares.join()
        relays = await self._settled(once)
        self._legs = [self._leg(leg) for plan in self.plans for leg in plan.legs]
        tasks = [
            asyncio.create_task(self._shares.live(self._stopping), name="heartbeat"),
            *(asyncio.create_task(leg.run(self._stopping), name=leg.plan.name) for leg in self._legs),
            asyncio.create_task(self._relay(relays), name="relays"),
            asyncio.create_task(self._shadows.run(self._stopping), name="shadows"),
            *(asyncio.create_task(self._source(plan, once), name=plan.name) for plan in self.plans),
        ]
        self.started = True
        watch = asyncio.create_task(self._until_quiet() if once else self._stopping.wait())
        try:
            await asyncio.wait([watch, *tasks], return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await self.stop()
            watch.cancel()
            results = await asyncio.gather(watch, *tasks, return_exceptions=True)
            await self.close()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result
        return self.report

    async def not_ready(self) -> list[str]:
        """Why this worker does not do its part: it starts, or ends, or cannot reach its ledger or a bus."""
        pulse = self._shares.pulse
        found = []
        if not self.started:
            found.append("it is starting")
        if self._stopping.is_set():
            found.append("it is stopping")
        if not pulse.steady:
            found.append(f"ledger: {pulse.failure or f'no heartbeat for {pulse.age:.0f} s'}")
        return found + await unreachable(self.buses, [leg.way for leg in self._legs if leg.way is not None])

    @property
    def pulse(self) -> Pulse:
        """Whether the ledger has this worker's heartbeat."""
        return self._shares.pulse

    async def stop(self) -> None:
        """Finish the batches in work, give up the leases, and let `run` return."""
        self._stopping.set()

        def wake(stores: Stores) -> None:
            for leg in self._legs:
                for way in (wished_way(leg.plan), leg.way):
                    if way is not None:
                        stores.notify(way.channel)

        try:
            await self.ledger.transact(wake)
        except TielineError as error:
            log.warning("legs not woken", reason=str(error))

    async def backfill(self, flow: str, to: str | None = None, again: bool = False) -> list[str]:
        """Ask for current values of a flow's source for its legs (or the one to `to`); gives their names.

        With `again` the target writes also what it holds already.
        """
        legs = [leg for plan in self.plans for leg in plan.legs if leg.flow.name == flow and to in {None, leg.target}]
        requests = [Request("backfill", leg.source.name, leg.name, force=again, why="asked for") for leg in legs]
        await self.ledger.transact(lambda s: ask(s, requests))
        return [leg.name for leg in legs]

    def _opened(self, landscape: Landscape, only: set[str] | None) -> dict[str, Connector]:
        """Connectors of the systems that the chosen flows touch; all mistakes at once."""
        flows = [flow for flow in landscape.flows.values() if only is None or flow.name in only]
        names = {flow.source for flow in flows} | {target.system for flow in flows for target in flow.targets}
        opened: dict[str, Connector] = {}
        mistakes: list[Mistake] = []
        for name in sorted(names & landscape.systems.keys()):
            system = landscape.systems[name]
            throttle = SharedThrottle(self.ledger, system.settings, self.worker)
            try:
                opened[name] = system.adapter.connector.open(system.settings, throttle)
            except ConfigurationError as error:
                mistakes.extend(error.mistakes)
            self._throttles.append(throttle)
        if mistakes:
            raise ConfigurationError(*mistakes)
        return opened

    # -- starting ----------------------------------------------------------------------------------------

    async def _settled(self, once: bool) -> list[Relay]:
        """Settle the ways, and wait for an engine that does not answer now; gives what is to be relayed.

        Raises:
            LedgerUnavailable: with `once`.
        """
        while not self._stopping.is_set():
            try:
                await self._settle_ways()
                return await self._new_relays()
            except LedgerUnavailable as error:
                if once:
                    raise
                log.warning("worker waits", reason=str(error))
                await self._wait([], _FOR_LEDGER)
        return []

    async def _refuse_changed(self) -> None:
        entities = {plan.entity for plan in self.plans}
        found = await self.ledger.transact(lambda s: standings(s, entities))
        if mistakes := [mistake for one in found for mistake in one.mistakes]:
            raise ConfigurationError(*mistakes)

    async def _settle_ways(self) -> None:
        publisher = Publisher(self.buses, self._handover)
        legs = [leg for plan in self.plans for leg in plan.legs]
        moved = await self.ledger.transact(lambda s: {leg.flow.name: as_moved(s, leg.flow) for leg in legs})
        for leg in legs:
            await reach_way(self.ledger, self.buses, publisher, leg, moved[leg.flow.name])
        said = await self.ledger.transact(lambda s: settle_ways(s, self.plans, publisher))
        for line in said:
            log.info("leg changes", what=line)
        if self._only is None:
            claimed = {leg.name for plan in self.plans for leg in plan.legs}
            for name in await self.ledger.transact(lambda s: retire(s, claimed)):
                log.warning("leg retired", leg=name, why="no flow claims it any more")

    def _leg(self, plan: LegPlan) -> Leg:
        leg = Leg(plan, self.ledger, self.buses, self._handover, self._shares)
        leg.progress = self._delivered
        return leg

    def _delivered(self, leg: str, count: int) -> None:
        self._advanced.set()
        if self._progress is not None:
            self._progress(leg, count)

    async def _relay(self, relays: list[Relay]) -> None:
        """Relay to each channel elsewhere that a leg of this worker goes; a move may add one at any time."""
        tasks: list[asyncio.Task[None]] = []
        refused = ""
        while not self._stopping.is_set():
            tasks += [asyncio.create_task(relay.run(self._stopping), name=relay.channel) for relay in relays]
            await self._wait([WAYS], _LONGEST)
            try:
                relays = await self._new_relays()
            except TielineError as error:
                relays = []
                if str(error) != refused:
                    refused = str(error)
                    log.warning("ways not followed", reason=refused)
                await self._wait([], _FOR_LEDGER)
        await asyncio.gather(*tasks)

    async def _new_relays(self) -> list[Relay]:
        names = {leg.name for plan in self.plans for leg in plan.legs}
        known = {relay.channel for relay in self._relays}
        rows = await self.ledger.transact(lambda s: s.legs.all())
        own = [row for row in rows if row.leg in names]
        beside = [shadow.way for row in own if (shadow := shadow_of(row)) is not None]
        shadows = [way for way in beside if known_bus(self.buses, way.bus)]  # else it troubles nobody else
        channels = {
            way.channel: way.bus
            for way in [*(way for row in own for way in row.ways), *shadows]
            if way.channel not in known
            and way.bus != DIRECT
            and not bus_called(self.buses, way.bus).capabilities.shares_ledger
        }
        new = [
            Relay(channel, bus_called(self.buses, bus), self.ledger, self._shares)
            for channel, bus in channels.items()
        ]
        self._relays += new
        return new

    # -- sources ---------------------------------------------------------------------------------------------

    async def _source(self, plan: SourcePlan, once: bool) -> None:
        """Read one source whenever it is due and its lease can be had."""
        reader = Reader(plan, self.ledger, Publisher(self.buses, self._handover), self._room)
        backoff = 1.0
        first = True
        while not self._stopping.is_set():
            try:
                wait, token = await self._due_in(plan, reader, first, once)
                if wait > 0:
                    await self._sleep(plan, wait)
                    if wait > _REFILL:
                        continue
                if token is None:
                    await self._stand_by(plan, reader.lease)
                    continue
            except LedgerUnavailable as error:
                if once:
                    raise
                log.warning("source waits for the ledger", source=plan.name, reason=str(error))
                await self._sleep(plan, _FOR_LEDGER)
                continue
            pause = 0.0
            try:
                summary = await reader.run(token)
                backoff = 1.0
            except BrokenOff:
                break
            except Fenced:
                self._shares.lost()
            except Exception as error:  # what nobody foresaw in a connector stops this source alone
                await self._failed(plan, reader, token, error)
                if isinstance(error, LedgerUnavailable):
                    pause = _FOR_LEDGER
                else:
                    pause = backoff if isinstance(error, Unavailable) else _LONGEST
                    backoff = min(_LONGEST, backoff * 2)
            else:
                first = False
                self.report.failed.pop(plan.name, None)
                self._add(plan.name, summary)
            if once:
                self._read_once.add(plan.name)
                first = False
            if pause:
                await self._sleep(plan, pause)
        try:
            await self._shares.release(reader.lease)  # others need not wait for the legs of this worker
        except LedgerUnavailable as error:
            log.warning("lease not given up", source=plan.name, reason=str(error))

    async def _stand_by(self, plan: SourcePlan, lease: str) -> None:
        """Another worker has this source: wait until it is gone, or beats again and so will read the source."""
        holder = await self._shares.holder(lease)
        if holder is not None:
            (worker, until), (known, first) = holder, self._elsewhere.get(plan.name, ("", 0.0))
            if worker != known:
                self._elsewhere[plan.name] = holder
                end = datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds")
                what = "waiting: another worker reads this source"
                log.info(what, source=plan.name, worker=worker, lease_until=end)
            elif until > first:
                self._read_once.add(plan.name)
        await self._sleep(plan, 1.0)

    def _add(self, source: str, summary: Summary) -> None:
        total = self.report.read.setdefault(source, Summary())
        total.records += summary.records
        total.messages += summary.messages
        total.parked += summary.parked

    async def _due_in(self, plan: SourcePlan, reader: Reader, first: bool, once: bool) -> tuple[float, int | None]:
        """Seconds until the source is to be read, and the token of its lease, if that is soon and it can be had.

        Process sources are to be read when their inbox has something.
        """
        name = plan.name

        def seconds(stores: Stores) -> float:
            asked = requests_for(stores, name)
            if plan.connector is None:
                waits = stores.inbox.depth(name) or (asked and not stores.notes.get(f"refill/{name}"))
                under_way = asked or is_to_be_read_again(stores, name)
                return 0.0 if waits else (_REFILL if under_way else _LONGEST)
            if first or asked or any(r.decision for r in stores.parked.list(name)):
                return 0.0
            until = None
            if not once:
                last = max(reader.read_at, stores.sources.get(name).read_at)
                until = seconds_until(plan.settings.triggers, stores.now(), last)
            return _LONGEST if until is None else until

        def look(stores: Stores) -> tuple[float, int | None]:
            wait = seconds(stores)
            return wait, self._shares.token(stores, reader.lease) if wait <= _REFILL else None

        return await self.ledger.transact(look)

    async def _sleep(self, plan: SourcePlan, seconds: float) -> None:
        await self._wait([source_topic(plan.name)], min(seconds, _LONGEST))

    async def _wait(self, topics: Sequence[str], seconds: float) -> None:
        """Until one of these topics is rung, the time is over or the worker is to stop."""
        waiting = asyncio.create_task(self.ledger.wait(topics, seconds))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, stopping):
            task.cancel()
        await asyncio.gather(waiting, stopping, return_exceptions=True)

    async def _failed(self, plan: SourcePlan, reader: Reader, token: int, error: Exception) -> None:
        expected = isinstance(error, TielineError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        self.report.failed[plan.name] = reason
        trace = {} if expected else {"exc_info": error}
        log.warning("source failed", source=plan.name, reason=reason, kind=type(error).__name__, **trace)

        def write(stores: Stores) -> None:
            state = stores.sources.get(plan.name)
            stores.sources.put(plan.name, msgspec.structs.replace(state, failure=reason))

        try:
            await self.ledger.transact(write, [Fence(reader.lease, token)])
            if isinstance(error, Outdated):
                await self._shares.let_go(reader.lease)  # a worker with the newer project is to read it
        except TielineError as second:
            log.warning("failure not noted", source=plan.name, reason=str(second))

    async def _room(self, source: str, sequence: int, look: Callable[[Stores], T]) -> T:
        """Wait while the fastest leg that somebody works on is too far behind; then look.

        Raises:
            Unavailable: where every leg of the source is down: then reading stops.
            BrokenOff: where this worker is to stop.
        """
        near = self._handover.most - 1  # one more is about to be kept

        def spare(stores: Stores) -> tuple[int | None, T | None]:
            left = _spare(stores, source, sequence, {self.worker: near})
            return left, look(stores) if left is not None and left >= 0 else None

        while not self._stopping.is_set():
            self._advanced.clear()
            left, found = await self.ledger.transact(spare)
            if left is None:
                raise Unavailable(f"every target of {source} is down; reading waits for one of them")
            if found is not None:
                return found
            with suppress(TimeoutError):
                await asyncio.wait_for(self._advanced.wait(), _LOOK_AGAIN)
        raise BrokenOff

    # -- once --------------------------------------------------------------------------------------------------

    async def _until_quiet(self) -> None:
        """Return when every source was read, and nothing moves any more."""
        pulled = {plan.name for plan in self.plans if plan.connector is not None}
        while not self._stopping.is_set():
            await asyncio.sleep(0.02)
            if self._read_once >= pulled and await self._quiet():
                break
        await self.ledger.transact(self._sum_up)
        self._stopping.set()

    async def _quiet(self) -> bool:
        """Whether nothing is asked for, due, in an inbox, in an outbox or on its way to a leg that is well."""
        if not all(relay.idle for relay in self._relays):
            return False
        still = await self.ledger.transact(self._standing_still)
        well = {leg.plan.name for leg in self._legs} - still.keys()
        for _ in range(2):
            # A leg's commit may fill an inbox or wake what waits, and a reader's empties an inbox into a
            # channel: only where both are empty twice did nothing slip from one to the other between.
            places = await self.ledger.transact(lambda s: self._places(s, well))
            for way, positions in places or ():
                if await bus_called(self.buses, way.bus).depth(way.channel, positions):
                    return False
            if places is None:
                return False
            if not await self.ledger.transact(lambda s: self._nothing_due(s, well)):
                return False
        return await self._shadows.are_level()

    def _places(self, stores: Stores, legs: Set[str]) -> list[tuple[Way, dict[int, int]]] | None:
        """Where legs stand on ways that are not in the ledger's store; None where one in it has something left."""
        behind = set(stores.legs.behind())
        places = []
        for row in stores.legs.among(list(legs)).values():
            for way in row.ways:
                if not bus_called(self.buses, way.bus).capabilities.shares_ledger:
                    states = stores.legs.states(row.leg, way.channel)
                    places.append((way, {p: state.position for p, state in states.items()}))
                elif (row.leg, way.channel) in behind:
                    return None
        return places

    def _nothing_due(self, stores: Stores, well: Set[str]) -> bool:
        filled = set(stores.inbox.filled())
        for plan in self.plans:
            if plan.name in self.report.failed or self._fails_elsewhere(stores, plan.name):
                continue
            if plan.name in filled or (requests_for(stores, plan.name) and not self._fed_elsewhere(plan)):
                return False
        return not any(due(stores, leg) for leg in well & set(stores.parked.stirring(stores.now())))

    def _fed_elsewhere(self, plan: SourcePlan) -> bool:
        """Whether what this process is fed with is read by flows that were not chosen here."""
        return not {feeds.source for feeds in plan.inputs} <= {own.name for own in self.plans}

    def _fails_elsewhere(self, stores: Stores, source: str) -> bool:
        return source in self._elsewhere and bool(stores.sources.get(source).failure)

    def _sum_up(self, stores: Stores) -> None:
        names = [leg.plan.name for leg in self._legs] + [plan.name for plan in self.plans]
        self.report.waiting = sum(sum(stores.parked.counts(name).values()) for name in names)
        self.report.paused = self._standing_still(stores)
        for plan in self.plans:
            if requests_for(stores, plan.name) and self._fed_elsewhere(plan):
                log.warning("backfill waits for other flows", source=plan.name, legs=[f.leg for f in plan.inputs])

    def _standing_still(self, stores: Stores) -> dict[str, str]:
        """Legs that are paused and why: here, or at another worker that holds partitions of them."""
        holders = stores.leases.holders()
        others = {name.partition("|")[0] for name, owner in holders.items() if owner != self.worker}
        found = {}
        rows = stores.legs.among([leg.plan.name for leg in self._legs])
        for leg in self._legs:
            row = rows.get(leg.plan.name)
            there = row.paused if row is not None and f"leg:{leg.plan.name}" in others else ""
            if why := leg.paused or there:
                found[leg.plan.name] = why
        return found

    async def close(self) -> None:
        """Let go of leases and connections; `run` does so at its end."""
        try:
            await self._shares.leave()
        except TielineError as error:
            log.warning("leases not given up", reason=str(error))
        for connector in self._connectors.values():
            await connector.close()
        await asyncio.gather(*(throttle.close() for throttle in self._throttles))


def _spare(stores: Stores, source: str, sequence: int, near: Mapping[str, int]) -> int | None:
    """How many more batches the leg with most room may be behind; None where all legs are down.

    A worker that holds batches in memory says in `near` how many, so that its legs need not read them back.
    """
    legs = [row for row in stores.legs.of_source(source) if row.paused != RETIRED]
    if legs and all(row.paused for row in legs):
        return None
    room: list[int] = []
    for row in legs:
        way = row.ways[-1]
        owners = set(stores.leases.holders(f"leg:{row.leg}|").values())
        if row.paused or not owners:
            continue
        states = stores.legs.states(row.leg, way.channel).values()
        behind = sequence - max([way.after, *(state.sequence for state in states)])
        room.append(max(near.get(owner, _BACKLOG) for owner in owners) - behind)
    return max(room, default=0)
