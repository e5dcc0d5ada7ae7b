from entities import Customer, Invoice, Order

from tieline import Adapter
from tieline.connectors.memory import Memory, Table

erp = Adapter(Memory(parties=Table(), sales=Table(), invoices=Table()))


@erp.sink(Customer, "parties")
def party(customer):
    return {"id": customer.number, "name": customer.name}


@erp.sink(Order, "sales")
def sale(order, ids):
    return {"id": order.number, "party": ids(order.customer)}


@erp.sink(Invoice, "invoices")
def invoice(invoice):
    return {"id": invoice.number}
