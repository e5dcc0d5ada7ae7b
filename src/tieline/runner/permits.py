"""How workers divide a system's limits among them; pure, so that it can be tried out in virtual time.

Calls a second are slots on the ledger's clock: each is given to one worker, which may use it when its time has
come and not much later. Slots that passed unused are nobody's. Calls at the same time are places, which a worker
holds until it has said that it holds fewer; so their sum is never more than there are, and nothing is taken
from anybody who does not know it yet.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any, Final

import msgspec

from tieline.settings import Limits

HORIZON: Final = 1.5  # seconds that a grant reaches ahead, at least; who asks no more counts for no more after it
ROTATION: Final = 3.0  # seconds for which a place goes to one of more workers than there are places
_NEAR: Final = 0.5  # seconds ahead in which a slot that nobody has is for whoever needs it
_SLOT: Final = 0.01  # seconds, the shortest slot
_SLOTS: Final = 3  # that a grant reaches ahead at least


class Member(msgspec.Struct, frozen=True):
    """A worker that calls the system: until when its word counts, what it wants, and the places it holds."""

    until: float
    slots: int = 0
    places: int = 0
    holds: int = 0


class Division(msgspec.Struct, frozen=True):
    """What the ledger keeps of one system: the slots ahead that are given, and who calls it."""

    given: list[int] = []
    members: dict[str, Member] = {}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a worker wants until the horizon; `has` are slots it has ahead, `holds` the places it keeps."""

    slots: int = 0
    has: int = 0
    places: int = 0
    holds: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """What a worker gets: when calls may begin, by the ledger's clock, and its places.

    `at` is when it was given, `until` when it ends. With `aim` below `holds` others wait for places of it.
    """

    at: float
    until: float
    slots: list[float] = field(default_factory=list)
    holds: int = 0
    aim: int = 0


@dataclass(frozen=True, slots=True)
class Grid:
    """The slots of a system: how long one is, in seconds, and how many calls may begin in it."""

    length: float
    calls: int

    @classmethod
    def of(cls, limits: Limits) -> "Grid | None":
        """None where there is no limit per second."""
        if limits.per_second <= 0:
            return None
        calls = ceil(limits.per_second * _SLOT)
        return cls(calls / limits.per_second, calls)

    @property
    def ahead(self) -> int:
        """Slots that a grant reaches ahead."""
        return max(_SLOTS, ceil(HORIZON / self.length))


def horizon(limits: Limits) -> float:
    """Seconds that a grant lasts."""
    grid = Grid.of(limits)
    return HORIZON if grid is None else max(HORIZON, grid.ahead * grid.length)


def ask(
    kept: Any,
    limits: Limits,
    timeout: float,
    worker: str,
    wish: Wish | None,
    now: float,
    living: Container[str] = (),
) -> tuple[Any, Grant]:
    """What the ledger is to keep from now on, and what this worker gets; without a wish it leaves.

    `timeout` is how long a call may last, in seconds: as long the places of a worker that fell silent are its own,
    unless it is not among the `living`: then its leases have passed, and its places with them.
    """
    before = msgspec.convert(kept, Division) if kept else Division()
    until = now + horizon(limits)
    # A clock that was set back leaves times behind that nobody should wait for.
    members = {
        name: msgspec.structs.replace(member, until=min(member.until, until))
        for name, member in before.members.items()
        if min(member.until, until) + (timeout if member.holds and name in living else 0.0) > now
    }
    if wish is None:
        members.pop(worker, None)
        return msgspec.to_builtins(Division(before.given, members)), Grant(now, until)
    # Who was silent for too long holds nothing any more, whatever it thinks.
    own = members[worker].holds if worker in members else 0
    members[worker] = Member(until, wish.slots, wish.places, min(own, wish.holds))
    alive = {name: member for name, member in members.items() if member.until > now}
    holds, aim = _places(limits.at_once, members, alive, worker, now)
    members[worker] = Member(until, wish.slots, wish.places, holds)
    given, starts = _slots(Grid.of(limits), before.given, alive, worker, wish, now)
    return msgspec.to_builtins(Division(given, members)), Grant(now, until, starts, holds, aim)


def _places(
    most: int, members: Mapping[str, Member], alive: Mapping[str, Member], worker: str, now: float
) -> tuple[int, int]:
    """How many places the worker holds from now on, and how many it should."""
    holds = members[worker].holds
    wants = {name: member.places for name, member in alive.items()}
    names = sorted(wants)
    if len(names) > most:
        # Some get none: in turn.
        turn = floor(now / ROTATION) * most % len(names)
        names = names[turn:] + names[:turn]
    else:
        names.sort(key=lambda name: -members[name].holds)
    aim = divide(most, {name: wants[name] for name in names})[worker]
    free = most - sum(member.holds for member in members.values())
    return holds + max(0, min(free, aim - holds)), aim


def _slots(
    grid: Grid | None, given: list[int], alive: Mapping[str, Member], worker: str, wish: Wish, now: float
) -> tuple[list[int], list[float]]:
    """The slots that are given from now on, and the times of those that this worker gets now."""
    if grid is None:
        return [], []
    first = floor(now / grid.length) + 1
    ahead = range(first, first + grid.ahead)
    taken = {slot for slot in given if slot in ahead}
    free = [slot for slot in ahead if slot not in taken]
    near = [slot for slot in free if slot * grid.length <= now + _NEAR]
    share = divide(grid.ahead, {name: member.slots for name, member in sorted(alive.items())})[worker]
    # What nobody took until it is near would pass unused.
    wanted = near[: max(0, wish.slots - wish.has)]
    rest = [slot for slot in free if slot not in set(wanted)]
    wanted += _spread(rest, share - wish.has - len(wanted))
    starts = sorted(slot * grid.length for slot in wanted for _ in range(grid.calls))
    return sorted(taken.union(wanted)), starts


def _spread(slots: list[int], number: int) -> list[int]:
    """So many of these, evenly."""
    if number >= len(slots):
        return slots
    return [slots[place * len(slots) // number] for place in range(max(0, number))]


def divide(total: int, wants: Mapping[str, int]) -> dict[str, int]:
    """Each what it wants, and an equal part of what is left; where there is too little, nobody more than others.

    What cannot be divided goes to those who come first.
    """
    shares = dict.fromkeys(wants, 0)
    left, open_ = total, dict(wants)
    while open_:
        part = left // len(open_)
        content = {name: want for name, want in open_.items() if want <= part}
        if not content:
            break
        for name, want in content.items():
            shares[name] = want
            left -= want
            del open_[name]
    among = list(open_ or wants)
    for place, name in enumerate(among):
        shares[name] += left // len(among) + (place < left % len(among))
    return shares
