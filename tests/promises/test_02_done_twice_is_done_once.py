"""Promise 2: done twice is done once; of what nobody knows, nothing is tried blindly."""

import asyncio

import pytest
from tests.promises.checks import BOOKS, LOST, POINTS, TWICE, AtPoint, crash, one_interruption, sales_history, settled
from tests.runner.cells import Interrupt, cannot_be_asked, in_virtual_time, order, run_in_virtual_time
from tests.runner.company import CREATING, KINDS, STEPPING, Company, Kind, Order

from tieline.connectors import memory
from tieline.message import Reason
from tieline.testing import Scene, Trial, Worker, clock
from tieline.testing.oracle import accounts

SETTLING = 10.0  # seconds; what a scene's systems have


def blink(worker: Worker) -> None:
    """It stands still for longer than its lease lasts, and is back before a call in doubt is settled."""
    worker.freeze(SETTLING / 2)


async def told(trial: Trial) -> list[str]:
    """Calls that landed after somebody else had settled them."""
    return await trial.look(lambda s: list(s.notes.starting("late/")))


# -- what is so already ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_reading_everything_again_and_sending_everything_again_writes_nothing(kind: Kind) -> None:
    """Sweeps, a restart and a backfill: the target has it all, and is left alone."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape()) as trial:
            first = trial.start()
            for number in "123":
                order(company, number, 1)
            await trial.settle()
            history = sales_history(company, trial)
            history.look(company.scene.store("erp"))
            history.effects.clear()
            await trial.settle()  # which waits for a sweep
            await first.stop()
            second = trial.start()
            await second.runner.backfill("orders")
            await trial.settle()
            assert not history.effects, f"{TWICE}: {history.effects}"
            (account,) = await trial.look(accounts)
            assert account.outcomes == {"done": 3, "unchanged": 3}, f"{BOOKS}: {account}"

    run_in_virtual_time(check)


def test_what_is_sent_again_after_a_kill_anywhere_is_not_written_again() -> None:
    """What the target has and what is held of it are one commit."""
    for number in POINTS:
        clock.run(killed_and_sent_again(number))


async def killed_and_sent_again(number: int) -> None:
    memory.forget()
    company = Company(scene=Scene(sweep=1e6))
    company.scene.flow(Order, "shop", "erp")
    at = AtPoint(number, crash, armed=True)
    async with Trial(company.scene.landscape(), faults=at) as trial:
        history = sales_history(company, trial)
        order(company, "1", 1)
        trial.start("w1")
        await asyncio.sleep(1)
        second = trial.start("w2")
        await asyncio.sleep(5)
        await second.runner.backfill("orders")
        await asyncio.sleep(3)
        assert history.of("1") == [1], f"{TWICE} at point {number}, {at.place}: {history.effects}"
        (account,) = await trial.look(accounts)
        assert account.outcomes["unchanged"] > 0, "nothing was sent again"


@in_virtual_time
async def test_a_value_that_comes_back_is_a_change_and_no_repeat() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        history = sales_history(company, trial)
        trial.start()
        for total in (1, 2, 1):
            order(company, "1", total)
            await trial.settle()
        assert history.of("1") == [1, 2, 1], f"{LOST}: {history.effects}"


@in_virtual_time
async def test_a_batch_that_is_published_twice_is_had_once() -> None:
    """The relay is killed between the engine's yes and its own note of it, so that a successor publishes again."""
    company = Company()
    company.scene.flow(Order, "shop", "erp", via="far")
    cut = Interrupt("RELAYED")
    async with Trial(company.scene.landscape(), faults=cut, foreign=["far"]) as trial:
        history = sales_history(company, trial)
        first = trial.start()
        order(company, "1", 1)
        await trial.settle()
        cut.armed = True
        order(company, "1", 2)
        await first.over()
        trial.start()
        await asyncio.sleep(10)
        ends = await trial.engine("far").ends("far:shop.order/2")
        assert sum(ends.values()) == 3, "it was to be published twice"
        assert history.of("1") == [1, 2], f"{TWICE}: {history.effects}"
        (account,) = await trial.look(accounts)
        assert settled(account, 2), f"{BOOKS}: {account}"


# -- what nobody knows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CREATING, STEPPING], ids=lambda kind: kind.name)
def test_a_worker_that_stands_still_anywhere_makes_no_second_row(kind: Kind) -> None:
    """Taken over meanwhile: its successor finds the row, or waits until the call can land no more."""
    for number in POINTS:
        clock.run(one_interruption(number, kind, blink, calm=False))


@in_virtual_time
async def test_the_one_exception_is_a_worker_frozen_inside_its_call_and_it_is_told() -> None:
    """It wakes after the doubt was settled without it, and its call makes a second row: no design prevents that."""
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")

    def faults(worker: Worker, place: str) -> float:
        if (worker.name, place) == ("w1", "erp.sales.write"):
            worker.freeze(SETTLING + 2)
        return 0.0

    async with Trial(company.scene.landscape(), faults=faults) as trial:
        history = sales_history(company, trial)
        order(company, "1", 1)
        trial.start("w1")
        await asyncio.sleep(1)
        trial.start("w2")
        await trial.settle()
        assert await told(trial) == []
        await asyncio.sleep(5)
        assert set(history.doubles) == {"1"}
        assert await told(trial) == ["late/orders>erp/1"]


@pytest.mark.parametrize("seconds", [1.0, 5.0, 9.0])
def test_a_call_that_was_cut_off_may_land_late_and_is_not_made_again_before(seconds: float) -> None:
    """Neither by its own message nor by a newer one of the key."""
    cut = [seconds]

    def late(system: str, resource: str) -> float:
        return cut.pop() if cut else 0.0

    async def check() -> None:
        company = Company(erp=CREATING)
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape(), late=late) as trial:
            history = sales_history(company, trial)
            trial.start()
            order(company, "1", 1)
            await asyncio.sleep(seconds / 2)
            order(company, "1", 2)
            await trial.settle()
            await asyncio.sleep(SETTLING)
            assert not history.doubles, f"{TWICE}: {history.effects}"
            assert history.of("1") == [1, 2], f"{LOST}: {history.effects}"
            (account,) = await trial.look(accounts)
            assert settled(account, 2), f"{BOOKS}: {account}"

    run_in_virtual_time(check)


@pytest.mark.parametrize("place", ["CLAIMED", "CALLED"])
@pytest.mark.parametrize("kind", [CREATING, STEPPING], ids=lambda kind: kind.name)
def test_what_is_deleted_while_its_create_is_in_doubt_is_looked_for_and_goes(kind: Kind, place: str) -> None:
    """Its worker is killed before or after the call, when the delete has been published already."""

    async def check() -> None:
        company = Company(erp=kind)
        company.scene.flow(Order, "shop", "erp")

        def faults(worker: Worker, at: str) -> float:
            if (worker.name, at) != ("w1", place):
                return 0.0
            company.scene.store("shop").drop("orders", "1")
            asyncio.get_running_loop().call_later(SETTLING / 2, worker.crash)
            return SETTLING

        async with Trial(company.scene.landscape(), faults=faults) as trial:
            history = sales_history(company, trial)
            order(company, "1", 1)
            await trial.start("w1").over()
            (account,) = await trial.look(accounts)
            assert account.entered == 2, "the delete was to be published"
            trial.start("w2")
            await asyncio.sleep(2 * SETTLING)
            assert history.now() == {}, f"{LOST}: the delete, {history.effects}"
            (account,) = await trial.look(accounts)
            assert settled(account, 2), f"{BOOKS}: {account}"

    run_in_virtual_time(check)


def test_where_nobody_can_be_asked_the_doubt_waits_for_a_person() -> None:
    """Its worker is killed anywhere; nothing is tried, not even a newer value, until a person has looked there."""
    decisions = [clock.run(killed_where_nobody_can_be_asked(number)) for number in POINTS]
    assert {decision for decision in decisions if decision} == {"drop", "replay"}


async def killed_where_nobody_can_be_asked(number: int) -> str:
    """What the person decided who looked; nothing where there was no doubt."""
    memory.forget()
    company = Company(erp=CREATING)
    cannot_be_asked(company)
    company.scene.flow(Order, "shop", "erp")
    at = AtPoint(number, crash, armed=True)
    async with Trial(company.scene.landscape(), faults=at) as trial:
        history = sales_history(company, trial)
        order(company, "1", 1)
        trial.start("w1")
        await asyncio.sleep(1)
        trial.start("w2")
        await asyncio.sleep(2 * SETTLING)
        before = list(history.effects)
        order(company, "1", 2)
        await asyncio.sleep(2 * SETTLING)
        decision = ""
        if rows := await trial.parked(reason=Reason.DOUBT):
            decision = "drop" if company.scene.store("erp").rows("sales") else "replay"
            assert history.effects == before, f"{TWICE}: tried while in doubt, {history.effects}"
            assert await trial.decide(rows[0], decision)
            await asyncio.sleep(SETTLING)
        found = f"at point {number}, {at.place}: {history.effects}"
        assert not history.doubles, f"{TWICE} {found}"
        assert history.now() == {"1": 1 if decision == "drop" else 2}, f"{LOST} {found}"
        (account,) = await trial.look(accounts)
        assert settled(account, 2), f"{BOOKS}: {account} {found}"
        return decision
