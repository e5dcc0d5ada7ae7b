"""The demo company's systems together: all installed, prepared, started and ended side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from tieline.demo.oscar import Oscar
from tieline.demo.roundup import Roundup
from tieline.demo.system import DemoSystem, Progress
from tieline.demo.tryton import Tryton

Ports = tuple[int | None, int | None, int | None]


def company(home: Path, work: Path, ports: Ports = (None, None, None)) -> tuple[Oscar, Tryton, Roundup]:
    """Webshop, ERP and maintenance over the same folders; ports are chosen where none is given."""
    shop, erp, maintenance = ports
    return Oscar(home, work, port=shop), Tryton(home, work, port=erp), Roundup(home, work, port=maintenance)


def boot(systems: Sequence[DemoSystem], progress: Progress) -> None:
    """Install, prepare and start all systems side by side; returns when all answer, or ends all of them.

    Raises:
        DemoFailed: the first system's failure.
    """

    given_up = threading.Event()

    def one(system: DemoSystem) -> None:
        steps: tuple[Callable[[], None], ...] = (
            lambda: system.install(progress),
            lambda: system.prepare(progress),
            lambda: progress(system.name, "starting", None),
            system.start,
            system.wait_ready,
        )
        for step in steps:
            if given_up.is_set():
                break
            step()
        if given_up.is_set():
            system.stop()
        else:
            progress(system.name, "running", 1.0)

    for system in systems:
        system.renew()
    with ThreadPoolExecutor(len(systems)) as threads:
        try:
            futures = [threads.submit(one, system) for system in systems]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            given_up.set()
            halt(systems)
            raise


def halt(systems: Sequence[DemoSystem]) -> None:
    """End all systems side by side and wait until they are gone."""
    with ThreadPoolExecutor(max(1, len(systems))) as threads:
        list(threads.map(lambda system: system.stop(), systems))


@contextmanager
def running(systems: Sequence[DemoSystem], progress: Progress) -> Iterator[None]:
    """The systems run inside the `with` block and are gone after it."""
    boot(systems, progress)
    try:
        yield
    finally:
        halt(systems)
