"""A project whose workers are processes of their own: orders of a database go to a desk behind HTTP."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from tieline.assembly import open_ledger

PATIENCE = 90.0  # seconds until a test says that what it waits for never comes; a busy machine starts slowly

_FILES = {
    "entities.py": """
        from tieline import Entity


        class Order(Entity, key="number"):
            number: str
            version: int
    """,
    "adapters/shop.py": """
        from entities import Order

        from tieline import Adapter
        from tieline.connectors.sql import Sql, Table

        shop = Adapter(Sql(orders=Table("orders", key="number", cursor="changed", columns=("number", "version"))))


        @shop.source(Order, "orders")
        def order(record):
            return Order(number=record["number"], version=record["version"])
    """,
    "adapters/desk.py": """
        from entities import Order

        from tieline import Adapter
        from tieline.connectors.rest import Resource, Rest

        desk = Adapter(
            Rest(
                orders=Resource(
                    "/orders/",
                    items="results",
                    filters={"number": "number"},
                    match="number",
                    create="POST",
                    update="PUT",
                )
            )
        )


        @desk.sink(Order, "orders", match="number")
        def order(order):
            return {"number": order.number, "version": order.version}
    """,
}


def wait_for(what: str, is_so: Callable[[], object], seconds: float = PATIENCE) -> float:
    """Look until it is so; gives the seconds that it took.

    Raises:
        AssertionError: where it is not so after `seconds`.
    """
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.02)
    return time.monotonic() - began


@dataclass(slots=True)
class Site:
    """A project folder and its workers. Use as ``with``: none of them outlives it."""

    folder: Path
    project: str
    store: str = ""
    files: dict[str, str] = field(default_factory=dict)
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __enter__(self) -> "Site":
        for path, text in {**_FILES, **self.files, "tieline.toml": self.project}.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text).lstrip())
        with sqlite3.connect(self.folder / "shop.db") as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE orders (number TEXT PRIMARY KEY, version INTEGER, changed INTEGER)")
        connection.close()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()

    def fill(self, count: int) -> None:
        """So many orders in the shop."""
        with sqlite3.connect(self.folder / "shop.db", timeout=30) as connection:
            rows = [(f"N{n}", 1, n) for n in range(count)]
            connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
        connection.close()

    def begin(self, *words: str, lease: float = 15.0) -> "subprocess.Popen[bytes]":
        """A new worker; its calls name it by its number, from 0."""
        command = [sys.executable, "-m", "tieline.testing.killed", "--project", str(self.folder)]
        command += ["--lease", str(lease), *words]
        number = len(self.workers)
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            env = {**os.environ, "WORKER": str(number)}
            worker = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        self.workers.append(worker)
        return worker

    def holders(self) -> dict[str, int]:
        """By the ledger: the number of the living worker that holds each lease."""
        numbers = {worker.pid: number for number, worker in enumerate(self.workers)}

        async def look() -> dict[str, str]:
            ledger = open_ledger(self.store, self.folder)
            try:
                return await ledger.transact(lambda stores: stores.leases.holders())
            finally:
                await ledger.close()

        return {name: numbers[int(owner.split("-")[-2])] for name, owner in asyncio.run(look()).items()}

    def partitions(self) -> Counter[int]:
        """How many partitions each worker holds."""
        return Counter(number for name, number in self.holders().items() if name.startswith("leg:"))

    def end(self, worker: "subprocess.Popen[bytes]") -> float:
        """SIGTERM: it ends in good order, within these seconds."""
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0, self.log()
        return time.monotonic() - began

    def log(self) -> str:
        """The last of what the workers wrote."""
        files = sorted(self.folder.glob("worker-*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-2_000:]}" for file in files)
