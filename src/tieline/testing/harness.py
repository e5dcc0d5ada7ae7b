"""Try flows with nothing running: systems in memory, one ledger in memory, workers that can be killed.

A `Scene` puts a landscape together; a `Trial` runs it in virtual time (`tieline.testing.clock.run`),
with as many workers as wanted, each of which may crash, freeze and come back::

    async def check():
        scene = Scene()
        shop = scene.system("shop", orders=Table(id="number"))
        ...
        scene.flow(Order, "shop", "erp")
        async with Trial(scene.landscape()) as trial:
            worker = await trial.start()
            scene.store("shop").put("orders", {"number": "1", ...}, id="number")
            await trial.settle()
            assert scene.store("erp").rows("sales") == ...

    clock.run(check())
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec

from tieline.adapter import Adapter
from tieline.bus import Bus
from tieline.buses.memory import MemoryBus
from tieline.buses.sql import SqlBus
from tieline.connector import (
    Capabilities,
    Change,
    Checkpoint,
    Connector,
    Discovered,
    HeldRow,
    LegState,
    Page,
    Record,
    Result,
    TargetTransaction,
)
from tieline.connectors.memory import Memory, Store, Table, store
from tieline.entity import Entity
from tieline.errors import InDoubt, LedgerUnavailable, TielineError
from tieline.flow import Flow, Retries, Target
from tieline.ledger import Fence, Ledger, LegRow, ParkedRow, Stores
from tieline.ledgers.memory import MemoryLedger
from tieline.ledgers.sqlite import SqliteSession
from tieline.message import Reason
from tieline.process import Process
from tieline.runner import Runner, casting, gaps, moving
from tieline.runner.epoch import Recovery
from tieline.runner.gaps import Gap
from tieline.runner.moves import Move
from tieline.runner.plan import SourcePlan, build
from tieline.runner.recovery import recover, strangers
from tieline.runner.requests import requests_for
from tieline.runner.ways import RETIRED
from tieline.runner.worker import Report
from tieline.settings import SystemSettings
from tieline.system import Landscape, SourceSettings, System, Trigger
from tieline.testing import clock
from tieline.testing.failpoints import Crash

T = TypeVar("T")

QUICK: Final = Retries(first=0.3, factor=2.0, longest=2.0, give_up=60.0)
"""Retries for trials: many, and soon."""

_numbers: Final = count(1)
_worker: ContextVar["Worker | None"] = ContextVar("worker", default=None)


@dataclass(slots=True)
class Scene:
    """A landscape on systems in memory, put together step by step. Times are in seconds."""

    every: float = 1.0
    sweep: float = 3.0
    settling: float = 10.0
    retries: Retries = QUICK
    systems: dict[str, System] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    entities: dict[str, type[Entity]] = field(default_factory=dict)
    _number: int = field(default_factory=lambda: next(_numbers))

    def system(self, name: str, *, brake: float = 1.0, **tables: Table) -> Adapter:
        """A system with these tables; declare sources and sinks on the adapter that this gives."""
        adapter = Adapter(Memory(**tables))
        self.systems[name] = System(
            name=name,
            adapter=adapter,
            settings=SystemSettings(name=name, url=self._url(name)),
            settling=self.settling,
            sources=_Same(
                SourceSettings(triggers=(Trigger(kind="every", seconds=self.every),), sweep=self.sweep, brake=brake)
            ),
        )
        return adapter

    def store(self, name: str) -> Store:
        """What stands behind a system: fill it, look into it, make it fail."""
        return store(self._url(name))

    def _url(self, name: str) -> str:
        return f"memory://{self._number}/{name}"

    def process(self, name: str) -> Process:
        """A process; declare its rules on what this gives."""
        self.processes[name] = Process()
        return self.processes[name]

    def flow(self, entity: type[Entity], source: str, *targets: str, name: str = "", via: str = "direct") -> Flow:
        """A flow of an entity from one system (or process) to others; named after its entity unless told."""
        name = name or f"{entity.__name__.lower()}s"
        self.entities[entity.__name__] = entity
        flow = self.flows[name] = Flow(
            name=name,
            entity=entity.__name__,
            source=source,
            targets=tuple(Target(target) for target in targets),
            via=via,
            retries=self.retries,
            partitions=2,
        )
        return flow

    def change(self, name: str, **fields: Any) -> None:
        """Change a flow, such as its `via`; it counts for landscapes made from now on."""
        self.flows[name] = msgspec.structs.replace(self.flows[name], **fields)

    def landscape(self) -> Landscape:
        """The landscape as it is now."""
        return Landscape(
            name="trial",
            store="memory:",
            folder=Path(),
            systems=dict(self.systems),
            processes=dict(self.processes),
            flows=dict(self.flows),
            entities=dict(self.entities),
        )


class _Same(dict[str, SourceSettings]):
    """The same settings for every source."""

    def __init__(self, settings: SourceSettings) -> None:
        super().__init__()
        self._settings = settings

    def get(self, key: str, default: Any = None) -> Any:
        return self._settings


class _TimedLedger(MemoryLedger):
    """A ledger in memory by the running loop's clock."""

    def _connect(self) -> SqliteSession:
        session = super()._connect()
        session.now = clock.now  # type: ignore[method-assign]
        return session


Faults = Callable[["Worker", str], float]
"""Asked at every point where a process may be interrupted, by the worker and the point's name; may call
`Worker.crash` or `Worker.freeze`, and gives the seconds that pass there."""

Spoil = Callable[[str, str, Change], TielineError | None]
"""Asked before a change is written, by system and resource: the error that it meets instead."""

Blur = Callable[[str, str, Change], TielineError | None]
"""Asked after a change was written outside a transaction: the error that is reported although it was."""

Late = Callable[[str, str], float]
"""Asked before a call outside a transaction: the seconds after which it lands, cut off long before; or 0."""

LedgerFails = Callable[["Worker"], str]
"""Asked at each transaction of the ledger: "before" and "after" lose the connection there, the latter
with everything committed; "" does not."""


class Worker:
    """One simulated process."""

    def __init__(self, trial: "Trial", name: str, landscape: Landscape, only: set[str] | None = None) -> None:
        self.name = name
        self.dead = False
        self.began = False  # whether it came as far as reading or delivering
        self.inside: list[Store] = []  # stores with a transaction of ours open
        self._trial = trial
        self._free = asyncio.Event()
        self._free.set()
        ledger = _WorkersLedger(self, trial.ledger)
        engine: Bus = SqlBus(ledger, shared=True)
        buses: dict[str, Bus] = {"direct": engine, "main": engine}
        buses |= {bus: _WorkersBus(self, trial.engine(bus)) for bus in trial.foreign}
        connectors = {
            system.name: _WorkersConnector(self, system, system.adapter.connector.open(system.settings))
            for system in landscape.systems.values()
        }
        self.runner = Runner(
            landscape, ledger, buses, worker=name, connectors=connectors, lease=trial.lease, only=only
        )
        self._task: asyncio.Task[Report] | None = None

    def start(self, once: bool = False) -> "asyncio.Task[Report]":
        """Begin to run."""
        _worker.set(self)
        try:
            self._task = asyncio.create_task(self.runner.run(once), name=self.name)
        finally:
            _worker.set(None)
        return self._task

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return not self._free.is_set()

    @property
    def failure(self) -> BaseException | None:
        """What ended it, if that was neither a crash, nor being stopped, nor a ledger that is away at the start."""
        if self._task is None or not self._task.done() or self._task.cancelled() or self.dead:
            return None
        error = self._task.exception()
        return None if isinstance(error, LedgerUnavailable) and not self.began else error

    @property
    def over_by_itself(self) -> bool:
        """Whether it has ended, crashed or not."""
        return self.dead or (self._task is not None and self._task.done())

    def crash(self, why: str = "") -> None:
        """`kill -9`: nothing of it has any effect from now on; its leases pass when their time is over."""
        if self.dead:
            return
        self._trial.note(f"{self.name} crashes {why}")
        self.dead = True
        self._free.set()
        if self._task is not None:
            self._task.cancel()

    def freeze(self, seconds: float, why: str = "") -> None:
        """SIGSTOP, and SIGCONT after so many seconds. A server drops its open transactions before that."""
        if self.frozen or self.dead:
            return
        self._trial.note(f"{self.name} freezes for {seconds:.1f} s {why}")
        self._free.clear()
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, self.thaw)
        loop.call_later(self._trial.session_timeout, self._drop_sessions)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.frozen:
            self._trial.note(f"{self.name} thaws")
            self._free.set()

    def _drop_sessions(self) -> None:
        if self.frozen:
            for behind in self.inside:
                behind.kill()

    async def point(self, place: str) -> None:
        """A place where this process may be interrupted."""
        self._living()
        seconds = self._trial.faults(self, place)
        self._living()
        await asyncio.sleep(seconds)  # even no time lets others run
        await self._free.wait()
        self._living()

    def _living(self) -> None:
        if self.dead:
            raise Crash(self.name)

    async def stop(self) -> None:
        """Stop it in good order."""
        self.thaw()
        await self.runner.stop()
        await self.over()

    async def over(self) -> None:
        """Wait until nothing of it runs any more."""
        if self._task is not None:
            await asyncio.wait([self._task])


class Trial:
    """Workers of a landscape over one ledger in memory. Use as ``async with``, on the virtual clock.

    `faults`, `spoil`, `blur`, `late` and `ledger_fails` play what goes wrong. `trace` tells what happened,
    for a failing test to show. `foreign` are buses whose engine does not share the ledger's store.
    """

    def __init__(
        self,
        landscape: Landscape,
        *,
        faults: Faults | None = None,
        spoil: Spoil | None = None,
        blur: Blur | None = None,
        late: Late | None = None,
        ledger_fails: LedgerFails | None = None,
        lease: float = 3.0,
        session_timeout: float = 5.0,
        foreign: Sequence[str] = (),
    ) -> None:
        self.landscape = landscape
        self.faults: Faults = faults or (lambda worker, place: 0.0)
        self.spoil: Spoil = spoil or (lambda system, resource, change: None)
        self.blur: Blur = blur or (lambda system, resource, change: None)
        self.late: Late = late or (lambda system, resource: 0.0)
        self.ledger_fails: LedgerFails = ledger_fails or (lambda worker: "")
        self.lease = lease
        self.session_timeout = session_timeout
        self.foreign = foreign
        self.ledger = _TimedLedger()
        self.workers: list[Worker] = []
        self.trace: list[str] = []
        self._lost: list[Ledger] = []
        self._engines: dict[str, MemoryBus] = {}

    def engine(self, bus: str) -> MemoryBus:
        """The engine of a foreign bus; it outlives workers."""
        return self._engines.setdefault(bus, MemoryBus())

    async def __aenter__(self) -> "Trial":
        if gaps.armed is not None:
            raise RuntimeError("gaps are armed already; leave the other Trial or Failpoints first")
        gaps.armed = self._gap
        asyncio.get_running_loop().set_exception_handler(_complain)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.crash("(the trial is over)")
        for worker in self.workers:
            await worker.over()
        gaps.armed = None
        for ledger in (*self._lost, self.ledger):
            await ledger.close()

    async def _gap(self, place: Gap) -> None:
        worker = _worker.get()
        if worker is not None:
            worker.began = True
            self.note(f"{worker.name} {place.name}")
            await worker.point(place.name)

    def note(self, what: str) -> None:
        """Add to the trace."""
        self.trace.append(f"{asyncio.get_running_loop().time():9.3f}  {what}")

    def start(self, name: str = "", *, once: bool = False, only: set[str] | None = None) -> Worker:
        """A new worker, running, on the landscape as it is now."""
        worker = Worker(self, name or f"w{len(self.workers) + 1}", self.landscape, only)
        self.workers.append(worker)
        self.note(f"{worker.name} starts")
        worker.start(once)
        return worker

    async def once(self, name: str = "") -> Report:
        """Run a worker as `tieline run --once` does, and give its report."""
        worker = self.start(name, once=True)
        await worker.over()
        assert worker._task is not None
        return worker._task.result()

    def restore(self, backup: bytes) -> None:
        """Put an older ledger (see `MemoryLedger.back_up`) in the place of this one, for workers that start now."""
        self._lost.append(self.ledger)
        self.ledger = _TimedLedger(backup=backup)
        self.note("the ledger is an older one from now on")

    async def recover(self) -> Recovery:
        """Go on from the older ledger, as `tieline recover` does."""
        recovery = await recover(self.ledger, *self._run_by_nobody())
        self.note(f"the ledger is recovered; epoch {recovery.epoch} begins")
        return recovery

    async def move(self, flow: str, to: str, partitions: int = 2) -> None:
        """Move a flow to another way, as `tieline move` does; whoever runs goes on. The file keeps its word."""
        known = self.landscape.flows[flow]
        move = Move(flow, to, partitions, was=known.via, was_partitions=known.partitions)
        opened = self._run_by_nobody()
        await moving.reach(self.ledger, *opened, move)
        for line in await moving.begin(self.ledger, *opened, move):
            self.note(line)

    async def cast(self, flow: str, to: str, partitions: int = 2) -> None:
        """Begin a shadow of a flow, as `tieline move --shadow` does."""
        legs = await casting.cast(self.ledger, *self._run_by_nobody(), casting.Second(flow, to, partitions))
        self.note(f"flow {flow} has a shadow over {to}/{partitions}: {', '.join(legs)}")

    async def drop_shadow(self, flow: str) -> None:
        """End the shadow of a flow, as `tieline move --end-shadow` does."""
        await casting.drop(self.ledger, flow)
        self.note(f"flow {flow} has no shadow any more")

    async def sight(self, flow: str) -> list[casting.Sight]:
        """How the shadows of a flow stand, leg by leg."""
        return await casting.sight(self.ledger, self._run_by_nobody()[0], flow)

    async def strangers(self) -> dict[str, str]:
        """The legs from which it shows that the ledger is an older one, and how."""
        return await strangers(self.ledger, *self._run_by_nobody())

    def _run_by_nobody(self) -> tuple[dict[str, Bus], list[SourcePlan]]:
        """Buses and plans, without a worker."""
        connectors = {s.name: s.adapter.connector.open(s.settings) for s in self.landscape.systems.values()}
        engine: Bus = SqlBus(self.ledger, shared=True)
        buses = {"direct": engine, "main": engine} | {bus: self.engine(bus) for bus in self.foreign}
        return buses, build(self.landscape, connectors)

    # -- what a person may look at and do ---------------------------------------------------------------

    async def look(self, work: Callable[[Stores], T]) -> T:
        """Look into the ledger."""
        return await self.ledger.transact(work)

    async def parked(self, leg: str | None = None, reason: Reason | None = None) -> list[ParkedRow]:
        """What waits."""
        return await self.look(lambda s: s.parked.list(leg, reason))

    async def decide(self, row: ParkedRow, decision: str, message: bytes = b"") -> bool:
        """Decide about a parked message; False where another message waits there by now."""
        done = await self.look(
            lambda s: s.parked.decide(row.leg, row.key, row.message_id, decision, "somebody", message)
        )
        self.note(f"somebody decides {decision} on {row.leg} {row.key} {'/'.join(map(str, row.version))}: {done}")
        return done

    # -- waiting ----------------------------------------------------------------------------------------------

    async def settle(self, limit: float = 600.0) -> None:
        """Wait until everything that stands at the sources now was read and nothing moves any more.

        Raises:
            AssertionError: where it does not come to rest within `limit` seconds.
        """
        since = clock.now()
        while (busy := await self.look(lambda s: _busy(s, self.landscape, since))) is not None:
            for worker in self.workers:
                if worker.failure is not None:
                    raise AssertionError(f"{worker.name} ended: {worker.failure!r}") from worker.failure
            assert clock.now() < since + limit, f"no rest within {limit:.0f} s: {busy}"
            await asyncio.sleep(0.25)


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A dead process has nobody to hear how its tasks ended."""
    if not isinstance(context.get("exception"), Crash):
        loop.default_exception_handler(context)


def _busy(stores: Stores, landscape: Landscape, since: float) -> str | None:
    """Something that still moves, or is still to be read."""
    legs = stores.legs.all()
    if {row.flow for row in legs} < landscape.flows.keys():
        return "a flow has not begun"
    for row in legs:
        if row.paused == RETIRED:
            continue
        if "." in row.source and row.source.partition(".")[0] in landscape.systems:
            state = stores.sources.get(row.source)
            if state.swept_at <= since:
                return f"{row.source} was not swept since"
        if stores.inbox.depth(row.source) or requests_for(stores, row.source):
            return f"{row.source} has something to read"
        if row.paused:
            return f"{row.leg} is paused: {row.paused}"
        if (left := _left(stores, row)) is not None:
            return left
        for parked in stores.parked.list(row.leg):
            if parked.decision or parked.reason not in {Reason.DEAD, Reason.ORDER}:
                return f"{row.leg}: {parked.key} is parked: {parked.reason}, {parked.error}"
    return None


def _left(stores: Stores, row: LegRow) -> str | None:
    if len(row.ways) > 1:
        return f"{row.leg} still goes its old way"
    way = row.ways[0]
    states = stores.legs.states(row.leg, way.channel)
    if way.bus in {"direct", "main"}:
        positions = {p: states.get(p, LegState()).position for p in range(way.partitions)}
        depth = stores.channels.depth(way.channel, positions)
        return f"{row.leg}: {depth} messages under way" if depth else None
    entered = row.entered - sum(stores.legs.totals(row.leg).values()) - sum(stores.parked.counts(row.leg).values())
    return f"{row.leg}: {entered} messages under way" if entered else None


# -- what a worker sees of the world: gone when it is dead, still when it is frozen ----------------------------


class _WorkersLedger:
    def __init__(self, worker: Worker, ledger: Ledger) -> None:
        self._worker = worker
        self._ledger = ledger
        self.url = ledger.url
        self.durable = ledger.durable

    @property
    def rung(self) -> int:
        return self._ledger.rung

    async def transact(self, work: Callable[[Stores], T], fences: Sequence[Fence] = ()) -> T:
        await self._worker.point("ledger")
        fails = self._worker._trial.ledger_fails(self._worker)
        if fails == "before":
            raise LedgerUnavailable("the ledger is out of reach")
        result = await self._ledger.transact(work, fences)
        if fails:
            raise LedgerUnavailable("the ledger went away after it had committed")
        await self._worker.point("ledger done")
        return result

    async def wait(self, topics: Sequence[str], seconds: float, since: int | None = None) -> None:
        await self._ledger.wait(topics, seconds, since)
        await self._worker.point("woken")

    def listen(self, topics: Sequence[str], heard: Callable[[], None]) -> Callable[[], None]:
        return self._ledger.listen(topics, heard)

    async def close(self) -> None:
        return


class _WorkersBus:
    def __init__(self, worker: Worker, bus: Bus) -> None:
        self._worker = worker
        self._bus = bus
        self.capabilities = bus.capabilities

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        await self._bus.declare(channel, partitions, subscriptions)

    async def publish(self, channel: str, batch: Any) -> None:
        await self._worker.point("publish")
        await self._bus.publish(channel, batch)
        await self._worker.point("publish done")

    async def take(
        self, channel: str, after: Mapping[int, int], *, most: int, wait: float, subscription: str = ""
    ) -> Any:
        found = await self._bus.take(channel, after, most=most, wait=wait, subscription=subscription)
        await self._worker.point("take")
        return found

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        await self._worker.point("done")
        await self._bus.done(channel, subscription, positions)

    async def ends(self, channel: str) -> dict[int, int]:
        return await self._bus.ends(channel)

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        return await self._bus.depth(channel, after)

    async def forget(self, channel: str, subscription: str) -> None:
        await self._worker.point("forget")
        await self._bus.forget(channel, subscription)

    async def close(self) -> None:
        return


class _WorkersConnector:
    def __init__(self, worker: Worker, system: System, connector: Connector) -> None:
        self._worker = worker
        self._system = system.name
        self._connector = connector
        self._store = store(system.settings.url or "")
        self._landing: asyncio.Future[list[Result]] | None = None

    async def _point(self, place: str) -> None:
        await self._worker.point(f"{self._system}.{place}")

    def capabilities(self, resource: str) -> Capabilities:
        return self._connector.capabilities(resource)

    async def check(self) -> None:
        await self._point("check")
        await self._connector.check()

    async def discover(self) -> list[Discovered]:
        return await self._connector.discover()

    async def read(
        self, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        await self._point(f"{resource}.read")
        async for page in self._connector.read(resource, since, scope):
            await self._point(f"{resource}.page")
            yield page

    async def keys(self, resource: str) -> AsyncIterator[list[str]]:
        async for page in self._connector.keys(resource):
            await self._point(f"{resource}.keys")
            yield page

    def listen(self, resource: str) -> AsyncIterator[Page]:
        return self._connector.listen(resource)

    async def lookup(self, resource: str, ids: Sequence[str], by: str | None = None) -> list[Record | None]:
        await self._point(f"{resource}.lookup")
        found = await self._connector.lookup(resource, ids, by)
        await self._point(f"{resource}.lookup done")
        return found

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        await self._point(f"{resource}.write")
        if delay := self._worker._trial.late(self._system, resource):
            asyncio.get_running_loop().call_later(delay, self._land, resource, changes)
            return [Result(error=InDoubt("the line was cut")) for _ in changes]
        with self._spoiling(resource, changes) as (chosen, merge):
            results = merge(await self._connector.write(resource, chosen) if chosen else [])
        await self._point(f"{resource}.write done")
        return [self._blurred(resource, change, result) for change, result in zip(changes, results, strict=True)]

    def _land(self, resource: str, changes: Sequence[Change]) -> None:
        self._worker._trial.note(f"a call to {self._system}.{resource} lands late")
        self._landing = asyncio.ensure_future(self._connector.write(resource, changes))

    def _blurred(self, resource: str, change: Change, result: Result) -> Result:
        error = self._worker._trial.blur(self._system, resource, change) if result.error is None else None
        return result if error is None else Result(change.target_id, error=error)

    async def call(self, resource: str, action: str, target_ids: Sequence[str]) -> list[Result]:
        await self._point(f"{resource}.{action}")
        results = await self._connector.call(resource, action, target_ids)
        await self._point(f"{resource}.{action} done")
        return results

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TargetTransaction]:
        await self._point("begin")
        async with self._connector.transaction() as inner:
            self._worker.inside.append(self._store)
            try:
                yield _WorkersTransaction(self, inner)
                await self._point("commit")
            finally:
                self._worker.inside.remove(self._store)
        await self._point("commit done")

    @contextmanager
    def _spoiling(
        self, resource: str, changes: Sequence[Change]
    ) -> Iterator[tuple[list[Change], Callable[[list[Result]], list[Result]]]]:
        spoil = self._worker._trial.spoil
        errors = {n: error for n, c in enumerate(changes) if (error := spoil(self._system, resource, c)) is not None}

        def merge(results: list[Result]) -> list[Result]:
            rest = iter(results)
            return [
                Result(changes[n].target_id, error=errors[n]) if n in errors else next(rest)
                for n in range(len(changes))
            ]

        yield [c for n, c in enumerate(changes) if n not in errors], merge

    async def close(self) -> None:
        return


class _WorkersTransaction:
    def __init__(self, connector: _WorkersConnector, inner: TargetTransaction) -> None:
        self._connector = connector
        self._inner = inner

    async def fence(self, leg: str, partitions: Mapping[int, int]) -> dict[int, LegState]:
        await self._connector._point("fence")
        return await self._inner.fence(leg, partitions)

    async def held(self, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        await self._connector._point("held")
        return await self._inner.held(entity, keys)

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        await self._connector._point(f"{resource}.write")
        with self._connector._spoiling(resource, changes) as (chosen, merge):
            return merge(await self._inner.write(resource, chosen) if chosen else [])

    async def keep(self, entity: str, rows: Sequence[HeldRow]) -> None:
        await self._connector._point("keep")
        await self._inner.keep(entity, rows)

    async def move(self, leg: str, states: Mapping[int, LegState]) -> None:
        await self._connector._point("move")
        await self._inner.move(leg, states)
