"""A flow is moved while its worker runs: it goes on, and the ledger keeps the move until the file says so."""

import asyncio

import pytest
from tests.runner.cells import books, in_virtual_time, order, pay, receipts, sales
from tests.runner.company import Company, Order, Payment

from tieline.errors import ConfigurationError, Unavailable
from tieline.runner.moves import move_of
from tieline.testing import Trial, Worker

WAYS = ["direct", "bus", "far"]


async def ways(trial: Trial, leg: str = "orders>erp") -> list[str]:
    """The buses of a leg's ways, the present one first."""
    row = await trial.look(lambda s: s.legs.get(leg))
    assert row is not None
    return [way.bus for way in row.ways]


@pytest.mark.parametrize("last", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_a_running_worker_follows(first: str, last: str) -> None:
    @in_virtual_time
    async def check() -> None:
        company = Company()
        company.scene.flow(Order, "shop", "erp", via=first)
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            trial.start()
            for turn in range(1, 40):
                order(company, str(turn % 7), turn)
                if turn == 20:
                    await trial.move("orders", last, partitions=3)
                await asyncio.sleep(0.3)
            await trial.settle()
            assert await ways(trial) == ["main" if last == "bus" else last]
            assert sales(company) == {str(n): (n + 35 if n + 35 < 40 else n + 28, "") for n in range(7)}
            entered, _, waiting = await books(trial)
            assert (entered > 20, waiting) == (True, 0)

    check()


@in_virtual_time
async def test_what_is_under_way_on_the_old_way_arrives_first() -> None:
    """Also where the target is down while the flow is moved; payments come in their order."""
    company = Company()
    company.scene.flow(Payment, "shop", "bi", via="far")
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        pay(company, 1)
        await trial.settle()
        company.scene.store("bi").failure = Unavailable("down")
        for number in range(2, 6):
            pay(company, number)
        await asyncio.sleep(5)
        await trial.move("payments", "direct")
        pay(company, 6)
        await asyncio.sleep(5)
        assert await ways(trial, "payments>bi") == ["far", "direct"]
        company.scene.store("bi").failure = None
        await trial.settle()
        assert await ways(trial, "payments>bi") == ["direct"]
        assert receipts(company, "bi") == [f"p{number}" for number in range(1, 7)]


@in_virtual_time
async def test_a_worker_with_the_older_file_goes_on_with_a_move() -> None:
    """What the file says counts again when it has said the same."""
    company = Company()
    company.scene.flow(Order, "shop", "erp", via="direct")
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        order(company, "1", 1)
        await trial.once()
        await trial.move("orders", "far")
        await trial.once()
        assert await ways(trial) == ["far"]
        company.scene.change("orders", via="far")
        trial.landscape = company.scene.landscape()
        await trial.once()
        move = await trial.look(lambda s: move_of(s, "orders"))
        assert move is not None
        assert move.written
        company.scene.change("orders", via="bus")
        trial.landscape = company.scene.landscape()
        await trial.once()
        assert await ways(trial) == ["main"]


@in_virtual_time
async def test_moved_back_in_the_moment_in_which_a_leg_leaves_the_old_way_it_keeps_its_channel() -> None:
    """Its engine is not told to forget what the flow goes again."""
    company = Company()
    company.scene.flow(Order, "shop", "erp", via="far")

    def slowly(worker: Worker, place: str) -> float:
        return 5.0 if place == "SWITCHED" else 0.0

    async with Trial(company.scene.landscape(), foreign=["far"], faults=slowly) as trial:
        trial.start()
        order(company, "1", 1)
        await trial.settle()
        await trial.move("orders", "direct")
        await asyncio.sleep(3)
        assert await ways(trial) == ["far", "direct"]
        await trial.move("orders", "far")
        order(company, "1", 2)
        await trial.settle()
        assert sales(company) == {"1": (2, "")}


@in_virtual_time
async def test_a_file_that_is_older_than_a_move_never_counts() -> None:
    """Not even when the file has been written: a worker may have read it just before, or have one of its own."""
    company = Company()
    company.scene.flow(Order, "shop", "erp", via="direct")
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        order(company, "1", 1)
        await trial.once()
        await trial.move("orders", "far")
        company.scene.change("orders", via="far")
        trial.landscape = company.scene.landscape()
        await trial.once()
        move = await trial.look(lambda s: move_of(s, "orders"))
        assert move is not None
        assert move.written
        for said_at, expected in ((move.at - 1, "far"), (move.at + 1, "direct")):
            company.scene.change("orders", via="direct", said_at=said_at)
            trial.landscape = company.scene.landscape()
            await trial.once()
            assert (await ways(trial))[-1] == expected


@in_virtual_time
async def test_a_move_to_where_there_is_no_bus_changes_nothing() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        await trial.once()
        with pytest.raises(ConfigurationError, match="there is no bus 'far'"):
            await trial.move("orders", "far")
        assert await ways(trial) == ["direct"]
        assert await trial.look(lambda s: move_of(s, "orders")) is None


@in_virtual_time
async def test_a_worker_that_does_not_know_the_new_bus_publishes_nothing_and_goes_on_when_it_does() -> None:
    """Nothing is read into the wrong place meanwhile."""
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        worker = trial.start()
        order(company, "1", 1)
        await trial.settle()
        far = worker.runner.buses.pop("far")  # type: ignore[attr-defined]
        await trial.move("orders", "far")
        order(company, "1", 2)
        await asyncio.sleep(30)
        assert sales(company) == {"1": (1, "")}
        assert await ways(trial) == ["far"]
        worker.runner.buses["far"] = far  # type: ignore[index]
        await asyncio.sleep(150)
        assert sales(company) == {"1": (2, "")}
