"""A shadow is begun, looked at and dropped, while the flow runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from tieline.bus import Bus
from tieline.errors import ConfigurationError, Mistake, RetryLater
from tieline.flow import Flow
from tieline.ledger import NOT_BEGUN, Ledger, LegRow, Shadow, Stores
from tieline.runner.moves import WAYS
from tieline.runner.moving import left_on
from tieline.runner.plan import LegPlan, SourcePlan
from tieline.runner.shadows import (
    Books,
    begin_shadow,
    books,
    end_shadow,
    is_left,
    leave_behind,
    next_name,
    shadow_of,
)
from tieline.runner.ways import RETIRED, Handover, Publisher, begins_now, reach_way, wished_way


@dataclass(frozen=True, slots=True)
class Second:
    """The second way of a flow, in words of the project file."""

    flow: str
    to: str
    partitions: int


async def cast(ledger: Ledger, buses: Mapping[str, Bus], plans: Sequence[SourcePlan], second: Second) -> list[str]:
    """Begin a shadow of each leg of a flow; gives the legs of which one begins. One that is there goes on.

    Raises:
        ConfigurationError: where a leg cannot have one, or the second way does not do for the flow.
        Unavailable: where its engine cannot be reached.
        RetryLater: where reaching it took so long that somebody else has tidied up.
    """
    publisher = Publisher(buses, Handover())
    legs = [leg for plan in plans for leg in plan.legs if leg.flow.name == second.flow]
    begun: list[str] = []
    for leg in legs:
        planned = await ledger.transact(lambda s, leg=leg: _plan(s, leg, second, publisher))  # type: ignore[misc]
        if planned is None:
            continue
        flow = _moved(leg, second)
        await reach_way(ledger, buses, publisher, leg, flow, subscription=planned.name)
        await ledger.transact(lambda s, leg=leg, planned=planned: _begin(s, leg, planned))  # type: ignore[misc]
        begun.append(leg.name)
    return begun


def _moved(leg: LegPlan, second: Second) -> Flow:
    return msgspec.structs.replace(leg.flow, via=second.to, partitions=second.partitions)


def _plan(stores: Stores, leg: LegPlan, second: Second, publisher: Publisher) -> Shadow | None:
    """The shadow to begin, None where it is there. Its subscription is to be forgotten, should nothing come of it."""
    row = stores.legs.get(leg.name)
    way = wished_way(leg, _moved(leg, second))
    if row is None or row.paused == RETIRED or row.ways[-1].after == NOT_BEGUN:
        what = "has not begun: there is nothing to compare with"
        raise ConfigurationError(Mistake(f"flow {leg.flow.name}", f"{leg.name} {what}", "let it run first"))
    if row.ways[-1].channel == way.channel:
        what = f"{leg.name} goes that way already"
        raise ConfigurationError(Mistake(f"flow {leg.flow.name}", what, "name another way for --to"))
    there = shadow_of(row)
    if there is not None and there.way.channel == way.channel:
        return None
    shares = publisher.shares(way.bus)
    name = next_name(stores, leg.name)
    shadow = Shadow(name=name, flow=leg.flow.name, to=second.to, way=way, shares=shares, begun=stores.now())
    if not shares:
        leave_behind(stores, shadow)
    return shadow


def _begin(stores: Stores, leg: LegPlan, planned: Shadow) -> None:
    """In one commit: the one before is over, and from the next batch on this one's channel gets everything."""
    row = stores.legs.get(leg.name)
    if row is None or (not planned.shares and not is_left(stores, planned.name)):
        raise RetryLater(f"{leg.name}: the second way took too long to reach; try again")
    if row.ways[-1].channel == planned.way.channel:
        raise RetryLater(f"{leg.name} was moved there meanwhile")
    way = begins_now(stores, leg.source.name, planned.name, planned.way, planned.shares)
    begin_shadow(stores, end_shadow(stores, row), msgspec.structs.replace(planned, way=way))
    stores.notify(WAYS)


async def drop(ledger: Ledger, flow: str) -> None:
    """End a flow's shadows. Their engines are to forget them; a worker sees to it, if nobody does."""

    def work(stores: Stores) -> None:
        for row, _ in _of(stores, flow):
            stores.legs.put(end_shadow(stores, row))
        stores.notify(WAYS)

    await ledger.transact(work)


def shadows_of_flow(stores: Stores, flow: str) -> list[Shadow]:
    """The shadows of a flow's legs."""
    return [shadow for _, shadow in _of(stores, flow)]


def _of(stores: Stores, flow: str) -> list[tuple[LegRow, Shadow]]:
    return [(row, shadow) for row in stores.legs.all() if row.flow == flow and (shadow := shadow_of(row)) is not None]


@dataclass(frozen=True, slots=True)
class Sight:
    """A shadow's books, and how many messages are still to be taken from its way."""

    books: Books
    under_way: int


async def sight(ledger: Ledger, buses: Mapping[str, Bus], flow: str) -> list[Sight]:
    """How a flow's shadows stand."""
    found = await ledger.transact(lambda s: _of(s, flow))
    depths = {shadow.name: await left_on(ledger, buses, shadow.name, shadow.way) for _, shadow in found}
    kept = await ledger.transact(lambda s: [(shadow.name, books(s, row, shadow)) for row, shadow in _of(s, flow)])
    return [Sight(one, depths[name]) for name, one in kept if name in depths]
