"""`run --once` ends, and says what it left to others and why."""

import asyncio

import msgspec
import pytest
import structlog
from tests.runner.cells import Interrupt, in_virtual_time, order, pay, run_in_virtual_time, sales
from tests.runner.company import MERGING, Company, Invoice, Order, Payment

from tieline.errors import Unavailable
from tieline.ledger import Stores, Way
from tieline.runner.leg import Leg
from tieline.runner.requests import Request, ask
from tieline.testing import Trial


async def leave_a_pause_behind(company: Company, trial: Trial) -> None:
    """A worker pauses its leg, whose target is down, and dies; then the target is well again."""
    worker = trial.start()
    company.scene.store("erp").failure = Unavailable("no answer")
    order(company, "1", 1)
    await asyncio.sleep(5)
    worker.crash()
    company.scene.store("erp").failure = None
    await asyncio.sleep(5)


@in_virtual_time
async def test_once_ends_beside_a_worker_whose_leg_is_paused_and_says_so() -> None:
    company = Company(erp=MERGING)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        trial.start("steady")
        order(company, "1", 1)
        await trial.settle()
        company.scene.store("erp").failure = Unavailable("no answer")
        order(company, "1", 2)
        await asyncio.sleep(5)
        report = await asyncio.wait_for(trial.once("brief"), 60)
        assert "no answer" in report.paused["orders>erp"]
        (row,) = await trial.look(lambda s: s.legs.all())
        assert row.paused, "who holds no partition has nothing to say about the pause"
        company.scene.store("erp").failure = None
        await trial.settle()
        assert sales(company) == {"1": (2, "")}
        assert (await trial.look(lambda s: s.legs.all()))[0].paused == ""


@in_virtual_time
async def test_a_pause_that_a_dead_worker_left_behind_is_cleared_by_who_takes_its_place() -> None:
    company = Company(erp=MERGING)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        await leave_a_pause_behind(company, trial)
        report = await trial.once()
        assert report.paused == {}
        assert sales(company) == {"1": (1, "")}
        assert (await trial.look(lambda s: s.legs.all()))[0].paused == ""


def test_a_pause_that_nobody_who_lives_stands_behind_keeps_no_run_from_trying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the new worker is slow to take the leg."""
    hold = Leg._hold

    async def slow(self: Leg, way: Way) -> None:
        await asyncio.sleep(5)
        await hold(self, way)

    async def check() -> None:
        company = Company(erp=MERGING)
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape()) as trial:
            await leave_a_pause_behind(company, trial)
            monkeypatch.setattr(Leg, "_hold", slow)
            report = await trial.once()
            assert report.paused == {}
            assert sales(company) == {"1": (1, "")}

    run_in_virtual_time(check)


@in_virtual_time
async def test_once_says_who_reads_a_source_and_until_when_and_leaves_it_to_who_lives() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        trial.start("steady")
        await asyncio.sleep(2)
        structlog.reset_defaults()  # a command that ran before may have silenced what is no warning
        with structlog.testing.capture_logs() as said:
            report = await asyncio.wait_for(trial.once("brief"), 60)
        (line,) = [one for one in said if "another worker" in one["event"]]
        assert "waiting" in line["event"]
        assert (line["source"], line["worker"]) == ("shop.order", "steady")
        assert line["lease_until"].startswith("2027-01-15T08:00:0")
        assert report.read == {}


@in_virtual_time
async def test_once_reads_itself_what_a_dead_worker_had_as_soon_as_its_lease_is_over() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("READ")
    cut.armed = True
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        order(company, "1", 1)
        await trial.start().over()
        report = await trial.once()
        assert report.read["shop.order"].messages == 1
        assert sales(company) == {"1": (1, "")}


@in_virtual_time
async def test_once_ends_where_a_source_that_is_down_is_asked_for_a_backfill() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        await trial.once()
        company.scene.store("shop").failure = Unavailable("no answer")
        await trial.look(lambda s: ask(s, [Request("backfill", "shop.order", "orders>erp")]))
        report = await asyncio.wait_for(trial.once(), 60)
        assert "no answer" in report.failed["shop.order"]


@in_virtual_time
async def test_once_ends_beside_a_worker_that_cannot_read_what_a_backfill_asks_for() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        trial.start("steady")
        await asyncio.sleep(2)
        company.scene.store("shop").failure = Unavailable("no answer")
        await trial.look(lambda s: ask(s, [Request("backfill", "shop.order", "orders>erp")]))
        await asyncio.sleep(2)
        await asyncio.wait_for(trial.once("brief"), 60)


@in_virtual_time
async def test_the_failure_of_a_process_source_is_forgotten_once_its_inbox_was_read() -> None:
    company = Company()
    company.scene.process("booking").rule(Payment, Invoice)(lambda payment: Invoice(number="1", total=payment.amount))
    company.scene.flow(Payment, "shop", "booking")
    company.scene.flow(Invoice, "booking", "erp")
    async with Trial(company.scene.landscape()) as trial:
        await trial.once()

        def failed(stores: Stores) -> None:
            state = stores.sources.get("booking.Invoice")
            stores.sources.put("booking.Invoice", msgspec.structs.replace(state, failure="the disk was full"))

        await trial.look(failed)
        pay(company, 1)
        await trial.once()
        assert company.scene.store("erp").rows("bills").keys() == {"1"}
        assert (await trial.look(lambda s: s.sources.get("booking.Invoice"))).failure == ""
