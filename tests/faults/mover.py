"""A `tieline move` that dies at a named point: ``python mover.py POINT move FLOW --to … --project DIR``.

What it runs is the command itself, with one function exchanged before it begins: SIGKILL comes right after it has
done its work, or in the middle of it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tieline.cli import main, move, shadows
from tieline.project import editing
from tieline.runner import casting


def die() -> NoReturn:
    """SIGKILL to oneself."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives that")


def after(place: Any, name: str) -> None:
    """Die when this function has done its work."""
    real = getattr(place, name)

    async def awaited(*arguments: Any, **more: Any) -> None:
        await real(*arguments, **more)
        die()

    def called(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        die()

    setattr(place, name, awaited if asyncio.iscoroutinefunction(real) else called)


def instead(place: Any, name: str) -> None:
    """Die when this function is called."""

    def called(*_: Any, **__: Any) -> None:
        die()

    setattr(place, name, called)


def half_written(nth: int) -> None:
    """Die in the middle of writing the file for the n-th time: half of the new one stands beside it."""
    real, times = editing._replace, 0

    def written(file: Path, text: str) -> None:
        nonlocal times
        times += 1
        if times == nth:
            (file.parent / f".{file.name}.half").write_text(text[: len(text) // 2])
            die()
        real(file, text)

    editing._replace = written


def file_replaced() -> None:
    """Die when the new file stands in the place of the old one, before anything else is done."""
    after(editing, "_replace")


POINTS: dict[str, Callable[[], None]] = {
    "its engine is reached": lambda: after(move, "reach"),
    "the file is half written for the address": lambda: half_written(1),
    "the address is in the file, nothing is committed": lambda: after(move, "write_bus"),
    "the ways are committed, the file is as it was": lambda: after(move, "begin"),
    "the file is half written for the word": lambda: half_written(2),
    "the word is in the file, the ledger does not know": lambda: after(move, "write_way"),
    "the ledger knows that the word is written": lambda: after(move, "_write"),
    "it waits for the old way": lambda: after(move, "under_way"),
    "a shadow's engine is reached": lambda: after(casting, "reach_way"),
    "a shadow is committed": lambda: after(shadows, "cast"),
    "a shadow is over, its engine does not know": lambda: instead(shadows, "forget"),
}


if __name__ == "__main__":
    POINTS[sys.argv.pop(1)]()
    main()
