"""Promise 1, with 2 and 5 beside it: nothing is lost, done twice or miscounted, whatever is killed."""

import asyncio

import pytest
from tests.promises.checks import (
    BACK,
    BOOKS,
    LOST,
    POINTS,
    AtPoint,
    crash,
    nothing_is_lost,
    one_interruption,
    sales_history,
    settled,
    until,
)
from tests.runner.cells import order, run_in_virtual_time, sales
from tests.runner.company import CREATING, MERGING, SQL, Company, Kind, Order

from tieline.connector import Record
from tieline.connectors import memory
from tieline.connectors.memory import Table
from tieline.entity import Entity, Money
from tieline.errors import Unavailable
from tieline.testing import Scene, Trial, clock
from tieline.testing.oracle import accounts, out_of_order


def test_a_worker_killed_at_any_point_loses_nothing_and_does_nothing_twice() -> None:
    clock.run(nothing_is_lost())


def test_nor_does_it_over_an_engine_with_a_relay_before_it() -> None:
    for number in range(1, 46):
        clock.run(one_interruption(number, SQL, crash, via="far"))


def test_a_source_that_goes_back_to_its_old_value_while_nobody_reads_is_believed() -> None:
    """The change may have been published before the worker was killed: then the old value is a change as well."""
    for number in POINTS:
        clock.run(changed_and_changed_back(number))


async def changed_and_changed_back(number: int) -> None:
    memory.forget()
    company = Company(scene=Scene(sweep=1e6))
    company.scene.flow(Order, "shop", "erp")
    at = AtPoint(number, crash)
    async with Trial(company.scene.landscape(), faults=at) as trial:
        history = sales_history(company, trial)
        trial.start("w1")
        order(company, "1", 1)
        await asyncio.sleep(3)
        at.armed = True
        order(company, "1", 2)
        await asyncio.sleep(0.5)
        order(company, "1", 1)
        trial.start("w2")
        await asyncio.sleep(8)
        found = f"at point {number}, {at.place}: {history.effects}"
        assert history.now() == {"1": 1}, f"{LOST} {found}"
        assert out_of_order([1, 2, 1], history.of("1")) is None, f"{BACK} {found}"


@pytest.mark.parametrize("via", ["direct", "bus", "far"])
def test_a_target_that_was_down_gets_all_that_it_missed_while_the_others_go_on(via: str) -> None:
    """The direct way has no bus, and yet a place where batches wait for a leg that is behind."""

    async def check() -> None:
        company = Company()
        company.scene.flow(Order, "shop", "erp", "bi", via=via)
        async with Trial(company.scene.landscape(), foreign=["far"]) as trial:
            trial.start()
            order(company, "0", 1)
            await trial.settle()
            company.scene.store("erp").failure = Unavailable("it is down")
            for number in "12345":
                order(company, number, 1)
                await asyncio.sleep(2)
            everything = dict.fromkeys("012345", (1, ""))
            assert sales(company, "bi") == everything, f"{LOST}: held up by another target, {sales(company, 'bi')}"
            company.scene.store("erp").failure = None
            await asyncio.sleep(90)  # until it is asked again how it is
            assert sales(company) == everything, f"{LOST}: {sales(company)}"
            for account in await trial.look(accounts):
                assert settled(account, 6), f"{BOOKS}: {account}"

    run_in_virtual_time(check)


class Product(Entity, key="sku"):
    """What is sold: its price is the shop's business, and its stock the warehouse's."""

    sku: str
    price: Money | None = None
    stock: int | None = None


def products(kind: Kind) -> Scene:
    """Shop and warehouse, each with its part of a product, and an ERP that has one row of both."""
    scene = Scene()
    shop = scene.system("shop", prices=Table(id="sku", tells_deletes=True))
    warehouse = scene.system("warehouse", stocks=Table(id="sku"))
    erp = scene.system("erp", products=kind.table())

    @shop.source(Product, "prices")
    def price(record: Record) -> Product:
        return Product(sku=record["sku"], price=Money(record["price"], "EUR"))

    @warehouse.source(Product, "stocks")
    def stock(record: Record) -> Product:
        return Product(sku=record["sku"], stock=record["stock"])

    @erp.sink(Product, "products", match="reference")
    def product(product: Product) -> Record:
        row: Record = {"reference": product.sku} | ({} if kind.numbered else {"id": product.sku})
        if product.price is not None:
            row["price"] = int(product.price.amount)
        return row if product.stock is None else {**row, "stock": product.stock}

    scene.flow(Product, "shop", "erp", name="prices")
    scene.flow(Product, "warehouse", "erp", name="stocks")
    return scene


def products_there(scene: Scene) -> list[tuple[int | None, int | None]]:
    """Price and stock in the ERP's rows."""
    return [(row.get("price"), row.get("stock")) for row in scene.store("erp").rows("products").values()]


@pytest.mark.parametrize("kind", [SQL, MERGING, CREATING], ids=lambda kind: kind.name)
def test_two_sources_of_one_row_do_not_outdate_each_other(kind: Kind) -> None:
    """However far each has counted."""

    async def check() -> None:
        scene = products(kind)
        async with Trial(scene.landscape()) as trial:
            trial.start()
            for price in (1, 2, 3, 4):
                scene.store("shop").put("prices", {"sku": "s", "price": price}, id="sku")
                await trial.settle()
            for stock in (10, 20):
                scene.store("warehouse").put("stocks", {"sku": "s", "stock": stock}, id="sku")
                await trial.settle()
                assert products_there(scene) == [(4, stock)], f"{LOST}: {products_there(scene)}"
            scene.store("shop").put("prices", {"sku": "s", "price": 5}, id="sku")
            await trial.settle()
            assert products_there(scene) == [(5, 20)], f"{LOST}: {products_there(scene)}"

    run_in_virtual_time(check)


@pytest.mark.parametrize("kind", [SQL, MERGING, CREATING], ids=lambda kind: kind.name)
def test_a_row_that_one_source_takes_away_is_given_again_by_the_other(kind: Kind) -> None:
    """Wherever the worker is killed that takes it away."""
    for number in POINTS:
        clock.run(taken_away_and_given_again(number, kind))


async def taken_away_and_given_again(number: int, kind: Kind) -> None:
    memory.forget()
    scene = products(kind)
    at = AtPoint(number, crash, page="shop.prices.page")
    async with Trial(scene.landscape(), faults=at) as trial:
        scene.store("shop").put("prices", {"sku": "s", "price": 1}, id="sku")
        scene.store("warehouse").put("stocks", {"sku": "s", "stock": 10}, id="sku")
        trial.start("w1")
        await asyncio.sleep(5)
        at.armed = True
        scene.store("shop").drop("prices", "s")
        await asyncio.sleep(0.5)
        trial.start("w2")
        # What is asked for before a commit that may not come is given after a minute.
        found = await until(75, lambda: products_there(scene), [(None, 10)])
        assert found == [(None, 10)], f"{LOST} at point {number}, {at.place}: {found}"
        scene.store("warehouse").put("stocks", {"sku": "s", "stock": 20}, id="sku")
        found = await until(15, lambda: products_there(scene), [(None, 20)])
        assert found == [(None, 20)], f"{LOST} at point {number}, {at.place}: {found}"
