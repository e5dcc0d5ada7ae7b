"""After `tieline recover` an older ledger is one to go on from: targets end as the source, and the books add up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest
from tests.promises.checks import sales_history
from tests.runner.cells import (
    books,
    cannot_be_asked,
    in_virtual_time,
    only_row,
    order,
    pay,
    receipts,
    run_in_virtual_time,
    sales,
)
from tests.runner.company import CREATING, KINDS, MERGING, SQL, STEPPING, Company, Customer, Kind, Order, Payment

from tieline.adapter import Step
from tieline.connector import Change, Record
from tieline.connectors.memory import Memory, Table
from tieline.errors import InDoubt, Reject, TielineError, Unavailable
from tieline.flow import Target
from tieline.message import Reason, partition_of
from tieline.runner.epoch import is_to_be_read_again
from tieline.testing import Scene, Trial, Worker
from tieline.testing.oracle import accounts, out_of_order, twice

LIMIT = 2_000.0

SOURCE = {
    "always": [1],
    "changed": [1, 2],
    "gone": [1, None],
    "back": [1, 2, 1, 2, 1],
    "later": [1, 2],
    "gone later": [1, None],
    "new": [1],
    "newest": [1],
    "come and gone": [1, None, 2, None],
    "gone and back": [1, None, 1],
}
LEFT = {key: (values[-1], "") for key, values in SOURCE.items() if values[-1] is not None}


def company_of(kind: Kind, via: str = "direct", scene: Scene | None = None) -> Company:
    company = Company(erp=kind, scene=scene or Scene())
    company.scene.flow(Order, "shop", "erp", via=via)
    return company


async def lose(company: Company, trial: Trial) -> bytes:
    """A back-up is made, users and a worker go on, the ledger is lost, and users go on. Gives the back-up."""
    shop = company.scene.store("shop")
    for number, values in SOURCE.items():
        if not number.startswith("new"):
            order(company, number, values[0] or 0)
    worker = trial.start("lost")
    await trial.settle(LIMIT)
    shop.drop("orders", "come and gone")
    await trial.settle(LIMIT)
    backup = trial.ledger.back_up()
    order(company, "changed", 2)
    shop.drop("orders", "gone")
    order(company, "back", 2)
    order(company, "new", 1)
    order(company, "come and gone", 2)
    shop.drop("orders", "gone and back")
    await trial.settle(LIMIT)
    order(company, "back", 1)
    order(company, "gone and back", 1)
    await trial.settle(LIMIT)
    order(company, "back", 2)
    await trial.settle(LIMIT)
    await worker.stop()
    order(company, "back", 1)
    order(company, "later", 2)
    order(company, "newest", 1)
    shop.drop("orders", "gone later")
    shop.drop("orders", "come and gone")
    trial.restore(backup)
    return backup


async def backed_up(trial: Trial) -> tuple[Worker, bytes]:
    """A worker does what there is to do. Gives it, and a back-up of the ledger as it is then."""
    worker = trial.start("lost")
    await trial.settle()
    return worker, trial.ledger.back_up()


async def recover_from(trial: Trial, backup: bytes) -> None:
    """The ledger of the back-up is recovered, and a worker goes on with it."""
    trial.restore(backup)
    await trial.recover()
    trial.start("found")


@asynccontextmanager
async def settled_since_the_back_up(company: Company) -> AsyncIterator[tuple[Trial, bytes]]:
    """Order 1 was parked at the back-up that this gives; a person settled it since, and it was delivered."""
    refused = {"1"}

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        return Reject("not yet") if change.key in refused else None

    async with Trial(company.scene.landscape(), spoil=spoil) as trial:
        order(company, "1", 1)
        worker, backup = await backed_up(trial)
        refused.clear()
        await trial.decide(await only_row(trial), "replay")
        await trial.settle()
        await worker.stop()
        assert sales(company) == {"1": (1, "")}
        yield trial, backup


async def goes_on(company: Company, trial: Trial) -> None:
    """What comes from now on is delivered and counted as ever."""
    entered, _, _ = await books(trial)
    order(company, "changed", 3)
    order(company, "still newer", 1)
    await trial.settle(LIMIT)
    assert sales(company) == LEFT | {"changed": (3, ""), "still newer": (1, "")}
    assert (await books(trial))[0] == entered + 2


@pytest.mark.parametrize("via", ["direct", "bus", "far"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_targets_end_as_the_source_and_never_go_back(kind: Kind, via: str) -> None:
    @in_virtual_time
    async def check() -> None:
        company = company_of(kind, via)
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            history = sales_history(company, trial)
            await lose(company, trial)
            await trial.recover()
            trial.start("found")
            await trial.settle(LIMIT)
            assert sales(company) == LEFT
            assert not history.doubles
            for key, values in SOURCE.items():
                assert out_of_order(values, history.of(key)) is None
            if kind is SQL:
                assert not [key for key in SOURCE if twice(history.of(key))]
            assert (await books(trial))[2] == 0
            await goes_on(company, trial)

    check()


@pytest.mark.parametrize("kind", [SQL, CREATING], ids=lambda kind: kind.name)
@pytest.mark.parametrize("via", ["direct", "far"])
def test_it_may_be_done_twice_and_again_after_the_same_back_up(kind: Kind, via: str) -> None:
    @in_virtual_time
    async def check() -> None:
        company = company_of(kind, via)
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            backup = await lose(company, trial)
            first = await trial.recover()
            second = await trial.recover()
            assert second.epoch > first.epoch
            worker = trial.start("found")
            await trial.settle(LIMIT)
            await books(trial)
            order(company, "changed", 7)
            await trial.settle(LIMIT)
            await worker.stop()
            order(company, "changed", 2)
            trial.restore(backup)
            third = await trial.recover()
            assert third.epoch > second.epoch
            trial.start("found again")
            await trial.settle(LIMIT)
            assert sales(company) == LEFT
            await goes_on(company, trial)

    check()


READING = ("READ", "PUBLISHED", "SWEPT")
DELIVERING = {
    SQL: ("TAKEN", "erp.begin", "erp.fence", "WRITTEN", "COMMITTED", "MOVED"),
    CREATING: ("TAKEN", "erp.sales.lookup", "CLAIMED", "erp.sales.write", "CALLED", "CONFIRMED", "MOVED"),
}


@pytest.mark.parametrize("via", ["direct", "far"])
@pytest.mark.parametrize("kind", DELIVERING, ids=lambda kind: kind.name)
def test_it_goes_on_wherever_it_is_interrupted(kind: Kind, via: str) -> None:
    async def check() -> None:
        company = company_of(kind, via)
        async with Trial(company.scene.landscape(), faults=killed, foreign=["far"]) as trial:
            history = sales_history(company, trial)
            await lose(company, trial)
            await trial.recover()
            trial.start("found")
            await asyncio.sleep(2)
            trial.start("next")
            await trial.settle(LIMIT)
            told = "\n".join([killed.place, *trial.trace[-80:]])
            assert killed.left <= 0, told
            assert sales(company) == LEFT, told
            assert not history.doubles, told
            assert (await books(trial))[2] == 0, told

    for place in (*READING, *DELIVERING[kind], "SWITCHED", *(["RELAYED"] if via == "far" else [])):
        killed = _KilledAt(place, 2 if place in {"READ", "PUBLISHED"} else 1)  # within the whole read
        run_in_virtual_time(check)


class _KilledAt:
    """Kills the worker that is the n-th to come to a place after the recovery."""

    def __init__(self, place: str, number: int) -> None:
        self.place = place
        self.left = number

    def __call__(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        if worker.name != "lost" and place == self.place:
            self.left -= 1
            if not self.left:
                worker.crash(f"at {place}")
        return 0.0


@pytest.mark.parametrize("place", ["TAKEN", "erp.fence", "WRITTEN", "COMMITTED"])
def test_a_worker_of_the_lost_time_that_thaws_is_refused(place: str) -> None:
    @in_virtual_time
    async def check() -> None:
        company = company_of(SQL)
        armed = False

        def faults(worker: Worker, at: str) -> float:
            nonlocal armed
            if armed and worker.name == "frozen" and at == place:
                armed = False
                worker.freeze(300.0)
            return 0.0

        async with Trial(company.scene.landscape(), faults=faults) as trial:
            history = sales_history(company, trial)
            order(company, "1", 1)
            worker, backup = await backed_up(trial)
            await worker.stop()
            trial.start("frozen")
            order(company, "1", 2)
            await trial.settle()
            armed = True
            order(company, "1", 3)
            await asyncio.sleep(10)
            assert not armed
            trial.restore(backup)
            await trial.recover()
            order(company, "1", 4)
            trial.start("found")
            await trial.settle()
            await asyncio.sleep(400)
            assert "frozen thaws" in " ".join(trial.trace)
            assert sales(company) == {"1": (4, "")}
            assert out_of_order([1, 2, 3, 4], history.of("1")) is None
            await books(trial)
            order(company, "2", 1)
            await trial.settle()
            assert sales(company) == {"1": (4, ""), "2": (1, "")}
            await books(trial)

    check()


def _have(company: Company, system: str, **tables: Table) -> None:
    """Let a system have these tables instead of its own."""
    connector = company.scene.systems[system].adapter.connector
    assert isinstance(connector, Memory)
    connector.resources = {**connector.resources, **tables}


@pytest.mark.parametrize("kind", [SQL, CREATING], ids=lambda kind: kind.name)
@pytest.mark.parametrize("via", ["direct", "bus", "far"])
@pytest.mark.parametrize("delivered", [True, False], ids=["delivered", "waiting"])
def test_events_that_were_under_way_at_the_back_up_arrive_once_and_in_order(
    kind: Kind, via: str, delivered: bool
) -> None:
    @in_virtual_time
    async def check() -> None:
        company = Company(erp=kind)
        _have(company, "shop", payments=Table(id="id", lists_keys=False))
        company.scene.flow(Payment, "shop", "erp", via=via)
        erp, shop = company.scene.store("erp"), company.scene.store("shop")
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            pay(company, 1)
            worker = trial.start("lost")
            await trial.settle(LIMIT)
            erp.failure = Unavailable("down")
            pay(company, 2)
            pay(company, 3)
            await asyncio.sleep(5)
            backup = trial.ledger.back_up()
            if delivered:
                erp.failure = None
                await trial.settle(LIMIT)
            await worker.stop()
            erp.failure = None
            shop.contents.tables.pop("payments")  # they are shown no more
            pay(company, 4)
            await recover_from(trial, backup)
            await asyncio.sleep(100)
            await trial.settle(LIMIT)
            assert receipts(company, "erp")[:4] == ["p1", "p2", "p3", "p4"]
            assert (await books(trial, "payments>erp"))[2] == 0

    check()


@in_virtual_time
async def test_of_a_target_that_cannot_be_asked_a_person_is_asked_but_only_about_what_it_may_have() -> None:
    company = company_of(CREATING)
    cannot_be_asked(company)
    async with Trial(company.scene.landscape()) as trial:
        order(company, "known", 1)
        worker, backup = await backed_up(trial)
        order(company, "forgotten", 1)
        order(company, "known", 2)
        await trial.settle()
        await worker.stop()
        await recover_from(trial, backup)
        await asyncio.sleep(2 * company.scene.settling)
        assert sales(company) == {"known": (2, ""), "forgotten": (1, "")}
        row = await only_row(trial)
        assert (row.key, row.reason) == ("forgotten", Reason.DOUBT)
        order(company, "newer", 1)
        await asyncio.sleep(10)
        assert sales(company)["newer"] == (1, "")
        await trial.decide(row, "drop")
        await trial.settle()
        assert (await books(trial))[1:] == ({"done": 3, "dropped": 1}, 0)


@in_virtual_time
async def test_a_leg_that_is_added_after_a_recovery_knows_what_its_target_has() -> None:
    company = Company(bi=CREATING)
    _have(company, "bi", sales=replace(CREATING.table(), lookup=False))
    company.scene.flow(Order, "shop", "erp")
    async with Trial(company.scene.landscape()) as trial:
        await lose(company, trial)
        await trial.recover()
        worker = trial.start("found")
        await trial.settle(LIMIT)
        await worker.stop()
        company.scene.change("orders", targets=(Target("erp"), Target("bi")))
        trial.landscape = company.scene.landscape()
        trial.start("wider")
        await trial.settle(LIMIT)
        assert sales(company, "bi") == LEFT


@pytest.mark.parametrize("kind", [SQL, CREATING], ids=lambda kind: kind.name)
def test_a_ledger_that_begins_anew_is_one_to_go_on_from(kind: Kind) -> None:
    @in_virtual_time
    async def check() -> None:
        company = company_of(kind)
        async with Trial(company.scene.landscape()) as trial:
            history = sales_history(company, trial)
            order(company, "1", 1)
            order(company, "2", 1)
            worker = trial.start("lost")
            await trial.settle()
            order(company, "1", 2)
            await trial.settle()
            await worker.stop()
            trial.restore(b"")
            await trial.recover()
            trial.start("found")
            await trial.settle()
            assert sales(company) == {"1": (2, ""), "2": (1, "")}
            assert not history.doubles
            order(company, "1", 3)
            await trial.settle()
            assert sales(company)["1"] == (3, "")
            await books(trial)

    check()


@in_virtual_time
async def test_what_was_parked_at_the_back_up_and_settled_since_needs_nobody_again() -> None:
    company = company_of(SQL)
    async with settled_since_the_back_up(company) as (trial, backup):
        await recover_from(trial, backup)
        await trial.settle()
        assert await trial.parked() == []
        assert sales(company) == {"1": (1, "")}
        await books(trial)


@pytest.mark.parametrize("via", ["direct", "bus"])
def test_a_call_in_doubt_at_the_back_up_is_asked_about(via: str) -> None:
    @in_virtual_time
    async def check() -> None:
        company = company_of(CREATING, via)
        cut = True

        def blur(system: str, resource: str, change: Change) -> TielineError | None:
            return InDoubt("the line was cut") if cut else None

        async with Trial(company.scene.landscape(), blur=blur) as trial:
            history = sales_history(company, trial)
            order(company, "1", 1)
            worker = trial.start("lost")
            await asyncio.sleep(5)
            assert (await only_row(trial)).reason is Reason.DOUBT
            backup = trial.ledger.back_up()
            cut = False
            await trial.settle()
            await worker.stop()
            await recover_from(trial, backup)
            await trial.settle()
            assert sales(company) == {"1": (1, "")}
            assert not history.doubles
            await books(trial)

    check()


@pytest.mark.parametrize("kind", [SQL, MERGING, CREATING], ids=lambda kind: kind.name)
def test_what_a_process_makes_is_made_and_given_again(kind: Kind) -> None:
    @in_virtual_time
    async def check() -> None:
        company = Company(erp=kind)
        company.invoicing("erp")
        async with Trial(company.scene.landscape()) as trial:
            order(company, "1", 3)
            order(company, "2", 3)
            worker, backup = await backed_up(trial)
            order(company, "1", 4)
            order(company, "2", 1)
            order(company, "3", 3)
            await trial.settle()
            await worker.stop()
            order(company, "1", 3)
            await recover_from(trial, backup)
            await trial.settle(LIMIT)
            await asyncio.sleep(5)
            bills = [(b["reference"], int(b["total"])) for b in company.scene.store("erp").rows("bills").values()]
            assert sorted(bills) == [("1-0", 2), ("1-1", 1), ("2-0", 1), ("3-0", 2), ("3-1", 1)]
            assert all(account.balanced for account in await trial.look(accounts))
            assert not await trial.look(lambda s: is_to_be_read_again(s, "invoicing.Invoice"))

    check()


@in_virtual_time
async def test_what_must_not_change_once_it_is_complete_is_let_stand() -> None:
    company = Company(erp=STEPPING)

    erp, post = company.scene.systems["erp"].adapter, Step("post", lambda record: record.get("state") == "posted")

    @erp.sink(Order, "sales", match="reference", then=[post], frozen="it is posted")
    def posted(order: Order) -> Record:
        return {"reference": order.number, "total": order.total.amount, "note": order.note}

    company.scene.flow(Order, "shop", "erp")
    company.scene.change("orders", targets=(Target("erp", sink="posted"),))
    writes: list[str] = []

    def spoil(system: str, resource: str, change: Change) -> TielineError | None:
        writes.append(change.key)
        return None

    async with Trial(company.scene.landscape(), spoil=spoil) as trial:
        order(company, "known", 1)
        worker, backup = await backed_up(trial)
        order(company, "forgotten", 1)
        await trial.settle()
        await worker.stop()
        trial.restore(backup)
        await trial.recover()
        writes.clear()
        trial.start("found")
        await trial.settle()
        assert writes == []
        assert sales(company) == {"known": (1, ""), "forgotten": (1, "")}
        assert (await books(trial))[2] == 0


@in_virtual_time
async def test_what_went_meanwhile_goes_at_once_and_not_with_the_next_sweep() -> None:
    company = company_of(SQL, scene=Scene(sweep=1e6))
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        order(company, "2", 1)
        worker = trial.start("lost")
        await asyncio.sleep(3)
        backup = trial.ledger.back_up()
        await worker.stop()
        company.scene.store("shop").drop("orders", "1")
        await recover_from(trial, backup)
        await asyncio.sleep(3)
        assert sales(company) == {"2": (1, "")}


@in_virtual_time
async def test_everything_is_given_anew_where_nobody_sweeps() -> None:
    company = company_of(SQL, scene=Scene(sweep=0.0))
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        order(company, "2", 1)
        worker = trial.start("lost")
        await asyncio.sleep(3)
        backup = trial.ledger.back_up()
        await worker.stop()
        trial.restore(backup)
        epoch = (await trial.recover()).epoch
        trial.start("found")
        await asyncio.sleep(3)
        held = company.scene.store("erp").held("Order")
        assert {row.key: row.version.epoch for row in held} == {"1": epoch, "2": epoch}
        assert (await books(trial))[1] == {"done": 2, "unchanged": 2}


@in_virtual_time
async def test_what_the_ledger_never_knew_delivered_is_deleted_all_the_same() -> None:
    company = company_of(CREATING)
    async with settled_since_the_back_up(company) as (trial, backup):
        company.scene.store("shop").drop("orders", "1")
        await recover_from(trial, backup)
        await trial.settle()
        assert sales(company) == {}
        assert (await books(trial))[2] == 0


@in_virtual_time
async def test_nothing_is_called_while_a_call_of_the_lost_time_may_land() -> None:
    company = company_of(CREATING)
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        worker, backup = await backed_up(trial)
        trial.late = lambda system, resource: 0.8 * company.scene.settling
        order(company, "2", 1)
        await asyncio.sleep(3)
        trial.late = lambda system, resource: 0.0
        await worker.stop()
        await recover_from(trial, backup)
        await trial.settle()
        await asyncio.sleep(company.scene.settling)
        assert sales(company) == {"1": (1, ""), "2": (1, "")}
        await books(trial)


@in_virtual_time
async def test_a_change_that_comes_with_what_was_read_again_makes_nothing_twice() -> None:
    company = company_of(CREATING)
    async with Trial(company.scene.landscape()) as trial:
        worker, backup = await backed_up(trial)
        order(company, "1", 1)
        await trial.settle()
        await worker.stop()
        await recover_from(trial, backup)
        await asyncio.sleep(3)  # read again, and not delivered yet
        order(company, "1", 2)
        await trial.settle()
        assert sales(company) == {"1": (2, "")}


@in_virtual_time
async def test_a_change_that_comes_with_what_was_read_again_is_in_doubt_where_nobody_can_be_asked() -> None:
    company = company_of(CREATING)
    cannot_be_asked(company)
    async with Trial(company.scene.landscape()) as trial:
        worker, backup = await backed_up(trial)
        order(company, "1", 1)
        await trial.settle()
        await worker.stop()
        await recover_from(trial, backup)
        await asyncio.sleep(3)
        order(company, "1", 2)
        await asyncio.sleep(2 * company.scene.settling)
        assert (await only_row(trial)).reason is Reason.DOUBT
        order(company, "1", 3)
        await asyncio.sleep(company.scene.settling)
        assert (await only_row(trial)).reason is Reason.DOUBT
        assert sales(company) == {"1": (1, "")}


@in_virtual_time
async def test_what_came_and_went_unseen_and_comes_again_is_not_made_twice() -> None:
    company = company_of(CREATING)
    async with Trial(company.scene.landscape()) as trial:
        worker, backup = await backed_up(trial)
        order(company, "1", 1)
        await trial.settle()
        await worker.stop()
        company.scene.store("shop").drop("orders", "1")
        await recover_from(trial, backup)
        await trial.settle()
        order(company, "1", 2)
        await trial.settle()
        assert sales(company) == {"1": (2, "")}


@in_virtual_time
async def test_a_target_does_not_go_back_to_what_waited_at_the_back_up() -> None:
    company = company_of(MERGING)
    erp = company.scene.store("erp")
    async with Trial(company.scene.landscape()) as trial:
        history = sales_history(company, trial)
        order(company, "1", 1)
        worker = trial.start("lost")
        await trial.settle()
        erp.failure = Unavailable("down")
        order(company, "1", 2)
        await asyncio.sleep(3)
        backup = trial.ledger.back_up()
        erp.failure = None
        order(company, "1", 3)
        await trial.settle()
        await worker.stop()
        order(company, "1", 4)
        await recover_from(trial, backup)
        await trial.settle()
        assert out_of_order([1, 2, 3, 4], history.of("1")) is None
        await books(trial)


@in_virtual_time
async def test_what_waits_for_a_reference_after_a_recovery_does_not_pass_for_new_when_it_changes() -> None:
    company = company_of(CREATING)
    cannot_be_asked(company)
    company.scene.flow(Customer, "shop", "erp")
    shop, erp = company.scene.store("shop"), company.scene.store("erp")
    referring = {"number": "1", "total": Decimal(1), "customer": "a@b"}
    async with Trial(company.scene.landscape()) as trial:
        worker, backup = await backed_up(trial)
        shop.put("customers", {"email": "a@b", "name": "A"}, id="email")
        shop.put("orders", referring, id="number")
        await trial.settle()
        await worker.stop()
        shop.drop("customers", "a@b")
        erp.drop("parties", "1")
        await recover_from(trial, backup)
        await asyncio.sleep(2 * company.scene.settling)
        assert (await only_row(trial)).reason is Reason.REFERENCE
        shop.put("orders", referring | {"total": Decimal(2)}, id="number")
        await asyncio.sleep(5)
        shop.put("customers", {"email": "a@b", "name": "A"}, id="email")
        await asyncio.sleep(100)
        assert (await only_row(trial)).reason is Reason.DOUBT
        assert sales(company) == {"1": (1, "")}


@in_virtual_time
async def test_a_worker_that_is_done_with_what_was_published_before_waits_for_the_others_calmly() -> None:
    company = company_of(CREATING, "bus")
    first, second = (next(k for k in map(str, range(9)) if partition_of(k, 2) == p) for p in (0, 1))
    frozen = False

    def faults(worker: Worker, place: str) -> float:
        nonlocal frozen
        if place == "TAKEN" and worker.name != "lost" and not frozen:
            frozen = True
            worker.freeze(2.0)
        return 0.0

    async with Trial(company.scene.landscape(), faults=faults) as trial:
        worker = trial.start("lost")
        await trial.settle()
        company.scene.store("erp").failure = Unavailable("down")
        order(company, first, 1)
        await asyncio.sleep(3)
        backup = trial.ledger.back_up()
        await worker.stop()
        company.scene.store("erp").failure = None
        trial.restore(backup)
        await trial.recover()
        order(company, second, 1)
        trial.start("one")
        trial.start("other")  # they share the partitions, one each
        await trial.settle()
        assert frozen
        assert sales(company) == {first: (1, ""), second: (1, "")}


@pytest.mark.parametrize("via", ["direct", "bus", "far"])
def test_that_a_ledger_is_an_older_one_shows_before_anything_is_run(via: str) -> None:
    @in_virtual_time
    async def check() -> None:
        company = company_of(SQL if via != "far" else CREATING, via)
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            assert await trial.strangers() == {}
            await lose(company, trial)
            assert list(await trial.strangers()) == ["orders>erp"]
            assert list(await trial.strangers()) == ["orders>erp"]
            company.scene.store("erp").failure = Unavailable("down")
            assert list(await trial.strangers()) == (["orders>erp"] if via == "far" else [])
            company.scene.store("erp").failure = None
            await trial.recover()
            assert await trial.strangers() == {}
            trial.start("found")
            await trial.settle(LIMIT)
            assert sales(company) == LEFT
            assert await trial.strangers() == {}

    check()
