"""``tieline trace``: where one key is, at every system, with version and time."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from tieline.assembly import ledger_to_read, open_connectors
from tieline.cli.options import FAILED, JsonOption, ProjectOption, VerboseOption, command_app, project_at
from tieline.cli.output import Listing, err, log_to_stderr, moment, out, print_json
from tieline.connector import HeldRow
from tieline.entity import Entity
from tieline.errors import TielineError
from tieline.landscape.trace import Sighting, version_text
from tieline.landscape.trace import trace as read_trace
from tieline.project.findings import meant
from tieline.system import Landscape

app = command_app()


@app.command()
def trace(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="The entity, such as Order.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its key, such as 1001; parts of a key are joined by /.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show where one key is: at every source, in flight, parked and at every target; exit code 1 if nowhere."""
    log_to_stderr(verbose=verbose, quiet=True)
    landscape = project_at(project).landscape
    kind = landscape.entities.get(entity)
    if kind is None:
        raise typer.BadParameter(f"there is no entity {entity!r}; {meant(entity, landscape.entities)}")
    found = asyncio.run(_trace(landscape, kind, key))
    if as_json:
        print_json(found)
    elif found:
        columns = ["where", "state", "whose", "version", "at", "their id", "note"]
        out().print(Listing(columns, map(_row, found), long=["their id", "note"]))
    else:
        err().print(f"no system has shown {entity} {key!r}, and none has it from us")
    raise typer.Exit(0 if found else FAILED)


async def _trace(landscape: Landscape, entity: type[Entity], key: str) -> list[Sighting]:
    ledger = ledger_to_read(landscape.store, landscape.folder)
    try:
        legs = await ledger.transact(lambda stores: stores.legs.all())
        targets = sorted({leg.target for leg in legs if leg.entity == entity.__name__})
        there = await _held_there(landscape, targets, entity, key)
        return await ledger.transact(lambda stores: read_trace(landscape, stores, entity, key, there))
    finally:
        await ledger.close()


async def _held_there(
    landscape: Landscape, targets: Sequence[str], entity: type[Entity], key: str
) -> dict[str, list[HeldRow]]:
    """What targets say that keep their held table themselves; one that cannot be asked is named on stderr."""
    connectors, _ = open_connectors(landscape)
    found = {}
    for name in (name for name in targets if name in connectors):
        sinks = landscape.systems[name].adapter.sinks_of(entity)
        if not any(connectors[name].capabilities(sink.resource).transactional for sink in sinks):
            continue
        try:
            async with connectors[name].transaction() as transaction:
                found[name] = await transaction.held(entity.__name__, [key])
        except TielineError as error:
            err().print(f"{name} could not be asked: {error}", style="yellow", markup=False)
    for connector in connectors.values():
        await connector.close()
    return found


def _row(one: Sighting) -> list[str]:
    at = "" if one.at is None else moment(one.at)
    return [one.place, one.state, one.source, version_text(one.version), at, one.their_id, one.note]
