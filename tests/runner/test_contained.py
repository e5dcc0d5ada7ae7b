"""What goes wrong in one place stops that place alone, and nothing overtakes what is stopped."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.runner.cells import books, in_virtual_time, order, pay, run_in_virtual_time, sales
from tests.runner.company import Company, Invoice, Order, Payment

from tieline.connector import Record
from tieline.entity import Entity
from tieline.errors import Reject
from tieline.testing import Trial, Worker


@in_virtual_time
async def test_a_process_takes_no_event_before_an_earlier_one_of_its_subject_that_was_rejected() -> None:
    company = Company()
    taken: list[str] = []
    bad = {"p2"}

    @company.scene.process("booking").rule(Payment, Invoice)
    def booked(payment: Payment) -> Invoice:
        if payment.id in bad:
            raise Reject("not yet")
        taken.append(payment.id)
        return Invoice(number=payment.id, total=payment.amount)

    company.scene.flow(Payment, "shop", "booking")
    company.scene.flow(Invoice, "booking", "erp")
    async with Trial(company.scene.landscape()) as trial:
        for number in (1, 2, 3):
            pay(company, number)
        pay(company, 4, account="b")
        trial.start()
        await trial.settle()
        assert taken == ["p1", "p4"]
        assert await books(trial, "payments>booking") == (4, {"done": 2}, 2)
        bad.clear()
        (rejected,) = [row for row in await trial.parked() if row.key == "p2"]
        await trial.decide(rejected, "replay")
        await trial.settle()
        assert taken == ["p1", "p4", "p2", "p3"]
        assert await books(trial, "payments>booking") == (4, {"done": 4}, 0)


@in_virtual_time
async def test_a_shared_output_without_a_key_parks_its_input_alone() -> None:
    company = Company()

    @company.scene.process("invoicing").rule(Order, Invoice, shared=True)
    def invoice(order: Order) -> Invoice:
        return Invoice(number="" if order.note else order.number, total=order.total)

    company.scene.flow(Order, "shop", "invoicing", name="billing")
    company.scene.flow(Invoice, "invoicing", "erp")
    async with Trial(company.scene.landscape()) as trial:
        order(company, "1", 1)
        order(company, "2", 2, "gives a nameless invoice")
        order(company, "3", 3)
        trial.start()
        await trial.settle()
        bills = company.scene.store("erp").rows("bills")
        assert sorted(bills) == ["1", "3"]
        assert await books(trial, "billing>invoicing") == (3, {"done": 2}, 1)


@in_virtual_time
async def test_an_engine_that_fails_in_a_way_nobody_foresaw_does_not_end_the_worker() -> None:
    company = Company()
    company.scene.flow(Order, "shop", "erp", via="far")
    failed = False

    def faults(worker: Worker, place: str) -> float:
        nonlocal failed
        if place == "publish" and not failed:
            failed = True
            raise OSError("something in a driver")
        return 0.0

    async with Trial(company.scene.landscape(), faults=faults, foreign=["far"]) as trial:
        worker = trial.start()
        order(company, "1", 1)
        await asyncio.sleep(1)
        assert failed
        assert worker.failure is None
        await trial.settle()
        assert sales(company) == {"1": (1, "")}
        assert await books(trial) == (1, {"done": 1}, 0)


UNSENDABLE = {
    "half a character in its key": ({"number": "\ud800"}, "lone surrogate"),
    "NUL in its key": ({"number": "a\0b"}, "no NUL"),
    "half a character in a text": ({"number": "2", "note": "n\udfff"}, "note: half a character"),
}


@pytest.mark.parametrize(("record", "reason"), UNSENDABLE.values(), ids=UNSENDABLE.keys())
def test_a_record_with_a_text_that_cannot_be_sent_is_parked_by_itself(record: Record, reason: str) -> None:
    async def check() -> None:
        company = Company()
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape()) as trial:
            order(company, "1", 1)
            company.scene.store("shop").put("orders", {"total": Decimal(1), **record}, id="number")
            report = await trial.once()
            assert report.failed == {}
            assert sales(company) == {"1": (1, "")}
            (row,) = await trial.parked("shop.order")
            assert (row.key, reason in row.error) == (record["number"], True), row.error

    run_in_virtual_time(check)


@pytest.mark.parametrize("value", ["\ud800", 2**70, {(1, 2): 3}, object()], ids=["text", "number", "keys", "object"])
def test_a_field_that_nobody_asks_for_may_hold_what_json_cannot(value: Any) -> None:
    async def check() -> None:
        company = Company()
        company.scene.flow(Order, "shop", "erp")
        async with Trial(company.scene.landscape()) as trial:
            company.scene.store("shop").put("orders", {"number": "1", "total": Decimal(1), "x": value}, id="number")
            await trial.once()
            assert sales(company) == {"1": (1, "")}
            assert await trial.parked() == []

    run_in_virtual_time(check)


class Machine(Entity, key="guid"):
    """Something with a number and labels that have no order."""

    guid: UUID
    labels: set[str]


@in_virtual_time
async def test_what_a_mapping_gives_in_another_form_has_one_key_and_changes_nothing() -> None:
    """Text for a UUID and a list for a set: in meaning the same, so the same message."""
    company = Company()
    text = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"

    @company.scene.systems["shop"].adapter.source(Machine, "orders")
    def machine(record: Record) -> Machine:
        return Machine(guid=record["guid"], labels=record["labels"])

    @company.scene.systems["erp"].adapter.sink(Machine, "sales")
    def row(machine: Machine) -> Record:
        return {"id": str(machine.guid), "reference": "", "labels": sorted(machine.labels)}

    company.scene.flow(Machine, "shop", "erp")
    shop = company.scene.store("shop")
    async with Trial(company.scene.landscape()) as trial:
        shop.put("orders", {"number": "1", "guid": text, "labels": ["b", "a", "b"]}, id="number")
        trial.start()
        await trial.settle()
        shop.put("orders", {"number": "1", "guid": text.lower(), "labels": ["a", "b"]}, id="number")
        await trial.settle()
        assert await books(trial, "machines>erp") == (1, {"done": 1}, 0)
        (seen,) = await trial.look(lambda s: s.seen.by_record("shop.machine", ["1"]))
        assert seen.key == text.lower()
