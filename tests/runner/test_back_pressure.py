"""A slow target slows its own subscription; the source waits only where all of them are behind."""

import asyncio

import pytest

from tieline.adapter import Adapter
from tieline.connectors.memory import Table
from tieline.entity import Entity
from tieline.message import MAX_MESSAGES
from tieline.runner.ways import Handover
from tieline.testing import Scene, Trial, clock

SLOW = 4.0  # seconds that a slow target takes for a batch
BATCHES = 30


class Order(Entity, key="number"):
    number: str
    version: int


def scene(via: str) -> Scene:
    """Orders go from a shop to two systems; a page of the shop is a batch."""
    made = Scene(every=0.5, sweep=60)
    shop = made.system("shop", orders=Table(id="number", page=50))
    shop.source(Order, "orders")(lambda record: Order(number=record["number"], version=record["version"]))
    for name in ("fast", "slow"):
        _sink(made.system(name, orders=Table(id="number")))
    made.flow(Order, "shop", "fast", "slow", via=via)
    return made


def _sink(adapter: Adapter) -> None:
    @adapter.sink(Order, "orders")
    def order(order: Order) -> dict[str, object]:
        return {"number": order.number, "version": order.version}


def fill(made: Scene) -> None:
    for n in range(50 * BATCHES):
        made.store("shop").put("orders", {"number": f"{n:05}", "version": 1}, id="number")


def slowness(*slow: str):
    """Each commit of these systems takes its time."""
    return lambda worker, place: SLOW if place in {f"{name}.commit" for name in slow} else 0.0


async def behind(trial: Trial, leg: str) -> tuple[int, int]:
    """How many batches the source has kept, and how many of them the leg has not passed in its last partition."""

    def look(stores):
        row = stores.legs.get(leg)
        kept = max(state.sequence for state in stores.sources.all().values())
        states = stores.legs.states(leg, row.ways[-1].channel).values()
        return kept, kept - max((state.sequence for state in states), default=0)

    return await trial.look(look)


@pytest.mark.parametrize("via", ["direct", "bus"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_slow_target_slows_neither_the_source_nor_the_other_target(via: str, workers: int) -> None:
    """While one has hardly begun, the source is read to its end and the other has all; at last both have."""

    async def main() -> None:
        made = scene(via)
        fill(made)
        async with Trial(made.landscape(), faults=slowness("slow")) as trial:
            for _ in range(workers):
                trial.start()
            for _ in range(200):
                await asyncio.sleep(0.1)
                if len(made.store("fast").rows("orders")) == 50 * BATCHES:
                    break
            assert len(made.store("fast").rows("orders")) == 50 * BATCHES, "the slow one slows the fast one"
            assert asyncio.get_running_loop().time() < BATCHES * SLOW / 8
            assert len(made.store("slow").rows("orders")) <= MAX_MESSAGES
            assert await behind(trial, "orders>fast") == (BATCHES, 0)
            await trial.settle()
            assert len(made.store("slow").rows("orders")) == 50 * BATCHES

    clock.run(main())


@pytest.mark.parametrize("via", ["direct", "bus"])
def test_where_all_targets_are_behind_the_source_waits_for_the_fastest(via: str) -> None:
    """It keeps no more batches ahead of it than a worker has in memory."""

    async def main() -> None:
        made = scene(via)
        fill(made)
        most = 0
        async with Trial(made.landscape(), faults=slowness("slow", "fast")) as trial:
            trial.start()
            for _ in range(200):
                await asyncio.sleep(0.1)
                kept, _ = await behind(trial, "orders>slow")
                ahead = min([(await behind(trial, leg))[1] for leg in ("orders>fast", "orders>slow")])
                most = max(most, ahead)
            assert kept < BATCHES, "the source did not wait"
            assert most <= Handover().most + 1
            await trial.settle()
            assert len(made.store("slow").rows("orders")) == 50 * BATCHES

    clock.run(main())


@pytest.mark.parametrize("via", ["direct", "bus"])
def test_what_a_slow_target_has_not_taken_is_not_in_memory(via: str) -> None:
    """A worker remembers a few batches of each partition, however many wait."""

    async def main() -> None:
        made = scene(via)
        fill(made)
        async with Trial(made.landscape(), faults=slowness("slow")) as trial:
            worker = trial.start()
            while len(made.store("fast").rows("orders")) < 50 * BATCHES:
                await asyncio.sleep(0.1)
            recent = worker.runner._handover._recent
            assert recent
            assert all(len(batches) <= Handover().most for batches in recent.values())
            assert len(recent) <= 2

    clock.run(main())
