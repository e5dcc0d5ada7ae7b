"""A flow takes one entity from one system to others: via, robustness, owner. Each target is a leg."""

import math
from collections.abc import Collection, Iterable
from enum import StrEnum

import msgspec


class Robustness(StrEnum):
    """How much a flow must never get wrong."""

    LIVE = "live"
    STANDARD = "standard"
    EXACT = "exact"


class Retries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often and how far apart a failing message is tried again; seconds."""

    first: float = 5.0
    factor: float = 4.0
    longest: float = 6 * 3600.0
    give_up: float = 24 * 3600.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt` + 1 (the first try is attempt 1)."""
        return min(self.longest, self.first * self.factor ** max(0, attempt - 1))

    def most(self) -> int:
        """How many attempts fit into `give_up`."""
        attempts, passed = 1, 0.0
        while passed < self.give_up:
            passed += self.delay(attempts)
            attempts += 1
        return attempts


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a flow leads: a system, and the sink there where it has several for the entity."""

    system: str
    sink: str = ""


class Flow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entity, from one system to others.

    `said_at` is when the file that says so was changed, in seconds since 1970; without a file it is always now.
    """

    name: str
    entity: str
    source: str  # system name
    targets: tuple[Target, ...]
    via: str = "direct"
    source_name: str = ""
    robustness: Robustness = Robustness.STANDARD
    retries: Retries = Retries()
    owner: str = ""
    partitions: int = 4
    labels: tuple[str, ...] = ()
    said_at: float = math.inf


def leg_name(flow: str, target: str) -> str:
    """A leg's name, as shown and kept everywhere: `orders>erp`."""
    return f"{flow}>{target}"


def chosen(
    flows: Iterable[Flow], names: Collection[str] = (), only: Collection[str] = (), without: Collection[str] = ()
) -> set[str]:
    """The names of the flows that a worker runs: none that is labelled `without`.

    Where `names` are given, a flow must be one of them; where labels `only` are, it must have one of them.
    """
    return {
        flow.name
        for flow in flows
        if (not names or flow.name in names)
        and (not only or not set(only).isdisjoint(flow.labels))
        and set(without).isdisjoint(flow.labels)
    }
