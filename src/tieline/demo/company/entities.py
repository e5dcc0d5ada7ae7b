"""What Kestrel Pumps talks about, whatever its systems call it."""

from datetime import date, datetime

from tieline import Entity, Money, Ref, Value


class Product(Entity, key="sku"):
    """Something that is sold."""

    sku: str
    title: str
    price: Money


class Address(Value):
    """Where somebody lives."""

    street: str
    postcode: str
    city: str
    country: str


class Customer(Entity, key="email"):
    """Somebody who has ordered."""

    email: str
    name: str
    address: Address


class OrderLine(Value):
    """An article, how many, and the price of one."""

    product: Ref[Product]
    title: str
    quantity: int
    price: Money


class Order(Entity, key="number"):
    """What a customer has ordered. `buyer` and `ship_to` are as given with this order."""

    number: str
    customer: Ref[Customer]
    buyer: str
    ship_to: Address
    placed_at: datetime
    total: Money
    lines: list[OrderLine]


class Invoice(Entity, key="number"):
    """What a customer owes for an order; it has the order's number."""

    number: str
    order: Ref[Order]
    customer: Ref[Customer]
    date: date
    total: Money
    lines: list[OrderLine]


class Request(Entity, key="number"):
    """Something in the plant that wants maintenance."""

    number: str
    title: str
    asset: str = ""
    reported_at: datetime
    changed_at: datetime
