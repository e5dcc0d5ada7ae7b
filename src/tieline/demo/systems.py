"""The demo company's real systems, and a command to try them: `python -m tieline.demo.systems up`, `orders 20`."""

# ruff: noqa: T201  a command prints

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO

import msgspec

from tieline.demo.children import DemoFailed, wait_until
from tieline.demo.orders import place_orders, report_requests
from tieline.demo.oscar import Oscar
from tieline.demo.proof import prove
from tieline.demo.roundup import Roundup
from tieline.demo.system import Access, DemoSystem, Progress, default_home
from tieline.demo.together import boot, company, halt, running
from tieline.demo.tryton import Tryton

__all__ = ["DemoFailed", "DemoSystem", "Oscar", "Progress", "Roundup", "Tryton", "boot", "company", "halt", "running"]


class Running(msgspec.Struct, frozen=True):
    """What one needs to know of a system that runs."""

    url: str
    database: str
    log: str
    access: Access


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; 0 is good, 1 failed."""
    chosen = parser().parse_args(arguments)
    chosen.work.mkdir(parents=True, exist_ok=True)
    try:
        return int(chosen.do(chosen))
    except DemoFailed as error:
        print(error, file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m tieline.demo.systems", description=__doc__)
    top.add_argument("--work", type=Path, default=Path(".demo"), help="folder for data and logs")
    commands = top.add_subparsers(required=True)

    up_ = commands.add_parser("up", help="start with fresh data and stay until Ctrl-C or `down`")
    up_.add_argument(
        "--home", type=Path, default=default_home(), help="folder for what is installed and prepared once"
    )
    up_.add_argument("--shop-port", type=int)
    up_.add_argument("--erp-port", type=int)
    up_.add_argument("--maintenance-port", type=int)
    up_.set_defaults(do=up)

    commands.add_parser("down", help="end what `up` started").set_defaults(do=down)

    orders_ = commands.add_parser("orders", help="let guests place orders in the shop")
    orders_.add_argument("count", type=int)
    orders_.set_defaults(do=orders)

    requests_ = commands.add_parser("requests", help="report maintenance requests")
    requests_.add_argument("count", type=int)
    requests_.set_defaults(do=requests)

    proof_ = commands.add_parser("proof", help="compare what shop, ERP and BI hold")
    proof_.add_argument("--bi", type=Path, help="the BI database, a SQLite file")
    proof_.set_defaults(do=proof)
    return top


def up(chosen: argparse.Namespace) -> int:
    """Start the systems, write `systems.json` into the work folder, stay until told to end."""
    began = time.monotonic()

    def progress(system: str, text: str, _done: float | None) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {system:<8} {text}", flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `down` is a Ctrl-C from elsewhere
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (chosen.work / "up.pid").open("a+") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed(f"Systems run in {chosen.work} already; `down` ends them.") from None
        mark.truncate(0)
        mark.write(str(os.getpid()))
        mark.flush()
        systems = company(chosen.home, chosen.work, (chosen.shop_port, chosen.erp_port, chosen.maintenance_port))
        try:
            with running(systems, progress):
                write_down(chosen.work, systems)
                for system in systems:
                    print(f"{system.title}: {system.url}  {system.database}")
                print("Running. Ctrl-C ends it.", flush=True)
                threading.Event().wait()
        except KeyboardInterrupt:
            print("Ended.")
        finally:
            for system in systems:
                system.forget()
            (chosen.work / "systems.json").unlink(missing_ok=True)
    return 0


def down(chosen: argparse.Namespace) -> int:
    """End what `up` started in the same work folder, and wait until it is gone."""
    with (chosen.work / "up.pid").open("a+") as mark:
        if not is_held(mark):
            print("Nothing runs here.")
            return 0
        mark.seek(0)
        os.kill(int(mark.read()), signal.SIGTERM)
        if not wait_until(lambda: not is_held(mark), 30):
            raise DemoFailed("The systems did not end within 30 s.")
    return 0


def orders(chosen: argparse.Namespace) -> int:
    """Place orders and say what they come to."""
    began = time.monotonic()
    placed = asyncio.run(place_orders(known(chosen.work)["oscar"].url, chosen.count))
    took = time.monotonic() - began
    total = sum((order.total for order in placed), Decimal(0))
    print(f"{len(placed)} orders, {total} EUR, in {took:.1f} s")
    return 0


def requests(chosen: argparse.Namespace) -> int:
    """Report maintenance requests."""
    began = time.monotonic()
    tracker = known(chosen.work)["roundup"]
    access = tracker.access
    made = asyncio.run(report_requests(tracker.url, access.user, access.password, chosen.count))
    print(f"{len(made)} requests in {time.monotonic() - began:.1f} s")
    return 0


def proof(chosen: argparse.Namespace) -> int:
    """Compare; 1 where they do not agree."""
    databases = {name: Path(system.database) for name, system in known(chosen.work).items()}
    found = prove(databases["oscar"], databases["tryton"], databases["roundup"], chosen.bi)
    print(found)
    return 0 if found.holds else 1


def known(work: Path) -> dict[str, Running]:
    """What `up` wrote down.

    Raises:
        DemoFailed: where nothing runs.
    """
    try:
        return msgspec.json.decode((work / "systems.json").read_bytes(), type=dict[str, Running])
    except FileNotFoundError:
        raise DemoFailed(f"No systems run in {work}; `up` starts them.") from None


def write_down(work: Path, systems: Sequence[DemoSystem]) -> None:
    """Keep addresses and access for the other commands, readable by the user alone."""
    known = {s.name: Running(s.url, str(s.database), str(s.log), s.access) for s in systems}
    file = work / "systems.json"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(known)))


def is_held(mark: IO[str]) -> bool:
    """Whether another process holds the lock on the file."""
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(mark, fcntl.LOCK_UN)
    return False


if __name__ == "__main__":
    raise SystemExit(main())
