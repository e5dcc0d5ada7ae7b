"""``tieline status``: every leg, what came in, what became of it, and that it adds up."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from tieline.assembly import ledger_to_read
from tieline.cli.options import WAITS, JsonOption, ProjectOption, VerboseOption, command_app, project_at
from tieline.cli.output import Listing, counted, how_long, log_to_stderr, moment, out, print_json
from tieline.landscape.backlog import Backlog
from tieline.landscape.backlog import backlog as read_backlog
from tieline.landscape.status import LegStatus, SourceStatus, Status
from tieline.landscape.status import status as read_status
from tieline.ledger import Stores
from tieline.system import Landscape

T = TypeVar("T")

app = command_app()


@app.command()
def status(
    project: ProjectOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew every two seconds, with rates.")] = False,
    backlog: Annotated[
        bool, typer.Option("--backlog", help="Only how many messages are in flight: a number to scale by.")
    ] = False,
    verbose: VerboseOption = False,
) -> None:
    """Show what came in, what became of it and what waits; exit code 3 where something waits for a person."""
    log_to_stderr(verbose=verbose, quiet=True)
    landscape = project_at(project).landscape
    if backlog:
        _print_backlog(asyncio.run(_now(landscape, read_backlog)), as_json)
        return
    if watch:
        asyncio.run(_watch(landscape))
        return
    now = asyncio.run(_now(landscape, partial(read_status, landscape)))
    if as_json:
        print_json(as_values(now))
    else:
        out().print(_shown(now, None))
    raise typer.Exit(WAITS if now.for_a_person else 0)


def as_values(now: Status) -> dict[str, object]:
    """The status with what follows from its numbers, for other programs."""
    return {
        "name": now.name,
        "at": now.at,
        "for_a_person": now.for_a_person,
        "workers": now.workers,
        "legs": [{**_fields(leg), "balance": leg.balance, "off_by": leg.off_by} for leg in now.legs],
        "sources": [_fields(source) for source in now.sources],
    }


def _fields(part: LegStatus | SourceStatus) -> dict[str, object]:
    return {name: getattr(part, name) for name in part.__struct_fields__}


def _print_backlog(now: Backlog, as_json: bool) -> None:
    if as_json:
        legs = [{name: getattr(leg, name) for name in leg.__struct_fields__} for leg in now.legs]
        print_json({"at": now.at, "in_flight": now.in_flight, "workers": now.workers, "legs": legs})
    else:
        out().print(Text(str(now.in_flight)))


async def _now(landscape: Landscape, look: Callable[[Stores], T]) -> T:
    ledger = ledger_to_read(landscape.store, landscape.folder)
    try:
        return await ledger.transact(look)
    finally:
        await ledger.close()


async def _watch(landscape: Landscape) -> None:
    ledger = ledger_to_read(landscape.store, landscape.folder)
    before: Status | None = None
    try:
        with Live(console=out(), screen=False, auto_refresh=False) as live:
            while True:
                now = await ledger.transact(partial(read_status, landscape))
                live.update(_shown(now, before), refresh=True)
                before = now
                await asyncio.sleep(2.0)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return
    finally:
        await ledger.close()


def _shown(now: Status, before: Status | None) -> Group:
    earlier = {} if before is None else {leg.leg: leg for leg in before.legs}
    elapsed = 0.0 if before is None else now.at - before.at
    legs = Listing(
        [
            "leg",
            "way",
            "in",
            "done",
            "other",
            "parked",
            "in flight",
            "lag",
            *(["a second"] if before else []),
            "read",
        ],
        [_leg(leg, now.at, earlier.get(leg.leg), elapsed) for leg in now.legs],
        right=["in", "done", "other", "parked", "in flight", "lag", "a second"],
    )
    remarks = [remark for leg in now.legs for remark in _remarks(leg)]
    remarks += [remark for source in now.sources for remark in _source_remarks(source)]
    remarks += [_unattended(leg) for leg in now.legs if leg.unattended]
    balances = [Text(f"{leg.leg}: {leg.balance}", "" if not leg.off_by else "bold red") for leg in now.legs]
    return Group(
        Text(f"{now.name} at {moment(now.at)}", "bold"),
        legs,
        Text(),
        *balances,
        *_workers(now),
        *([Text(), *remarks] if remarks else []),
    )


def _workers(now: Status) -> list[Text]:
    """Each worker with the sources it reads and the partitions it holds."""
    lines = []
    for worker in now.workers:
        held = [f"reads {source.source}" for source in now.sources if source.reader == worker]
        for leg in now.legs:
            if worker in leg.workers:
                numbers = ", ".join(map(str, leg.workers[worker])) or "no partition"
                held.append(f"{leg.leg}: {numbers}")
        lines.append(Text(f"worker {worker}: {'; '.join(held) or 'holds nothing'}"))
    return [Text(), *lines] if lines else []


def _unattended(leg: LegStatus) -> Text:
    said = f" (labels: {', '.join(leg.labels)})" if leg.labels else ""
    return Text(f"{leg.leg}: no worker runs it{said}, though others run", "yellow")


def _leg(leg: LegStatus, at: float, before: LegStatus | None, elapsed: float) -> list[str | Text]:
    done = {name.value: count for name, count in leg.outcomes.items()}
    cells: list[str | Text] = [
        leg.leg,
        f"{leg.leaving} → {leg.way}" if leg.leaving else leg.way,
        f"{leg.entered:,}",
        f"{done.pop('done', 0):,}",
        f"{sum(done.values()):,}",
        Text(f"{sum(leg.parked.values()):,}", "red" if leg.for_a_person else "yellow" if leg.parked else ""),
        f"{leg.in_flight:,}" if leg.counted else f"~{leg.in_flight:,}",
        how_long(leg.lag) if leg.in_flight else "-",
    ]
    if elapsed:
        cells.append(f"{_settled_since(leg, before) / elapsed:,.0f}")
    cells.append(_read(leg, at))
    return cells


def _read(leg: LegStatus, at: float) -> str:
    """How long ago the leg's source was read; what a process makes is not read, it arrives."""
    if leg.from_process:
        return "-"
    return f"{how_long(max(0.0, at - leg.last_read))} ago" if leg.last_read else "never"


def _settled_since(leg: LegStatus, before: LegStatus | None) -> int:
    return sum(leg.outcomes.values()) - (sum(before.outcomes.values()) if before else 0)


def _remarks(leg: LegStatus) -> list[Text]:
    found = []
    if not leg.claimed:
        found.append(Text(f"{leg.leg}: no flow claims it any more", "yellow"))
    elif not leg.started:
        found.append(Text(f"{leg.leg}: has not run yet"))
    elif leg.paused:
        found.append(Text(f"{leg.leg}: paused: {leg.paused}", "yellow"))
    if leg.parked:
        reasons = ", ".join(f"{count:,} {reason.value}" for reason, count in leg.parked.items())
        found.append(Text(f"{leg.leg}: parked: {reasons}", "red" if leg.for_a_person else "yellow"))
    if leg.off_by:
        found.append(Text(f"{leg.leg}: does not add up by {leg.off_by:+,}; please report this", "bold red"))
    return found


def _source_remarks(source: SourceStatus) -> list[Text]:
    found = []
    if source.failure:
        found.append(Text(f"{source.source}: {source.failure}", "red"))
    if source.parked:
        parked = counted(source.parked, "record")
        found.append(Text(f"{source.source}: {parked} parked; see `tieline parked list`", "red"))
    return found
