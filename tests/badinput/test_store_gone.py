"""A ledger or a target that goes away under a running worker, and comes back: nothing lost, nothing twice."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from tests.badinput import company
from tests.badinput.company import Work
from tests.postgresql_node import Node

COUNT = 3_000

pytestmark = pytest.mark.services


async def arrived(office: Path, work: Work, count: int) -> None:
    """Wait until the office has at least so many orders."""
    await work.until(f"{count} have arrived", lambda: company.history_of(office).total() >= count)


def test_killed_connections_of_the_ledger_are_made_anew(tmp_path: Path, postgresql_database: str) -> None:
    """An administrator ends every session again and again while orders move: each still arrives exactly once."""

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", COUNT)
        office = company.make_office(tmp_path / "office.db")
        landscape = company.landscape(
            postgresql_database, company.shop_system(shop, page=100), company.office_system(f"sqlite:///{office}")
        )
        ended = 0
        async with company.working(landscape) as work:
            async with await psycopg.AsyncConnection.connect(postgresql_database, autocommit=True) as administrator:
                for round_ in range(6):
                    await arrived(office, work, 100 * (round_ + 1))
                    cursor = await administrator.execute(
                        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                        " where application_name = 'tieline' and datname = current_database()"
                    )
                    ended += (await cursor.fetchone() or (0,))[0]
            await work.until_level(COUNT)
            assert await work.parked() == []
        assert ended >= 3  # a session that is being made anew escapes its round
        assert company.history_of(office) == company.each_once(range(COUNT))

    asyncio.run(check())


def test_a_restart_of_the_ledgers_server_is_waited_out(tmp_path: Path, own_server: Node) -> None:
    """The server is stopped while orders move and is away for seconds: the worker says so, waits, and goes on."""

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", COUNT)
        office = company.make_office(tmp_path / "office.db")
        landscape = company.landscape(
            own_server.database(),
            company.shop_system(shop, page=100),
            company.office_system(f"sqlite:///{office}"),
        )
        async with company.working(landscape) as work:
            await arrived(office, work, 300)
            await asyncio.to_thread(own_server.stop, "fast")
            try:
                await work.until(
                    "the worker says that its ledger is away", lambda: "ledger postgresql://" in work.said
                )
                await asyncio.sleep(1.5)
                assert not work.task.done()
            finally:
                await asyncio.to_thread(own_server.start)
            company.put_orders(shop, range(COUNT, COUNT + 10))
            await work.until_level(COUNT + 10)
            assert await work.parked() == []
        assert company.history_of(office) == company.each_once(range(COUNT + 10))

    asyncio.run(check())


def test_a_worker_that_is_stopped_while_its_ledger_is_away_ends_in_good_order(
    tmp_path: Path, own_server: Node
) -> None:
    """Nothing hangs and nothing raises; what it could not tell the ledger, the next worker finds out."""

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", COUNT)
        office = company.make_office(tmp_path / "office.db")
        landscape = company.landscape(
            own_server.database(),
            company.shop_system(shop, page=100),
            company.office_system(f"sqlite:///{office}"),
        )
        async with company.working(landscape, lease=2.0) as work:
            await arrived(office, work, 300)
            await asyncio.to_thread(own_server.stop, "immediate")
            try:
                await work.runner.stop()
                await asyncio.wait_for(asyncio.shield(work.task), 15)
            finally:
                await asyncio.to_thread(own_server.start)
        async with company.working(landscape) as work:
            await work.until_level(COUNT)
        assert company.history_of(office) == company.each_once(range(COUNT))

    asyncio.run(check())


def test_a_sqlite_ledger_that_another_program_locks_is_waited_for(tmp_path: Path) -> None:
    """For longer than SQLite itself waits; leases outlast it, and nothing is done twice."""
    hold = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        " c.execute('begin immediate'); print('held', flush=True); time.sleep(7); c.execute('rollback')"
    )

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", COUNT)
        office = company.make_office(tmp_path / "office.db")
        ledger = tmp_path / "ledger.db"
        landscape = company.landscape(
            f"sqlite:///{ledger}", company.shop_system(shop, page=100), company.office_system(f"sqlite:///{office}")
        )
        async with company.working(landscape) as work:
            await arrived(office, work, 300)
            with subprocess.Popen([sys.executable, "-c", hold, str(ledger)], stdout=subprocess.PIPE) as other:
                await work.until("the worker says who is to blame", lambda: "locked by another program" in work.said)
                assert await asyncio.to_thread(other.wait, 20) == 0
            await work.until_level(COUNT)
            assert await work.parked() == []
        assert company.history_of(office) == company.each_once(range(COUNT))

    asyncio.run(check())


def test_a_target_that_is_restarted_in_the_middle_of_a_batch_gets_it_once(tmp_path: Path, own_server: Node) -> None:
    """The server crashes while a batch is half written: the leg pauses, and the whole batch is written anew."""

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", 10)
        office = own_server.database(company.OFFICE_IN_POSTGRESQL)
        landscape = company.landscape(
            f"sqlite:///{tmp_path / 'ledger.db'}", company.shop_system(shop), company.office_system(office)
        )
        async with company.working(landscape) as work:
            await work.until_level(10)
            clerk = psycopg.connect(office)
            clerk.execute("lock table history in share mode")  # the batch gets as far as its first order
            company.put_orders(shop, range(10, COUNT))
            await work.until("a batch is being written", lambda: waiting_in(own_server.url) > 0)
            await asyncio.to_thread(own_server.stop, "immediate")
            clerk.close()
            try:

                async def paused() -> bool:
                    return (await work.legs())[0].paused.startswith("systems.office: ")

                await work.until("the leg is paused", paused)
                leg = (await work.legs())[0]
                assert (leg.entered, leg.in_flight, leg.off_by) == (COUNT, COUNT - 10, 0)
            finally:
                await asyncio.to_thread(own_server.start)
            await work.until_level(COUNT)
            assert await work.parked() == []
        with psycopg.connect(office) as clerk:
            found = Counter((row[0], row[1]) for row in clerk.execute("select number, total from history"))
        assert found == company.each_once(range(COUNT))

    asyncio.run(check())


def waiting_in(server: str) -> int:
    """How many sessions of the server wait for a lock."""
    with psycopg.connect(server) as connection:
        row = connection.execute("select count(*) from pg_locks where not granted").fetchone()
    return row[0] if row else 0
