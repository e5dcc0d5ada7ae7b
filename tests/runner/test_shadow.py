"""A shadow runs a flow's second way beside the first: it only compares, and nobody notices it."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.runner.cells import bad_notes, books, cannot_be_asked, in_virtual_time, only_row, order, pay, sales
from tests.runner.company import KINDS, MERGING, SQL, Company, Kind, Order, Payment

from tieline.errors import ConfigurationError, Unavailable
from tieline.runner.casting import Sight
from tieline.runner.shadows import Verdict, shadow_of
from tieline.testing import Trial

WAYS = ["direct", "bus", "far"]
PAIRS = [(first, second) for first in WAYS for second in WAYS if (first, second) != ("direct", "direct")]


async def sight(trial: Trial, flow: str = "orders", target: str = "") -> Sight:
    """The shadow of a flow's leg."""
    (found,) = [one for one in await trial.sight(flow) if one.books.leg.endswith(target)]
    return found


async def seen(trial: Trial, flow: str = "orders", limit: float = 60.0) -> Sight:
    """The shadow, when everything that was published has come."""
    end = asyncio.get_running_loop().time() + limit
    while (found := await sight(trial, flow)).books.not_come:
        assert asyncio.get_running_loop().time() < end, found
        await asyncio.sleep(0.25)
    return found


def selling(via: str = "direct", erp: Kind = SQL) -> Company:
    """Orders go from the shop to the ERP."""
    company = Company(erp=erp)
    company.scene.flow(Order, "shop", "erp", via=via)
    return company


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_second_way_that_brings_the_same_is_equal(first: str, second: str, kind: Kind) -> None:
    """Changes and deletes; the flow itself goes on as if nothing were beside it."""

    @in_virtual_time
    async def check() -> None:
        company = selling(first, kind)
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            trial.start()
            order(company, "1", 1)
            await trial.settle()
            await trial.cast("orders", second, partitions=3)
            for turn in range(2, 30):
                order(company, str(turn % 7), turn)
                await asyncio.sleep(0.3)
            company.scene.store("shop").drop("orders", "3")
            await trial.settle()
            found = (await seen(trial)).books
            assert (found.differs, found.unresolved, found.fields) == (False, False, {})
            assert found.published == found.compared > 20
            assert found.verdicts[Verdict.EQUAL] >= 7
            assert found.by_message == 0
            entered, _, waiting = await books(trial)
            assert (entered, waiting) == (found.published + 1, 0)
            assert len(sales(company)) == 6

    check()


def _subscriptions(trial: Trial) -> set[str]:
    """Who subscribes to a channel of the bus elsewhere."""
    channels = trial.engine("far")._channels.values()
    return {name for channel in channels if channel.declared for name in channel.subscriptions}


def altered(trial: Trial, change: Any) -> None:
    """An engine that does to batches what it likes; what `change` gives None for is lost."""
    engine = trial.engine("far")
    publish = engine.publish

    async def publish_otherwise(channel: str, batch: Any) -> None:
        if (other := change(batch)) is not None:
            await publish(channel, other)

    engine.publish = publish_otherwise  # type: ignore[method-assign]


@in_virtual_time
async def test_other_content_on_the_second_way_shows_by_field() -> None:
    """By the field of the target's row, with the key and both values; the flow goes on."""

    def dearer(batch: Any) -> Any:
        messages = [
            msgspec.structs.replace(m, data=msgspec.Raw(bytes(m.data).replace(b'"20', b'"21')))
            for m in batch.messages
        ]
        return msgspec.structs.replace(batch, messages=messages)

    company = selling()
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far")
        altered(trial, dearer)
        for number in range(1, 4):
            order(company, str(number), 10 * number)
        await trial.settle()
        found = (await seen(trial)).books
        assert found.verdicts == {Verdict.EQUAL: 2, Verdict.DIFFERENT: 1}
        assert (found.differs, sorted(found.fields)) == (True, ["(content)", "total"])
        (example,) = found.fields["total"].examples
        assert (example.key, example.ours, example.theirs) == ("2", "21.00", "20.00")
        assert sales(company)["2"] == (20, "")


@in_virtual_time
async def test_what_the_target_has_otherwise_shows() -> None:
    """Whoever has changed it there; a row that is gone too."""
    company = selling()
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        for number in ("1", "2"):
            order(company, number, 1)
        await trial.settle()
        await trial.cast("orders", "far")
        erp = company.scene.store("erp")
        (row,) = [row for row in erp.rows("sales").values() if row["reference"] == "1"]
        erp.put("sales", {**row, "note": "by hand"}, id="id")
        erp.drop("sales", "2")
        await trial.workers[0].runner.backfill("orders")
        await trial.settle()
        found = (await seen(trial)).books
        assert {name: one.count for name, one in found.fields.items()} == {"note": 1, "(row)": 1}
        assert found.verdicts == {Verdict.DIFFERENT: 2}


@in_virtual_time
async def test_what_the_second_way_never_brings_shows_in_the_numbers() -> None:
    """Nothing is under way, and less has come than was published."""
    company = selling()
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far")
        altered(trial, lambda batch: None if any(m.key == "2" for m in batch.messages) else batch)
        for number in range(1, 5):
            order(company, str(number), number)
            await trial.settle()
        found = await sight(trial)
        assert (found.books.published, found.books.compared, found.under_way) == (4, 3, 0)
        assert found.books.not_come == 1


@in_virtual_time
async def test_what_came_twice_is_compared_once() -> None:
    """A relay may publish a batch twice."""
    company = selling()
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far")
        engine = trial.engine("far")
        publish = engine.publish

        async def twice(channel: str, batch: Any) -> None:
            await publish(channel, batch)
            await publish(channel, batch)

        engine.publish = twice  # type: ignore[method-assign]
        order(company, "1", 1)
        await trial.settle()
        order(company, "2", 1)
        await trial.settle()
        found = (await seen(trial)).books
        assert (found.published, found.verdicts) == (2, {Verdict.EQUAL: 2})


@in_virtual_time
async def test_it_waits_for_the_first_way() -> None:
    """While the target is down, nothing is missing, and nothing is compared; older ones are superseded at last."""
    company = Company()
    company.scene.flow(Order, "shop", "erp", "bi")
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far")
        company.scene.store("erp").failure = Unavailable("down")
        for total in range(1, 4):
            order(company, "1", total)
            await asyncio.sleep(2)
        found, other = await sight(trial, target="erp"), await sight(trial, target="bi")
        assert (found.books.published, found.books.compared, found.under_way) == (3, 0, 3)
        assert (other.books.compared, other.under_way) == (3, 0)
        company.scene.store("erp").failure = None
        await trial.settle()
        await asyncio.sleep(3)
        found = await sight(trial, target="erp")
        assert found.books.verdicts == {Verdict.EQUAL: 1, Verdict.SUPERSEDED: 2}


@in_virtual_time
async def test_what_is_parked_waits_and_is_compared_once_it_has_arrived() -> None:
    """The rest goes on meanwhile."""
    company = selling(erp=MERGING)
    async with Trial(company.scene.landscape(), spoil=bad_notes, foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far")
        order(company, "1", 1, "bad")
        order(company, "2", 1)
        await trial.settle()
        found = (await seen(trial)).books
        assert (found.waiting, found.verdicts, found.unresolved) == (1, {Verdict.EQUAL: 1}, True)
        trial.spoil = lambda system, resource, change: None
        assert await trial.decide(await only_row(trial), "replay")
        await trial.settle()
        await asyncio.sleep(3)
        found = (await sight(trial)).books
        assert (found.waiting, found.verdicts, found.unresolved) == (0, {Verdict.EQUAL: 2}, False)


@in_virtual_time
async def test_a_target_that_cannot_be_asked_is_compared_by_message() -> None:
    """By id and content, and that is said."""
    company = selling(erp=MERGING)
    cannot_be_asked(company)
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far")
        order(company, "1", 1)
        await trial.settle()
        found = (await seen(trial)).books
        assert (found.verdicts, found.by_message) == ({Verdict.EQUAL: 1}, 1)


@in_virtual_time
async def test_events_and_processes_have_shadows_too() -> None:
    """What goes to a process is compared by message."""
    company = Company()
    company.scene.flow(Payment, "shop", "bi")
    company.invoicing("erp")
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("payments", "far")
        await trial.cast("billing", "bus")
        await trial.cast("invoices", "far")
        for number in range(1, 5):
            pay(company, number)
            order(company, str(number), number)
        await trial.settle()
        assert (await seen(trial, "payments")).books.verdicts == {Verdict.EQUAL: 4}
        billing = (await seen(trial, "billing")).books
        assert (billing.verdicts, billing.by_message) == ({Verdict.EQUAL: 4}, 4)
        assert (await seen(trial, "invoices")).books.verdicts == {Verdict.EQUAL: 6}


@pytest.mark.parametrize("to", ["far", "bus", "direct"])
def test_a_move_ends_the_shadow(to: str) -> None:
    """In the commit that changes the ways; its subscription is gone, and nothing is kept for it any more."""

    @in_virtual_time
    async def check() -> None:
        company = selling("far" if to != "far" else "direct")
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            trial.start()
            await trial.settle()
            await trial.cast("orders", to, partitions=3)
            order(company, "1", 1)
            await trial.settle()
            await seen(trial)
            await trial.move("orders", to, partitions=3)
            assert shadow_of(await trial.look(lambda s: s.legs.get("orders>erp"))) is None
            order(company, "1", 2)
            await trial.settle()
            assert sales(company) == {"1": (2, "")}
            await asyncio.sleep(180)  # whoever ended it may have died before its engine has forgotten it
            assert await trial.look(lambda s: s.notes.starting("shadow-over/")) == {}
            assert not any("shadow" in name for name in _subscriptions(trial))
            assert await trial.look(lambda s: s.notes.starting("shadow-found/")) == {}

    check()


@in_virtual_time
async def test_a_worker_that_does_not_know_the_second_bus_goes_on_with_the_flow() -> None:
    """The shadow alone stands still, and says why; another worker takes it up."""
    company = selling()
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        worker = trial.start()
        await trial.settle()
        worker.runner.buses.pop("far")  # type: ignore[attr-defined]
        await trial.cast("orders", "far")
        order(company, "1", 1)
        await trial.settle()
        assert sales(company) == {"1": (1, "")}
        await asyncio.sleep(3)
        found = await sight(trial)
        assert (found.books.published, found.books.compared, found.under_way) == (1, 0, 1)
        assert "there is no bus 'far'" in found.books.trouble
        trial.start()
        found = await seen(trial)
        assert found.books.verdicts == {Verdict.EQUAL: 1}


@in_virtual_time
async def test_it_goes_on_over_workers_that_are_killed_and_join() -> None:
    """Each message is counted once, whoever compares it."""
    company = selling("bus")
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far", partitions=4)
        for turn in range(40):
            order(company, str(turn % 11), turn + 1)
            if turn % 7 == 3:
                trial.workers[-1].crash("(killed)")
                trial.start()
            if turn % 9 == 5:
                trial.start()
            await asyncio.sleep(0.7)
        await trial.settle()
        found = (await seen(trial)).books
        assert (found.differs, found.compared) == (False, found.published)


@in_virtual_time
async def test_begun_again_it_goes_on_and_over_another_way_it_begins_anew() -> None:
    """A shadow to another place takes the place of the one before."""
    company = selling()
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far")
        order(company, "1", 1)
        await trial.settle()
        await trial.cast("orders", "far")
        assert (await seen(trial)).books.compared == 1
        await trial.cast("orders", "bus")
        found = (await sight(trial)).books
        assert (found.to, found.published) == ("bus", 0)
        await trial.drop_shadow("orders")
        assert await trial.look(lambda s: s.legs.get("orders>erp").ways[-1].shadow) is None  # type: ignore[union-attr]


@in_virtual_time
async def test_what_cannot_have_a_shadow_says_why() -> None:
    """A flow that never ran; the way that it goes already; a bus that is not there."""
    company = selling()
    async with Trial(company.scene.landscape()) as trial:
        with pytest.raises(ConfigurationError, match="has not begun"):
            await trial.cast("orders", "bus")
        await trial.once()
        with pytest.raises(ConfigurationError, match="goes that way already"):
            await trial.cast("orders", "direct")
        with pytest.raises(ConfigurationError, match="there is no bus 'far'"):
            await trial.cast("orders", "far")


@in_virtual_time
async def test_a_run_of_once_compares_before_it_ends() -> None:
    """So a flow that is run by a clock can have a shadow."""
    company = selling()
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        await trial.once()
        await trial.cast("orders", "far")
        order(company, "1", 1)
        await trial.once()
        assert (await sight(trial)).books.verdicts == {Verdict.EQUAL: 1}


@in_virtual_time
async def test_a_recovery_ends_it() -> None:
    """An older ledger's numbers say nothing of what the second way has."""
    company = selling()
    async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
        trial.start()
        await trial.settle()
        await trial.cast("orders", "far")
        await trial.workers[0].stop()
        await trial.recover()
        assert shadow_of(await trial.look(lambda s: s.legs.get("orders>erp"))) is None
        trial.start()
        order(company, "1", 1)
        await trial.settle()
        assert sales(company) == {"1": (1, "")}
