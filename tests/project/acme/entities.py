from tieline import Entity, Money, Ref, Value


class Customer(Entity, key="number", version=1):
    number: str
    name: str


class Line(Value):
    sku: str
    price: Money


class Order(Entity, key="number", version=1):
    number: str
    customer: Ref[Customer]
    total: Money
    lines: list[Line]


class Invoice(Entity, key="number", version=1):
    number: str
    order: Ref[Order]
    total: Money
