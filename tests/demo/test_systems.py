"""The demo's systems live and die with the demo, and keep what they were told."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tieline.demo.children import DemoFailed, free_port, is_taken, wait_until
from tieline.demo.orders import place_orders, report_requests
from tieline.demo.proof import exact, opened, prove, shop_orders, tracker_issues
from tieline.demo.system import default_home
from tieline.demo.systems import Oscar, Roundup, Tryton, boot, company, halt

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def quiet(_system: str, _text: str, _done: float | None) -> None:
    pass


def processes_in(*folders: Path) -> list[str]:
    """Every process that works in one of the folders."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = Path(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if any(where == folder or folder in where.parents for folder in folders):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    systems = company(default_home(), tmp_path)
    boot(systems, quiet)
    yield systems
    halt(systems)
    for system in systems:
        system.forget()


def test_orders_placed_are_what_the_erp_is_missing(started: Any) -> None:
    """Five guests order; the oracle sees five orders with exact sums, and an ERP that has none of them."""
    shop, erp, maintenance = started
    placed = asyncio.run(place_orders(shop.url, 5, chance=1))
    found = prove(shop.database, erp.database, maintenance.database)

    sales, invoices = found.comparisons
    assert sales.left.sums == invoices.left.sums == {"EUR": sum(order.total for order in placed)}
    assert set(sales.missing) == set(invoices.missing) == {order.number for order in placed}
    assert (len(sales.missing), sales.extra, sales.duplicate, sales.different) == (5, (), (), {})
    assert not found.holds


def test_nothing_is_left_when_they_are_stopped(started: Any) -> None:
    """After the end no process works in their folders and nobody answers on their ports."""
    folders = [system.data for system in started]
    assert len(processes_in(*folders)) >= 3
    halt(started)
    assert processes_in(*folders) == []
    assert [is_taken(system.port) for system in started] == [False, False, False]
    assert [system.is_alive() for system in started] == [False, False, False]


def test_a_system_that_was_down_comes_back_with_its_data_at_its_address(started: Any) -> None:
    """The shop is stopped and started: same address, same orders, same access, and it sells again."""
    shop, *_ = started
    asyncio.run(place_orders(shop.url, 3, chance=2))
    url, access = shop.url, shop.access
    shop.stop()
    assert not is_taken(shop.port)
    shop.start()
    shop.wait_ready()
    assert (shop.url, shop.access) == (url, access)
    asyncio.run(place_orders(shop.url, 1, chance=3))
    assert len(list(shop_orders(shop.database))) == 4


def test_requests_reach_the_tracker(started: Any) -> None:
    """Reported requests stand in the tracker's own database under the ids its API gave."""
    *_, maintenance = started
    access = maintenance.access
    made = asyncio.run(report_requests(maintenance.url, access.user, access.password, 7, chance=4))
    assert sorted(made) == sorted(issue.key for issue in tracker_issues(maintenance.database))
    assert len(set(made)) == 7


def test_the_same_chance_gives_the_same_orders_with_repeat_customers(started: Any) -> None:
    """Orders can be repeated; some people order twice; names are not ASCII only; lines add up to the total."""
    shop, *_ = started
    first = asyncio.run(place_orders(shop.url, 20, chance=5))
    again = asyncio.run(place_orders(shop.url, 20, chance=5))
    assert [(order.total, order.email) for order in first] == [(order.total, order.email) for order in again]
    assert len({order.email for order in first}) < 20
    assert len({order.number for order in first + again}) == 40
    with opened(shop.database) as database:
        names = database.execute("SELECT first_name || last_name FROM order_shippingaddress").fetchall()
        assert any(not name.isascii() for (name,) in names)
        for total, lines in database.execute(
            "SELECT total_incl_tax, group_concat(line_price_incl_tax, '+') FROM order_order o "
            "JOIN order_line l ON l.order_id = o.id GROUP BY o.id"
        ):
            assert exact(total) == sum(map(exact, lines.split("+")))


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """A start on somebody else's port fails at once and says which port."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        shop = Oscar(default_home(), tmp_path, port=port)
        shop.install(quiet)
        shop.prepare(quiet)
        with pytest.raises(DemoFailed, match=f"port {port} is in use"):
            shop.start()
    assert processes_in(tmp_path) == []


def test_a_server_that_ends_while_starting_says_why(tmp_path: Path) -> None:
    """It is noticed at once, with the end of its log."""
    tracker = Roundup(default_home(), tmp_path)
    tracker.install(quiet)
    tracker.prepare(quiet)
    (tracker.data / "tracker" / "config.ini").write_text(
        "[tracker]\nname = broken\n[rdbms]\nbackend = stone tablets\n"
    )
    tracker.start()
    try:
        began = time.monotonic()
        with pytest.raises(DemoFailed, match=r"(?s)ended while starting.*stone tablets"):
            tracker.wait_ready(timeout=60)
        assert time.monotonic() - began < 20
    finally:
        tracker.stop()
        tracker.forget()
    assert processes_in(tracker.data) == []


def test_a_server_without_its_database_is_not_ready(tmp_path: Path) -> None:
    """An ERP that listens, but whose database is broken, is not believed."""
    erp = Tryton(default_home(), tmp_path)
    erp.install(quiet)
    erp.prepare(quiet)
    erp.database.write_bytes(b"this is no database, it never was one" * 100)
    erp.start()
    try:
        with pytest.raises(DemoFailed, match=r"Tryton.* did not answer within 5 s"):
            erp.wait_ready(timeout=5)
    finally:
        erp.stop()
    assert processes_in(tmp_path) == []


def test_one_that_fails_ends_the_others(tmp_path: Path) -> None:
    """When one system cannot start, the demo does not begin and the other two are ended."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        systems = company(default_home(), tmp_path, (None, stranger.getsockname()[1], None))
        with pytest.raises(DemoFailed, match=r"Tryton.*in use"):
            boot(systems, quiet)
    assert processes_in(*(system.data for system in systems)) == []
    for system in systems:
        system.forget()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_the_demo_ends_its_systems_end(tmp_path: Path, ending: signal.Signals) -> None:
    """Ctrl-C, a polite end and kill -9 of the demo alike leave no process and no open port."""
    ports = [free_port() for _ in range(3)]
    command = [sys.executable, "-m", "tieline.demo.systems", "--work", tmp_path, "up"]
    command += ["--shop-port", str(ports[0]), "--erp-port", str(ports[1]), "--maintenance-port", str(ports[2])]
    with (tmp_path / "said").open("wb") as said:
        demo = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        assert wait_until((tmp_path / "systems.json").exists, 300), (tmp_path / "said").read_text()
        assert [is_taken(port) for port in ports] == [True, True, True]
        demo.send_signal(ending)
        code = demo.wait(30)
    finally:
        demo.kill()
        demo.wait()
    assert code == (0 if ending != signal.SIGKILL else -signal.SIGKILL)
    assert wait_until(lambda: not any(map(is_taken, ports)), 15)
    assert wait_until(lambda: processes_in(tmp_path) == [], 15)


def test_an_interrupted_installation_leaves_nothing_running(tmp_path: Path) -> None:
    """Whoever stops the demo while it installs or prepares is not left with installers at work."""
    home = tmp_path / "home"
    command = [sys.executable, "-m", "tieline.demo.systems", "--work", tmp_path / "work", "up", "--home", home]
    demo = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: processes_in(home) != [], 60)
        time.sleep(0.3)
        demo.send_signal(signal.SIGINT)
        demo.wait(30)
    finally:
        demo.kill()
        demo.wait()
    assert wait_until(lambda: processes_in(tmp_path) == [], 15), processes_in(tmp_path)
