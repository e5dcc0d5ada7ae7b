"""What no cursor shows is found by a sweep, also where nobody can list what exists."""

import asyncio
import dataclasses
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import pytest
from tests.runner.cells import books, in_virtual_time, order, run_in_virtual_time, sales
from tests.runner.company import Company, Order

from tieline.connector import Capabilities, Checkpoint, Page
from tieline.connectors import memory
from tieline.connectors.memory import MemoryConnector, Table
from tieline.ledger import SeenRow, SourceState, Stores
from tieline.ledgers.memory import MemoryLedger
from tieline.message import Version
from tieline.runner.plan import build
from tieline.runner.reader import Reader, Room
from tieline.runner.ways import Handover, Publisher
from tieline.testing import Trial

T = TypeVar("T")


def commit_late(company: Company, number: str, total: int) -> None:
    """A row that was stamped long ago, by a transaction that only ends now."""
    order(company, number, total)
    company.scene.store("shop").contents.table("orders").changed[number] = 1


@in_virtual_time
async def test_a_row_that_was_committed_late_is_found_by_the_sweep_of_a_source_that_lists_no_keys() -> None:
    company = Company(orders=Table(id="number", lists_keys=False))
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        order(company, "2", 2)
        trial.start()
        await asyncio.sleep(2)
        commit_late(company, "3", 3)
        await trial.settle()
        assert sales(company) == {"1": (1, ""), "2": (2, ""), "3": (3, "")}


@in_virtual_time
async def test_what_a_source_that_lists_no_keys_does_not_show_is_not_gone() -> None:
    company = Company(orders=Table(id="number", lists_keys=False))
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        trial.start()
        await trial.settle()
        company.scene.store("shop").drop("orders", "1")
        await trial.settle()
        assert sales(company) == {"1": (1, "")}
        assert await books(trial) == (1, {"done": 1}, 0)


def test_a_source_that_shows_nothing_twice_is_never_read_from_the_start_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[Checkpoint] = []
    facts, read = MemoryConnector.capabilities, MemoryConnector.read

    def queue(self: MemoryConnector, resource: str) -> Capabilities:
        return dataclasses.replace(facts(self, resource), keys=False, rereads=False)

    def noted(
        self: MemoryConnector, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        begun.append(since)
        return read(self, resource, since, scope)

    async def check() -> None:
        company = Company()
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape()) as trial:
            order(company, "1", 1)
            worker = trial.start()
            await asyncio.sleep(5)
            await worker.runner.backfill("orders")
            await trial.settle()
            assert len(begun) > 5
            assert [since for since in begun if since is None] == [None]

    monkeypatch.setattr(MemoryConnector, "capabilities", queue)
    monkeypatch.setattr(MemoryConnector, "read", noted)
    run_in_virtual_time(check)


@pytest.mark.parametrize("lookup", [True, False], ids=["asked", "missing twice"])
def test_memory_does_not_grow_with_what_a_sweep_misses(lookup: bool) -> None:
    """Every row of a large table is gone: they are walked through, never held all at once."""
    sizes = (5_000, 50_000)
    small, large = (_peak_of_sweep(missing, Table(id="number", lookup=lookup)) for missing in sizes)
    assert large < 1.5 * small


def _peak_of_sweep(missing: int, table: Table) -> int:
    """The most bytes that a reader takes to publish so many deletes."""

    async def check() -> int:
        company = Company(orders=table)
        company.scene.flow(Order, "shop", "erp")
        landscape = company.scene.landscape()
        systems = landscape.systems.values()
        (plan,) = build(landscape, {one.name: one.adapter.connector.open(one.settings) for one in systems})
        ledger = MemoryLedger()
        reader = Reader(plan, ledger, Publisher({}, Handover()), _room_in(ledger))
        sweeping = SourceState(counter=1, cursor=0, mapping=1)

        def prepare(stores: Stores) -> int:
            for start in range(0, missing, 1_000):
                stores.seen.put(plan.name, [_seen(f"{number:06}") for number in range(start, start + 1_000)])
            stores.sources.put(plan.name, sweeping)
            stores.leases.beat("w", 600)
            return stores.leases.acquire([reader.lease], "w")[reader.lease]

        token = await ledger.transact(prepare)
        if not table.lookup:
            await reader.run(token)
            await ledger.transact(lambda s: s.sources.put(plan.name, sweeping))
        tracemalloc.start()
        try:
            summary = await reader.run(token)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await ledger.close()
        assert summary.messages == missing
        return peak

    memory.forget()
    return asyncio.run(check())


def _seen(key: str) -> SeenRow:
    return SeenRow(key, key, Version(1, 1), b"i" * 16, b"r" * 16, b"e" * 16)


def _room_in(ledger: MemoryLedger) -> Room:
    """There is always room."""

    async def room(source: str, sequence: int, look: Callable[[Stores], T]) -> T:
        return await ledger.transact(look)

    return room
