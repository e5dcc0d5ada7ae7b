"""A user's module whose annotations are all text, with names that hide what they are."""
# ruff: noqa: RUF012 -- an empty default is copied for each value

from __future__ import annotations

import datetime as clock
from decimal import Decimal as Exact
from typing import ClassVar

from tieline.entity import Entity, Measure, Money, Ref, Value

Amount = float


class Part(Value):
    weight: Exact
    parts: list[Part] = []
    reading: Measure | None = None


class Assembly(Entity, key="number"):
    colour: ClassVar[str] = "red"
    number: str
    made: clock.datetime
    price: Money
    parts: list[Part]
    owner: Ref[Owner] | None = None
    weight: Exact = Exact("1.50")


class Owner(Entity, key="number"):
    number: str
