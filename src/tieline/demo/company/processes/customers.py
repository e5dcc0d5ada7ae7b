"""Who orders is a customer: the shop knows guests only by their orders."""

from entities import Customer, Order

from tieline import Process

customers = Process()


@customers.rule(Order, Customer, shared=True)
def customer(order: Order) -> Customer:
    """The customer as shown by the order."""
    return Customer(email=order.customer, name=order.buyer, address=order.ship_to)
