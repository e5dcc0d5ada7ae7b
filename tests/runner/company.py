"""The company that the runner's tests play with: a shop, an ERP, a warehouse, and a process between."""

from dataclasses import dataclass, field
from decimal import Decimal

from tieline.adapter import Adapter, Step
from tieline.connector import Record
from tieline.connectors.memory import Table
from tieline.entity import Entity, Event, Money, Ref
from tieline.testing import Scene

INTERNAL = "internal"
"""The note on an order that targets do not want."""


class Customer(Entity, key="email"):
    """Who orders."""

    email: str
    name: str = ""
    note: str = ""


class Order(Entity, key="number"):
    """What is ordered."""

    number: str
    total: Money
    customer: Ref[Customer] | None = None
    note: str = ""


class Payment(Event, key="id", subject="account"):
    """Money that came in; each one counts, in order per account."""

    id: str
    account: str
    amount: Money
    note: str = ""


class Invoice(Entity, key="number"):
    """What the process makes of an order: one for every two Euro begun."""

    number: str
    total: Money


@dataclass(frozen=True, slots=True)
class Kind:
    """What a target is able to do."""

    name: str
    transactional: bool
    upsert: bool
    numbered: bool
    steps: bool = False

    def table(self, page: int = 2_000) -> Table:
        """A table of this kind."""
        return Table(
            id="id",
            numbered=self.numbered,
            upsert=self.upsert,
            transactional=self.transactional,
            actions={"post": lambda record: {**record, "state": "posted"}} if self.steps else {},
            page=page,
        )


SQL = Kind("sql", transactional=True, upsert=True, numbered=False)
MERGING = Kind("merging", transactional=False, upsert=True, numbered=False)
CREATING = Kind("creating", transactional=False, upsert=False, numbered=True)
STEPPING = Kind("stepping", transactional=False, upsert=False, numbered=True, steps=True)
KINDS = (SQL, MERGING, CREATING, STEPPING)


@dataclass(slots=True)
class Company:
    """A scene with shop and targets; flows are chosen by the test."""

    erp: Kind = SQL
    bi: Kind = SQL
    orders: Table = field(default_factory=lambda: Table(id="number"))
    scene: Scene = field(default_factory=Scene)

    def __post_init__(self) -> None:
        shop = self.scene.system("shop", customers=Table(id="email"), orders=self.orders, payments=Table(id="id"))
        _shop(shop)
        for name, kind in (("erp", self.erp), ("bi", self.bi)):
            tables = {resource: kind.table() for resource in ("parties", "sales", "receipts", "bills")}
            _target(self.scene.system(name, **tables), kind)

    def invoicing(self, *targets: str, via: str = "direct") -> None:
        """Add the process that makes invoices of orders, and the flow of them to targets."""
        process = self.scene.process("invoicing")
        process.rule(Order, Invoice)(invoices)
        self.scene.flow(Order, "shop", "invoicing", name="billing", via=via)
        self.scene.flow(Invoice, "invoicing", *targets, via=via)


def _shop(shop: Adapter) -> None:
    @shop.source(Customer, "customers")
    def customer(record: Record) -> Customer:
        return Customer(email=record["email"], name=record["name"], note=record.get("note", ""))

    @shop.source(Order, "orders")
    def order(record: Record) -> Order:
        who = record.get("customer")
        return Order(
            number=record["number"],
            total=Money(record["total"], "EUR"),
            customer=Ref(who) if who else None,
            note=record.get("note", ""),
        )

    @shop.source(Payment, "payments")
    def payment(record: Record) -> Payment:
        return Payment(
            id=record["id"],
            account=record["account"],
            amount=Money(record["amount"], "EUR"),
            note=record.get("note", ""),
        )


def _target(target: Adapter, kind: Kind) -> None:
    steps = [Step("post", lambda record: record.get("state") == "posted")] if kind.steps else []

    def row(key: str, **fields: object) -> Record:
        return {"reference": key, **fields} | ({} if kind.numbered else {"id": key})

    @target.sink(Customer, "parties", match="reference", then=steps)
    def party(customer: Customer) -> Record:
        return row(customer.email, name=customer.name, note=customer.note)

    @target.sink(Order, "sales", match="reference", then=steps)
    def sale(order: Order, ids) -> Record | None:
        if order.note == INTERNAL:
            return None
        who = ids(order.customer) if order.customer else None
        return row(order.number, total=order.total.amount, party=who, note=order.note)

    @target.sink(Payment, "receipts", match="reference", then=steps)
    def receipt(payment: Payment) -> Record:
        return row(payment.id, account=payment.account, amount=payment.amount.amount, note=payment.note)

    @target.sink(Invoice, "bills", match="reference", then=steps)
    def bill(invoice: Invoice) -> Record:
        return row(invoice.number, total=invoice.total.amount)


def invoices(order: Order) -> list[Invoice]:
    """One invoice for every two Euro begun."""
    rest, made = order.total.amount, []
    while rest > 0 and len(made) < 5:
        part = min(rest, Decimal(2))
        made.append(Invoice(number=f"{order.number}-{len(made)}", total=Money(part, "EUR")))
        rest -= part
    return made
