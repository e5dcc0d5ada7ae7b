"""A webshop on django-oscar, through its REST API.

Orders have no change stamp and their lines stand behind a second address: every poll lists all orders,
and the lines of those that are new or changed.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from entities import Address, Order, OrderLine, Product

from tieline import Adapter, Money, Reject
from tieline.connectors.rest import Link, Offset, Resource, Rest, tail

shop = Adapter(
    Rest(
        check="/api/admin/users/?limit=1",
        orders=Resource(
            "/api/admin/orders/",
            id=tail("url"),
            items="results",
            count="count",
            paging=Offset(size=100),
            children={"lines": Link("lines", items="results")},
            child_cache=10_000,
        ),
        products=Resource(
            "/api/admin/products/",
            id="id",
            items="results",
            count="count",
            paging=Offset(size=100),
        ),
    )
)


@shop.source(Order, "orders")
def order(record: dict[str, Any]) -> Order:
    """An order with its lines; guests are known by e-mail."""
    currency = record["currency"]
    return Order(
        number=record["number"],
        customer=record["email"].lower(),
        buyer=person(record["shipping_address"]),
        ship_to=address(record["shipping_address"]),
        placed_at=datetime.fromisoformat(record["date_placed"]),
        total=Money(record["total_incl_tax"], currency),
        lines=[line(row) for row in record["lines"]],
    )


@shop.source(Product, "products")
def product(record: dict[str, Any]) -> Product | None:
    """An article with the price of its first stock record; one without a price is not for sale."""
    if not record["stockrecords"]:
        return None
    stock = record["stockrecords"][0]
    return Product(sku=record["upc"], title=record["title"], price=Money(stock["price"], stock["price_currency"]))


def line(row: dict[str, Any]) -> OrderLine:
    """An order line; the API gives the line's price, and the price of one beside it."""
    price = Money(row["unit_price_incl_tax"], row["price_currency"])
    if price.amount * row["quantity"] != Decimal(row["price_incl_tax"]):
        raise Reject(
            "quantity times price is not the line's price", field="price_incl_tax", value=row["price_incl_tax"]
        )
    return OrderLine(product=row["partner_sku"], title=row["title"], quantity=row["quantity"], price=price)


def person(given: dict[str, Any]) -> str:
    """A person's name."""
    return f"{given['first_name']} {given['last_name']}".strip()


def address(given: dict[str, Any]) -> Address:
    """A postal address; the country is the end of its own address in the API."""
    return Address(
        street=given["line1"],
        postcode=given["postcode"],
        city=given["line4"],
        country=given["country"].rstrip("/").rpartition("/")[2],
    )
