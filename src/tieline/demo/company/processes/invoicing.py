"""Every order is invoiced in full, on the day it was placed."""

from entities import Invoice, Order

from tieline import Process

invoicing = Process()


@invoicing.rule(Order, Invoice)
def invoice(order: Order) -> Invoice:
    """The invoice of an order."""
    return Invoice(
        number=order.number,
        order=order.number,
        customer=order.customer,
        date=order.placed_at.date(),
        total=order.total,
        lines=order.lines,
    )
