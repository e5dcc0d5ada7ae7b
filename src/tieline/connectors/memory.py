"""Tables in memory: for tests, tutorials and thousands of seeded interleavings.

No thread, no clock, no chance: the same calls in the same order give the same result. What a real
system does to us can be played: a `failure` that every call meets, a `hook` that runs before and
after each effect (and may wait, raise or change rows), and `kill()` for a server that drops its
sessions.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from tieline.connector import (
    Capabilities,
    Change,
    Checkpoint,
    Discovered,
    HeldRow,
    LegState,
    Page,
    Record,
    Result,
)
from tieline.errors import (
    ConfigurationError,
    Fenced,
    InDoubt,
    Mistake,
    Reject,
    RetryLater,
    TielineError,
    Unavailable,
)
from tieline.settings import SystemSettings
from tieline.throttle import Throttle

Action = Callable[[Record], Record | None]
Hook = Callable[[str], Awaitable[None]]

_HeldKey = tuple[str, str, str, str]  # target, entity, key, source
_LegKey = tuple[str, str, int]  # target, leg, partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A resource in memory, and what it is able to do.

    `id` is the field that identifies a row; with `numbered` the table gives the ids itself, "1", "2" ….
    Without `upsert` a change with no target id always makes a new row, as an interface that only
    creates does. `incremental` reads by a counter that moves with every change; with `ordered` each
    page has a checkpoint, else only the last. `tells_deletes` puts deleted ids into a page's `gone`.
    `actions` turn a row's record into what it is afterwards (None: it is gone). `refuses` gives the
    reason for which a record is rejected, or None.
    """

    id: str = "id"
    numbered: bool = False
    incremental: bool = True
    ordered: bool = True
    lists_keys: bool = True
    lookup: bool = True
    writable: bool = True
    upsert: bool = True
    transactional: bool = True
    tells_deletes: bool = False
    actions: Mapping[str, Action] = field(default_factory=dict)
    refuses: Callable[[Record], str | None] | None = None
    bulk: int = 2_000
    page: int = 2_000

    @property
    def capabilities(self) -> Capabilities:
        """The facts that follow from the switches."""
        return Capabilities(
            incremental=self.incremental,
            ordered=self.incremental and self.ordered,
            keys=self.lists_keys,
            lookup=self.lookup,
            writes=self.writable,
            deletes=self.writable,
            upsert=self.writable and self.upsert,
            transactional=self.writable and self.transactional,
            actions=frozenset(self.actions),
            bulk=self.bulk,
        )


class _Turns:
    """Writers take turns, first come, first served; who was dropped meets it at the next use."""

    def __init__(self) -> None:
        self._holder: object | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> object:
        if self._holder is None:
            self._holder = object()
            return self._holder
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            self.give_back(turn)
            raise
        return turn

    def check(self, turn: object) -> None:
        if self._holder is not turn:
            raise Unavailable("the store dropped this session")

    def give_back(self, turn: object) -> None:
        if self._holder is turn:
            self.drop()

    def drop(self) -> None:
        self._holder = None
        while self._holder is None and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # a waiter that was cancelled gets no turn
                turn.set_result(None)
                self._holder = turn


class Rows:
    """One table's rows by id, the counter of each one's last change, and the deletes by counter."""

    def __init__(self) -> None:
        self.by_id: dict[str, Record] = {}
        self.changed: dict[str, int] = {}
        self.gone: dict[str, int] = {}
        self.last_number = 0

    def copy(self) -> "Rows":
        """The same rows under dicts of their own; records are never changed in place."""
        twin = Rows()
        twin.by_id = dict(self.by_id)
        twin.changed = dict(self.changed)
        twin.gone = dict(self.gone)
        twin.last_number = self.last_number
        return twin


@dataclass(slots=True)
class _Contents:
    """Everything in a store that a transaction may change."""

    tables: dict[str, Rows] = field(default_factory=dict)
    held: dict[_HeldKey, HeldRow] = field(default_factory=dict)
    legs: dict[_LegKey, LegState] = field(default_factory=dict)
    counter: int = 0

    def table(self, name: str) -> Rows:
        return self.tables.setdefault(name, Rows())

    def put(self, name: str, id: str, record: Record, counter: int | None = None) -> int:
        rows = self.table(name)
        if counter is None:
            self.counter += 1
            counter = self.counter
        self.counter = max(self.counter, counter)
        rows.by_id[id] = record
        rows.changed[id] = counter
        rows.gone.pop(id, None)
        return counter

    def drop(self, name: str, id: str) -> bool:
        rows = self.table(name)
        if id not in rows.by_id:
            return False
        self.counter += 1
        del rows.by_id[id], rows.changed[id]
        rows.gone[id] = self.counter
        return True


class Store:
    """What stands behind one url: a test fills it, looks into it, and makes it fail.

    `failure` is raised by every call while it is set. `hook` is awaited with the name of a moment:
    ``check``, ``orders.read``, ``orders.keys``, ``orders.lookup``; ``orders.write`` before an effect
    and ``orders.write.done`` after it; the same for an action; in a transaction also ``begin``,
    ``fence``, ``held``, ``keep``, ``move``, ``commit`` and ``commit.done``. `calls` counts them.
    """

    def __init__(self) -> None:
        self.failure: TielineError | None = None
        self.hook: Hook | None = None
        self.contents = _Contents()
        self.calls: dict[str, int] = {}
        self.turns = _Turns()
        self._tags = 0

    def put(self, resource: str, record: Record, id: str = "id", *, counter: int | None = None) -> None:
        """Put a row there as the system's own user would; `id` names its id field.

        A `counter` below the newest plays a row that was changed earlier and committed late.
        """
        self.contents.put(resource, str(record[id]), _copied(record), counter)

    def drop(self, resource: str, id: str) -> None:
        """Delete a row, if it is there."""
        self.contents.drop(resource, id)

    def rows(self, resource: str) -> dict[str, Record]:
        """The committed rows by id, as copies."""
        return {id: _copied(record) for id, record in self.contents.table(resource).by_id.items()}

    def held(self, entity: str, target: str | None = None) -> list[HeldRow]:
        """The committed held rows of an entity."""
        wanted = self.contents.held.items()
        return [row for key, row in wanted if key[1] == entity and target in {None, key[0]}]

    def legs(self, leg: str) -> dict[int, LegState]:
        """The committed fence rows of a leg by partition."""
        return {key[2]: state for key, state in self.contents.legs.items() if key[1] == leg}

    def kill(self) -> None:
        """Drop every open transaction, as a server does that restarts: its next use is `Unavailable`."""
        self.turns.drop()

    def tag(self) -> str:
        """A version tag that was never given before."""
        self._tags += 1
        return str(self._tags)

    async def moment(self, name: str) -> None:
        """Count the call, run the hook, and meet the failure that is set."""
        self.calls[name] = self.calls.get(name, 0) + 1
        if self.hook is not None:
            await self.hook(name)
        if self.failure is not None:
            raise self.failure


_stores: Final[dict[str, Store]] = {}


def store(url: str) -> Store:
    """The store behind a url such as ``memory://shop``, made at first use."""
    return _stores.setdefault(url, Store())


def forget() -> None:
    """Drop all stores; what is connected to one keeps it."""
    _stores.clear()


class Memory:
    """Tables in memory by resource name: ``Memory(orders=Table(id="number"))``."""

    def __init__(self, **tables: Table) -> None:
        self.resources: Mapping[str, Table] = tables

    def open(self, system: SystemSettings, throttle: Throttle | None = None) -> "MemoryConnector":
        """A connector on the store behind the system's url."""
        if not system.url:
            raise ConfigurationError(
                Mistake(f"systems.{system.name}", "has no url", 'give it a name, such as url = "memory://shop"')
            )
        return MemoryConnector(self.resources, store(system.url), system)

    def identify(self, resource: str, record: Record) -> str:
        """The record's id as text."""
        return str(record[self.resources[resource].id])


class MemoryConnector:
    """A connection to one store. Writers take turns, whole transactions at a time."""

    def __init__(self, tables: Mapping[str, Table], behind: Store, system: SystemSettings) -> None:
        self.store = behind
        self._tables = tables
        self._system = system.name
        self._held_as = system.held_as

    def capabilities(self, resource: str) -> Capabilities:
        return self._tables[resource].capabilities

    async def check(self) -> None:
        await self.store.moment("check")

    async def discover(self) -> list[Discovered]:
        await self.store.moment("discover")
        found = []
        for name, rows in sorted(self.store.contents.tables.items()):
            fields = {key: type(value).__name__ for record in rows.by_id.values() for key, value in record.items()}
            declared = self._tables.get(name)
            found.append(Discovered(name, () if declared is None else (declared.id,), fields))
        return found

    async def read(
        self, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        table = self._tables[resource]
        if table.incremental and table.ordered:
            pages = self._read_by_counter(resource, table, since or 0)
        else:
            pages = self._read_by_id(resource, table, since or 0)
        async for page in pages:
            yield page

    async def _read_by_counter(self, resource: str, table: Table, after: int) -> AsyncIterator[Page]:
        more = True
        while more:
            await self.store.moment(f"{resource}.read")
            rows = self.store.contents.table(resource)
            moved = [(at, id) for id, at in rows.changed.items() if at > after]
            if table.tells_deletes:
                moved += [(at, id) for id, at in rows.gone.items() if at > after]
            if not moved:
                return
            more = len(moved) > table.page  # else who changes rows while it reads would never be done
            moved = sorted(moved)[: table.page]
            after = moved[-1][0]
            yield self._page(rows, [id for _, id in moved], after)

    async def _read_by_id(self, resource: str, table: Table, after: int) -> AsyncIterator[Page]:
        end = self.store.contents.counter if table.incremental else None
        last = ""
        wanted: list[str] | None = None
        while wanted is None or wanted:
            await self.store.moment(f"{resource}.read")
            rows = self.store.contents.table(resource)
            moved = rows.changed | rows.gone if table.tells_deletes and table.incremental else rows.changed
            later = sorted(id for id, at in moved.items() if id > last and (not table.incremental or at > after))
            wanted = later[: table.page]
            if wanted:
                last = wanted[-1]
                yield self._page(rows, wanted, end if len(later) <= table.page else None)
                if len(later) <= table.page:
                    return

    @staticmethod
    def _page(rows: Rows, ids: Sequence[str], checkpoint: Checkpoint) -> Page:
        alive = [id for id in ids if id in rows.by_id]
        gone = [id for id in ids if id not in rows.by_id]
        return Page(alive, [_copied(rows.by_id[id]) for id in alive], checkpoint, gone)

    async def keys(self, resource: str) -> AsyncIterator[list[str]]:
        last = ""
        while True:
            await self.store.moment(f"{resource}.keys")
            later = sorted(id for id in self.store.contents.table(resource).by_id if id > last)
            if not later:
                return
            page = later[: self._tables[resource].page]
            last = page[-1]
            yield page

    def listen(self, resource: str) -> AsyncIterator[Page]:
        raise ConfigurationError(
            Mistake(f"{self._system}.{resource}", "memory does not push", 'use a trigger such as "every 5m"')
        )

    async def lookup(self, resource: str, ids: Sequence[str], by: str | None = None) -> list[Record | None]:
        await self.store.moment(f"{resource}.lookup")
        rows = self.store.contents.table(resource).by_id
        found = rows
        if by is not None:
            found = {}
            for id in sorted(rows):
                found.setdefault(str(rows[id].get(by, "")), rows[id])
        return [_copied(found[id]) if id in found else None for id in ids]

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        table = self._tables[resource]

        def work(contents: _Contents) -> list[Result]:
            return [_write(contents, table, resource, change, self.store.tag()) for change in changes]

        return await self._alone(f"{resource}.write", work, len(changes))

    async def call(self, resource: str, action: str, target_ids: Sequence[str]) -> list[Result]:
        function = self._tables[resource].actions.get(action)
        if function is None:
            raise ConfigurationError(
                Mistake(f"{self._system}.{resource}", f"has no action {action!r}", "give it to the Table in actions=")
            )

        def work(contents: _Contents) -> list[Result]:
            return [_act(contents, resource, id, function, self.store.tag()) for id in target_ids]

        return await self._alone(f"{resource}.{action}", work, len(target_ids))

    async def _alone(self, moment: str, work: Callable[[_Contents], list[Result]], count: int) -> list[Result]:
        """An effect outside a transaction; what the hook raises about it stands in the results."""
        turn = await self.store.turns.take()
        try:
            await self.store.moment(moment)
            self.store.turns.check(turn)
            results = work(self.store.contents)
            await self.store.moment(f"{moment}.done")
        except (InDoubt, RetryLater, Unavailable) as error:
            return [Result(error=error)] * count
        finally:
            self.store.turns.give_back(turn)
        return results

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryTransaction"]:
        turn = await self.store.turns.take()
        try:
            await self.store.moment("begin")
            transaction = MemoryTransaction(self.store, turn, self._tables, self._held_as)
            yield transaction
            await self.store.moment("commit")
            self.store.turns.check(turn)
            transaction.commit()
            await self.store.moment("commit.done")
        finally:
            self.store.turns.give_back(turn)

    async def close(self) -> None:
        return


class MemoryTransaction:
    """Works on a copy of what it touches; a commit carries only that over into the store."""

    def __init__(self, behind: Store, turn: object, tables: Mapping[str, Table], held_as: str) -> None:
        self._store = behind
        self._turn = turn
        self._tables = tables
        self._held_as = held_as
        self._rows = _Contents()
        self._touched: dict[tuple[str, str], None] = {}
        self._held: dict[_HeldKey, HeldRow] = {}
        self._legs: dict[_LegKey, LegState] = {}

    async def _moment(self, name: str) -> None:
        await self._store.moment(name)
        self._store.turns.check(self._turn)

    def _leg(self, key: _LegKey) -> LegState:
        return self._legs.get(key) or self._store.contents.legs.get(key) or LegState()

    async def fence(self, leg: str, partitions: Mapping[int, int]) -> dict[int, LegState]:
        await self._moment("fence")
        states = {}
        for partition, token in sorted(partitions.items()):
            key = (self._held_as, leg, partition)
            known = self._leg(key)
            if known.token > token:
                raise Fenced(f"{leg}, partition {partition}: token {token} was overtaken by {known.token}")
            states[partition] = replace(known, counts=dict(known.counts))
            self._legs[key] = replace(known, token=token)
        return states

    async def held(self, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        await self._moment("held")
        wanted = set(keys)
        return [
            row
            for (target, of, key, _), row in (self._store.contents.held | self._held).items()
            if key in wanted and of == entity and target == self._held_as
        ]

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        await self._moment(f"{resource}.write")
        if resource not in self._rows.tables:
            self._rows.tables[resource] = self._store.contents.table(resource).copy()
        results = []
        for change in changes:
            result = _write(self._rows, self._tables[resource], resource, change, self._store.tag())
            results.append(result)
            if result.error is None and result.target_id is not None:
                self._touched[resource, result.target_id] = None
        await self._moment(f"{resource}.write.done")
        return results

    async def keep(self, entity: str, rows: Sequence[HeldRow]) -> None:
        await self._moment("keep")
        for row in rows:
            self._held[self._held_as, entity, row.key, row.source] = row

    async def move(self, leg: str, states: Mapping[int, LegState]) -> None:
        await self._moment("move")
        for partition, state in states.items():
            key = (self._held_as, leg, partition)
            token = max(state.token, self._leg(key).token)
            self._legs[key] = replace(state, token=token, counts=dict(state.counts))

    def commit(self) -> None:
        """Carry over what was touched; rows get their place in the order of changes only now."""
        committed = self._store.contents
        for resource, id in self._touched:
            rows = self._rows.tables[resource]
            if id in rows.by_id:
                committed.put(resource, id, rows.by_id[id])
            else:
                committed.drop(resource, id)
            committed.table(resource).last_number = rows.last_number
        committed.held.update(self._held)
        committed.legs.update(self._legs)


def _write(contents: _Contents, table: Table, resource: str, change: Change, tag: str) -> Result:
    rows = contents.table(resource)
    record = change.record
    if record is None:
        id = change.target_id or change.key
        contents.drop(resource, id)
        return Result(id)
    reason = None if table.refuses is None else table.refuses(record)
    if reason is not None:
        return Result(change.target_id, error=Reject(reason))
    given = change.target_id or (None if record.get(table.id) is None else str(record[table.id]))
    if given is None and not table.numbered:
        return Result(error=Reject("the record has no id", field=table.id))
    exists = given is not None and given in rows.by_id
    if not table.upsert and change.target_id is None and exists:
        return Result(error=Reject("there is a row with this id already", field=table.id, value=given))
    if not table.upsert and change.target_id is not None and not exists:
        return Result(error=Reject("there is no row with this id", field=table.id, value=given))
    if given is None:
        rows.last_number += 1
        given = str(rows.last_number)
    before = rows.by_id.get(given, {table.id: given})
    contents.put(resource, given, before | _copied(record))
    return Result(given, tag)


def _act(contents: _Contents, resource: str, id: str, function: Action, tag: str) -> Result:
    record = contents.table(resource).by_id.get(id)
    if record is None:
        return Result(id, error=Reject("there is no row with this id", field="id", value=id))
    try:
        after = function(_copied(record))
    except TielineError as error:
        return Result(id, error=error)
    if after is None:
        contents.drop(resource, id)
        return Result(id)
    contents.put(resource, id, after)
    return Result(id, tag)


def _copied(value: Any) -> Any:
    """A copy down to the leaves, so that nobody changes a stored record from outside."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in value]
    return value
