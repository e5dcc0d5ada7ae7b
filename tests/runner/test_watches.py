"""A worker that stood still inside a call writes late and dies before it can tell: the target is looked at again."""

import asyncio

import pytest
from tests.runner.cells import Interrupt, bad_notes, in_virtual_time, order, sales
from tests.runner.company import CREATING, MERGING, Company, Order

from tieline.landscape.trace import trace
from tieline.testing import Trial, Worker
from tieline.testing.oracle import History, watch

FROZEN = 60.0  # seconds; the settling time is 10, the lease 3


class LateAndDead:
    """The first worker freezes before its next call takes effect, and dies as soon as it has."""

    def __init__(self, seconds: float = FROZEN) -> None:
        self.armed = False
        self._seconds = seconds

    def __call__(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        if self.armed and worker.name == "w1":
            if place == "erp.sales.write":
                worker.freeze(self._seconds)
            elif place == "erp.sales.write done":
                worker.crash("before it could tell")
        return 0.0


async def late_keys(trial: Trial) -> set[str]:
    """What was noted as written late."""
    notes = await trial.look(lambda s: s.notes.starting("late/"))
    return {note["key"] for note in notes.values()}


def history_of_sales(company: Company, trial: Trial) -> History:
    """What the ERP's orders go through."""
    erp = company.scene.store("erp")
    return watch(erp, trial.note, sales=(lambda r: r["reference"], lambda r: int(r["total"])))["sales"]


@pytest.mark.parametrize("seconds", [20.0, 60.0, 600.0])
def test_what_a_frozen_worker_writes_before_it_dies_is_found_put_right_and_noted(seconds: float) -> None:
    @in_virtual_time
    async def check() -> None:
        company = Company(erp=CREATING)
        company.scene.flow(Order, "shop", "erp")
        late = LateAndDead(seconds)
        async with Trial(company.scene.landscape(), faults=late) as trial:
            history = history_of_sales(company, trial)
            first = trial.start("w1")
            order(company, "1", 1)
            await trial.settle()
            late.armed = True
            order(company, "1", 2)
            await asyncio.sleep(3)
            assert first.frozen
            trial.start("w2")
            await asyncio.sleep(5)
            order(company, "1", 3)
            await first.over()
            assert sales(company) == {"1": (2, "")}, "the call did not land late"
            await asyncio.sleep(2 * seconds)
            assert sales(company) == {"1": (3, "")}
            assert history.of("1") == [1, 2, 3, 2, 3]
            assert await late_keys(trial) == {"1"}
            sightings = await trial.look(lambda s: trace(trial.landscape, s, Order, "1"))
            assert "written late" in next(one.note for one in sightings if one.place == "erp")

    check()


@in_virtual_time
async def test_an_announced_call_that_lands_late_at_a_target_that_merges_is_found_too() -> None:
    """It needs no claim there; that it was begun and not confirmed is known all the same."""
    company = Company(erp=MERGING)
    company.scene.flow(Order, "shop", "erp")
    late = LateAndDead()
    async with Trial(company.scene.landscape(), faults=late, spoil=bad_notes) as trial:
        first = trial.start("w1")
        order(company, "1", 1)
        await trial.settle()
        order(company, "1", 2, "bad")
        await trial.settle()
        assert len(await trial.parked()) == 1
        late.armed = True
        order(company, "1", 3)
        await asyncio.sleep(3)
        assert first.frozen
        trial.start("w2")
        await asyncio.sleep(5)
        order(company, "1", 4)
        await first.over()
        assert sales(company) == {"1": (3, "")}, "the call did not land late"
        await asyncio.sleep(2 * FROZEN)
        assert sales(company) == {"1": (4, "")}
        assert await late_keys(trial) == {"1"}


@in_virtual_time
async def test_a_call_that_its_own_worker_saw_fail_is_not_watched() -> None:
    """Nobody stood still: what was announced was answered."""
    company = Company(erp=MERGING)
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape(), spoil=bad_notes) as trial:
        trial.start()
        for total, note in ((1, "bad"), (2, "bad"), (3, "")):
            order(company, "1", total, note)
            await trial.settle()
        assert sales(company) == {"1": (3, "")}
        assert not await trial.look(lambda s: s.notes.starting("watch/"))


@in_virtual_time
async def test_an_order_that_was_deleted_meanwhile_goes_again_where_a_late_call_makes_it() -> None:
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    late = LateAndDead()
    late.armed = True
    async with Trial(company.scene.landscape(), faults=late) as trial:
        first = trial.start("w1")
        order(company, "1", 1)
        await asyncio.sleep(3)
        trial.start("w2")
        company.scene.store("shop").drop("orders", "1")
        await first.over()
        assert sales(company) == {"1": (1, "")}, "the call did not land late"
        await asyncio.sleep(2 * FROZEN)
        assert sales(company) == {}
        assert await late_keys(trial) == {"1"}


@pytest.fixture
def soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch ends after minutes: each second of virtual time costs milliseconds of a processor."""
    monkeypatch.setattr("tieline.runner.watches._LONGEST", 300.0)


@pytest.mark.usefixtures("soon_over")
@in_virtual_time
async def test_where_nothing_comes_late_nothing_is_written_again_and_the_watch_ends() -> None:
    """Also where the target keeps what it is given in a form of its own."""
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("CALLED")
    erp = company.scene.store("erp")

    async def in_its_own_form(moment: str) -> None:
        if moment == "sales.write.done":
            for id, record in erp.rows("sales").items():
                erp.put("sales", {**record, "note": f"{record['note'].strip('*')}*"})
                assert id == record["id"]

    erp.hook = in_its_own_form
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        first = trial.start()
        order(company, "1", 1, "n")
        await trial.settle()
        cut.armed = True
        order(company, "1", 2, "n")
        await first.over()
        trial.start()
        await trial.settle()
        written = erp.calls["sales.write"]
        assert await trial.look(lambda s: s.notes.starting("watch/"))
        await asyncio.sleep(900)
        assert erp.calls["sales.write"] == written
        assert sales(company) == {"1": (2, "n*")}
        assert await late_keys(trial) == set()
        assert not await trial.look(lambda s: s.notes.starting("watch/"))


@in_virtual_time
async def test_a_watch_whose_worker_died_before_it_looked_writes_once_more_and_notes_nothing() -> None:
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    erp = company.scene.store("erp")
    places: list[str] = []

    def faults(worker: Worker, place: str) -> float:
        """The first dies in its call, the second when it has confirmed and is about to look."""
        places.append(f"{worker.name} {place}")
        in_its_call = armed and places[-1] == "w1 CALLED"
        before_it_looked = "w2 CALLED" in places and places[-1] == "w2 erp.sales.lookup"
        if in_its_call or before_it_looked:
            worker.crash()
        return 0.0

    armed = False
    async with Trial(company.scene.landscape(), faults=faults) as trial:
        first = trial.start("w1")
        order(company, "1", 1)
        await trial.settle()
        armed = True
        order(company, "1", 2)
        await first.over()
        await trial.start("w2").over()
        written = erp.calls["sales.write"]
        trial.start("w3")
        await asyncio.sleep(600)
        assert erp.calls["sales.write"] == written + 1
        assert sales(company) == {"1": (2, "")}
        assert await late_keys(trial) == set()


@in_virtual_time
async def test_a_call_in_doubt_again_is_settled_before_its_key_is_looked_at() -> None:
    """What stands there is of that call, and nothing that came late."""
    company = Company(erp=CREATING)
    company.scene.flow(Order, "shop", "erp")
    cut = Interrupt("CALLED")
    erp = company.scene.store("erp")
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        worker = trial.start()
        order(company, "1", 1)
        await trial.settle()
        for total in (2, 3):
            cut.armed = True
            order(company, "1", total)
            await worker.over()
            await asyncio.sleep(30)  # longer than the call may be under way
            worker = trial.start()
            await trial.settle()
        written = erp.calls["sales.write"]
        await asyncio.sleep(600)
        assert sales(company) == {"1": (3, "")}
        assert written == erp.calls["sales.write"] == 5, "each total once, and two calls that were cut off once more"
