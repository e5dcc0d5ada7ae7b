"""The shop's database."""

from entities import Order

from tieline import Adapter, Money
from tieline.connectors.sql import Sql, Table

shop = Adapter(Sql(orders=Table("shop.orders", key="number", cursor="changed")))


@shop.source(Order, "orders")
def order(record):
    return Order(number=record["number"], total=Money(record["total"], record["currency"]))
