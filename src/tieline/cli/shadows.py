"""``tieline move --shadow``: what a second way would bring, compared with what the first has brought."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import typer
from rich.progress import Progress

from tieline.bus import Bus
from tieline.cli.opened import opened, workers
from tieline.cli.options import FAILED, WAITS
from tieline.cli.output import Listing, counted, err, out, print_json
from tieline.cli.ways import named_way, place, with_bus
from tieline.errors import TielineError
from tieline.ledger import Ledger
from tieline.project.editing import write_bus
from tieline.runner.casting import Second, Sight, cast, drop, shadows_of_flow, sight
from tieline.runner.shadowing import have_forgotten
from tieline.runner.shadows import Verdict
from tieline.system import Landscape

_LOOK_EVERY: Final = 0.3  # seconds
_SURE: Final = 2.0  # seconds in which nothing came of what is under way nowhere


async def run(
    landscape: Landscape, flow: str, to: str, partitions: int | None, lasting: float, dry_run: bool, as_json: bool
) -> int:
    """Begin a flow's shadow, or go on with it; wait until it has compared what there is, and report."""
    bus, url = named_way(landscape, to) if to else ("", "")
    landscape = with_bus(landscape, bus, url)
    async with opened(landscape, {flow}) as (ledger, buses, plans):
        there = await ledger.transact(lambda stores: shadows_of_flow(stores, flow))
        if not to and not there:
            raise typer.BadParameter(f"{flow} has no shadow; say where it is to go: --to", param_hint="--shadow")
        known = landscape.flows[flow]
        usual = known.partitions if bus else there[0].way.partitions
        second = Second(flow, bus or there[0].to, partitions or usual)
        if dry_run:
            way = place(second.to, second.partitions)
            out().print(f"{flow}: {way} would be run beside {place(known.via, known.partitions)}, and compared")
            err().print("nothing was changed")
            return 0
        if to:
            if url:
                assert landscape.file is not None
                write_bus(landscape.file, bus, url)  # before workers look for it
            for leg in await cast(ledger, buses, plans, second):
                err().print(f"{leg}: {place(second.to, second.partitions)} runs beside it", markup=False)
        running = bool(await ledger.transact(workers))
        wanted = await _watch(ledger, buses, flow, lasting) if running else {}
        found = await _surely(ledger, buses, flow, running)
        _report(flow, found, wanted, running, as_json)
        return _code(found, wanted)


async def end(landscape: Landscape, flow: str, as_json: bool) -> int:
    """Drop a flow's shadow; what was found is told for the last time."""
    async with opened(landscape, {flow}) as (ledger, buses, _):
        found = await sight(ledger, buses, flow)
        if not found:
            err().print(f"{flow} has no shadow", markup=False)
            return 0
        names = await ledger.transact(lambda stores: [s.name for s in shadows_of_flow(stores, flow)])
        await drop(ledger, flow)
        await forget(ledger, buses, names)
        _report(flow, found, {}, True, as_json)
        err().print(f"the shadow of {flow} is over", markup=False)
        return 0


async def forget(ledger: Ledger, buses: Mapping[str, Bus], names: Iterable[str]) -> None:
    """Have engines forget the subscriptions of shadows that are over; where that cannot be, a worker does."""
    try:
        await have_forgotten(ledger, buses, names)
    except TielineError as error:
        err().print(f"its engine cannot be told now, a worker will: {error}", markup=False)


async def _watch(ledger: Ledger, buses: Mapping[str, Bus], flow: str, lasting: float) -> dict[str, int]:
    """Wait until what was published up to now, or to the end of the time asked for, is compared; gives how much."""
    until = time.monotonic() + lasting
    wanted: dict[str, int] = {}
    with Progress(console=err(), transient=True) as progress:
        task = progress.add_task("comparing", total=None)
        while found := await sight(ledger, buses, flow):
            books = [one.books for one in found]
            if time.monotonic() >= until and not wanted:
                wanted = {one.leg: one.published for one in books}
            progress.update(task, total=sum(b.published for b in books), completed=sum(b.compared for b in books))
            if wanted and all(one.compared + one.waiting >= wanted.get(one.leg, 0) for one in books):
                break
            if wanted and not any(one.under_way for one in found) and await _stand(ledger, buses, flow, found):
                break  # it never comes
            if not await ledger.transact(workers):
                break
            await asyncio.sleep(_LOOK_EVERY)
    return wanted


async def _stand(ledger: Ledger, buses: Mapping[str, Bus], flow: str, before: Sequence[Sight]) -> bool:
    """Whether nothing moves, for a while."""
    await asyncio.sleep(_SURE)
    return list(before) == await sight(ledger, buses, flow)


async def _surely(ledger: Ledger, buses: Mapping[str, Bus], flow: str, running: bool) -> list[Sight]:
    """How it stands; where something is under way nowhere and has not come, looked at until it is certain."""
    found = await sight(ledger, buses, flow)
    while running and any(_lost(one) for one in found) and not await _stand(ledger, buses, flow, found):
        found = await sight(ledger, buses, flow)
    return found


def _lost(one: Sight) -> int:
    """Messages that were published on the second way, and neither came nor are under way."""
    return one.books.not_come if not one.under_way else 0


def _code(found: Sequence[Sight], wanted: Mapping[str, int]) -> int:
    """`wanted` is how much of each leg was to be compared: where a flow never rests, some is always under way."""
    if any(one.books.differs or _lost(one) for one in found):
        return FAILED
    books = [one.books for one in found]
    behind = any(one.compared + one.waiting < wanted.get(one.leg, one.published) for one in books)
    return WAITS if behind or any(one.unresolved for one in books) else 0


def _report(flow: str, found: Sequence[Sight], wanted: Mapping[str, int], running: bool, as_json: bool) -> None:
    if as_json:
        legs = [{**_facts(one), "lost": _lost(one), "under_way": one.under_way} for one in found]
        print_json({"flow": flow, "equal": _code(found, wanted) == 0, "legs": legs})
        return
    words = [verdict for verdict in Verdict if any(verdict in one.books.verdicts for one in found)]
    columns = ["leg", "beside it", "published", *words, "waiting", "not come", "lost"]
    out().print(Listing(columns, [_row(one, words) for one in found], right=columns[2:]))
    fields = [
        (one.books.leg, name, f"{field.count:,}", example.key, example.ours, example.theirs)
        for one in found
        for name, field in one.books.fields.items()
        for example in field.examples
    ]
    if fields:
        columns = ["leg", "field", "count", "key", "it brings", "the target has"]
        out().print(Listing(columns, fields, right=["count"], long=columns[4:]))
    for one in found:
        _remark(flow, one, running)


def _row(one: Sight, words: Sequence[Verdict]) -> list[str]:
    books = one.books
    counts = (books.published, *(books.verdicts.get(word, 0) for word in words), books.waiting, books.not_come)
    return [books.leg, place(books.to, books.partitions), *(f"{count:,}" for count in (*counts, _lost(one)))]


def _facts(one: Sight) -> dict[str, object]:
    books = one.books
    names = (*books.__struct_fields__, "compared", "not_come", "differs", "unresolved")
    return {name: getattr(books, name) for name in names}


def _remark(flow: str, one: Sight, running: bool) -> None:
    books = one.books
    if books.trouble:
        err().print(f"{books.leg}: {books.trouble}", markup=False)
    if books.by_message:
        what = f"{counted(books.by_message, 'message')} compared by id and content alone"
        err().print(f"{books.leg}: {what}; its target cannot be asked for them", markup=False)
    if not running:
        err().print(f"{books.leg}: no worker runs; the next `tieline run` compares", markup=False)
    elif not books.published:
        what = f"nothing has come yet; `tieline backfill {flow}` brings every current value both ways"
        err().print(f"{books.leg}: {what}", markup=False)
