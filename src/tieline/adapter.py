"""An adapter is what is known of one kind of system: its connector, and how records and entities meet."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tieline.connector import ConnectorSettings, Record
from tieline.entity import Entity, Ref

E = TypeVar("E", bound=Entity)

ToEntity = Callable[[Record], Entity | Iterable[Entity] | None]
F = TypeVar("F", bound=Callable[..., Any])


class Ids(Protocol):
    """Gives the target's own id of a referenced entity; the message waits where there is none yet."""

    def __call__(self, ref: "Ref[Any] | str", entity: type[Entity] | None = None) -> str:
        """The target's id; `entity` is needed only where `ref` is plain text."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """A stage that a written document is taken through, such as quote, confirm, process.

    `done_when` looks at the target's own record and says whether the step is behind it: that is how
    a half-finished document is resumed and never taken through a step twice.
    """

    action: str
    done_when: Callable[[Record], bool] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Records of one resource become one entity."""

    name: str
    entity: type[Entity]
    resource: str
    function: ToEntity
    version: int = 1


@dataclass(frozen=True, slots=True)
class Sink:
    """One entity becomes records of one resource.

    `function` is (entity) or (entity, ids) → record, or None to filter it. `match` names the record's
    field that finds a row that Tieline has not written before. `delete` says what a delete does:
    "delete" the row, "ignore" it, or a record of changed fields made by a function of (key).
    `frozen`, where it is given, is why a change or delete of what is complete there is rejected; a delete
    that is to be ignored is not.
    """

    name: str
    entity: type[Entity]
    resource: str
    function: Callable[..., Record | None]
    steps: tuple[Step, ...] = ()
    match: str | None = None
    delete: str | Callable[[str], Record] = "delete"
    wants_ids: bool = False
    frozen: str = ""


@dataclass(slots=True)
class Adapter:
    """Connector settings with the sources and sinks declared over them."""

    connector: ConnectorSettings
    sources: dict[str, Source] = field(default_factory=dict)
    sinks: dict[str, Sink] = field(default_factory=dict)

    def source(
        self, entity: type[Entity], resource: str, *, name: str | None = None, version: int = 1
    ) -> Callable[[F], F]:
        """Declare a source; raise `version` when the mapping changes what it gives."""

        def declare(function: F) -> F:
            chosen = name or function.__name__
            self._refuse_twice(chosen, self.sources)
            self.sources[chosen] = Source(chosen, entity, resource, function, version)
            return function

        return declare

    def sink(
        self,
        entity: type[Entity],
        resource: str,
        *,
        name: str | None = None,
        then: Sequence[Step | str] = (),
        match: str | None = None,
        delete: str | Callable[[str], Record] = "delete",
        frozen: str = "",
    ) -> Callable[[F], F]:
        """Declare a sink."""

        def declare(function: F) -> F:
            chosen = name or function.__name__
            self._refuse_twice(chosen, self.sinks)
            steps = tuple(Step(step) if isinstance(step, str) else step for step in then)
            wants_ids = len(inspect.signature(function).parameters) > 1
            self.sinks[chosen] = Sink(chosen, entity, resource, function, steps, match, delete, wants_ids, frozen)
            return function

        return declare

    def sources_of(self, entity: type[Entity]) -> list[Source]:
        """The sources that give this entity."""
        return [source for source in self.sources.values() if source.entity is entity]

    def sinks_of(self, entity: type[Entity]) -> list[Sink]:
        """The sinks that take this entity."""
        return [sink for sink in self.sinks.values() if sink.entity is entity]

    def _refuse_twice(self, name: str, declared: Mapping[str, Any]) -> None:
        if name in declared:
            raise ValueError(f"{name!r} is declared twice in this adapter; give one of them name=…")
