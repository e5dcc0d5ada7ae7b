"""Moving a flow to another way while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from tieline.bus import Bus
from tieline.connector import LegState
from tieline.flow import Flow
from tieline.ledger import Ledger, Stores, Way
from tieline.runner.moves import Move, ask_move, keep_move, unask_move
from tieline.runner.plan import LegPlan, SourcePlan
from tieline.runner.shadows import outbox
from tieline.runner.ways import Handover, Publisher, known_bus, reach_way, settle_ways, wished_way


async def reach(ledger: Ledger, buses: Mapping[str, Bus], plans: Sequence[SourcePlan], move: Move) -> None:
    """See that a move's new way is there and does for the flow; nothing changes for anybody.

    What it makes there is kept until the move begins, for `take_back`.

    Raises:
        ConfigurationError: where it does not do.
        Unavailable: where its engine cannot be reached.
    """
    publisher = Publisher(buses, Handover())
    await ledger.transact(lambda stores: ask_move(stores, move))
    for leg in [leg for plan in plans for leg in _legs(plan, move)]:
        await reach_way(ledger, buses, publisher, leg, _moved(leg, move))


async def take_back(ledger: Ledger, buses: Mapping[str, Bus], plans: Sequence[SourcePlan], move: Move) -> None:
    """Undo what was made for a move that never began: subscriptions in an engine, which nobody would empty.

    Raises:
        Unavailable: where the engine cannot be reached.
    """
    for leg in [leg for plan in plans for leg in _legs(plan, move)]:
        way = wished_way(leg, _moved(leg, move))
        row = await ledger.transact(lambda stores, leg=leg: stores.legs.get(leg.name))  # type: ignore[misc]
        bus = known_bus(buses, way.bus)
        goes = row is not None and any(one.channel == way.channel for one in row.ways)
        if bus is not None and not goes and not bus.capabilities.shares_ledger:
            await bus.forget(way.channel, leg.name)
    await ledger.transact(lambda stores: unask_move(stores, move.flow))


def _moved(leg: LegPlan, move: Move) -> Flow:
    return msgspec.structs.replace(leg.flow, via=move.to, partitions=move.partitions)


async def begin(ledger: Ledger, buses: Mapping[str, Bus], plans: Sequence[SourcePlan], move: Move) -> list[str]:
    """Change a flow's ways, which were reached, in one commit; gives a line for each leg that changes.

    Begun again, it does nothing.
    """
    own = [replace(plan, legs=legs) for plan in plans if (legs := _legs(plan, move))]

    def work(stores: Stores) -> list[str]:
        keep_move(stores, msgspec.structs.replace(move, at=stores.now()))
        return settle_ways(stores, own, Publisher(buses, Handover()))

    return await ledger.transact(work)


def _legs(plan: SourcePlan, move: Move) -> list[LegPlan]:
    return [leg for leg in plan.legs if leg.flow.name == move.flow]


async def under_way(ledger: Ledger, buses: Mapping[str, Bus], flow: str) -> dict[str, int]:
    """The legs of a flow that still empty an older way, each with the messages that are left on it."""
    rows = await ledger.transact(lambda s: [row for row in s.legs.all() if row.flow == flow and len(row.ways) > 1])
    return {row.leg: sum([await left_on(ledger, buses, row.leg, way) for way in row.ways[:-1]]) for row in rows}


async def left_on(ledger: Ledger, buses: Mapping[str, Bus], leg: str, way: Way) -> int:
    """How many messages a leg, or a shadow, has not taken from a way; at least 1 where the engine cannot count."""

    def look(stores: Stores) -> tuple[dict[int, int], int]:
        states = stores.legs.states(leg, way.channel)
        relay = stores.legs.states(f"relay:{way.channel}", outbox(way.channel))
        box = {0: relay.get(0, LegState()).position}
        waiting = stores.channels.depth(outbox(way.channel), box)
        return {p: states.get(p, LegState()).position for p in range(way.partitions)}, waiting

    positions, waiting = await ledger.transact(look)
    return waiting + await buses[way.bus].depth(way.channel, positions)
