"""Processes: outputs follow their input, are read once, and reach a target that comes later."""

from decimal import Decimal
from typing import Any

import pytest

from tieline import Entity, Money
from tieline.connectors.memory import Table
from tieline.message import Reason
from tieline.testing import clock
from tieline.testing.harness import Scene, Trial


class Order(Entity, key="number"):
    number: str
    email: str
    total: Money


class Invoice(Entity, key="number"):
    number: str
    total: Money


class Customer(Entity, key="email"):
    email: str
    last_order: str = ""


def company() -> Scene:
    scene = Scene()
    shop = scene.system("shop", orders=Table(id="number"))
    shop.source(Order, "orders", name="order")(
        lambda r: Order(number=r["number"], email=r["email"], total=Money(r["total"], "EUR"))
    )
    for name in ("erp", "bi"):
        system = scene.system(name, invoices=Table(), customers=Table())
        system.sink(Invoice, "invoices", name="invoice")(lambda i: {"id": i.number, "total": i.total.amount})
        system.sink(Customer, "customers", name="customer")(lambda c: {"id": c.email, "last": c.last_order})
    invoicing = scene.process("invoicing")
    invoicing.rule(Order, Invoice)(lambda o: Invoice(number=o.number, total=o.total) if o.total.amount > 0 else None)
    customers = scene.process("customers")
    customers.rule(Order, Customer, shared=True)(lambda o: Customer(email=o.email, last_order=o.number))
    scene.flow(Order, "shop", "invoicing", "customers")
    scene.flow(Invoice, "invoicing", "erp")
    scene.flow(Customer, "customers", "erp")
    return scene


def place(scene: Scene, number: str, total: str, email: str = "a@x.example") -> None:
    scene.store("shop").put("orders", {"number": number, "email": email, "total": total}, id="number")


def test_an_output_appears_changes_and_goes_with_its_input() -> None:
    async def check() -> None:
        scene = company()
        async with Trial(scene.landscape()) as trial:
            trial.start()
            place(scene, "1", "10.00")
            place(scene, "2", "20.00")
            await trial.settle()
            assert {k: v["total"] for k, v in scene.store("erp").rows("invoices").items()} == {
                "1": Decimal("10.00"),
                "2": Decimal("20.00"),
            }
            place(scene, "1", "11.00")
            place(scene, "2", "0.00")
            await trial.settle()
            assert {k: v["total"] for k, v in scene.store("erp").rows("invoices").items()} == {"1": Decimal("11.00")}

    clock.run(check())


def test_shared_outputs_are_one_for_many_inputs_and_stay_when_an_input_goes() -> None:
    async def check() -> None:
        scene = company()
        async with Trial(scene.landscape()) as trial:
            trial.start()
            place(scene, "1", "10.00", "a@x.example")
            await trial.settle()
            place(scene, "2", "20.00", "a@x.example")
            place(scene, "3", "20.00", "b@x.example")
            await trial.settle()
            scene.store("shop").drop("orders", "2")
            scene.store("shop").drop("orders", "3")
            await trial.settle()
            assert scene.store("erp").rows("customers") == {
                "a@x.example": {"id": "a@x.example", "last": "2"},
                "b@x.example": {"id": "b@x.example", "last": "3"},
            }

    clock.run(check())


def test_a_target_that_comes_later_gets_every_output_though_a_process_cannot_be_read_again() -> None:
    async def check() -> None:
        scene = company()
        async with Trial(scene.landscape()) as trial:
            first = trial.start()
            for number in range(1, 8):
                place(scene, str(number), f"{number}.00")
            await trial.settle()
            await first.stop()
            scene.flow(Invoice, "invoicing", "erp", "bi", name="invoices")
            trial.landscape = scene.landscape()
            trial.start()
            await trial.settle()
            assert scene.store("bi").rows("invoices") == scene.store("erp").rows("invoices")
            assert len(scene.store("bi").rows("invoices")) == 7

    clock.run(check())


def test_a_target_that_comes_later_gets_every_output_though_only_its_flow_runs_at_first() -> None:
    """The process's inputs come with another flow; until that runs, the backfill is not over."""

    async def check() -> None:
        scene = company()
        async with Trial(scene.landscape()) as trial:
            for number in range(1, 8):
                place(scene, str(number), f"{number}.00")
            await trial.once()
            scene.flow(Invoice, "invoicing", "erp", "bi", name="invoices")
            trial.landscape = scene.landscape()
            await trial.start(once=True, only={"invoices"}).over()
            assert not scene.store("bi").rows("invoices")
            await trial.once()
            assert scene.store("bi").rows("invoices") == scene.store("erp").rows("invoices")
            assert len(scene.store("bi").rows("invoices")) == 7

    clock.run(check())


def posting(transactional: bool, **options: Any) -> Scene:
    """Invoices of a shop that are final once the ERP has them."""
    scene = Scene()
    shop = scene.system("shop", orders=Table(id="number"))
    shop.source(Invoice, "orders", name="invoice")(
        lambda r: Invoice(number=r["number"], total=Money(r["total"], "EUR"))
    )
    erp = scene.system("erp", invoices=Table(transactional=transactional))
    erp.sink(Invoice, "invoices", name="invoice", frozen="it is posted", **options)(
        lambda i: {"id": i.number, "total": i.total.amount}
    )
    scene.flow(Invoice, "shop", "erp")
    return scene


@pytest.mark.parametrize("transactional", [True, False])
def test_what_is_frozen_at_its_target_is_not_changed_and_says_why(transactional: bool) -> None:
    """At targets of both kinds: the first invoice is written, its change waits for a person."""

    async def check() -> None:
        scene = posting(transactional)
        async with Trial(scene.landscape()) as trial:
            place(scene, "1", "10.00")
            await trial.once()
            place(scene, "1", "11.00")
            place(scene, "2", "20.00")
            await trial.once()
            (parked,) = await trial.parked()
            assert (parked.key, parked.reason, parked.error) == ("1", Reason.DEAD, "it is posted")
            totals = {key: row["total"] for key, row in scene.store("erp").rows("invoices").items()}
            assert totals == {"1": Decimal("10.00"), "2": Decimal("20.00")}

    clock.run(check())


@pytest.mark.parametrize("transactional", [True, False])
def test_a_delete_that_is_to_be_ignored_is_no_change_of_what_is_frozen(transactional: bool) -> None:
    """It is filtered, and what is there stays frozen; any other delete waits for a person."""

    async def check() -> None:
        ignoring, deleting = posting(transactional, delete="ignore"), posting(transactional)
        for scene in (ignoring, deleting):
            async with Trial(scene.landscape()) as trial:
                trial.start()
                place(scene, "1", "10.00")
                await trial.settle()
                scene.store("shop").drop("orders", "1")
                await trial.settle()
                counts = await trial.look(lambda stores: stores.legs.totals("invoices>erp"))
                waiting = [parked.error for parked in await trial.parked()]
                expected = (1, []) if scene is ignoring else (None, ["it is posted"])
                assert (counts.get("filtered"), waiting) == expected
                assert scene.store("erp").rows("invoices").keys() == {"1"}
                place(scene, "1", "11.00")
                await trial.settle()
                assert [parked.error for parked in await trial.parked()] == ["it is posted"]

    clock.run(check())
