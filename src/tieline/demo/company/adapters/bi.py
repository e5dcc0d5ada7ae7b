"""The BI database: a table an entity, for reports."""

from typing import Any

from entities import Invoice, Order, Request

from tieline import Adapter
from tieline.connectors.sql import Sql, Table

bi = Adapter(
    Sql(
        orders=Table("orders", key="number"),
        invoices=Table("invoices", key="number"),
        requests=Table("requests", key="number"),
    )
)


@bi.sink(Order, "orders")
def order(order: Order) -> dict[str, Any]:
    """One row per order."""
    return {
        "number": order.number,
        "customer": order.customer,
        "placed_at": order.placed_at.isoformat(),
        "total": str(order.total.amount),
        "currency": order.total.currency,
    }


@bi.sink(Invoice, "invoices")
def invoice(invoice: Invoice) -> dict[str, Any]:
    """One row per invoice."""
    return {
        "number": invoice.number,
        "customer": invoice.customer,
        "date": invoice.date.isoformat(),
        "total": str(invoice.total.amount),
        "currency": invoice.total.currency,
    }


@bi.sink(Request, "requests")
def request(request: Request) -> dict[str, Any]:
    """One row per maintenance request."""
    return {
        "number": request.number,
        "title": request.title,
        "asset": request.asset,
        "reported_at": request.reported_at.isoformat(),
    }
