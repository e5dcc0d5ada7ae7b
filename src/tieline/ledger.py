"""The port to what Tieline must not forget.

All parts change together: `Ledger.transact` runs one plain function over them in one transaction,
on the ledger's own thread, after checking that the caller still holds its leases. Every method takes
and gives batches. Promises, proved by `tieline.testing.LedgerSuite`: all of a transaction or nothing
of it survives a kill -9 and a power cut; a worker whose lease passed on is `Fenced` before it
changes anything; nobody overwrites a newer parked message or a person's decision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import msgspec

from tieline.connector import HeldRow, LegState
from tieline.message import Reason, Version

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of a lease: its name and the token it was given with."""

    name: str
    token: int


class SourceState(msgspec.Struct, frozen=True):
    """Where a source's one reader stands. `sequence` numbers its batches, `counter` its versions."""

    epoch: int = 1
    counter: int = 0
    sequence: int = 0
    cursor: Any = None
    mapping: int = 0  # version of the mapping that wrote seen
    read_at: float = 0.0  # last finished run
    swept_at: float = 0.0  # last full sweep
    failure: str = ""


class SeenRow(msgspec.Struct, frozen=True, gc=False):
    """What a source has shown of one key. Digests and id are 16 bytes; `gone` marks a tombstone."""

    key: str
    record: str
    version: Version
    message_id: bytes
    record_digest: bytes
    entity_digest: bytes
    mapping: int = 1
    gone: bool = False
    origin: str = ""
    at: float = 0.0


class Kept(msgspec.Struct, frozen=True):
    """A packed batch in a channel; `count` is its number of messages."""

    partition: int
    position: int
    sequence: int
    count: int
    data: bytes


NOT_BEGUN: Final = 1 << 60
"""`Way.after` of a leg whose stream begins when its backfill has ended, so that events keep their order."""


class Way(msgspec.Struct, frozen=True):
    """One way a leg's messages take, for the source's batches in `(after, until]`; the last is open.

    `bus` is "direct" or the name of a bus. `entered` is how many messages had come in when the way was
    ended because the ledger was an older one: some may have been delivered, and be on it no more. The last
    way may have a `shadow` beside it.
    """

    bus: str
    channel: str
    partitions: int
    after: int = 0
    until: int | None = None
    entered: int = 0
    shadow: "Shadow | None" = None

    @property
    def begins_after(self) -> int:
        """The batch number up to which unaddressed batches are known to be none of this way's."""
        return 0 if self.after == NOT_BEGUN else self.after


class Shadow(msgspec.Struct, frozen=True):
    """A second way of a leg, on which messages are only compared with what the leg has delivered.

    `name` is its subscription, its fence and the name of its books; no other shadow ever has it. `flow` and `to`
    are words of the project file. `shares` says that its channel is in the ledger's own store.
    """

    name: str
    flow: str
    to: str
    way: Way
    shares: bool
    begun: float


class LegRow(msgspec.Struct, frozen=True):
    """One leg as the ledger knows it. `entered` counts messages in, `counts` outcomes kept here."""

    leg: str
    flow: str
    source: str
    target: str
    entity: str
    ways: list[Way]
    paused: str = ""  # why, when it stands still
    probe_at: float = 0.0
    entered: int = 0
    counts: dict[str, int] = {}


NEVER: Final = 1e12
"""`ParkedRow.not_before` of a message in doubt that only a person can settle."""


class ParkedRow(msgspec.Struct, frozen=True):
    """A message that could not be applied and waits.

    `message` is `pack_message`'s bytes; `position` is where it came from (partition, position): it
    is left alone until the leg has passed that place. `waits_for` is (entity, key) of a reference.
    `force` asks to write what the target holds already.
    A decision (`replay`, `drop`, `edit`) is carried out by the leg's holder.
    """

    leg: str
    key: str
    message_id: bytes
    version: Version
    reason: Reason
    message: bytes
    error: str
    subject: str = ""
    attempt: int = 0
    not_before: float = 0.0
    waits_for: tuple[str, str] | None = None
    partition: int = 0
    position: int = 0
    decision: str = ""
    decided_by: str = ""
    parked_at: float = 0.0
    force: bool = False

    @property
    def for_a_person(self) -> bool:
        """Whether it waits for a person's decision, and for nothing else."""
        return not self.decision and (
            self.reason is Reason.DEAD or (self.reason is Reason.DOUBT and self.not_before >= NEVER)
        )


class InboxRow(msgspec.Struct, frozen=True):
    """Something pushed to, or made for, a source; `record` is the record's id, empty data means gone."""

    position: int
    record: str
    data: bytes
    origin: str = ""


class Sources(Protocol):
    """Cursors and counters, one row a source."""

    def get(self, source: str) -> SourceState: ...
    def put(self, source: str, state: SourceState) -> None: ...
    def all(self) -> dict[str, SourceState]: ...
    def were_read(self, at: Mapping[str, float]) -> None:
        """Note when sources that have a state were last read without showing anything; never back."""


class Seen(Protocol):
    """What sources have shown; key is unique within a source."""

    def by_record(self, source: str, records: Sequence[str]) -> list[SeenRow]: ...
    def by_key(self, source: str, keys: Sequence[str]) -> list[SeenRow]: ...
    def put(self, source: str, rows: Sequence[SeenRow]) -> None: ...
    def count(self, source: str) -> int:
        """Living keys."""

    def sweep_start(self, source: str) -> None:
        """Forget the marks of an unfinished sweep."""

    def sweep_mark(self, source: str, records: Sequence[str]) -> None:
        """These records exist."""

    def sweep_spare(self, source: str) -> None:
        """Mark what the sweep before did not miss, and remember what this one misses: what two miss is left."""

    def sweep_count(self, source: str) -> int:
        """Living rows whose record was not marked since the start."""

    def sweep_missing(self, source: str, after: str, limit: int) -> list[SeenRow]:
        """Those rows, after a key (empty: from the first), in the order of `living`."""

    def gone(self, source: str, before: int, after: str, limit: int) -> list[SeenRow]:
        """Tombstones of epochs before this one, after a key (empty: from the first), in the order of `living`."""

    def living(self, source: str, after: str, limit: int) -> list[SeenRow]:
        """Living rows after a key (empty: from the first), in one and the same order: to walk through all of them."""


class Channels(Protocol):
    """Packed batches by channel and partition: the spool of direct legs, the embedded bus, the outbox.

    Positions begin at one, have no gaps, become visible in order and never go back.
    """

    def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> int:
        """Make it if it is not there, and give its number of partitions; a new subscription begins at the ends."""

    def append(self, channel: str, rows: Sequence[tuple[int, int, int, bytes]]) -> dict[int, int]:
        """Add (partition, sequence, count, data); gives each partition's new end. Serialised per partition.

        Raises:
            ConfigurationError: where the channel or the partition is not declared.
        """

    def read(self, channel: str, after: Mapping[int, int], most: int) -> list[Kept]:
        """Up to about `most` messages after these positions, from each partition in turn; one batch if any."""

    def ends(self, channel: str) -> dict[int, int]: ...
    def depth(self, channel: str, after: Mapping[int, int]) -> int:
        """Messages after these positions, those addressed to one leg included."""

    def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        """Move a subscription on, never back, and drop what no subscription needs, so much at a time."""

    def forget(self, channel: str, subscription: str) -> None:
        """Drop a subscription, and with the last one the channel; its positions go on if it is declared again."""


class Legs(Protocol):
    """Legs, their ways, their positions per channel and partition, and their counts."""

    def get(self, leg: str) -> LegRow | None: ...
    def among(self, legs: Sequence[str]) -> dict[str, LegRow]:
        """Those of these legs that are known."""

    def of_source(self, source: str) -> list[LegRow]: ...
    def all(self) -> list[LegRow]: ...
    def put(self, row: LegRow) -> None:
        """Insert or replace everything but `entered` and `counts`."""

    def count(self, leg: str, entered: int = 0, counts: Mapping[str, int] = {}) -> None:
        """Add to what came in and to the outcomes kept in the ledger."""

    def states(self, leg: str, channel: str) -> dict[int, LegState]: ...
    def move(self, leg: str, channel: str, states: Mapping[int, LegState]) -> None: ...
    def behind(self) -> list[tuple[str, str]]:
        """Leg and channel of this store, where something stands after a position of the leg's."""

    def totals(self, leg: str) -> dict[str, int]:
        """All outcomes of the leg: those kept in the ledger and those of its partitions, added up."""

    def all_totals(self) -> dict[str, dict[str, int]]:
        """The `totals` of every leg that has any, at once."""

    def ahead(self, legs: Sequence[str], length: int) -> dict[str, list[bytes]]:
        """The first `length` bytes of the next batch of each partition of these legs, where one stands here."""


class Held(Protocol):
    """What targets that keep no held table of their own have of ours; also every target's identities."""

    def get(self, target: str, entity: str, keys: Sequence[str]) -> list[HeldRow]: ...
    def put(self, target: str, entity: str, rows: Sequence[HeldRow]) -> None: ...
    def claimed(self, target: str, entity: str) -> list[HeldRow]:
        """Rows with an open claim."""


class Parked(Protocol):
    """Messages that wait; one per leg and key, the newest."""

    def by_key(self, leg: str, keys: Sequence[str]) -> list[ParkedRow]: ...
    def by_subject(self, leg: str, subjects: Sequence[str]) -> list[ParkedRow]: ...
    def put(self, rows: Sequence[ParkedRow]) -> list[ParkedRow]:
        """Park; a row with the same or a newer version, or with a decision on this version, stays.

        A row of the same message without a decision is brought up to date. To park again what a decision was
        carried out on, remove its row first. Gives the older rows that were replaced (superseded).
        """

    def remove(self, leg: str, ids: Sequence[tuple[str, bytes]]) -> int:
        """Remove rows by (key, message id); a row that holds another message stays."""

    def due(self, leg: str, now: float, limit: int) -> list[ParkedRow]:
        """Rows to try again (reason retry or in doubt) or with a decision, oldest first."""

    def waiting(self, leg: str, limit: int) -> list[ParkedRow]:
        """Rows that wait for a reference or behind another event, oldest first."""

    def stirring(self, now: float) -> list[str]:
        """The legs, and sources, with something to do now: a row of `due`, a reference that is to be asked for
        again, or an event that is first of its subject by now."""

    def wake(self, target: str, entity: str, keys: Sequence[str]) -> int:
        """Rows of the target's legs that wait for these keys become due now, as retries; gives their number."""

    def list(self, leg: str | None = None, reason: Reason | None = None, limit: int = 1000) -> list[ParkedRow]: ...
    def counts(self, leg: str) -> dict[Reason, int]: ...
    def all_counts(self) -> dict[str, dict[Reason, int]]:
        """The `counts` of every leg and source that has any, at once."""

    def for_a_person(self, leg: str) -> int:
        """How many of the leg's rows are for a person; see `ParkedRow`."""

    def decide(self, leg: str, key: str, message_id: bytes, decision: str, by: str, message: bytes = b"") -> bool:
        """Write a person's decision on exactly this message; False where the row holds another one by now.

        An edit gives the new `message`, whose id and version the row has from then on.
        """


class Inbox(Protocol):
    """What came in for a source and is not in a batch yet."""

    def append(self, source: str, rows: Sequence[tuple[str, bytes, str]]) -> None:
        """Add (record id, data, origin)."""

    def read(self, source: str, limit: int) -> list[InboxRow]: ...
    def remove(self, source: str, up_to: int) -> None: ...
    def depth(self, source: str) -> int: ...
    def filled(self) -> list[str]:
        """The sources for which anything is there."""


class Leases(Protocol):
    """Who may do what, by the ledger's clock. A lease lives as long as its owner's heartbeat."""

    def beat(self, owner: str, seconds: float) -> None:
        """The owner lives for so many seconds more."""

    def acquire(self, names: Sequence[str], owner: str) -> dict[str, int]:
        """A token for each lease that is free, expired or the owner's already; each new holder's is higher.

        Beat first, in the same transaction or before. Leases taken stay taken should the transaction be undone.
        """

    def release(self, names: Sequence[str], owner: str) -> None: ...
    def begin_at(self, token: int) -> None:
        """Nobody holds anything any more, and every token given from now on is higher than this one."""

    def holders(self, beginning: str = "") -> dict[str, str]:
        """The living owner of each lease whose name begins so."""

    def alive(self) -> dict[str, float]:
        """The living owners, each with the time until which its last beat counts."""


def late_note(leg: str, key: str) -> str:
    """The note that a key was written late on a leg, by a worker that had been taken over."""
    return f"late/{leg}/{key}"


class Notes(Protocol):
    """Small facts by name (JSON; None takes one away): schema of entities, brakes, generations."""

    def get(self, name: str) -> Any: ...
    def put(self, name: str, value: Any) -> None: ...
    def starting(self, prefix: str) -> dict[str, Any]: ...


class Stores(Protocol):
    """All parts of the ledger, inside one transaction. Only used within the function handed to `transact`."""

    sources: Sources
    seen: Seen
    channels: Channels
    legs: Legs
    held: Held
    parked: Parked
    inbox: Inbox
    leases: Leases
    notes: Notes

    def now(self) -> float:
        """Seconds since 1970 by the ledger's clock."""

    def notify(self, topic: str) -> None:
        """Wake who waits for this topic, once the transaction is committed."""


class Ledger(Protocol):
    """What must not be forgotten of one landscape, in its store."""

    url: str
    durable: bool

    @property
    def rung(self) -> int:
        """How many notifications this object has noticed: note it before looking, for `wait`."""

    async def transact(self, work: Callable[[Stores], T], fences: Sequence[Fence] = ()) -> T:
        """Run `work` in one transaction; it is safe on disk when this returns.

        It sees one state of all parts, and nobody changes what it writes between its look and its write: where
        somebody did, it is undone and run again. So `work` changes nothing else.

        Raises:
            Fenced: where a lease has passed on; nothing is changed.
            LedgerUnavailable: where the store cannot be reached; nothing is changed, or all of it is
                (`work` is safe to run again by its fences and ids).
        """

    async def wait(self, topics: Sequence[str], seconds: float, since: int | None = None) -> None:
        """Until one of the topics is notified, by any process, or the time is over.

        At once where one was notified after the caller noted `rung` as `since`; without it, after this
        object's previous wait on that topic was over. So no notification falls between a look and a wait;
        a wait may end without one.
        """

    def listen(self, topics: Sequence[str], heard: Callable[[], None]) -> Callable[[], None]:
        """Have `heard` called in this event loop each time one of the topics is notified, by any process.

        It may be called without a notification, as after a line was lost on which one may have come. Whoever awaits
        the transaction that notifies goes on first. Gives the function that ends it.
        """

    async def close(self) -> None: ...
