from entities import Customer, Order

from tieline import Adapter
from tieline.connectors.memory import Memory, Table

shop = Adapter(Memory(customers=Table(), orders=Table()))


@shop.source(Customer, "customers")
def customer(record):
    return Customer(number=record["id"], name=record["name"])


@shop.source(Order, "orders")
def order(record):
    return None
