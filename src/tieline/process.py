"""A process stands where a system stands: entities in, other entities out, such as order → invoice."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tieline.entity import Entity

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Rule:
    """One entity in, entities of one class out; pure, so that it can be tried with nothing running.

    Outputs belong to their input: they change with it and go with it. `shared` outputs belong to
    nobody, such as the customers that orders show: the newest shown is the truth, and none goes.
    """

    takes: type[Entity]
    gives: type[Entity]
    function: Callable[[Any], Entity | Iterable[Entity] | None]
    shared: bool = False


@dataclass(slots=True)
class Process:
    """Rules under one name."""

    rules: dict[type[Entity], Rule] = field(default_factory=dict)

    def rule(self, takes: type[Entity], gives: type[Entity], *, shared: bool = False) -> Callable[[F], F]:
        """Declare what becomes of an entity that comes in."""

        def declare(function: F) -> F:
            if takes in self.rules:
                raise ValueError(f"{takes.__name__} has a rule in this process already")
            self.rules[takes] = Rule(takes, gives, function, shared)
            return function

        return declare
