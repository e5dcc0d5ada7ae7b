"""Named places where a process may die. No-ops, unless `tieline.testing` arms them."""

from collections.abc import Awaitable, Callable
from enum import StrEnum


class Gap(StrEnum):
    """Every crash point between two commits, named after what has just happened."""

    READ = "a page is read, nothing kept"
    PUBLISHED = "seen, channel and cursor are committed, nobody woken"
    RELAYED = "the engine has the batch, the relay has not moved on"
    TAKEN = "a batch is taken, nothing done"
    PARKED = "failed messages are parked, the target is not committed"
    WRITTEN = "the target's transaction is written, not committed"
    COMMITTED = "the target is committed, the ledger does not know"
    CLAIMED = "the claim is kept, the call not made"
    CALLED = "the call is made, nothing confirmed"
    STEPPED = "a step is taken, nothing confirmed"
    CONFIRMED = "held is confirmed, the position not moved"
    MOVED = "the position is moved, nobody woken"
    SWITCHED = "a leg has its new way, nothing travels on it yet"
    SWEPT = "a sweep is marked, no delete published"


armed: Callable[[Gap], Awaitable[None]] | None = None


async def gap(place: Gap) -> None:
    """Pass a named place."""
    if armed is not None:
        await armed(place)
