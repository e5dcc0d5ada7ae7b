"""A shop and an office in real databases, a worker over them, and what the office itself says was done to it."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tieline import Adapter, Entity, Money
from tieline.assembly import close_all, open_buses, open_ledger
from tieline.connectors.sql import Sql, Table
from tieline.errors import TielineError
from tieline.flow import Flow, Retries, Robustness, Target
from tieline.landscape.status import LegStatus, status
from tieline.ledger import ParkedRow, Stores
from tieline.runner import Runner
from tieline.settings import SystemSettings
from tieline.system import Landscape, SourceSettings, System, Trigger

T = TypeVar("T")

QUICK = Retries(first=0.3, factor=2.0, longest=1.0, give_up=60.0)
PATIENCE = 30.0  # seconds until a test says that it does not happen


class Order(Entity, key="number"):
    """What is ordered."""

    number: str
    total: Money
    note: str = ""


def order_of(record: Mapping[str, Any]) -> Order:
    """The shop's row as an order."""
    return Order(number=record["number"], total=Money(record["total"], "EUR"), note=record["note"])


def row_of(order: Order) -> dict[str, Any]:
    """The order as the office's row."""
    return {"number": order.number, "total": order.total.amount, "note": order.note}


# -- the shop: a SQLite file ----------------------------------------------------------------------------


def make_shop(file: Path, count: int, note: str = "") -> Path:
    """A shop of so many orders."""
    with closing(sqlite3.connect(file)) as shop, shop:
        shop.execute("pragma journal_mode = wal")
        shop.execute(
            "create table orders (number text not null primary key, total decimaltext not null,"
            " note text not null default '', changed integer not null)"
        )
        shop.execute("create index on_changed on orders (changed)")
    put_orders(file, range(count), note)
    return file


def put_orders(file: Path, numbers: Iterable[int], note: str = "") -> None:
    """Put orders, as of now, in one commit of the shop."""
    with closing(sqlite3.connect(file)) as shop, shop:
        last = shop.execute("select coalesce(max(changed), 0) from orders").fetchone()[0]
        shop.executemany(
            "insert or replace into orders values (?, ?, ?, ?)",
            [(f"{n:05}", f"{n}.50", note, last + at) for at, n in enumerate(numbers, 1)],
        )


def shop_system(file: Path, *, page: int = 2_000, every: float = 0.5, sweep: float = 0.0, version: int = 1) -> System:
    """The shop, read again after `every` seconds."""
    adapter = Adapter(Sql(orders=Table("orders", key="number", cursor="changed", page=page)))
    adapter.source(Order, "orders", name="order", version=version)(order_of)
    return system("shop", adapter, f"sqlite:///{file}", every=every, sweep=sweep)


def system(
    name: str,
    adapter: Adapter,
    url: str,
    *,
    every: float = 0.5,
    sweep: float = 0.0,
    settling: float = 1.0,
    timeout: float = 5.0,
    folder: Path = Path(),
) -> System:
    """A system that is read often and settles doubts soon."""
    source = SourceSettings(triggers=(Trigger(kind="every", seconds=every),), sweep=sweep, brake=1.0)
    return System(
        name=name,
        adapter=adapter,
        settings=SystemSettings(name=name, url=url, timeout=timeout, folder=folder),
        settling=settling,
        sources=dict.fromkeys(adapter.sources, source),
    )


# -- the office: a database that keeps its own history ------------------------------------------------------

OFFICE = """
    create table orders (number text not null primary key, total decimaltext not null, note text not null);
    create table history (at integer primary key, number text not null, total text not null);
    create trigger came after insert on orders begin
        insert into history (number, total) values (new.number, new.total); end;
    create trigger changed after update on orders begin
        insert into history (number, total) values (new.number, new.total); end;
"""

OFFICE_IN_POSTGRESQL = """
    create table orders (number text not null primary key, total numeric not null, note text not null);
    create table history (at bigint generated always as identity, number text not null, total text not null);
    create function note() returns trigger language plpgsql as
        'begin insert into history (number, total) values (new.number, new.total); return new; end';
    create trigger noted after insert or update on orders for each row execute function note();
"""


def make_office(file: Path) -> Path:
    """An office that notes every write to it."""
    with closing(sqlite3.connect(file)) as office:
        office.executescript(OFFICE)
    return file


def office_system(url: str) -> System:
    """The office as a target."""
    adapter = Adapter(Sql(orders=Table("orders", key="number")))
    adapter.sink(Order, "orders", name="order")(row_of)
    return system("office", adapter, url)


def history_of(file: Path) -> Counter[tuple[str, str]]:
    """How often each order was written with each total, by the office's own account."""
    with closing(sqlite3.connect(file, timeout=10)) as office:
        return Counter(office.execute("select number, total from history").fetchall())


def each_once(numbers: Iterable[int]) -> Counter[tuple[str, str]]:
    """The history of an office that was written each of these orders exactly once."""
    return Counter({(f"{n:05}", f"{n}.50"): 1 for n in numbers})


# -- the landscape and its worker -------------------------------------------------------------------------------


def landscape(
    store: str, *systems: System, robustness: Robustness = Robustness.STANDARD, folder: Path = Path()
) -> Landscape:
    """Orders go from the first of these systems to the others."""
    source, *targets = systems
    flow = Flow(
        name="orders",
        entity="Order",
        source=source.name,
        targets=tuple(Target(target.name) for target in targets),
        retries=QUICK,
        robustness=robustness,
        partitions=2,
    )
    return Landscape(
        name="company",
        store=store,
        folder=folder,
        systems={one.name: one for one in systems},
        flows={"orders": flow},
        entities={"Order": Order},
    )


@dataclass(slots=True)
class Work:
    """A worker that runs."""

    runner: Runner
    task: "asyncio.Task[Any]"

    async def look(self, work: Callable[[Stores], T]) -> T:
        """Look into the ledger as soon as that can be had."""
        for _ in range(100):
            try:
                return await self.runner.ledger.transact(work)
            except TielineError:
                await asyncio.sleep(0.1)
        return await self.runner.ledger.transact(work)

    async def legs(self) -> list[LegStatus]:
        """How the legs stand."""
        return (await self.look(lambda stores: status(self.runner.landscape, stores))).legs

    async def parked(self) -> list[ParkedRow]:
        """Everything that waits."""
        return await self.look(lambda stores: stores.parked.list())

    async def until(
        self, what: str, holds: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = PATIENCE
    ) -> None:
        """Wait until something holds; fail if the worker ends before."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            if self.task.done():
                raise AssertionError(f"the worker ended before {what}: {self.task.exception()!r}")
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            if loop.time() > end:
                shown = [f"{leg.leg}: {leg.balance} {leg.paused} {leg.failure}" for leg in await self.legs()]
                waits = [f"{row.key[:40]}: {row.reason} {row.error}" for row in (await self.parked())[:5]]
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n" + "\n".join([*shown, *waits]))
            await asyncio.sleep(0.05)

    async def until_level(self, entered: int, parked: int = 0, seconds: float = PATIENCE) -> None:
        """Wait until so much came in on every leg and has all found its end; the books must then balance."""

        async def level() -> bool:
            return all(
                leg.entered == entered and not leg.in_flight and sum(leg.parked.values()) == parked
                for leg in await self.legs()
            )

        await self.until(f"{entered} came in and all but {parked} are settled", level, seconds)
        for leg in await self.legs():
            assert leg.off_by == 0, leg.balance

    @property
    def said(self) -> str:
        """Why legs stand still and sources failed, as this worker tells it."""
        paused = [leg.paused for leg in self.runner._legs]
        return "\n".join([*paused, *self.runner.report.failed.values()])


@asynccontextmanager
async def working(company: Landscape, *, lease: float = 15.0) -> AsyncIterator[Work]:
    """Run a worker until the block is left; it must not have ended by itself."""
    ledger = open_ledger(company.store, company.folder)
    buses = open_buses(company, ledger)
    runner = Runner(company, ledger, buses, lease=lease)
    task = asyncio.create_task(runner.run())
    try:
        yield Work(runner, task)
    finally:
        await runner.stop()
        await asyncio.wait_for(task, 20)
        await close_all(buses, ledger)


def keys_of(rows: Sequence[ParkedRow]) -> list[str]:
    """Whose rows these are, in order."""
    return sorted(row.key for row in rows)
