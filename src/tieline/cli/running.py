"""A runner at work: its signals, its progress, and what it came to."""

import asyncio
import ctypes
import gc
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from rich.progress import Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from tieline.assembly import close_all, open_buses, open_ledger
from tieline.cli.options import FAILED, WAITS
from tieline.cli.output import Listing, counted, err, out
from tieline.landscape.status import LegStatus
from tieline.landscape.status import status as read_status
from tieline.runner import Runner
from tieline.runner.epoch import OLDER_LEDGER
from tieline.runner.recovery import strangers
from tieline.runner.worker import Report
from tieline.system import Landscape

_ARENAS: Final = -8  # M_ARENA_MAX of malloc.h
_OWN_PAGES_FROM: Final = -3  # M_MMAP_THRESHOLD: bytes from which on memory is given back as soon as it is free


@asynccontextmanager
async def runner_for(landscape: Landscape, only: set[str] | None) -> AsyncIterator[Runner]:
    """A runner over the landscape's own ledger and buses, which are closed behind it."""
    ledger = open_ledger(landscape.store, landscape.folder)
    buses = {}
    try:
        buses = open_buses(landscape, ledger)
        with _progress() as progress:
            yield Runner(landscape, ledger, buses, only=only, progress=progress)
    finally:
        await close_all(buses, ledger)


async def run(runner: Runner, *, once: bool) -> int:
    """Run until a signal comes, or once, and give the exit code."""
    if strange := await strangers(runner.ledger, runner.buses, runner.plans):
        await runner.close()
        err().print(strange_legs(strange))
        err().print(f"nothing was read or written: {OLDER_LEDGER}", style="red")
        return FAILED
    calm_memory()
    with _stopped_by_signals(runner):
        report = await runner.run(once=once)
    if not once:
        return 0  # told to end, and ended in good order; `status` tells how things stand
    now = await runner.ledger.transact(lambda stores: read_status(runner.landscape, stores))
    legs = [leg for leg in now.legs if leg.leg in {plan.name for source in runner.plans for plan in source.legs}]
    sources = [source for source in now.sources if source.source in {plan.name for plan in runner.plans}]
    waits = sum(leg.for_a_person for leg in legs) + sum(source.for_a_person for source in sources)
    _print(report, legs)
    for name, why in sorted({**report.failed, **report.paused}.items()):
        err().print(Text(f"{name}: {why}", "red"))
    if waits:
        err().print(Text(f"{waits:,} for a person to decide about: see `tieline parked list`", "yellow"))
    if report.failed or report.paused:
        return FAILED
    return WAITS if waits else 0


def strange_legs(strange: Mapping[str, str]) -> Listing:
    """What shows that a ledger is an older one."""
    rows = [(Text(leg, "red"), what) for leg, what in strange.items()]
    return Listing(["leg", "what shows"], rows, long=["what shows"])


def calm_memory() -> None:
    """Collect seldom, and keep little of what is free; to be called before there are threads.

    Batches are thousands of small values that refer to nothing back. Of the C library's memory each thread
    would have a heap of its own, which keeps the most that it ever needed.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    with suppress(AttributeError, OSError):  # another C library than glibc has no such call
        set_option = ctypes.CDLL(None).mallopt
        set_option(_ARENAS, 1)
        set_option(_OWN_PAGES_FROM, 128 * 1024)


def _print(report: Report, legs: list[LegStatus]) -> None:
    console = out()
    for source, read in sorted(report.read.items()):
        parked = f", {read.parked:,} parked" if read.parked else ""
        came = f"{counted(read.records, 'record')} read, {counted(read.messages, 'message')}{parked}"
        console.print(Text(f"{source}: {came}"))
    for leg in legs:
        console.print(Text(f"{leg.leg}: {leg.balance}", "" if not leg.off_by else "bold red"))


@contextmanager
def _stopped_by_signals(runner: Runner) -> Iterator[None]:
    """The first SIGINT or SIGTERM lets batches in work finish; a second one does not wait."""
    loop = asyncio.get_running_loop()
    stopping: set[asyncio.Task[None]] = set()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        err().print("stopping: batches in work are finished first")
        stopping.add(loop.create_task(runner.stop()))

    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None] | None]:
    """A line per leg on a terminal; nothing where nobody watches."""
    console = err()
    if not console.is_terminal:
        yield None
        return
    tasks: dict[str, TaskID] = {}
    leg, count = TextColumn("{task.description}", markup=False), TextColumn("{task.completed:,.0f} messages")
    with Progress(leg, count, TimeElapsedColumn(), console=console, transient=True) as progress:

        def advance(leg: str, count: int) -> None:
            if leg not in tasks:
                tasks[leg] = progress.add_task(leg, total=None)
            progress.advance(tasks[leg], count)

        yield advance
