"""Entities of two versions: an order's `amount` in cents becomes a `total` with currency and a `channel`.

The projects before and after are landscapes of their own on the same systems; workers of both may run together.
"""

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runner.cells import in_virtual_time

from tieline.adapter import Adapter
from tieline.connectors.memory import Table
from tieline.entity import Entity, Event, Money, encode, wire_schema
from tieline.errors import ConfigurationError, Reject, RetryLater
from tieline.ledger import ParkedRow
from tieline.message import Message, Reason, Version, pack_message, schema_of, unpack_message
from tieline.runner.leg import Leg
from tieline.runner.plan import mapping_version
from tieline.runner.schemas import Verdict, seen_versions, standing
from tieline.runner.upcasting import handed_in, received, upcast
from tieline.testing import Scene, Trial
from tieline.testing.oracle import accounts

BROKEN = 666
"""The cents of which no upcaster can make anything."""


def _old(kind: type[Entity]) -> Any:
    options = {"key": "number"} | ({"subject": "account"} if kind is Event else {})

    class Order(kind, **options):  # type: ignore[misc, valid-type]
        number: str
        cents: int
        account: str = "a"

    return Order


def _new(kind: type[Entity], steps: bool = True) -> Any:
    options = {"key": "number", "version": 2} | ({"subject": "account"} if kind is Event else {})

    class Order(kind, **options):  # type: ignore[misc, valid-type]
        number: str
        total: Money
        account: str = "a"
        channel: str = ""

    if steps:

        @Order.upcaster(1)
        def total(data: dict[str, Any]) -> dict[str, Any]:
            cents = data.pop("cents")
            if cents == BROKEN:
                raise ValueError("nobody knows what this was")
            return data | {"total": {"amount": str(Decimal(cents) / 100), "currency": "EUR"}}

    return Order


OLD, NEW = _old(Entity), _new(Entity)


class Bill(Entity, key="number"):
    """What the process makes of an order."""

    number: str
    cents: int


def _new_bill() -> Any:
    class Bill(Entity, key="number", version=2):
        number: str
        total: Money

    @Bill.upcaster(1)
    def total(data: dict[str, Any]) -> dict[str, Any]:
        return {"number": data["number"], "total": {"amount": str(Decimal(data["cents"]) / 100), "currency": "EUR"}}

    return Bill


OLD_BILL, NEW_BILL = Bill, _new_bill()


def project(scene: Scene, order: Any, via: str = "direct", *, upsert: bool = True, bill: Any = None) -> Scene:
    """The company's project with this version of the entities, on the same systems as another."""
    new = order.__version__ > 1
    scene = Scene(_number=scene._number)
    shop = scene.system("shop", orders=Table(id="number"))
    erp = scene.system("erp", sales=Table(id="id", numbered=not upsert, upsert=upsert, transactional=upsert))

    @shop.source(order, "orders")
    def taken(record: dict[str, Any]) -> Any:
        fields = {"number": record["number"], "account": record.get("account", "a")}
        if new:
            total = Money(Decimal(record["cents"]) / 100, "EUR")
            return order(**fields, total=total, channel=record.get("channel", ""))
        return order(**fields, cents=record["cents"])

    if bill is None:
        _sink(erp, order, upsert)
        scene.flow(order, "shop", "erp", name="orders", via=via)
    else:
        process = scene.process("billing")
        _sink(erp, bill, upsert)

        @process.rule(order, bill)
        def billed(one: Any) -> Any:
            return bill(number=one.number, **({"total": one.total} if new else {"cents": one.cents}))

        scene.flow(order, "shop", "billing", name="billed", via=via)
        scene.flow(bill, "billing", "erp", name="orders", via=via)
    return scene


def _sink(erp: Adapter, entity: Any, upsert: bool) -> None:
    new = entity.__version__ > 1

    @erp.sink(entity, "sales", match="reference")
    def sale(one: Any) -> dict[str, Any]:
        cents = int(one.total.amount * 100) if new else one.cents
        row = {"reference": one.number, "cents": cents, "by": "new" if new else "old"}
        return (
            row | ({"channel": getattr(one, "channel", "")} if new else {}) | ({"id": one.number} if upsert else {})
        )


def write(scene: Scene, number: str, cents: int, **more: Any) -> None:
    """A user of the shop writes an order down."""
    scene.store("shop").put("orders", {"number": number, "cents": cents, **more}, id="number")


def sales(scene: Scene) -> dict[str, int]:
    """What the ERP has of each order."""
    rows = list(scene.store("erp").rows("sales").values())
    assert len({row["reference"] for row in rows}) == len(rows), f"twice: {rows}"
    return {row["reference"]: row["cents"] for row in rows}


def writers(scene: Scene) -> set[str]:
    """By which version of the project the ERP's rows were written."""
    return {row["by"] for row in scene.store("erp").rows("sales").values()}


async def balanced(trial: Trial) -> None:
    """Every leg's books add up."""
    for account in await trial.look(accounts):
        assert account.balanced, str(account)


async def paused(trial: Trial, leg: str = "orders>erp") -> str:
    """Why the ledger says that a leg stands still."""
    row = await trial.look(lambda s: s.legs.get(leg))
    assert row is not None
    return row.paused


WAYS = pytest.mark.parametrize("via", ["direct", "bus", "far"])
KINDS = pytest.mark.parametrize("kind", [Entity, Event])
STAYS = {"number": "1", "cents": 250}


async def left_under_way(trial: Trial, scene: Scene, *numbers: str) -> None:
    """What a worker with the older project reads now waits in the channel, for the ERP is down."""
    for number in numbers:
        write(scene, number, int(number) * 100)
    only = trial.faults
    trial.faults = lambda worker, place: worker.crash("before it delivers") or 0.0 if place == "TAKEN" else 0.0
    trial.start("first")
    await asyncio.sleep(20)
    trial.faults = only


# -- what was sent before the change ---------------------------------------------------------------------


@KINDS
@WAYS
@pytest.mark.parametrize("upsert", [True, False])
def test_messages_under_way_are_upcast(via: str, kind: type[Entity], upsert: bool) -> None:
    """Of an entity or an event, in a spool, on the bus in the store and on another one."""

    @in_virtual_time
    async def check() -> None:
        old = project(Scene(), _old(kind), via, upsert=upsert)
        async with Trial(old.landscape(), foreign=["far"]) as trial:
            await left_under_way(trial, old, "1", "2", "3")
            trial.landscape = project(old, _new(kind), via, upsert=upsert).landscape()
            trial.start("second")
            await trial.settle()
            assert sales(old) == {"1": 100, "2": 200, "3": 300}
            assert writers(old) == {"new"}
            await balanced(trial)

    check()


@in_virtual_time
async def test_a_parked_message_knows_its_version() -> None:
    """It is upcast when it is tried again. An event, for a newer message of an entity would heal it."""
    old = project(Scene(), _old(Event))
    async with Trial(old.landscape()) as trial:
        trial.spoil = lambda system, resource, change: Reject("no") if system == "erp" else None
        write(old, "1", 100)
        await trial.once()
        (row,) = await trial.parked()
        assert schema_of(row.message) == 1
        trial.spoil = lambda system, resource, change: RetryLater("not yet") if system == "erp" else None
        trial.landscape = project(old, _new(Event)).landscape()
        worker = trial.start()
        await trial.decide(row, "replay")
        await asyncio.sleep(1.0)
        (row,) = await trial.parked()
        # It was upcast before it failed again, and is kept as it was tried.
        assert (schema_of(row.message), "total" in msgspec.json.decode(unpack_message(row.message).data)) == (2, True)
        trial.spoil = lambda system, resource, change: None
        await trial.settle()
        assert (sales(old), worker.failure) == ({"1": 100}, None)
        await balanced(trial)


@KINDS
@WAYS
def test_an_upcaster_that_raises_parks_its_message(via: str, kind: type[Entity]) -> None:
    """With place, reason and version; everything else arrives, but for events behind it of its subject."""

    @in_virtual_time
    async def check() -> None:
        old = project(Scene(), _old(kind), via)
        async with Trial(old.landscape(), foreign=["far"]) as trial:
            write(old, "0", BROKEN)
            await left_under_way(trial, old, "1", "2")
            trial.landscape = project(old, _new(kind), via).landscape()
            old.store("shop").drop("orders", "0") if kind is Event else None
            trial.start("second")
            await trial.settle()
            rows = {row.key: row for row in await trial.parked("orders>erp", Reason.DEAD)}
            if kind is Event:
                # The others are of its subject, and wait behind it.
                assert sales(old) == {}
            else:
                assert sales(old) == {"0": BROKEN, "1": 100, "2": 200}  # read again, it is right
                assert rows == {}
                return
            row = rows["0"]
            assert schema_of(row.message) == 1
            assert row.error.startswith(
                "from Order version 1 to 2: the upcaster of Order version 1 raised ValueError: "
                "nobody knows what this was (at runner/test_versions.py:"
            )
            data = {"number": "0", "total": {"amount": "6.66", "currency": "EUR"}}
            assert await trial.decide(row, "edit", _edited(row, data))
            await trial.settle()
            assert sales(old) == {"0": BROKEN, "1": 100, "2": 200}
            await balanced(trial)

    check()


def _edited(row: ParkedRow, data: dict[str, Any]) -> bytes:
    message = unpack_message(row.message)
    version = message.version._replace(edit=1)
    content = msgspec.Raw(msgspec.json.encode(data))
    return pack_message(msgspec.structs.replace(message, id=b"e" * 16, version=version, data=content), 2)


@in_virtual_time
async def test_what_waits_in_a_process_inbox_is_upcast() -> None:
    """What an older process made goes on as what the newer one makes."""
    old = project(Scene(), OLD, bill=OLD_BILL)
    async with Trial(old.landscape()) as trial:
        write(old, "1", 100)
        await trial.once()
        inbox = [("Order/2#0", handed_in(OLD_BILL(number="2", cents=200)), "")]
        await trial.look(lambda s: s.inbox.append("billing.Bill", inbox))
        trial.landscape = project(old, NEW, bill=NEW_BILL).landscape()
        trial.start()
        await asyncio.sleep(3)
        assert sales(old) == {"1": 100, "2": 200}
        await balanced(trial)


# -- old and new side by side ----------------------------------------------------------------------------


@KINDS
@WAYS
def test_an_old_worker_stands_down(via: str, kind: type[Entity]) -> None:
    """It neither parks nor drops what it cannot read, says what to do, and a newer worker soon has its partitions."""

    @in_virtual_time
    async def check() -> None:
        old = project(Scene(), _old(kind), via)
        new = project(old, _new(kind), via)
        async with Trial(old.landscape(), foreign=["far"]) as trial:
            write(old, "1", 100)
            await trial.once()
            trial.landscape = new.landscape()
            await left_under_way(trial, old, "2", "3", "4")
            trial.landscape = old.landscape()
            veteran = trial.start("veteran")
            await asyncio.sleep(30)
            assert (await trial.parked(), sales(old)) == ([], {"1": 100})
            said = "is Order version 2, and this worker has version 1; deploy the newer entities here"
            assert await paused(trial) == f"what orders>erp is to bring {said}"
            source = await trial.look(lambda s: s.sources.get("shop.taken"))
            assert source.failure == f"what was published last {said}"
            trial.landscape = new.landscape()
            write(old, "5", 500)
            trial.start("newcomer")
            await asyncio.sleep(10)
            assert sales(old) == {"1": 100, "2": 200, "3": 300, "4": 400, "5": 500}
            assert (await paused(trial), await trial.parked(), veteran.failure) == ("", [], None)
            for number in range(6, 20):
                write(old, str(number), number)
                await asyncio.sleep(0.3)
            await trial.settle(60)
            assert sales(old).keys() == {str(number) for number in range(1, 20)}
            await balanced(trial)

    check()


@in_virtual_time
async def test_an_old_worker_leaves_newer_parked_messages_alone() -> None:
    """Also where a person has decided on them: they wait for a worker that can read them."""
    old = project(Scene(), OLD)
    new = project(old, NEW)
    async with Trial(new.landscape()) as trial:
        trial.spoil = lambda system, resource, change: Reject("no") if system == "erp" else None
        write(old, "1", 100)
        await trial.once()
        trial.spoil = lambda system, resource, change: None
        (row,) = await trial.parked()
        await trial.decide(row, "replay")
        trial.landscape = old.landscape()
        report = await trial.once()
        assert "deploy the newer entities here" in report.paused["orders>erp"]
        (after,) = await trial.parked()
        assert (after.decision, after.message, sales(old)) == ("replay", row.message, {})
        trial.landscape = new.landscape()
        await trial.once()
        assert (sales(old), await trial.parked()) == ({"1": 100}, [])
        await balanced(trial)


@in_virtual_time
async def test_an_old_worker_leaves_a_newer_inbox_alone() -> None:
    """What a newer process has made waits for a reader with the newer entities."""
    old = project(Scene(), OLD, bill=OLD_BILL)
    async with Trial(old.landscape()) as trial:
        made = NEW_BILL(number="2", total=Money("2", "EUR"))
        await trial.look(lambda s: s.inbox.append("billing.Bill", [("Order/2#0", handed_in(made), "")]))
        report = await trial.once()
        assert "what waits for billing.Bill is Bill version 2" in report.failed["billing.Bill"]
        assert await trial.look(lambda s: s.inbox.depth("billing.Bill")) == 1
        trial.landscape = project(old, NEW, bill=NEW_BILL).landscape()
        await trial.once()
        assert sales(old) == {"2": 200}


@in_virtual_time
async def test_what_the_old_worker_can_read_still_arrives() -> None:
    """A leg that met something newer in one partition first empties the other ones of what is older."""
    old = project(Scene(), OLD, "bus")
    new = project(old, NEW, "bus")
    async with Trial(old.landscape()) as trial:
        trial.faults = lambda worker, place: 100.0 if place == "erp.begin" else 0.0
        for landscape, numbers in ((old, range(1, 10)), (new, [100])):
            for number in numbers:
                write(old, str(number), number * 100)
            trial.landscape = landscape.landscape()
            worker = trial.start()
            await asyncio.sleep(5)
            worker.crash()
            await asyncio.sleep(5)
        trial.faults = lambda worker, place: 0.0
        trial.landscape = old.landscape()
        trial.start("veteran")
        await asyncio.sleep(20)
        assert sales(old) == {str(number): number * 100 for number in range(1, 10)}
        assert "deploy the newer" in await paused(trial)


@pytest.mark.parametrize("seed", range(4))
@WAYS
def test_a_rolling_upgrade_with_crashes(via: str, seed: int) -> None:
    """Old workers are replaced one by one while orders change and workers die: nothing is lost or done twice."""

    @in_virtual_time
    async def check() -> None:
        chance = random.Random(f"{via}{seed}")
        old = project(Scene(), OLD, via, upsert=bool(seed % 2))
        new = project(old, NEW, via, upsert=bool(seed % 2))
        wanted: dict[str, int] = {}
        async with Trial(old.landscape(), foreign=["far"]) as trial:

            def faults(worker: Any, place: str) -> float:
                if place.isupper() and chance.random() < 0.01 and len(trial.workers) < 12:
                    worker.crash(f"at {place}")
                    trial.start()
                return 0.0

            trial.start()
            trial.start()
            for turn in range(80):
                key = str(chance.randrange(12))
                wanted[key] = turn * 100
                write(old, key, turn * 100)
                await asyncio.sleep(chance.random() / 2)
                trial.faults = faults if turn < 60 else (lambda worker, place: 0.0)
                if turn in {30, 45}:
                    trial.landscape = new.landscape() if turn == 30 else trial.landscape
                    trial.start()
                if turn in {50, 70}:
                    living = [one for one in trial.workers if not one.over_by_itself]
                    old_ones = [one for one in living if one.runner.landscape.entities["Order"] is OLD]
                    if old_ones:
                        await old_ones[0].stop()
                if turn == 78:
                    for one in trial.workers:
                        if not one.over_by_itself and one.runner.landscape.entities["Order"] is OLD:
                            await one.stop()
            trial.start()
            await trial.settle()
            assert sales(old) == wanted
            await balanced(trial)

    check()


# -- what a new version brings about ---------------------------------------------------------------------


def _wider(version: int) -> Any:
    class Order(Entity, key="number", version=version):
        number: str
        cents: int
        account: str = "a"
        channel: str = ""

    return Order


@in_virtual_time
async def test_only_what_is_otherwise_is_sent_again() -> None:
    """A raised version has every record mapped again; bytes that stay the same stay at home."""
    old = project(Scene(), OLD)
    async with Trial(old.landscape()) as trial:
        for number in range(5):
            write(old, str(number), 100, **({"channel": "web"} if number == 3 else {}))
        await trial.once()
        before = [one.entered for one in await trial.look(accounts)]
        wider = _wider(2)
        scene = Scene(_number=old._number)
        shop = scene.system("shop", orders=Table(id="number"))
        erp = scene.system("erp", sales=Table(id="id", upsert=True, transactional=True))

        @shop.source(wider, "orders")
        def taken(record: dict[str, Any]) -> Any:
            return wider(number=record["number"], cents=record["cents"], channel=record.get("channel", ""))

        @erp.sink(wider, "sales", match="reference")
        def sale(one: Any) -> dict[str, Any]:
            return {"id": one.number, "reference": one.number, "cents": one.cents, "channel": one.channel}

        scene.flow(wider, "shop", "erp", name="orders")
        trial.landscape = scene.landscape()
        await trial.once()
        assert [one.entered for one in await trial.look(accounts)] == [before[0] + 1]
        rows = {row["reference"]: row.get("channel") for row in old.store("erp").rows("sales").values()}
        assert rows == {"0": None, "1": None, "2": None, "3": "web", "4": None}
        await trial.once()
        assert [one.entered for one in await trial.look(accounts)] == [before[0] + 1]


@in_virtual_time
async def test_events_are_not_given_anew() -> None:
    """They have happened, whatever events look like from now on."""
    old = project(Scene(), _old(Event))
    async with Trial(old.landscape()) as trial:
        write(old, "1", 100)
        await trial.once()
        trial.landscape = project(old, _new(Event)).landscape()
        await trial.once()
        assert [(one.entered, dict(one.outcomes)) for one in await trial.look(accounts)] == [(1, {"done": 1})]


def test_a_mapping_is_as_new_as_its_entity() -> None:
    """A newer entity counts before any version of a function, and an event's not at all."""
    assert mapping_version(1, OLD) == 1
    assert mapping_version(999_999, OLD) < mapping_version(1, NEW) < mapping_version(2, NEW)
    assert mapping_version(3, _new(Event)) == 3


@in_virtual_time
async def test_the_ledger_keeps_every_version() -> None:
    """Who publishes a version first notes its schema; what nobody publishes is not noted."""
    old = project(Scene(), OLD)
    async with Trial(old.landscape()) as trial:
        await trial.once()
        assert await trial.look(lambda s: seen_versions(s, OLD)) == {}
        write(old, "1", 100)
        await trial.once()
        assert await trial.look(lambda s: seen_versions(s, OLD)) == {1: wire_schema(OLD)}
        trial.landscape = project(old, NEW).landscape()
        await trial.once()
        assert await trial.look(lambda s: seen_versions(s, OLD)) == {1: wire_schema(OLD), 2: wire_schema(NEW)}


@in_virtual_time
async def test_an_entity_that_changed_under_its_number_is_refused() -> None:
    """Before anything is read; with the field and the remedy."""
    old = project(Scene(), OLD)
    async with Trial(old.landscape()) as trial:
        write(old, "1", 100)
        await trial.once()
        write(old, "2", 100)
        scene = project(old, OLD)
        scene.entities["Order"] = _wider(1)
        for system in scene.systems.values():
            for one in (*system.adapter.sources.values(), *system.adapter.sinks.values()):
                object.__setattr__(one, "entity", scene.entities["Order"])
        trial.landscape = scene.landscape()
        read = (await trial.look(lambda s: s.sources.get("shop.taken"))).read_at
        with pytest.raises(ConfigurationError) as error:
            await trial.once()
        assert [(one.where, one.what, one.remedy) for one in error.value.mistakes] == [
            (
                "entity Order",
                "Order is otherwise than version 1 that the ledger has seen: "
                'channel: a new field, "" where it is left out',
                "write version=2; an upcaster is not needed",
            )
        ]
        assert (await trial.look(lambda s: s.sources.get("shop.taken"))).read_at == read


@in_virtual_time
async def test_two_first_publishers_do_not_pass_for_one() -> None:
    """Two workers with different entities of one version begin at once: the second to publish is refused."""
    old = project(Scene(), OLD)
    other = _wider(1)
    async with Trial(old.landscape()) as trial:
        note = {"1": wire_schema(other)}
        write(old, "1", 100)

        def faults(worker: Any, place: str) -> float:
            if place == "READ":
                asyncio.ensure_future(trial.look(lambda s: s.notes.put("schema/Order", note)))  # noqa: RUF006
                return 1.0
            return 0.0

        trial.faults = faults
        report = await trial.once()
        assert "Order is otherwise than version 1 that the ledger has seen" in report.failed["shop.taken"]
        assert sales(old) == {}


# -- verdicts ------------------------------------------------------------------------------------------------


def _steps(version: int, *steps: int) -> Any:
    class Order(Entity, key="number", version=version):
        number: str
        total: Money
        account: str = "a"
        channel: str = ""

    for step in steps:
        Order.upcaster(step)(lambda data: data)
    return Order


V1, V2, WIDER = wire_schema(OLD), wire_schema(NEW), wire_schema(_wider(2))
VERDICTS: list[tuple[str, Any, dict[int, Any], Verdict, list[str]]] = [
    ("never published", NEW, {}, Verdict.NEW, []),
    ("the same", OLD, {1: V1}, Verdict.SAME, []),
    ("a new field with a default", _wider(2), {1: V1}, Verdict.COMPATIBLE, []),
    ("with an upcaster", NEW, {1: V1}, Verdict.UPCAST, []),
    ("without the upcaster", _new(Entity, steps=False), {1: V1}, Verdict.MISSING, ["@Order.upcaster(1)"]),
    ("changed under its number", _wider(1), {1: V1}, Verdict.CHANGED, ["version=2"]),
    ("changed so that it needs an upcaster", _steps(1), {1: V1}, Verdict.CHANGED, ["@Order.upcaster(1)"]),
    ("changed under a number long left", _wider(1), {1: V1, 2: V2}, Verdict.CHANGED, ["version=3"]),
    ("older", OLD, {1: V1, 2: V2}, Verdict.OLDER, []),
    ("the upcaster was taken away again", _new(Entity, steps=False), {1: V1, 2: V2}, Verdict.MISSING, ["(1)"]),
    ("two steps", _steps(3, 1), {1: V1, 2: V2}, Verdict.SAME, []),
    ("two steps, one of them compatible", _steps(3, 2), {1: V1, 2: WIDER}, Verdict.UPCAST, []),
    ("two steps, the first missing", _steps(3, 2), {1: V1, 2: V2}, Verdict.MISSING, ["(1)"]),
    ("a step over a version that nobody published", _steps(3, 1), {1: V1}, Verdict.MISSING, ["(2)"]),
    ("both steps over it", _steps(3, 1, 2), {1: V1}, Verdict.UPCAST, []),
    ("of a version later than all steps", _steps(4, 2), {3: V2}, Verdict.SAME, []),
    ("an event that was an entity", _new(Event), {1: V1}, Verdict.MISSING, ["another name"]),
]


@pytest.mark.parametrize(("name", "entity", "seen", "verdict", "remedies"), VERDICTS, ids=lambda one: str(one)[:40])
def test_verdict(name: str, entity: Any, seen: dict[int, Any], verdict: Verdict, remedies: list[str]) -> None:
    """How an entity stands to what was seen, and what is to be done."""
    found = standing(entity, seen)
    if verdict is Verdict.SAME and entity.__version__ not in seen:
        verdict = Verdict.COMPATIBLE
    assert found.verdict is verdict, name
    assert len(found.mistakes) == len(remedies), found.mistakes
    for mistake, remedy in zip(found.mistakes, remedies, strict=True):
        assert remedy in mistake.remedy


# -- upcasting by itself ---------------------------------------------------------------------------------


def _message(data: Any, key: str = "1", subject: str = "") -> Message:
    return Message(id=b"i" * 16, key=key, version=Version(1, 1), data=msgspec.Raw(encode(data)), subject=subject)


@given(st.lists(st.tuples(st.text("abc", min_size=1), st.integers(-999, 999)), max_size=5))
def test_any_old_message_becomes_a_canonical_new_one(given_: list[tuple[str, int]]) -> None:
    """In bulk, with its bytes as the new entity would be encoded; a broken one is the only one refused."""
    messages = [_message(OLD(number=number, cents=cents), number) for number, cents in given_]
    for (number, cents), found in zip(given_, upcast(NEW, 1, messages), strict=True):
        wanted = NEW(number=number, total=Money(Decimal(cents) / 100, "EUR"))
        if cents == BROKEN:
            assert isinstance(found, Reject)
            continue
        assert not isinstance(found, Reject), found
        message, entity = found
        assert (entity, bytes(message.data), message.key) == (wanted, encode(wanted), number)


@given(st.integers(1, 4), st.integers(0, 99))
def test_steps_follow_each_other(begin: int, count: int) -> None:
    """1 to 2, 2 to 3, 3 to 4; a version in the middle begins in the middle, and a step left out changes nothing."""

    class Count(Entity, key="number", version=4):
        number: str
        path: str

    for step in (1, 3):
        Count.upcaster(step)(lambda data, step=step: data | {"path": f"{data['path']}>{step}"})
    old = Count(number="1", path=str(count))
    message, entity = _sound(upcast(Count, begin, [_message(old)]))
    assert entity.path == str(count) + "".join(f">{step}" for step in (1, 3) if step >= begin)
    assert bytes(message.data) == encode(entity)


def _sound(found: list[Any]) -> tuple[Message, Any]:
    (one,) = found
    assert not isinstance(one, Reject), one
    return one


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda data: data | {"number": "2"}, "an upcaster must keep the key, '1', and made it '2'"),
        (lambda data: data | {"account": "b"}, "an upcaster must keep the subject, 'a', and made it 'b'"),
        (lambda data: None, "the upcaster of Order version 1 gave NoneType instead of a dict"),
        (lambda data: data | {"total": 1}, "Expected `object`, got `int` - at `$.total`"),
        (lambda data: data | {"more": 1}, "Object contains unknown field `more`"),
        (lambda data: data | {"more": object()}, "what the upcasters gave has no canonical form"),
        (lambda data: data["nothing"], "the upcaster of Order version 1 raised KeyError: 'nothing' (at "),
    ],
)
def test_what_an_upcaster_may_not_do(wrong: Callable[[Any], Any], said: str) -> None:
    """Each message has a reason of its own, which names both versions."""
    order = _new(Event, steps=False)
    order.upcaster(1)(
        lambda data: (
            wrong({"number": data["number"], "total": {"amount": "1.00", "currency": "EUR"}})
            if data["cents"]
            else {"number": data["number"], "total": {"amount": "0.00", "currency": "EUR"}}
        )
    )
    old = _old(Event)
    bad = _message(old(number="1", cents=1), subject="a")
    found, good = upcast(order, 1, [bad, _message(old(number="3", cents=0), "3", subject="a")])
    assert isinstance(found, Reject)
    assert str(found).startswith("from Order version 1 to 2: ")
    assert said in str(found)
    assert not isinstance(good, Reject)


def test_what_is_handed_in_is_received_again() -> None:
    """An inbox knows the version too."""
    made = NEW_BILL(number="1", total=Money("1", "EUR"))
    assert received(NEW_BILL, handed_in(made)) == made
    assert received(NEW_BILL, handed_in(OLD_BILL(number="1", cents=100))) == made
    with pytest.raises(Reject, match="from Bill version 1 to 2"):
        received(NEW_BILL, b'[1,{"number":"1"}]')


# -- what would go wrong without ---------------------------------------------------------------------------


def test_without_standing_down_messages_are_lost_to_parking(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old worker that takes what it cannot read parks it: the check of that goes red."""
    monkeypatch.setattr("tieline.runner.leg.readable", lambda deliveries, *_: (list(deliveries), 0))
    with pytest.raises(AssertionError):
        test_an_old_worker_stands_down("direct", Entity)


def test_without_giving_up_partitions_no_newer_worker_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old worker that only stands still keeps what it cannot deliver: the check of that goes red."""

    async def keep(self: Leg) -> None:
        return

    monkeypatch.setattr(Leg, "_release", keep)
    with pytest.raises(AssertionError):
        test_an_old_worker_stands_down("direct", Entity)


def test_without_the_upcast_parked_messages_cannot_be_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is parked is not reached by the upcast of batches: the check of that goes red."""
    monkeypatch.setattr("tieline.runner.leg.renew_each", lambda entity, works: None)
    with pytest.raises(AssertionError):
        test_a_parked_message_knows_its_version()


def test_without_the_upcast_of_batches_messages_under_way_are_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on its way is not reached by that of what is parked: the check of that goes red."""
    monkeypatch.setattr("tieline.runner.ways.renew", lambda entity, works, schema: None)
    with pytest.raises(AssertionError):
        test_messages_under_way_are_upcast("bus", Event, True)


def test_without_holding_the_reader_publishes_the_old_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old reader would send everything back: the check of that goes red."""
    monkeypatch.setattr("tieline.runner.reader.newest_seen", lambda stores, entity: 0)
    with pytest.raises(AssertionError):
        test_an_old_worker_stands_down("direct", Event)
