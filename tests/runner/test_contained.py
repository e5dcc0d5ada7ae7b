"""What goes wrong in one place stops that place alone, and nothing overtakes what is stopped."""

import asyncio

from tests.runner.cells import books, in_virtual_time, order, pay, sales
from tests.runner.company import Company, Invoice, Order, Payment

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
