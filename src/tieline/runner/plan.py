"""What runs: the landscape's flows as sources with one reader each, and legs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tieline.adapter import Sink, Source
from tieline.connector import Connector, ConnectorSettings, Record
from tieline.entity import Entity, Event
from tieline.errors import ConfigurationError, Mistake
from tieline.flow import Flow, leg_name
from tieline.ledger import InboxRow
from tieline.process import Process, Rule
from tieline.runner.upcasting import received
from tieline.system import Landscape, SourceSettings, System


@dataclass(slots=True)
class LegPlan:
    """One source to one target. A process as target has `rule` and `output`, the source it feeds.

    `held_in` is the name under which it is kept what the target holds.
    """

    name: str
    flow: Flow
    source: "SourcePlan"
    target: str
    entity: type[Entity]
    settling: float
    held_in: str
    generation: int = 1
    sink: Sink | None = None
    connector: Connector | None = None
    settings: ConnectorSettings | None = None
    sinks: Mapping[type[Entity], Sink] = field(default_factory=dict)
    rule: Rule | None = None
    output: str = ""

    @property
    def commits(self) -> bool:
        """Whether the target keeps what it holds beside its rows, in commits of its own."""
        if self.connector is None or self.sink is None or self.sink.steps:
            return False
        return self.connector.capabilities(self.sink.resource).transactional


@dataclass(frozen=True, slots=True)
class Input:
    """A leg that feeds a process, and its source; whether this worker runs it or another one."""

    leg: str
    source: str


@dataclass(slots=True)
class SourcePlan:
    """One source with its one reader. A process's source reads its inbox and has no connector.

    `held_in` is the name under which it is kept what its system holds as a target. `version` is that of its
    mapping, which has changed where its function or the entity has: see `mapping_version`.
    """

    name: str
    system: str
    held_in: str
    entity: type[Entity]
    settings: SourceSettings
    function: Callable[[Record], Any]
    version: int = 1
    resource: str = ""
    connector: Connector | None = None
    legs: list[LegPlan] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)  # of a process's source: the legs that feed it
    also_target: bool = False  # the system also takes this entity: what it reads may be our own write


_ENTITIES: Final = 1_000_000  # what an entity's version weighs in a mapping's, above any version of a function


def mapping_version(function: int, entity: type[Entity]) -> int:
    """The version of a mapping: its entity's before its function's, so that seen tells which was newer.

    An event has happened, and is not given anew because events look otherwise now.
    """
    return function + (0 if issubclass(entity, Event) else _ENTITIES * (entity.__version__ - 1))


def function_version(mapping: int) -> int:
    """The version of the function in a mapping's version: what its author wrote."""
    return mapping % _ENTITIES


def process_source(process: str, entity: type[Entity]) -> str:
    """The name of the source that carries a process's outputs of one entity."""
    return f"{process}.{entity.__name__}"


def build(
    landscape: Landscape, connectors: Mapping[str, Connector], only: set[str] | None = None
) -> list[SourcePlan]:
    """The sources and legs of the landscape's flows; `only` names the flows wanted.

    Raises:
        ConfigurationError: with everything that does not fit together.
    """
    sources: dict[str, SourcePlan] = {}
    mistakes: list[Mistake] = []
    for flow in landscape.flows.values():
        if only is not None and flow.name not in only:
            continue
        entity = landscape.entities[flow.entity]
        try:
            plan = _source(landscape, flow, entity, connectors)
        except ConfigurationError as error:
            mistakes.extend(error.mistakes)
            continue
        plan = sources.setdefault(plan.name, plan)
        for target in flow.targets:
            try:
                plan.legs.append(_leg(landscape, flow, plan, target.system, target.sink, connectors))
            except ConfigurationError as error:
                mistakes.extend(error.mistakes)
    if mistakes:
        raise ConfigurationError(*mistakes)
    for plan in sources.values():
        plan.inputs = [
            Input(leg_name(flow.name, plan.system), _source_name(landscape, flow))
            for flow in feeding(landscape, plan.system, plan.entity)
        ]
        plan.also_target = any(
            other.entity == plan.entity.__name__ and plan.system in {t.system for t in other.targets}
            for other in landscape.flows.values()
        )
    return list(sources.values())


def feeding(landscape: Landscape, name: str, gives: type[Entity]) -> list[Flow]:
    """The flows that lead to the process of this name and become `gives` there; none where it is a system."""
    process = landscape.processes.get(name)
    takes = [rule.takes for rule in process.rules.values() if rule.gives is gives] if process else []
    return [
        flow
        for flow in landscape.flows.values()
        if landscape.entities[flow.entity] in takes and name in {target.system for target in flow.targets}
    ]


def flows_behind(landscape: Landscape, name: str) -> set[str]:
    """The flow of this name and, where a process makes its entity, the flows that it is made of."""
    found: set[str] = set()
    ahead = [landscape.flows[name]]
    while ahead:
        flow = ahead.pop()
        if flow.name not in found:
            found.add(flow.name)
            ahead += feeding(landscape, flow.source, landscape.entities[flow.entity])
    return found


def _source_name(landscape: Landscape, flow: Flow) -> str:
    entity = landscape.entities[flow.entity]
    if flow.source in landscape.processes:
        return process_source(flow.source, entity)
    return f"{flow.source}.{_choose(landscape.systems[flow.source], flow, entity).name}"


def _source(
    landscape: Landscape, flow: Flow, entity: type[Entity], connectors: Mapping[str, Connector]
) -> SourcePlan:
    process = landscape.processes.get(flow.source)
    if process is not None:
        return SourcePlan(
            name=process_source(flow.source, entity),
            system=flow.source,
            held_in=flow.source,
            entity=entity,
            settings=SourceSettings(triggers=(), sweep=0),
            function=lambda record: received(entity, record["data"]),
            version=mapping_version(1, entity),
        )
    system = landscape.systems[flow.source]
    source = _choose(system, flow, entity)
    return SourcePlan(
        name=f"{system.name}.{source.name}",
        system=system.name,
        held_in=system.settings.held_as,
        entity=entity,
        settings=system.source_settings(source.name),
        function=source.function,
        version=mapping_version(source.version, entity),
        resource=source.resource,
        connector=connectors[system.name],
    )


def _choose(system: System, flow: Flow, entity: type[Entity]) -> Source:
    found = system.adapter.sources_of(entity)
    if flow.source_name:
        found = [source for source in found if source.name == flow.source_name]
    if len(found) != 1:
        names = ", ".join(system.adapter.sources) or "none"
        raise ConfigurationError(
            Mistake(
                f"flow {flow.name}",
                f"{len(found)} sources of {system.name} give {entity.__name__} (it has: {names})",
                "declare one in the adapter, or name it with source = …",
            )
        )
    return found[0]


def _leg(
    landscape: Landscape, flow: Flow, source: SourcePlan, target: str, sink: str, connectors: Mapping[str, Connector]
) -> LegPlan:
    name = leg_name(flow.name, target)
    process = landscape.processes.get(target)
    if process is not None:
        return _process_leg(name, flow, source, target, process)
    system = landscape.systems[target]
    found = [s for s in system.adapter.sinks_of(source.entity) if sink in {"", s.name}]
    if len(found) != 1:
        names = ", ".join(system.adapter.sinks) or "none"
        raise ConfigurationError(
            Mistake(
                f"flow {flow.name}",
                f"{len(found)} sinks of {target} take {source.entity.__name__} (it has: {names})",
                "declare one in the adapter, or name it with sink = …",
            )
        )
    return LegPlan(
        name=name,
        flow=flow,
        source=source,
        target=target,
        entity=source.entity,
        settling=system.settling,
        held_in=system.settings.held_as,
        generation=system.settings.generation,
        sink=found[0],
        connector=connectors[target],
        settings=system.adapter.connector,
        sinks={s.entity: s for s in system.adapter.sinks.values()},
    )


def _process_leg(name: str, flow: Flow, source: SourcePlan, target: str, process: Process) -> LegPlan:
    rule = process.rules.get(source.entity)
    if rule is None:
        raise ConfigurationError(
            Mistake(f"flow {flow.name}", f"process {target} has no rule for {source.entity.__name__}", "add a rule")
        )
    output = process_source(target, rule.gives)
    return LegPlan(
        name=name,
        flow=flow,
        source=source,
        target=target,
        entity=source.entity,
        settling=0,
        held_in=target,
        rule=rule,
        output=output,
    )


def inbox_record(row: InboxRow) -> Record:
    """An inbox row as a record for the source's mapping."""
    return {"data": row.data}
