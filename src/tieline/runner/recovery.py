"""Going on from an older ledger, which was put back from a back-up.

Since the back-up the lost ledger gave numbers, versions and tokens, and targets and buses have met
them. So all of these begin above whatever can have been given until now, by the clock; what the
sources show is read again and given anew; and what targets were given meanwhile is asked of them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import structlog

from tieline.bus import Bus
from tieline.connector import LegState
from tieline.errors import AccessRefused, ConfigurationError, Unavailable
from tieline.ledger import NOT_BEGUN, Ledger, LegRow, SourceState, Stores, Way
from tieline.runner.epoch import Recovery, ask_to_read_again, begin_epoch, last_recovery
from tieline.runner.plan import LegPlan, SourcePlan
from tieline.runner.shadows import end_shadow
from tieline.runner.transactional import fence_name, is_published
from tieline.runner.ways import DIRECT, RETIRED, wished_way

log = structlog.get_logger()

_MICROSECONDS: Final = 1_000_000
_PATIENCE: Final = 5.0  # seconds for looking; what has not answered by then shows nothing
_HIGHEST: Final = 1 << 62  # no token is as high

Places = Mapping[tuple[str, str], Mapping[int, int]]
"""Positions by leg and channel."""


async def recover(ledger: Ledger, buses: Mapping[str, Bus], plans: Sequence[SourcePlan]) -> Recovery:
    """Make a ledger that was put back from a back-up one to go on from, in one commit.

    No worker may run. Doing it again changes nothing but that everything is read once more.
    """
    places = await _places_elsewhere(ledger, buses)
    return await ledger.transact(lambda stores: _recover(stores, places, plans))


async def _places_elsewhere(ledger: Ledger, buses: Mapping[str, Bus]) -> Places:
    """From where on legs take in buses that are not in the ledger's store: they may have let go of what follows.

    Such a bus may have been put back as well, and be the older one of the two.
    """
    rows = await ledger.transact(lambda stores: stores.legs.all())
    found: dict[tuple[str, str], dict[int, int]] = {}
    for row in rows:
        for way in row.ways:
            if _is_elsewhere(way, buses):
                known = await ledger.transact(partial(_positions, leg=row.leg, channel=way.channel))
                found[row.leg, way.channel] = await _taken_from(buses[way.bus], row.leg, way.channel, known)
    return found


def _positions(stores: Stores, leg: str, channel: str) -> dict[int, int]:
    return {partition: state.position for partition, state in stores.legs.states(leg, channel).items()}


async def _taken_from(bus: Bus, leg: str, channel: str, known: Mapping[int, int]) -> dict[int, int]:
    ends = await bus.ends(channel)
    found: dict[int, int] = {}
    for partition, position in known.items():
        end = ends.get(partition, 0)
        after = {partition: position}
        try:
            kept = position < end and await bus.take(channel, after, most=1, wait=0.0, subscription=leg)
        except ConfigurationError:  # the channel was made anew: nothing of it was taken yet
            found[partition] = 0
        else:
            found[partition] = position if kept else end
    return found


def _is_elsewhere(way: Way, buses: Mapping[str, Bus]) -> bool:
    return way.bus != DIRECT and way.bus in buses and not buses[way.bus].capabilities.shares_ledger


def _recover(stores: Stores, places: Places, plans: Sequence[SourcePlan]) -> Recovery:
    now = stores.now()
    beginning = int(now * _MICROSECONDS)
    sources = {plan.name: SourceState() for plan in plans} | stores.sources.all()
    epoch = max([int(now), *(state.epoch + 1 for state in sources.values())])
    legs = [row for row in stores.legs.all() if row.paused != RETIRED]
    for row in legs:
        last = sources.get(row.source, SourceState()).sequence
        _part_ways(stores, row, last, max(last, beginning), places)
    for name, state in sources.items():
        sequence = max(state.sequence, beginning)
        stores.sources.put(name, msgspec.structs.replace(state, epoch=epoch, sequence=sequence, swept_at=0.0))
        ask_to_read_again(stores, name)
    stores.leases.begin_at(beginning)
    names = {row.leg for row in legs} | {leg.name for plan in plans for leg in plan.legs}
    recovery = Recovery(epoch, beginning, now, sorted(names))
    begin_epoch(stores, recovery)
    return recovery


def _part_ways(stores: Stores, row: LegRow, last: int, beginning: int, places: Places) -> None:
    """What was published until now goes its way to the end; what comes next is behind all that can have been."""
    elsewhere = {way.channel: places[row.leg, way.channel] for way in row.ways if (row.leg, way.channel) in places}
    for channel, positions in elsewhere.items():
        states = stores.legs.states(row.leg, channel)
        moved = {p: msgspec.structs.replace(states[p], position=position) for p, position in positions.items()}
        stores.legs.move(row.leg, channel, moved)
    row = end_shadow(stores, row)
    *earlier, way = row.ways
    if way.after != NOT_BEGUN:
        until = msgspec.structs.replace(way, until=last, entered=row.entered if elsewhere else 0)
        ways = [*earlier, until, msgspec.structs.replace(way, after=beginning)]
        stores.legs.put(msgspec.structs.replace(row, ways=ways))


# -- what tells that a ledger is an older one ----------------------------------------------------------


async def strangers(ledger: Ledger, buses: Mapping[str, Bus], plans: Sequence[SourcePlan]) -> dict[str, str]:
    """The legs of which a target or bus shows that the ledger is an older one, and how.

    Nothing is changed there. What cannot be reached shows nothing.
    """
    looks = {leg.name: asyncio.create_task(_stranger(ledger, buses, leg)) for plan in plans for leg in plan.legs}
    if looks:
        await asyncio.wait(looks.values(), timeout=_PATIENCE)
    return {leg: what for leg, look in looks.items() if look.done() and (what := look.result())}


async def _stranger(ledger: Ledger, buses: Mapping[str, Bus], leg: LegPlan) -> str:
    row, recovery = await ledger.transact(lambda stores: (stores.legs.get(leg.name), last_recovery(stores)))
    way = row.ways[0] if row is not None else wished_way(leg)
    lost = -1 if recovery is None else recovery.token
    stands = partial(_positions, leg=leg.name, channel=way.channel)
    before = await ledger.transact(stands)
    what = ""
    try:
        if leg.commits and await _target_is_ahead(ledger, buses[way.bus], leg, way, lost):
            what = f"{leg.target} has taken what this ledger has not given"
        elif _is_elsewhere(way, buses) and await _bus_is_ahead(ledger, buses[way.bus], leg, way):
            what = f"bus {way.bus} has passed what this ledger knows"
    except (Unavailable, AccessRefused, ConfigurationError) as error:
        log.info("cannot be asked", leg=leg.name, reason=str(error))
    # Where somebody is at work, things move while they are looked at; whoever is at work has looked already.
    return what if await ledger.transact(stands) == before else ""


async def _target_is_ahead(ledger: Ledger, bus: Bus, leg: LegPlan, way: Way, lost: int) -> bool:
    found = await _fence_rows(leg, way)
    known = await ledger.transact(lambda stores: stores.legs.states(leg.name, way.channel))
    ahead = [
        (p, state)
        for p, state in found.items()
        if state.token > lost and state.position > known.get(p, LegState()).position
    ]
    return not all([await is_published(bus, leg.name, way.channel, p, state) for p, state in ahead])


async def _fence_rows(leg: LegPlan, way: Way) -> dict[int, LegState]:
    """How far a target that commits by itself says the leg is; undone, so that nothing is left behind."""
    assert leg.connector is not None
    found: dict[int, LegState] = {}
    with suppress(_Undone):
        async with leg.connector.transaction() as tx:
            found = await tx.fence(fence_name(leg, way.channel), dict.fromkeys(range(way.partitions), _HIGHEST))
            raise _Undone
    return found


class _Undone(Exception):
    """Rolls a transaction back that was only for looking."""


async def _bus_is_ahead(ledger: Ledger, bus: Bus, leg: LegPlan, way: Way) -> bool:
    """Whether it has let go of what the leg has not taken, or keeps a number that was not given."""
    ends = await bus.ends(way.channel)
    known, published = await ledger.transact(
        lambda stores: (
            stores.legs.states(leg.name, way.channel),
            stores.sources.get(leg.source.name).sequence,
        )
    )
    for partition, end in ends.items():
        position = known.get(partition, LegState()).position
        if end > position:
            last = await bus.take(way.channel, {partition: end - 1}, most=1, wait=0.0, subscription=leg.name)
            if not last or last[0].batch.sequence > published:
                return True
    return False
