"""``tieline move``: a flow to another way, while it runs."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Final

import typer
from rich.progress import Progress

from tieline.assembly import DIRECT
from tieline.bus import Bus
from tieline.cli import shadows
from tieline.cli.opened import opened, workers
from tieline.cli.options import FAILED, JsonOption, ProjectOption, VerboseOption, command_app, project_at
from tieline.cli.output import counted, err, log_to_stderr, out, print_json
from tieline.cli.ways import named_way, place, with_bus
from tieline.errors import ConfigurationError, TielineError
from tieline.ledger import Ledger, Stores
from tieline.project.editing import write_bus, write_way
from tieline.project.findings import meant
from tieline.project.times import HOW_LONG, seconds
from tieline.runner.casting import shadows_of_flow
from tieline.runner.moves import Move, as_moved, asked_move, move_of, say_written
from tieline.runner.moving import begin, reach, take_back, under_way
from tieline.system import Landscape

app = command_app()

_LOOK_EVERY: Final = 0.3  # seconds


@app.command()
def move(
    flow: Annotated[str, typer.Argument(help="The flow that is moved.")],
    to: Annotated[
        str, typer.Option("--to", help="direct, bus, a bus of the project, or the address of a new one.")
    ] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Go back to where the last move came from.")] = False,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Run the second way beside the first and only compare, or look at it."),
    ] = False,
    lasting: Annotated[
        str, typer.Option("--for", metavar="TIME", help="With --shadow: compare at least so long, such as 10m.")
    ] = "0s",
    end_shadow: Annotated[bool, typer.Option("--end-shadow", help="Drop the second way again.")] = False,
    partitions: Annotated[
        int | None, typer.Option("--partitions", min=1, max=256, help="How many workers may share it from now on.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Move a flow to another way while it runs: nothing is lost, repeated or out of order on the way there."""
    landscape = project_at(project).landscape
    if flow not in landscape.flows:
        raise typer.BadParameter(f"there is no flow {flow!r}; {meant(flow, landscape.flows)}")
    log_to_stderr(verbose=verbose, quiet=True)
    if shadow and not (undo or end_shadow):
        seconds = _seconds(lasting)
        raise typer.Exit(asyncio.run(shadows.run(landscape, flow, to, partitions, seconds, dry_run, as_json)))
    if [bool(to), undo, end_shadow].count(True) != 1 or shadow:
        raise typer.BadParameter("say where: --to direct, --to bus, --to ADDRESS, or --undo, or --end-shadow")
    if end_shadow:
        raise typer.Exit(asyncio.run(shadows.end(landscape, flow, as_json)))
    raise typer.Exit(asyncio.run(_move(landscape, flow, to, partitions, dry_run, as_json)))


def _seconds(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; {HOW_LONG}", param_hint="--for") from error


async def _move(
    landscape: Landscape, flow: str, to: str, partitions: int | None, dry_run: bool, as_json: bool
) -> int:
    bus, url = named_way(landscape, to) if to else ("", "")
    landscape = with_bus(landscape, bus, url)
    async with opened(landscape, {flow}) as (ledger, buses, plans):
        asked = await ledger.transact(lambda stores: asked_move(stores, flow))
        if asked is not None and not to and not dry_run:
            await take_back(ledger, buses, plans, asked)
            err().print(f"{flow} was to go {asked.to}, and nothing had changed yet: that is over", markup=False)
            return 0
        wanted = await ledger.transact(lambda stores: _wanted(landscape, stores, flow, bus, partitions))
        if isinstance(wanted, str):
            err().print(wanted, markup=False)
            return 0
        if dry_run:
            return await _show(ledger, wanted)
        beside = await ledger.transact(lambda stores: [s.name for s in shadows_of_flow(stores, flow)])
        if asked is not None and asked != wanted:
            await take_back(ledger, buses, plans, asked)
        try:
            await reach(ledger, buses, plans, wanted)
        except TielineError:
            with suppress(TielineError):
                await take_back(ledger, buses, plans, wanted)
            raise
        if url:
            assert landscape.file is not None
            write_bus(landscape.file, bus, url)  # before workers look for it
        said = await begin(ledger, buses, plans, wanted)
        for line in said:
            err().print(line, markup=False)
        await shadows.forget(ledger, buses, beside)
        written = await _write(landscape, ledger, wanted)
        running = await ledger.transact(workers)
        if running:
            await _watch(ledger, buses, flow)
        left = await under_way(ledger, buses, flow)
        _report(wanted, left, written, bool(running), as_json)
        return 0 if written else FAILED


def _wanted(landscape: Landscape, stores: Stores, flow: str, to: str, partitions: int | None) -> Move | str:
    """The move to make, or why there is none."""
    known, last = as_moved(stores, landscape.flows[flow]), move_of(stores, flow)
    here = (known.via, known.partitions)
    if not to:
        if last is None:
            return f"{flow} has not been moved"
        if last.undoes and last.written:
            return f"{flow} was taken back to {last.to} already; say --to {last.was} to go there again"
        return last.back()
    compared = [shadow.way.partitions for shadow in shadows_of_flow(stores, flow) if shadow.to == to != DIRECT]
    there = (to, partitions or (compared[0] if compared else here[1]))
    if there == here:
        if last is not None and not last.written:
            return last  # go on with it
        return f"{flow} goes {to} already"
    return Move(flow, *there, *here)


async def _show(ledger: Ledger, move: Move) -> int:
    running = await ledger.transact(workers)
    out().print(f"{move.flow}: from {place(move.was, move.was_partitions)} to {place(move.to, move.partitions)}")
    out().print(f"{counted(len(running), 'worker')} would follow at once")
    err().print("nothing was changed")
    return 0


async def _write(landscape: Landscape, ledger: Ledger, move: Move) -> bool:
    """Write the word into the project file; False, and what to do, where that cannot be."""
    assert landscape.file is not None
    changed = move.partitions if move.partitions != landscape.flows[move.flow].partitions else None
    try:
        write_way(landscape.file, move.flow, move.to, changed)
    except ConfigurationError as error:
        err().print(str(error), style="red", markup=False)
        err().print(f'write via = "{move.to}" there; until then the ledger keeps the move', markup=False)
        return False
    await ledger.transact(lambda stores: say_written(stores, move.flow))
    return True


async def _watch(ledger: Ledger, buses: Mapping[str, Bus], flow: str) -> None:
    """Wait until the old way is empty; whoever stops waiting stops nothing else."""
    with Progress(console=err(), transient=True) as progress:
        task = progress.add_task("old way", total=None)
        most = 0
        while left := await under_way(ledger, buses, flow):
            messages = sum(left.values())
            most = max(most, messages)
            progress.update(task, total=most or None, completed=most - messages)
            if not await ledger.transact(workers):
                return
            await asyncio.sleep(_LOOK_EVERY)


def _report(move: Move, left: Mapping[str, int], written: bool, running: bool, as_json: bool) -> None:
    if as_json:
        facts = {"flow": move.flow, "to": move.to, "was": move.was, "left": dict(left), "written": written}
        print_json(facts)
    elif left:
        what = f"{counted(sum(left.values()), 'message')} left on the old way"
        out().print(f"{move.flow}: {what}; {'it goes on' if running else 'the next `tieline run` goes on'}")
    else:
        out().print(f"{move.flow} goes {place(move.to, move.partitions)}")
