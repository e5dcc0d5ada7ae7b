"""What every leg has before it, from a few queries over all legs at once; nothing is asked of buses or systems.

For who looks often, at thousands of legs: a scraper, an autoscaler. `landscape.status` looks closer, leg by leg.
"""

from collections.abc import Mapping

import msgspec

from tieline.ledger import LegRow, SourceState, Stores
from tieline.message import HEAD, Reason, made_at


class LegBacklog(msgspec.Struct, frozen=True, kw_only=True):
    """One leg. `in_flight` is what the books have left: in, less what came to an outcome or is parked.

    `lag` is the age in seconds of the oldest batch under way, None where it is in an engine elsewhere.
    """

    leg: str
    flow: str
    source: str
    target: str
    way: str
    entered: int = 0
    outcomes: dict[str, int] = {}
    parked: dict[Reason, int] = {}
    in_flight: int = 0
    lag: float | None = 0.0
    paused: str = ""


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """All legs, retired ones too, and all sources, at one moment by the ledger's clock."""

    at: float
    legs: list[LegBacklog]
    sources: dict[str, SourceState]
    workers: list[str]

    @property
    def in_flight(self) -> int:
        """Messages under way on all legs together."""
        return sum(leg.in_flight for leg in self.legs)


def backlog(stores: Stores) -> Backlog:
    """What is before every leg the ledger knows."""
    rows, totals, parked = stores.legs.all(), stores.legs.all_totals(), stores.parked.all_counts()
    left = {row.leg: _left(row, totals, parked) for row in rows}
    heads = stores.legs.ahead([leg for leg, count in left.items() if count], HEAD)
    now = stores.now()
    legs = [
        LegBacklog(
            leg=row.leg,
            flow=row.flow,
            source=row.source,
            target=row.target,
            way=row.ways[-1].bus,
            entered=row.entered,
            outcomes=totals.get(row.leg, {}),
            parked=parked.get(row.leg, {}),
            in_flight=left[row.leg],
            lag=_lag(heads.get(row.leg, []), now) if left[row.leg] else 0.0,
            paused=row.paused,
        )
        for row in rows
    ]
    holders = stores.leases.holders()
    workers = sorted({owner for name, owner in holders.items() if name.startswith("worker:")})
    return Backlog(at=now, legs=legs, sources=stores.sources.all(), workers=workers)


def _left(row: LegRow, totals: Mapping[str, Mapping[str, int]], parked: Mapping[str, Mapping[Reason, int]]) -> int:
    settled = sum(totals.get(row.leg, {}).values()) + sum(parked.get(row.leg, {}).values())
    # Messages on their way may be parked a moment before their leg moves past them.
    return max(0, row.entered - settled)


def _lag(heads: list[bytes], now: float) -> float | None:
    times = [made for head in heads if (made := made_at(head)) is not None]
    return max(0.0, now - min(times)) if times else None
