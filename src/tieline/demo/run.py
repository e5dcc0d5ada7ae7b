"""`tieline demo`: orders placed in a real webshop become sales and invoices in a real ERP, while one watches.

First point-to-point, then over the bus after changing one word; then the ERP goes down and comes back;
then the proof, read from the systems' own databases without Tieline.
"""

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from tieline.demo.children import Child, DemoFailed
from tieline.demo.orders import place_orders, report_requests
from tieline.demo.proof import Proof, prove
from tieline.demo.system import Progress, default_home
from tieline.demo.systems import Oscar, Roundup, Tryton, company, running

PROJECT: Final = Path(__file__).with_name("company")
ORDERS: Final = (12, 12, 8)  # placed while direct, over the bus, and while the ERP is down
REQUESTS: Final = 5
PATIENCE: Final = 90.0  # seconds until everything must have arrived
console: Final = Console(stderr=True, highlight=False)


class Worker:
    """`tieline run` on the demo's project, as a process of its own."""

    def __init__(self, project: Path, environment: dict[str, str]) -> None:
        self._project = project
        self._environment = environment
        self._child: Child | None = None
        self.log = project / "tieline.log"

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tieline", "run", "--project", str(self._project)]
        self._child = Child(command, cwd=self._project, log=self.log, env=self._environment)

    def stop(self) -> None:
        """End it and wait until it is gone."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def check(self) -> None:
        """Raises DemoFailed where it has ended by itself."""
        if self._child is not None and not self._child.is_alive():
            raise DemoFailed(f"Tieline ended; its log, {self.log}, ends with:\n{self.log.read_text()[-1500:]}")


class Story:
    """The demo's steps over running systems."""

    def __init__(self, shop: Oscar, erp: Tryton, maintenance: Roundup, folder: Path) -> None:
        self._shop, self._erp, self._maintenance = shop, erp, maintenance
        self._project = folder / "kestrel"
        self.worker = Worker(self._project, self._prepare())
        self._placed = 0

    def _prepare(self) -> dict[str, str]:
        """The company's project and BI database, and the secrets its file refers to."""
        shutil.copytree(PROJECT, self._project, ignore=shutil.ignore_patterns("__pycache__"))
        with contextlib.closing(sqlite3.connect(self._project / "bi.db")) as database:
            database.executescript((self._project / "bi.sql").read_text())
        return {
            "DEMO_SHOP_URL": self._shop.url,
            "DEMO_SHOP_TOKEN": self._shop.access.token,
            "DEMO_ERP_URL": self._erp.url,
            "DEMO_ERP_PASSWORD": self._erp.access.password,
            "DEMO_MAINTENANCE_URL": self._maintenance.url,
            "DEMO_MAINTENANCE_PASSWORD": self._maintenance.access.password,
        }

    def play(self) -> Proof:
        """All steps; gives the last proof."""
        self._say("Point-to-point", 'every flow says via = "direct"')
        self.worker.start()
        self._order(ORDERS[0])
        self._report()
        self._arrive("orders become sales and invoices")
        self._say("Over the bus", 'one word is changed: via = "bus"; Tieline is started again')
        self.worker.stop()
        self._change_via()
        self.worker.start()
        self._order(ORDERS[1])
        self._arrive("the same, by messages")
        self._say("The ERP goes down", "the shop goes on selling; nothing is lost, nothing is a dead letter")
        self._erp.stop()
        self._order(ORDERS[2])
        self._wait("the BI database has the new orders, the ERP has not", self._only_erp_missing)
        self._erp.start()
        self._erp.wait_ready()
        self._arrive("the ERP is back")
        self._say("Proof", "from the systems' own databases, without Tieline")
        return self.proof()

    def proof(self) -> Proof:
        """What the four databases say now."""
        bi = self._project / "bi.db"
        return prove(self._shop.database, self._erp.database, self._maintenance.database, bi)

    def _order(self, count: int) -> None:
        with _bar("orders placed in the shop", count) as tick:
            asyncio.run(place_orders(self._shop.url, count, progress=tick))
        self._placed += count

    def _report(self) -> None:
        access = self._maintenance.access
        with _bar("requests reported", REQUESTS) as tick:
            asyncio.run(report_requests(self._maintenance.url, access.user, access.password, REQUESTS, progress=tick))

    def _change_via(self) -> None:
        file = self._project / "tieline.toml"
        file.write_text(
            file.read_text()
            .replace('via    = "direct"', 'via    = "bus"')
            .replace('via        = "direct"', 'via        = "bus"')
        )

    def _arrive(self, what: str) -> None:
        self._wait(what, lambda: self.proof().holds)

    def _only_erp_missing(self) -> bool:
        by_side = {c.right.name: c for c in self.proof().comparisons}
        return by_side["BI orders"].agrees and len(by_side["ERP sales"].missing) >= ORDERS[2]

    def _wait(self, what: str, reached: Callable[[], bool]) -> None:
        began = time.monotonic()
        with console.status(what):
            while not reached():
                self.worker.check()
                if time.monotonic() - began > PATIENCE:
                    raise DemoFailed(f"{what}: not after {PATIENCE:.0f} s.\n{self.proof()}\nSee {self.worker.log}.")
                time.sleep(0.25)
        console.print(f"  [green]✓[/] {what} [dim]({time.monotonic() - began:.1f} s)[/]")

    def _say(self, title: str, text: str) -> None:
        console.print(f"[bold]{title}[/]: {text}")


def main(once: bool) -> int:
    """Play the demo; 0 only if the proof holds. Without `once` it stays until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="tieline-demo-"))
    work.chmod(0o755)  # the maintenance system runs as a user of its own
    shop, erp, maintenance = systems = company(default_home(), work)
    try:
        with _booting() as progress, running(systems, progress):
            return _play(shop, erp, maintenance, work, once, began)
    except KeyboardInterrupt:
        console.print("Ended, and everything it started with it.")
        return 0 if not once else 1
    except DemoFailed as failure:
        console.print(f"[red]The demo failed:[/] {failure}")
        return 1
    finally:
        for system in systems:
            system.forget()
        shutil.rmtree(work, ignore_errors=True)


def _play(shop: Oscar, erp: Tryton, maintenance: Roundup, work: Path, once: bool, began: float) -> int:
    story = Story(shop, erp, maintenance, work)
    try:
        proof = story.play()
        console.print(_table(proof))
        verdict = "[green]The proof holds[/]" if proof.holds else "[red]The proof does NOT hold[/]"
        console.print(f"{verdict} after {time.monotonic() - began:.0f} s.")
        if not once:
            console.print(f"Order something: {shop.url}   ERP: {erp.url}   project: {work / 'kestrel'}")
            console.print("Everything keeps running. Ctrl-C ends it.")
            threading.Event().wait()
        return 0 if proof.holds else 1
    finally:
        story.worker.stop()


def _table(proof: Proof) -> Table:
    table = Table(
        title="Equal to the last decimal, none missing, none twice",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for heading in ("what should be", "what is"):
        table.add_column(heading)
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
    table.add_column("verdict")
    for one in proof.comparisons:
        cells: list[str] = []
        for side in (one.left, one.right):
            sums = " ".join(f"{amount} {currency}" for currency, amount in side.sums.items())
            cells += [side.name, str(len(side.documents)), sums]
        faults = [
            f"{len(keys)} {kind}"
            for kind, keys in (
                ("missing", one.missing),
                ("extra", one.extra),
                ("twice", one.duplicate),
                ("different", one.different),
            )
            if keys
        ]
        table.add_row(*cells, "[green]agree[/]" if one.agrees else f"[red]{', '.join(faults)}[/]")
    return table


@contextlib.contextmanager
def _booting() -> Iterator[Progress]:
    """A line per system while it is installed, prepared and started."""
    bars = Bars(
        TextColumn("  {task.fields[system]:<9}"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def progress(system: str, text: str, done: float | None) -> None:
        if system not in tasks:
            tasks[system] = bars.add_task(text, total=1.0, system=system)
        bars.update(tasks[system], description=text, completed=done or 0.0)
        if not console.is_terminal:
            console.print(f"  {system:<9} {text}")
        if len(tasks) >= 3 and all(task.finished for task in bars.tasks):
            bars.stop()

    console.print("[bold]A webshop, an ERP and a maintenance system[/], none of them written for Tieline")
    if console.is_terminal:
        bars.start()
    try:
        yield progress
    finally:
        bars.stop()


@contextlib.contextmanager
def _bar(text: str, count: int) -> Iterator[Progress]:
    """A bar for a number of things."""
    with Bars(TextColumn(f"  {text}"), BarColumn(), TextColumn("{task.completed:.0f}"), console=console) as bars:
        task = bars.add_task(text, total=count)

        def progress(_system: str, _text: str, done: float | None) -> None:
            bars.update(task, completed=(done or 0.0) * count)

        yield progress
