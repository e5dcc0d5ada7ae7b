"""The port to a system's technology. A connector knows no company and no entity.

Promises of every connector, proved by `tieline.testing.ConnectorSuite`:
it never turns a failure into an empty result; one bad change does not fail the others; what it
returns as written is written; it keeps the order of changes within a key; it holds no more than a
page in memory; it raises `Unavailable` for outages and `AccessRefused` for refused credentials.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from tieline.errors import Reject, TielineError
from tieline.message import Version
from tieline.settings import SystemSettings
from tieline.throttle import Throttle

Record: TypeAlias = dict[str, Any]
Checkpoint: TypeAlias = Any
"""Where reading got to, as the connector's own JSON value; only the connector looks inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Facts about one resource; the runner, the suite, the console and the landscape read them."""

    reads: bool = True
    incremental: bool = False  # `read(since=…)` shows what changed and little else
    ordered: bool = False  # each page's checkpoint may be stored; else only the last one's
    rereads: bool = True  # `read()` from nothing shows again what was read before, as no drop folder or queue does
    keys: bool = False  # `keys()` lists every id that exists, so that a sweep finds deletes
    lookup: bool = False  # `lookup()` answers by id
    push: bool = False  # `listen()` yields
    writes: bool = False
    deletes: bool = False
    upsert: bool = False  # writing the same change twice leaves the same rows
    transactional: bool = False  # `transaction()` keeps rows, held table and fence in one commit
    actions: frozenset[str] = frozenset()
    bulk: int = 1  # changes worth handing to one `write`


class BadRecord(msgspec.Struct, frozen=True):
    """Something that was read and is no record: the rest goes on, this is parked for a person.

    `id` is the record's own id where it can be told, else its place; `place` is where to look, such
    as `orders.csv:17`; `raw` is what stood there, shortened; `error` says what to do.
    """

    id: str
    place: str
    raw: str
    error: Reject


class Page(msgspec.Struct, frozen=True):
    """Some records as read, each with its id; `gone` are ids the system itself says are deleted."""

    ids: list[str]
    records: list[Record]
    checkpoint: Checkpoint = None
    gone: list[str] = []
    bad: list[BadRecord] = []


class Change(msgspec.Struct, frozen=True):
    """One thing to write. `record` is None for a delete; `target_id` is known from earlier writes.

    `match` are the fields by which a system without our ids finds the row.
    """

    key: str
    message_id: bytes
    record: Record | None
    target_id: str | None = None
    version_tag: str | None = None


class Result(msgspec.Struct, frozen=True):
    """What became of one change: `error` is None when it is written for certain.

    An error is `Reject` (never will), `RetryLater` (may), `InDoubt` (unknown) or `Unavailable`.
    """

    target_id: str | None = None
    version_tag: str | None = None
    error: TielineError | None = None


class HeldRow(msgspec.Struct, frozen=True, gc=False):
    """What a target has of one key from one source. `digest` is of the entity, 16 bytes.

    `deleted` means that this source said the key is gone. `step` counts finished steps.
    `claim` is the id of a message whose call was begun at `claimed_at` and not confirmed, `claim_version`
    the newest version whose call was begun, where that is not what is held; a call that may be repeated
    without harm has no `claim`. `sequence`, the number of the source's batch that the message came
    with, and `at`, seconds since 1970 by the ledger's clock, are kept in the ledger alone: a target that
    keeps held rows itself need not know them.
    """

    key: str
    source: str
    version: Version
    message_id: bytes
    digest: bytes = b""
    target_id: str | None = None
    version_tag: str | None = None
    deleted: bool = False
    step: int = 0
    claim: bytes = b""
    claimed_at: float = 0.0
    claim_version: Version = Version(0, 0)
    sequence: int = 0
    at: float = 0.0


class LegState(msgspec.Struct, frozen=True):
    """How far a leg has come in one partition, and the outcomes counted on the way.

    `token` is the lease's fencing token of the last writer, `sequence` the source's batch number.
    `made` is when the batch at `position` was made (`Batch.made`); targets keep it, the ledger does not.
    """

    position: int = 0
    sequence: int = 0
    token: int = 0
    counts: dict[str, int] = {}
    made: int = 0


class TargetTransaction(Protocol):
    """One transaction in a target that keeps its own held table and fence rows."""

    async def fence(self, leg: str, partitions: Mapping[int, int]) -> dict[int, LegState]:
        """Lock the leg's fence rows, write each one's token into it, and return them as they were found.

        Raises:
            Fenced: where a row has seen a higher token.
        """

    async def held(self, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        """The held rows of `keys`, of every source."""

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        """Write; a bad change is rolled back alone and reported, connection errors are raised."""

    async def keep(self, entity: str, rows: Sequence[HeldRow]) -> None:
        """Merge held rows by (key, source). May wait for the next step or the commit, and then fails there."""

    async def move(self, leg: str, states: Mapping[int, LegState]) -> None:
        """Set the leg's fence rows. May wait as `keep` may."""


_guard: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("guard", default=None)


@contextmanager
def guarding(guard: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Have `guard` asked before each call that is made in here to change something."""
    token = _guard.set(guard)
    try:
        yield
    finally:
        _guard.reset(token)


async def before_call() -> None:
    """Whether a call that changes something may still begin: this worker may have stood still meanwhile.

    Raises:
        Fenced: where another one has taken over; then nothing more is sent.
    """
    guard = _guard.get()
    if guard is not None:
        await guard()


class Connector(Protocol):
    """A connection to one system. Every method may raise `Unavailable` or `AccessRefused`."""

    def capabilities(self, resource: str) -> Capabilities:
        """Facts about a resource; raises nothing for a declared one."""

    async def check(self) -> None:
        """Reach the system and be let in, cheaply."""

    async def discover(self) -> "list[Discovered]":
        """What could be read or written there, with fields and keys."""

    def read(
        self, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        """Pages from `since` (None: everything) on; an overlap may show a record again, never skip one."""

    def keys(self, resource: str) -> AsyncIterator[list[str]]:
        """Every id that exists now, in lists."""

    def listen(self, resource: str) -> AsyncIterator[Page]:
        """What the system pushes, until closed."""

    async def lookup(self, resource: str, ids: Sequence[str], by: str | None = None) -> list[Record | None]:
        """The records with these ids (or with these values of the field `by`), in order, None where there is none."""

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        """Write outside a transaction: one result per change, in order; outages stand in the results.

        Where this makes several calls, `before_call()` is awaited before each.
        """

    async def call(self, resource: str, action: str, target_ids: Sequence[str]) -> list[Result]:
        """Run an action, such as a document's next step, on rows; one result each."""

    def transaction(self) -> AbstractAsyncContextManager[TargetTransaction]:
        """A transaction, where the capabilities say so; commits on leaving, rolls back on an error."""

    async def close(self) -> None:
        """Let go of connections."""


class ConnectorSettings(Protocol):
    """The adapter author's side: a frozen class per technology, holding its resources by name."""

    @property
    def resources(self) -> Mapping[str, Any]:
        """The declared resources by name."""

    def open(self, system: SystemSettings, throttle: Throttle | None = None) -> Connector:
        """A connector for one system; connects lazily.

        Where the technology is one of calls, each is made inside `throttle`; without one, the connector keeps
        the system's limits by itself.

        Raises:
            ConfigurationError: where the settings cannot work.
        """

    def identify(self, resource: str, record: Record) -> str:
        """The id of a record of `resource`, as text."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """A table, endpoint or folder found in a system."""

    name: str
    key: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["table", "view", "endpoint", "folder", "model"] = "table"
