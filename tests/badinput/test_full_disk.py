"""A disk that is full: said clearly, waited out, and nothing is lost or done twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.badinput import company
from tests.badinput.company import Work
from tests.small_disk import fill, mounted

COUNT = 4_000


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 6 MB for this test alone."""
    with mounted(6) as disk:
        yield disk


@pytest.mark.parametrize("on_it", ["ledger", "ledger and office"])
def test_a_full_disk_is_waited_out_and_everything_arrives_once(small_disk: Path, tmp_path: Path, on_it: str) -> None:
    """While the disk is full the worker says so and stays; with room again, each order arrives exactly once."""

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", 10)
        office = company.make_office((small_disk if "office" in on_it else tmp_path) / "office.db")
        ledger = (small_disk if "ledger" in on_it else tmp_path) / "ledger.db"
        landscape = company.landscape(
            f"sqlite:///{ledger}",
            company.shop_system(shop, page=500),
            company.office_system(f"sqlite:///{office}"),
        )
        async with company.working(landscape) as work:
            await work.until_level(10)
            ballast = fill(small_disk)
            company.put_orders(shop, range(10, COUNT), note="x" * 100)
            await work.until("the disk is said to be full", lambda: "full" in work.said)
            name = "ledger.db" if on_it == "ledger" else ".db"
            assert any(name in line and "full" in line and "make room" in line for line in work.said.splitlines())
            await asyncio.sleep(1.5)
            assert not work.task.done()
            ballast.unlink()
            await work.until_level(COUNT)
            assert await work.parked() == []
            assert company.history_of(office) == company.each_once(range(COUNT))

    asyncio.run(check())


def test_a_pause_for_a_full_target_is_seen_by_everyone(small_disk: Path, tmp_path: Path) -> None:
    """What `status` shows names the file and the remedy, also to another process, and ends with the pause."""

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", 10)
        office = company.make_office(small_disk / "office.db")
        landscape = company.landscape(
            f"sqlite:///{tmp_path / 'ledger.db'}",
            company.shop_system(shop),
            company.office_system(f"sqlite:///{office}"),
        )

        async def paused(work: Work) -> str:
            return (await work.legs())[0].paused

        async with company.working(landscape) as work:
            await work.until_level(10)
            ballast = fill(small_disk)
            company.put_orders(shop, range(10, COUNT))

            async def said() -> bool:
                return "full" in await paused(work)

            await work.until("the leg is paused", said)
            assert "make room" in await paused(work)
            assert str(office) in await paused(work)
            ballast.unlink()
            await work.until_level(COUNT)
            assert await paused(work) == ""
            assert company.history_of(office) == company.each_once(range(COUNT))

    asyncio.run(check())
