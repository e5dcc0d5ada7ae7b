"""A mistake that shows only at run time holds the leg or source that it is in, and says what to correct."""

import asyncio
import dataclasses

import pytest
from tests.runner.cells import books, in_virtual_time, order, run_in_virtual_time, sales
from tests.runner.company import KINDS, MERGING, Company, Kind, Order

from tieline.connector import Change
from tieline.connectors.memory import Memory, MemoryConnector
from tieline.errors import ConfigurationError, Mistake, TielineError, Unavailable
from tieline.testing import Trial

WRONG = ConfigurationError(Mistake("systems.erp.sales", "there is no table 'sales'", "correct the adapter"))


async def paused(trial: Trial, leg: str = "orders>erp") -> str:
    """What `status` says of a leg."""
    row = await trial.look(lambda s: s.legs.get(leg))
    assert row is not None
    return row.paused


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_mistake_at_a_target_holds_its_leg_until_it_is_corrected(kind: Kind) -> None:
    """The reason stands in the ledger all the time, the other target is served, and nothing is parked."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp", "bi")
        async with Trial(company.scene.landscape()) as trial:
            worker = trial.start()
            order(company, "1", 1)
            company.scene.store("erp").failure = WRONG
            await asyncio.sleep(3)
            for _ in range(300):
                assert await paused(trial) == str(WRONG)
                await asyncio.sleep(0.1)
            assert worker.failure is None
            assert sales(company, "bi") == {"1": (1, "")}
            assert await trial.parked() == []
            company.scene.store("erp").failure = None
            await trial.settle()
            assert await paused(trial) == ""
            assert sales(company) == {"1": (1, "")}
            assert await books(trial) == (1, {"done": 1}, 0)

    run_in_virtual_time(check)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_mistake_that_is_reported_of_single_changes_is_no_messages_fault(kind: Kind) -> None:
    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp")
        wrong = True

        def spoil(system: str, resource: str, change: Change) -> TielineError | None:
            return WRONG if wrong else None

        async with Trial(company.scene.landscape(), spoil=spoil) as trial:
            trial.start()
            order(company, "1", 1)
            await asyncio.sleep(10)
            assert await paused(trial) == str(WRONG)
            assert await trial.parked() == []
            wrong = False
            await trial.settle()
            assert await books(trial) == (1, {"done": 1}, 0)

    run_in_virtual_time(check)


@in_virtual_time
async def test_a_target_that_cannot_be_written_holds_its_leg_alone() -> None:
    company = Company()
    connector = company.scene.systems["erp"].adapter.connector
    assert isinstance(connector, Memory)
    tables = dict(connector.resources)
    connector.resources = tables | {"sales": dataclasses.replace(tables["sales"], writable=False)}
    company.scene.flow(Order, "shop", "erp", "bi")
    async with Trial(company.scene.landscape()) as trial:
        trial.start()
        order(company, "1", 1)
        await asyncio.sleep(5)
        said = await paused(trial)
        assert said == "flow orders: erp cannot write 'sales' → take another resource in its adapter"
        assert sales(company, "bi") == {"1": (1, "")}


@in_virtual_time
async def test_a_run_once_leaves_the_reason_for_status_to_show() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp", "bi")
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        company.scene.store("erp").failure = WRONG
        report = await trial.once()
        assert report.paused == {"orders>erp": str(WRONG)}
        assert await paused(trial) == str(WRONG)
        assert sales(company, "bi") == {"1": (1, "")}


@in_virtual_time
async def test_a_mistake_at_a_source_fails_that_source_and_no_other() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    company.invoicing("bi")
    async with Trial(company.scene.landscape()) as trial:
        worker = trial.start()
        order(company, "1", 1)
        await trial.settle()
        company.scene.store("shop").failure = WRONG
        await asyncio.sleep(10)
        assert worker.failure is None
        states = await trial.look(lambda s: s.sources.all())
        assert {name: state.failure for name, state in states.items()} == {
            "shop.order": str(WRONG),
            "invoicing.Invoice": "",
        }
        company.scene.store("shop").failure = None
        order(company, "2", 2)
        await trial.settle()
        assert set(sales(company)) == {"1", "2"}


def test_a_leg_goes_on_after_an_outage_whatever_is_wrong_elsewhere_in_its_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A target that names a mistake answers again; the mistake is in a table that this leg does not need."""

    async def mistaken(self: MemoryConnector) -> None:
        await reach(self)
        raise WRONG

    async def check() -> None:
        company = Company(erp=MERGING)
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape()) as trial:
            trial.start()
            order(company, "1", 1)
            company.scene.store("erp").failure = Unavailable("the line is dead")
            await asyncio.sleep(5)
            company.scene.store("erp").failure = None
            await trial.settle()
            assert sales(company) == {"1": (1, "")}

    reach = MemoryConnector.check
    monkeypatch.setattr(MemoryConnector, "check", mistaken)
    run_in_virtual_time(check)


@pytest.mark.parametrize("error", [WRONG, RuntimeError("nobody foresaw it")], ids=["mistake", "unforeseen"])
def test_a_probe_that_meets_something_else_than_an_outage_ends_nobody(error: Exception) -> None:
    async def check() -> None:
        company = Company(erp=MERGING)
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape()) as trial:
            worker = trial.start()
            order(company, "1", 1)
            company.scene.store("erp").failure = Unavailable("the line is dead")
            await asyncio.sleep(1)
            assert await paused(trial) == "the line is dead"
            company.scene.store("erp").failure = error
            await asyncio.sleep(10)
            assert worker.failure is None
            assert await paused(trial) != ""
            company.scene.store("erp").failure = None
            await trial.settle()
            assert sales(company) == {"1": (1, "")}

    run_in_virtual_time(check)
