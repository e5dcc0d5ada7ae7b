"""The office's database."""

from entities import Order

from tieline import Adapter
from tieline.connectors.sql import Sql, Table

office = Adapter(Sql(sales=Table("office.sales", key="reference")))


@office.sink(Order, "sales")
def sale(order):
    return {"reference": order.number, "amount": order.total.amount, "currency": order.total.currency}
