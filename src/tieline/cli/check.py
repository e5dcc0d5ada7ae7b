"""``tieline check``: every mistake of a project, every connection, and what no flow claims any more."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
import typer
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.text import Text

from tieline.assembly import MAIN, close_all, ledger_to_read, open_buses, open_connectors
from tieline.bus import Bus
from tieline.cli.options import FAILED, JsonOption, ProjectOption, VerboseOption, command_app, project_path
from tieline.cli.output import Listing, err, log_to_stderr, mistakes_listing, out, print_json
from tieline.connector import Connector
from tieline.entity import Event
from tieline.errors import ConfigurationError, Mistake, TielineError
from tieline.landscape.status import LegStatus, unattended, unclaimed
from tieline.ledger import Ledger, Stores
from tieline.project import Project, read
from tieline.project.findings import meant
from tieline.runner.exact import too_weak, unsure
from tieline.runner.schemas import Standing, Verdict, standings
from tieline.system import Landscape

app = command_app()

_OK: Final = "ok"
_COLOURS: Final = {Verdict.COMPATIBLE: "yellow", Verdict.UPCAST: "yellow", Verdict.SAME: "green", Verdict.NEW: ""}


class Checked(msgspec.Struct, kw_only=True):
    """What a check found. `systems` gives each one's answer: "ok", or what is wrong with it; `entities` how each
    stands to what the ledger has seen."""

    project: str
    mistakes: list[Mistake] = []
    warnings: list[Mistake] = []
    systems: dict[str, str] = {}
    unclaimed: list[LegStatus] = []
    entities: list[Standing] = []

    @property
    def good(self) -> bool:
        """Whether the project can run."""
        return not self.mistakes and all(answer == _OK for answer in self.systems.values())


@app.command()
def check(
    project: ProjectOption = None,
    as_json: JsonOption = False,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the systems alone.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Find every mistake of the project at once, then try every connection."""
    log_to_stderr(verbose=verbose, quiet=True)
    path = project_path(project)
    try:
        found = asyncio.run(_checked(read(path), offline))
    except ConfigurationError as error:
        found = Checked(project=str(path), mistakes=list(error.mistakes))
    if as_json:
        print_json(found)
    else:
        _print(found)
    raise typer.Exit(0 if found.good else FAILED)


async def _checked(project: Project, offline: bool) -> Checked:
    landscape = project.landscape
    found = Checked(project=landscape.name, warnings=list(project.warnings))
    connectors, found.mistakes = open_connectors(landscape)
    found.mistakes += _cannot(landscape, connectors)
    found.warnings += _unsure(landscape, connectors)
    ledger = ledger_to_read(landscape.store, landscape.folder)
    buses: Mapping[str, Bus] = {}
    try:
        if not offline:
            found.systems, mistakes = await _answers(landscape, connectors)
            found.mistakes += mistakes
        found.unclaimed = await ledger.transact(lambda stores: unclaimed(landscape, stores))
        found.warnings += await ledger.transact(lambda stores: _left_alone(landscape, stores))
        found.entities = await ledger.transact(lambda stores: standings(stores, landscape.entities.values()))
        found.mistakes += [mistake for one in found.entities for mistake in _mistakes(one)]
        found.warnings += [_new_version(landscape, one) for one in found.entities if _is_new_version(one)]
        buses = open_buses(landscape, ledger)
        found.mistakes += _too_weak(landscape, buses, ledger)
    except ConfigurationError as error:
        found.mistakes += error.mistakes
    except TielineError as error:
        found.mistakes.append(Mistake("store", str(error), "start it, or correct store in [tieline]"))
    finally:
        for connector in connectors.values():
            await connector.close()
        await close_all(buses, ledger)
    found.mistakes = [project.located(mistake) for mistake in found.mistakes]
    found.warnings = [project.located(warning) for warning in found.warnings]
    return found


def _cannot(landscape: Landscape, connectors: Mapping[str, Connector]) -> list[Mistake]:
    """Flows that ask a system for what its connector cannot do."""
    found = []
    for flow in landscape.flows.values():
        where = f"flow {flow.name}"
        if flow.source in connectors:
            source = landscape.systems[flow.source].adapter.sources[flow.source_name]
            if not connectors[flow.source].capabilities(source.resource).reads:
                what = f"{flow.source} cannot read {source.resource!r}"
                found.append(Mistake(where, what, "take another resource in its adapter"))
        for target in flow.targets:
            if target.system not in connectors:
                continue
            sink = landscape.systems[target.system].adapter.sinks[target.sink]
            facts = connectors[target.system].capabilities(sink.resource)
            if not facts.writes:
                what = f"{target.system} cannot write {sink.resource!r}"
                found.append(Mistake(where, what, "take another resource in its adapter"))
            for step in sink.steps:
                if step.action not in facts.actions:
                    what = f"{target.system} has no action {step.action!r} on {sink.resource!r}"
                    found.append(Mistake(where, what, meant(step.action, facts.actions)))
    return found


def _unsure(landscape: Landscape, connectors: Mapping[str, Connector]) -> list[Mistake]:
    """What exact flows may leave to a person."""
    found = []
    for flow in landscape.flows.values():
        for target in (target for target in flow.targets if target.system in connectors):
            sink = landscape.systems[target.system].adapter.sinks[target.sink]
            found += unsure(flow, target.system, sink, connectors[target.system].capabilities(sink.resource))
    return found


def _too_weak(landscape: Landscape, buses: Mapping[str, Bus], ledger: Ledger) -> list[Mistake]:
    """Exact flows whose messages would not survive a power cut, as far as that is known without running."""
    ways = ((flow, MAIN if flow.via == "bus" else flow.via) for flow in landscape.flows.values())
    refused = (too_weak(flow, bus, buses[bus].capabilities, ledger) for flow, bus in ways if bus in buses)
    return [mistake for mistake in refused if mistake]


def _left_alone(landscape: Landscape, stores: Stores) -> list[Mistake]:
    """Flows that no worker runs, though others run: their workers' choice of labels leaves them out, or they died."""
    what, remedy = "no worker runs it, though others run", "start one: `tieline run {}`, or one with its label"
    names = dict.fromkeys(leg.flow for leg in unattended(landscape, stores))
    return [Mistake(f"flow {name}", what, remedy.format(name)) for name in names]


def _mistakes(one: Standing) -> list[Mistake]:
    """What is wrong with an entity; `run` would hold what concerns an older one, and refuse the rest."""
    if one.verdict is not Verdict.OLDER:
        return one.mistakes
    what = f"{one.entity} has version {one.version} here, and the ledger has seen version {one.seen[-1]}"
    remedy = f"deploy the newer entities here; to go back to what it was, write it as version {one.seen[-1] + 1}"
    return [Mistake(f"entity {one.entity}", what, f"{remedy} with an upcaster of {one.seen[-1]}")]


def _is_new_version(one: Standing) -> bool:
    return one.verdict in {Verdict.COMPATIBLE, Verdict.UPCAST}


def _new_version(landscape: Landscape, one: Standing) -> Mistake:
    """What the first run with a new version does, and what it leaves to a person."""
    what = f"version {one.version} of {one.entity} is new to the ledger, which has seen {one.seen[-1]}"
    flows = ", ".join(flow.name for flow in landscape.flows.values() if flow.entity == one.entity)
    again = f"to have the rest written anew: tieline backfill --again, for {flows}"
    if issubclass(landscape.entities[one.entity], Event):
        return Mistake(f"entity {one.entity}", what, f"events that were sent stay as they are; {again}")
    sent = "the next run reads its sources as a whole and sends what is otherwise on the wire"
    return Mistake(f"entity {one.entity}", what, f"{sent}; {again}")


async def _answers(landscape: Landscape, connectors: Mapping[str, Connector]) -> tuple[dict[str, str], list[Mistake]]:
    """Each system's answer, asked at the same time, and the mistakes that only a system can see."""
    answers: dict[str, str] = {}
    mistakes: list[Mistake] = []
    console = err()
    shown = SpinnerColumn(), TextColumn("{task.description}")
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"asking {', '.join(connectors)}")

        async def ask(name: str, connector: Connector) -> None:
            try:
                answers[name] = await _answer(connector, landscape.systems[name].settings.timeout)
            except ConfigurationError as error:
                mistakes.extend(error.mistakes)
                answers[name] = f"{len(error.mistakes)} to correct"
            waiting = sorted(connectors.keys() - answers.keys())
            progress.update(task, description=f"asking {', '.join(waiting)}")

        await asyncio.gather(*(ask(name, connector) for name, connector in connectors.items()))
    return {name: answers[name] for name in connectors}, mistakes


async def _answer(connector: Connector, timeout: float) -> str:
    try:
        await asyncio.wait_for(connector.check(), timeout)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except ConfigurationError:
        raise
    except TielineError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # somebody else's connector that breaks its promise
        return f"broken connector: {type(error).__name__}: {error}"
    return _OK


def _print(found: Checked) -> None:
    console = out()

    def section(title: str, shown: Listing) -> None:
        console.print(Text(title, "bold"))
        console.print(shown)
        console.print()

    if found.mistakes:
        section(f"{len(found.mistakes)} to correct", mistakes_listing(found.mistakes, "red"))
    if found.warnings:
        section(f"{len(found.warnings)} to know", mistakes_listing(found.warnings, "yellow"))
    if found.systems:
        answers = [
            (name, Text(answer, "green" if answer == _OK else "red")) for name, answer in found.systems.items()
        ]
        section("Systems", Listing(["system", "answer"], answers))
    if found.entities:
        standing = [
            (
                one.entity,
                str(one.version),
                ", ".join(map(str, one.seen)) or "-",
                Text(one.verdict.value, _COLOURS.get(one.verdict, "red")),
                "; ".join(map(str, one.differences)),
            )
            for one in found.entities
        ]
        columns = ["entity", "version", "seen", "verdict", "otherwise"]
        section("Entities", Listing(columns, standing, right=["version"], long=["otherwise"]))
    if found.unclaimed:
        rows = [(leg.leg, f"{leg.in_flight:,}", f"{sum(leg.parked.values()):,}") for leg in found.unclaimed]
        unclaimed = Listing(["leg", "in flight", "parked"], rows, right=["in flight", "parked"])
        section("Known to the ledger, claimed by no flow", unclaimed)
    if found.good:
        console.print(Text(f"{found.project} is good", "green"))
