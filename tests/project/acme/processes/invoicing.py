from entities import Invoice, Order

from tieline import Process

invoicing = Process()


@invoicing.rule(Order, Invoice)
def bill(order):
    return Invoice(number=order.number, order=order.number, total=order.total)
