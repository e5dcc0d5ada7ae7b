"""The company's own language."""

from tieline import Entity, Money


class Order(Entity, key="number"):
    number: str
    total: Money
