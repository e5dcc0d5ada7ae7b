"""A leg's shadow, as the ledger keeps it: a second way that is only compared, and what came of that.

It stands beside the leg's last way, so that the reader's commit finds it where it finds the way, and so that it
ends in the commit that changes the way. Its books are its own: counts and positions under its own name, and what
was found in notes. Nothing that decides about a message is ever changed for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from tieline.ledger import LegRow, Shadow, Stores, Way
from tieline.message import Batch

PUBLISHED: Final = "published"
BY_MESSAGE: Final = "by message"
OTHER_FIELDS: Final = "(other fields)"

_EXAMPLES: Final = 3  # a field
_FIELDS: Final = 50  # a partition
_LONGEST: Final = 200  # characters of a value or key
_MOST_WAITING: Final = 200  # messages a partition
_GRACE: Final = 60.0  # seconds in which whoever begins or ends a shadow sees to its engine alone


class Verdict(StrEnum):
    """What came of one message of a shadow: the whole list."""

    EQUAL = "equal"
    DIFFERENT = "different"
    SUPERSEDED = "superseded"  # the target has a newer one by now
    MISSING = "missing"  # the leg has passed it, and the target does not have it
    UNSETTLED = "unsettled"  # parked on the leg, with too many others


class Difference(msgspec.Struct, frozen=True):
    """One field of one key: what the second way brings, and what the target has."""

    field: str
    key: str
    ours: str
    theirs: str


class Example(msgspec.Struct, frozen=True):
    """A key whose field is different."""

    key: str
    ours: str
    theirs: str


class FieldFound(msgspec.Struct, frozen=True):
    """In how many messages a field is different, with a few of them."""

    count: int
    examples: list[Example]


class Waits(msgspec.Struct, frozen=True):
    """A message of the second way that the leg has parked: it is looked at again."""

    key: str
    message: str  # `pack_message`'s bytes as text
    sequence: int


class Found(msgspec.Struct, frozen=True):
    """What was found in one partition of a shadow."""

    fields: dict[str, FieldFound] = {}
    waiting: list[Waits] = []


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """How a shadow stands. `published` went on the second way since it began, `waiting` is parked on the leg.

    `by_message` of those that are equal were compared by id and content alone, for their target cannot be asked.
    """

    leg: str
    to: str
    partitions: int
    begun: float
    published: int
    verdicts: dict[Verdict, int]
    by_message: int
    waiting: int
    fields: dict[str, FieldFound]
    trouble: str = ""

    @property
    def compared(self) -> int:
        """Messages that have come over the second way and are done with."""
        return sum(self.verdicts.values())

    @property
    def not_come(self) -> int:
        """Messages that have not come over the second way, or wait for the leg."""
        return self.published - self.compared - self.waiting

    @property
    def differs(self) -> bool:
        """Whether anything is not on the second way as it is on the first."""
        return bool(self.verdicts.get(Verdict.DIFFERENT) or self.verdicts.get(Verdict.MISSING)) or self.not_come < 0

    @property
    def unresolved(self) -> bool:
        """Whether of something that has come nobody can say that it is equal, or nothing has come."""
        return bool(self.waiting or self.verdicts.get(Verdict.UNSETTLED)) or not self.compared


def shadow_of(row: LegRow | None) -> Shadow | None:
    """The shadow of a leg."""
    return row.ways[-1].shadow if row is not None else None


def begin_shadow(stores: Stores, row: LegRow, shadow: Shadow) -> None:
    """Put it beside the leg's last way; from the next batch on, its channel gets what the leg's does."""
    ways = [*row.ways[:-1], msgspec.structs.replace(row.ways[-1], shadow=shadow)]
    stores.legs.put(msgspec.structs.replace(row, ways=ways))
    stores.notes.put(_over(shadow.name), None)


def end_shadow(stores: Stores, row: LegRow) -> LegRow:
    """The leg's row without its shadow, for the caller to put. What it found is gone, its channel is let go of."""
    way = row.ways[-1]
    shadow = way.shadow
    if shadow is None:
        return row
    row = msgspec.structs.replace(row, ways=[*row.ways[:-1], msgspec.structs.replace(way, shadow=None)])
    for note in stores.notes.starting(_found(shadow.name)):
        stores.notes.put(note, None)
    if shadow.shares:
        stores.channels.forget(shadow.way.channel, shadow.name)
        return row
    leave_behind(stores, shadow)
    others = [other for leg in stores.legs.all() for other in _ways(leg) if leg.leg != row.leg]
    if all(other.channel != shadow.way.channel for other in (*row.ways, *others)):
        stores.channels.forget(outbox(shadow.way.channel), "relay")
    return row


def _ways(row: LegRow) -> list[Way]:
    shadow = shadow_of(row)
    return row.ways if shadow is None else [*row.ways, shadow.way]


def outbox(channel: str) -> str:
    """Where batches for a channel of a foreign engine wait for the relay."""
    return f"outbox:{channel}"


class Left(msgspec.Struct, frozen=True):
    """A subscription in an engine elsewhere that belongs to no shadow: not yet, or not any more."""

    name: str
    bus: str
    channel: str
    at: float


def leave_behind(stores: Stores, shadow: Shadow) -> None:
    """Have the subscription forgotten by its engine."""
    left = Left(shadow.name, shadow.way.bus, shadow.way.channel, stores.now())
    stores.notes.put(_over(shadow.name), msgspec.to_builtins(left))


def left_behind(stores: Stores, names: Iterable[str] | None = None) -> list[Left]:
    """Subscriptions that an engine is to forget: those named, or all that nobody else sees to."""
    now = stores.now()
    found = [msgspec.convert(note, Left) for note in stores.notes.starting(_over("")).values()]
    return [left for left in found if (now > left.at + _GRACE if names is None else left.name in set(names))]


def is_left(stores: Stores, name: str) -> bool:
    """Whether a shadow that is to begin may: nobody has had its subscription forgotten meanwhile."""
    return stores.notes.get(_over(name)) is not None


def forgotten(stores: Stores, left: Left) -> None:
    """The engine has forgotten it."""
    stores.notes.put(_over(left.name), None)


def next_name(stores: Stores, leg: str) -> str:
    """The name of a leg's next shadow."""
    note = f"shadow-number/{leg}"
    number = (stores.notes.get(note) or 0) + 1
    stores.notes.put(note, number)
    return f"shadow-{number}:{leg}"


def published(stores: Stores, leg: str, shadow: Shadow, batches: Sequence[Batch]) -> None:
    """Count what has gone on the second way."""
    after = shadow.way.after
    count = sum(len(b.messages) for b in batches if b.to == leg or (not b.to and b.sequence > after))
    if count:
        stores.legs.count(shadow.name, counts={PUBLISHED: count})


# -- what was found ------------------------------------------------------------------------------------


def found_in(stores: Stores, shadow: Shadow, partitions: Iterable[int]) -> dict[int, Found]:
    """What was found in these partitions."""
    return {p: _read(stores.notes.get(f"{_found(shadow.name)}{p}")) for p in partitions}


def keep_found(stores: Stores, shadow: Shadow, found: Mapping[int, Found]) -> None:
    """Keep what was found by now."""
    for partition, one in found.items():
        note = msgspec.to_builtins(one) if one.fields or one.waiting else None
        stores.notes.put(f"{_found(shadow.name)}{partition}", note)


def say_trouble(stores: Stores, shadow: Shadow, trouble: str) -> None:
    """Keep why it stands still, or that it does not."""
    stores.notes.put(f"{_found(shadow.name)}trouble", trouble or None)


def added(found: Found, differences: Iterable[Difference], waiting: Sequence[Waits]) -> tuple[Found, list[Waits]]:
    """Found with these differences, and these waiting in the place of those that did; also those too many."""
    fields = dict(found.fields)
    for one in differences:
        name = one.field if one.field in fields or len(fields) < _FIELDS else OTHER_FIELDS
        known = fields.get(name, FieldFound(0, []))
        example = Example(*(_cut(text) for text in (one.key, one.ours, one.theirs)))
        more = [*known.examples, example] if len(known.examples) < _EXAMPLES else known.examples
        fields[name] = FieldFound(known.count + 1, more)
    return Found(fields, list(waiting[:_MOST_WAITING])), list(waiting[_MOST_WAITING:])


def books(stores: Stores, row: LegRow, shadow: Shadow) -> Books:
    """How a shadow stands."""
    totals = stores.legs.totals(shadow.name)
    found = stores.notes.starting(_found(shadow.name))
    trouble = found.pop(f"{_found(shadow.name)}trouble", "")
    fields: dict[str, FieldFound] = {}
    waiting = 0
    for one in map(_read, found.values()):
        waiting += len(one.waiting)
        for name, here in one.fields.items():
            known = fields.get(name, FieldFound(0, []))
            fields[name] = FieldFound(known.count + here.count, [*known.examples, *here.examples][:_EXAMPLES])
    return Books(
        leg=row.leg,
        to=shadow.to,
        partitions=shadow.way.partitions,
        begun=shadow.begun,
        published=totals.get(PUBLISHED, 0),
        verdicts={verdict: totals[verdict] for verdict in Verdict if totals.get(verdict)},
        by_message=totals.get(BY_MESSAGE, 0),
        waiting=waiting,
        fields=dict(sorted(fields.items(), key=lambda item: -item[1].count)),
        trouble=trouble,
    )


def _read(note: Any) -> Found:
    return msgspec.convert(note, Found) if note else Found()


def _cut(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _found(name: str) -> str:
    return f"shadow-found/{name}/"


def _over(name: str) -> str:
    return f"shadow-over/{name}"
