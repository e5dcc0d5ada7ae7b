"""The other process of the ledger suite: ``python -m tieline.testing.ledger.child MODULE:CLASS URL TASK``."""

import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Coroutine
from functools import reduce
from typing import Any, Final

from tieline.errors import Fenced
from tieline.ledger import Fence, Ledger, Stores
from tieline.testing.ledger.samples import seen

MOST: Final = 10_000  # transactions, should nobody end this process


def say(what: object) -> None:
    """Tell the test."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def write(ledger: Ledger) -> None:
    """Commit to several parts at once, and say each number once it is safe."""

    def begin(stores: Stores) -> None:
        stores.channels.declare("c", 1, ["nobody"])

    def step(stores: Stores) -> int:
        number = int(stores.notes.get("n") or 0) + 1
        stores.notes.put("n", number)
        stores.seen.put("s", [seen(f"key {number}")])
        stores.channels.append("c", [(0, number, 1, json.dumps(number).encode())])
        stores.legs.count("l", counts={"done": 1})
        return number

    await ledger.transact(begin)
    for _ in range(MOST):
        say(await ledger.transact(step))


async def hold(ledger: Ledger) -> None:
    """Take a lease, say its token, wait to be told, and try to use it."""

    def take(stores: Stores) -> int:
        stores.leases.beat("w1", 0.3)
        return stores.leases.acquire(["a"], "w1")["a"]

    token = await ledger.transact(take)
    say(token)
    sys.stdin.readline()
    try:
        await ledger.transact(lambda stores: stores.notes.put("n", "thawed"), [Fence("a", token)])
    except Fenced:
        say("fenced")


async def ring(ledger: Ledger) -> None:
    """Wait to be told, and notify."""

    def work(stores: Stores) -> None:
        stores.notes.put("n", "rung")
        stores.notify("t")

    await ledger.transact(lambda stores: stores.notes.get("n"))
    say("ready")
    sys.stdin.readline()
    await ledger.transact(work)


TASKS: Final[dict[str, Callable[[Ledger], Coroutine[Any, Any, None]]]] = {"write": write, "hold": hold, "ring": ring}


async def main(keeper: str, url: str, task: str) -> None:
    """Do one task on a ledger."""
    module, _, name = keeper.partition(":")
    make = reduce(getattr, name.split("."), importlib.import_module(module))
    ledger: Ledger = make(url)  # type: ignore[operator]
    try:
        await TASKS[task](ledger)
    finally:
        await ledger.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
