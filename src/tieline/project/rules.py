"""What must hold between the flows of a project, and between them and everything they name."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from tieline.adapter import Sink, Source
from tieline.entity import Entity, referenced
from tieline.flow import Flow, Target
from tieline.process import Process
from tieline.project.code import Code
from tieline.project.findings import Findings, Place, meant
from tieline.project.sections import BUS, DIRECT, MAIN, Mastery
from tieline.project.table import Table
from tieline.system import System

Declared = TypeVar("Declared", Source, Sink)


@dataclass(frozen=True, slots=True)
class World:
    """What flows may name. None is what is declared and could not be read: nothing more is said of it."""

    entities: Mapping[str, type[Entity]] | None
    systems: Mapping[str, System | None]
    processes: Mapping[str, Process | None]
    buses: Mapping[str, str]
    mastery: Mapping[str, Mastery]
    code: Code
    findings: Findings

    @property
    def places(self) -> list[str]:
        """Everything that a flow may lead from or to."""
        return [*self.systems, *self.processes]


@dataclass(frozen=True, slots=True)
class Written:
    """A flow and the table it was read from."""

    flow: Flow
    table: Table

    def place_of(self, target: Target) -> Place:
        """Where this target is named."""
        if self.table.is_table("to"):
            return self.table.place("to", target.system)
        return self.table.place("to", self.flow.targets.index(target))


def complete(world: World, written: Sequence[Written]) -> dict[str, Flow]:
    """The flows, their source and sinks named; every mistake in and between them is noted."""
    written = [Written(_completed(world, one), one.table) for one in written]
    _nothing_twice(world, written)
    _circles_are_settled(world, written)
    if not world.findings.mistakes:
        _references_arrive(world, written)
    return {one.flow.name: one.flow for one in written}


def _completed(world: World, written: Written) -> Flow:
    flow, table = written.flow, written.table
    if world.entities is not None and flow.entity and flow.entity not in world.entities:
        remedy = meant(flow.entity, world.entities) if world.entities else "define it in entities.py"
        table.mistake("entity", f"there is no entity {flow.entity!r}", remedy)
    ways = [DIRECT, BUS, *world.buses]
    if flow.via not in {*ways, MAIN}:
        table.mistake("via", f"there is no way {flow.via!r}", meant(flow.via, ways))
    if flow.source and flow.source not in world.places:
        table.mistake("from", f"there is no system {flow.source!r}", meant(flow.source, world.places))
    entity = (world.entities or {}).get(flow.entity)
    source_name = _source_name(world, written, entity)
    targets = tuple(_target(world, written, target, entity) for target in flow.targets)
    return msgspec.structs.replace(flow, source_name=source_name, targets=targets)


def _source_name(world: World, written: Written, entity: type[Entity] | None) -> str:
    flow, table = written.flow, written.table
    if (process := world.processes.get(flow.source)) is not None:
        gives = {rule.gives.__name__ for rule in process.rules.values()}
        if entity is not None and entity not in {rule.gives for rule in process.rules.values()}:
            what = f"process {flow.source} gives no {flow.entity}; it gives {_listed(gives)}"
            table.mistake("entity", what, f"declare a rule that gives {flow.entity}, or carry what it gives")
        if flow.source_name:
            table.mistake("source", f"{flow.source} is a process, which has no named sources", "leave source out")
        return ""
    system = world.systems.get(flow.source)
    if system is None or entity is None:
        return flow.source_name
    adapter = system.adapter
    chosen = _choose(system.name, "source", "gives", entity, adapter.sources, flow.source_name)
    if not isinstance(chosen, tuple):
        return chosen.name
    what, remedy = chosen
    table.mistake("source" if flow.source_name else "from", what, remedy)
    return flow.source_name


def _target(world: World, written: Written, target: Target, entity: type[Entity] | None) -> Target:
    flow, place = written.flow, written.place_of(target)
    if target.system not in world.places:
        world.findings.mistake(place, f"there is no system {target.system!r}", meant(target.system, world.places))
        return target
    if target.system == flow.source:
        what = f"flow {flow.name} leads from {flow.source} to itself"
        world.findings.mistake(place, what, "name another system")
        return target
    process = world.processes.get(target.system)
    if process is not None and entity is not None and entity not in process.rules:
        takes = _listed(cls.__name__ for cls in process.rules)
        what = f"process {target.system} takes no {flow.entity}; it takes {takes}"
        world.findings.mistake(place, what, f"declare a rule that takes {flow.entity}, or lead the flow elsewhere")
    if target.system in world.processes and target.sink:
        what = f"{target.system} is a process, which has no named sinks"
        world.findings.mistake(place, what, "leave sink out")
    system = world.systems.get(target.system)
    if system is None or entity is None:
        return target
    chosen = _choose(system.name, "sink", "takes", entity, system.adapter.sinks, target.sink)
    if not isinstance(chosen, tuple):
        return msgspec.structs.replace(target, sink=chosen.name)
    what, remedy = chosen
    if not target.sink:
        remedy = remedy.replace("with sink", f"in [flows.{flow.name}.to.{system.name}] with sink")
    world.findings.mistake(place, what, remedy)
    return target


def _choose(
    system: str,
    kind: str,
    does: str,
    entity: type[Entity],
    declared: Mapping[str, Declared],
    name: str,
) -> Declared | tuple[str, str]:
    """The one source or sink meant, or what is wrong and the remedy."""
    fitting = {one.name: one for one in declared.values() if one.entity is entity}
    has = _listed(f"{one.name} ({one.entity.__name__})" for one in declared.values())
    if name and name in declared and name not in fitting:
        other = declared[name].entity.__name__
        return f"{kind} {name!r} of {system} {does} {other}, not {entity.__name__}", f"it has {has}"
    if name and name not in declared:
        return f"{system} has no {kind} {name!r}; it has {has}", meant(name, fitting or declared)
    if name:
        return fitting[name]
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        what = f"several {kind}s of {system} {_plural(does)} {entity.__name__}: {_listed(fitting)}"
        return what, f'name one with {kind} = "{min(fitting)}"'
    what = f"{system} has no {kind} that {does} {entity.__name__}; it has {has}"
    return what, f"declare one in its adapter: @….{kind}({entity.__name__}, …)"


def _nothing_twice(world: World, written: Sequence[Written]) -> None:
    taken: dict[tuple[str, str, str, str], str] = {}
    for one in written:
        flow = one.flow
        for index, target in enumerate(flow.targets):
            what = (flow.entity, flow.source, flow.source_name, target.system)
            if what not in taken:
                taken[what] = flow.name
            elif target.system in world.places:
                place = one.place_of(target) if taken[what] != flow.name else one.table.place("to", index)
                world.findings.mistake(
                    place,
                    f"{flow.entity} goes from {flow.source} to {target.system} in flow {taken[what]} already",
                    "take one of the two out",
                )


def _circles_are_settled(world: World, written: Sequence[Written]) -> None:
    for entity in dict.fromkeys(one.flow.entity for one in written):
        ways: dict[str, set[str]] = {}
        for one in written:
            if one.flow.entity == entity:
                ways.setdefault(one.flow.source, set()).update(target.system for target in one.flow.targets)
        circle = _circle(ways)
        settled = world.mastery.get(entity, Mastery())
        if circle and not settled.masters and not settled.conflicts:
            last = [one for one in written if one.flow.entity == entity and one.flow.source in circle][-1]
            world.findings.mistake(
                last.table.place(),
                f"{entity} goes round {' → '.join([*circle, circle[0]])}, and nothing says who is right",
                f'write [entities.{entity}] with masters = {{ field = "{circle[0]}" }} or conflicts = "newest"',
            )


def _circle(ways: Mapping[str, Collection[str]]) -> list[str]:
    """Names that lead round to the first of them again, in order; a step from a name to itself is none."""
    for start in ways:
        path = _path(ways, start, start)
        if path:
            return path
    return []


def _path(ways: Mapping[str, Collection[str]], start: str, end: str) -> list[str]:
    """The shortest way of two or more names from `start` round to `end`."""
    reached: dict[str, list[str]] = {start: [start]}
    queue = [start]
    for name in queue:
        for following in sorted(ways.get(name, ())):
            if following == end and len(reached[name]) > 1:
                return reached[name]
            if following not in reached:
                reached[following] = [*reached[name], following]
                queue.append(following)
    return []


def _references_arrive(world: World, written: Sequence[Written]) -> None:
    """Warn of references that can wait for each other, or for what no flow brings."""
    entities = world.entities or {}
    refers = {name: {other.__name__ for other in referenced(cls)} for name, cls in entities.items()}
    if circle := _circle(refers):
        world.findings.warning(
            world.code.place_of(entities[circle[0]], Place("entities.py")),
            f"{' → '.join([*circle, circle[0]])} refer to each other: a message of each can wait for the other",
            "make one of the references optional, and send that one first without it",
        )
    brought = {(one.flow.entity, target.system) for one in written for target in one.flow.targets}
    own = {(one.flow.entity, one.flow.source) for one in written}
    for one, target in _targets(written):
        system = world.systems.get(target.system)
        if system is None or not system.adapter.sinks[target.sink].wants_ids:
            continue
        for other in sorted(refers[one.flow.entity]):
            if (other, target.system) not in brought | own:
                world.findings.warning(
                    one.place_of(target),
                    f"{one.flow.entity} refers to {other}, which no flow takes to {target.system}",
                    f"add a flow, or be sure that {target.system} has each {other} itself",
                )


def _targets(written: Sequence[Written]) -> Iterator[tuple[Written, Target]]:
    for one in written:
        for target in one.flow.targets:
            yield one, target


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _plural(does: str) -> str:
    return does.removesuffix("s")
