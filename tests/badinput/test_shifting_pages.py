"""Sources whose pages shift while they are read: what existed throughout is neither lost nor deleted."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.badinput import company
from tests.badinput.test_refused import rest_shop
from tests.connectors.rest_server import Server, serving

from tieline.runner import gaps
from tieline.runner.gaps import Gap

COUNT = 400


def numbers(office: Path) -> set[str]:
    """What the office has now."""
    with closing(sqlite3.connect(office, timeout=10)) as database:
        return {number for (number,) in database.execute("select number from orders")}


@contextmanager
def between_pages(shop: Path) -> Iterator[list[str]]:
    """After each page that is read, an order before the place of reading goes, and two others come."""
    edits: list[str] = []

    async def edit(place: Gap) -> None:
        if place is not Gap.READ or len(edits) >= 60:
            return
        at = len(edits)
        with closing(sqlite3.connect(shop, timeout=10)) as database, database:
            database.execute("delete from orders where number = ?", (f"{at * 5:05}",))
            last = database.execute("select max(changed) from orders").fetchone()[0]
            new = [(f"{at * 5:05}a", "1.00", "", last + 1), (f"{9_999 - at:05}z", "1.00", "", 1)]
            database.executemany("insert into orders values (?, ?, ?, ?)", new)
        edits.append(f"{at * 5:05}")

    gaps.armed = edit
    try:
        yield edits
    finally:
        gaps.armed = None


@pytest.mark.parametrize("sweep", [0.0, 0.5])
def test_rows_of_a_table_that_come_and_go_between_pages(tmp_path: Path, sweep: float) -> None:
    """Every order that was there from first to last arrives and stays, with sweeps under way and without."""

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", COUNT)
        office = company.make_office(tmp_path / "office.db")
        landscape = company.landscape(
            f"sqlite:///{tmp_path / 'ledger.db'}",
            company.shop_system(shop, page=7, every=0.2, sweep=sweep),
            company.office_system(f"sqlite:///{office}"),
        )
        with between_pages(shop) as edits:
            async with company.working(landscape) as work:
                throughout = {f"{n:05}" for n in range(COUNT)} - {f"{n * 5:05}" for n in range(60)}
                await work.until("pages have shifted", lambda: len(edits) >= 60)
                await work.until("all have arrived", lambda: throughout <= numbers(office))
                if sweep:
                    with closing(sqlite3.connect(shop)) as database:
                        now = {number for (number,) in database.execute("select number from orders")}
                    await work.until("it is as in the shop", lambda: numbers(office) == now)
                assert [leg.off_by for leg in await work.legs()] == [0]
        written = company.history_of(office)
        assert all(written[number, f"{int(number)}.50"] == 1 for number in throughout)

    asyncio.run(check())


def test_a_rest_list_paged_by_offset_that_shifts_while_it_is_read(tmp_path: Path) -> None:
    """Rows before the place of reading go, and others come: the rows after it are not passed over."""
    office = company.make_office(tmp_path / "office.db")
    gone: list[int] = []

    def before(server: Server, method: str, path: str) -> None:
        if path == "/api/offset" and len(gone) < 12:
            gone.append(len(gone) + 1)
            server.rows.pop(str(gone[-1]), None)  # everything after it moves up by one
            new = 500 + gone[-1]
            server.put({"id": new, "number": f"N{new}", "total": new})

    async def check(server: Server) -> None:
        landscape = company.landscape(
            f"sqlite:///{tmp_path / 'ledger.db'}",
            rest_shop(server, 0.3),
            company.office_system(f"sqlite:///{office}"),
        )
        async with company.working(landscape) as work:
            throughout = {f"N{n}" for n in range(13, 201)}
            await work.until("the list has shifted", lambda: len(gone) == 12)
            await work.until("all have arrived", lambda: throughout <= numbers(office))
            await work.until(
                "it is as in the shop", lambda: numbers(office) == {row["number"] for row in server.rows.values()}
            )
        written = company.history_of(office)
        assert all(written[number, f"{number[1:]}.00"] == 1 for number in throughout)

    with serving(Server()) as server:
        server.fill(200)
        server.before = lambda method, path: before(server, method, path)
        asyncio.run(check(server))
