"""REST against a real webshop: django-oscar's own API, with orders placed while it is read."""

import asyncio
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from tests.connectors.demo_systems import named_or_started
from yarl import URL

from tieline.connector import Change, Page
from tieline.connectors.rest import Link, NextUrl, Offset, Resource, Rest, RestConnector, tail
from tieline.demo.systems import Oscar
from tieline.errors import AccessRefused, Hold
from tieline.settings import Secret, SystemSettings

NAME = "TIELINE_TEST_OSCAR"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def _oscar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The shop that TIELINE_TEST_OSCAR names (http://user:password@127.0.0.1:23100), or the demo's own."""
    with named_or_started(NAME, Oscar, tmp_path_factory.mktemp("demo")):
        yield


def shop_url() -> URL:
    """Where the shop answers, with its user and password."""
    return URL(os.environ[NAME])


LINES = {"lines": Link("lines", items="results", paging=NextUrl())}
SHOP = Rest(
    check="/admin/orders/?limit=1",
    orders=Resource(
        "/admin/orders/",
        id=tail("url"),
        items="results",
        count="count",
        paging=Offset(size=20),
        children=LINES,
        child_cache=1_000,
    ),
    linked=Resource("/admin/orders/", id=tail("url"), items="results", count="count", paging=NextUrl()),
    products=Resource("/admin/products/", items="results", paging=Offset(size=20), update="PATCH"),
    partners=Resource("/admin/partners/", items="results", create="POST", update="PATCH", delete=True),
)


def asking(ask: Callable[[RestConnector], Any], **auth: Any) -> Any:
    there = shop_url()
    password = Secret(there.password or "")
    settings = SystemSettings(
        "shop", str(there.with_user(None) / "api"), auth or {"user": there.user or "", "password": password}
    )

    async def run() -> Any:
        connector = SHOP.open(settings)
        try:
            return await ask(connector)
        finally:
            await connector.close()

    return asyncio.run(run())


async def order(quantity: int = 1, product: int = 3) -> str:
    """Place a guest's order, as the shop's front page does; its number."""
    base = str(shop_url().with_user(None) / "api")
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as guest:
        basket = {"url": f"{base}/products/{product}/", "quantity": quantity}
        async with guest.post(f"{base}/basket/add-product/", json=basket) as response:
            response.raise_for_status()
            chosen = await response.json()
        address = {
            "country": f"{base}/countries/DE/",
            "first_name": "Ann",
            "last_name": "Öztürk",
            "line1": "Weg 1",
            "line4": "Köln",
            "postcode": "50667",
        }
        checkout = {"basket": chosen["url"], "guest_email": "ann@example.com", "shipping_address": address}
        async with guest.post(f"{base}/checkout/", json=checkout) as response:
            assert response.status < 300, await response.text()
            return str((await response.json())["number"])


async def read(connector: RestConnector, resource: str) -> list[Page]:
    return [page async for page in connector.read(resource)]


def test_orders_come_with_their_lines() -> None:
    """Every order is read with its lines, amounts exact, and can be looked up by its id."""

    async def run(connector: RestConnector) -> None:
        numbers = {await order(2), await order(3)}
        pages = await read(connector, "orders")
        records = {id: record for page in pages for id, record in zip(page.ids, page.records, strict=True)}
        assert numbers <= {record["number"] for record in records.values()}
        for record in records.values():
            total = sum(Decimal(line["price_incl_tax"]) for line in record["lines"])
            assert total + Decimal(record["shipping_incl_tax"]) == Decimal(record["total_incl_tax"])
        chosen = next(iter(records))
        found = await connector.lookup("orders", [chosen, "99999999"])
        assert found == [records[chosen], None]

    asking(run)


def test_orders_placed_while_the_list_is_read_hide_none() -> None:
    """The list shows the newest first: each order placed meanwhile shifts it, and no order is skipped."""

    async def run(connector: RestConnector) -> None:
        before = {id for page in await read(connector, "orders") for id in page.ids}
        seen: set[str] = set()
        async for page in connector.read("orders"):
            seen |= set(page.ids)
            if len(seen) < 60:
                await order()
        assert before <= seen

    asking(run)


def test_both_ways_of_paging_give_the_same() -> None:
    """The next addresses that the server writes lead through the same list."""

    async def run(connector: RestConnector) -> None:
        by_offset = {id for page in await read(connector, "orders") for id in page.ids}
        by_link = {id for page in await read(connector, "linked") for id in page.ids}
        listed = {id async for page in connector.keys("orders") for id in page}
        assert by_offset == by_link == listed

    asking(run)


def test_a_login_lets_us_in() -> None:
    """The shop's own login, with its session cookie, reads the same as a password with each call."""
    there = shop_url()
    password = Secret(there.password or "")
    found = asking(lambda c: c.lookup("products", ["1"]), login="/login/", user=there.user or "", password=password)
    assert found == asking(lambda c: c.lookup("products", ["1"]))
    assert found[0] is not None


@pytest.mark.parametrize(
    "auth",
    [
        {"bearer": Secret("n0-such-token")},
        {"user": "admin", "password": Secret("wr0ng")},
        {"login": "/login/", "user": "admin", "password": Secret("wr0ng")},
    ],
)
def test_wrong_credentials_call_the_owner(auth: Any) -> None:
    """A wrong token, password or login is `AccessRefused`, with the shop's words and without the secret."""
    with pytest.raises(AccessRefused, match="401") as error:
        asking(lambda c: c.check(), **auth)
    assert "wr0ng" not in str(error.value)
    assert "n0-such" not in str(error.value)


def test_partners_are_created_changed_and_deleted() -> None:
    """The shop's own rows are written; what it refuses comes with its words and the field."""

    async def run(connector: RestConnector) -> None:

        [made, refused] = await connector.write(
            "partners",
            [
                Change("a", b"", {"name": "Nord GmbH", "users": []}),
                Change("b", b"", {"name": "x" * 200, "users": []}),
            ],
        )
        assert made.error is None, made.error
        assert "name" in str(refused.error)
        assert "128 characters" in str(refused.error)
        [changed] = await connector.write("partners", [Change("a", b"", {"name": "Süd GmbH"}, made.target_id)])
        assert changed.target_id == made.target_id
        [record] = await connector.lookup("partners", [str(made.target_id)])
        assert record is not None
        assert record["name"] == "Süd GmbH"
        for _ in range(2):
            [gone] = await connector.write("partners", [Change("a", b"", None, made.target_id)])
            assert gone.error is None
        assert await connector.lookup("partners", [str(made.target_id)]) == [None]

    asking(run)


def test_a_wrong_address_is_held() -> None:
    """An address that the shop does not have is a person's to correct."""
    wrong = Rest(orders=Resource("/admin/oders/"))

    async def run() -> None:
        connector = wrong.open(SystemSettings("shop", str(shop_url().with_user(None) / "api")))
        try:
            with pytest.raises(Hold, match="404"):
                await read(connector, "orders")
        finally:
            await connector.close()

    asyncio.run(run())
