"""A ledger to try things on: one statement a step, on an event loop of its own."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, ClassVar, TypeVar

import pytest

from tieline.ledger import Fence, Ledger, Stores

T = TypeVar("T")


class Bench:
    """One ledger, used step by step: ``bench(lambda stores: stores.notes.get("a"))``."""

    def __init__(self, keeper: Callable[[str], Ledger], url: str, runner: asyncio.Runner) -> None:
        self.ledger = keeper(url)
        self._keeper = keeper
        self._url = url
        self._runner = runner
        self._opened = [self.ledger]

    def __call__(self, work: Callable[[Stores], T], *fences: Fence) -> T:
        """Run one transaction."""
        return self.run(self.ledger.transact(work, fences))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine."""
        return self._runner.run(coroutine)

    def another(self) -> "Bench":
        """Another worker's ledger on the same store."""
        other = Bench(self._keeper, self._url, self._runner)
        self._opened.append(other.ledger)
        return other

    def reopen(self) -> None:
        """Close the ledger and open it again."""
        self.run(self.ledger.close())
        self._opened.remove(self.ledger)
        self.ledger = self._keeper(self._url)
        self._opened.append(self.ledger)

    def close(self) -> None:
        """Close every ledger that was opened."""
        for ledger in self._opened:
            self.run(ledger.close())


class Suite:
    """What each part of the ledger suite has: the keeper under test, and a bench with an empty store.

    `keeper` opens a ledger at an address, and can be imported by its name; `shared` says whether
    another process sees the same store. The fixture `url` gives the address of an empty store.
    """

    keeper: ClassVar[Callable[[str], Ledger]]
    shared: ClassVar[bool] = True

    @pytest.fixture
    def url(self) -> str:
        """The address of an empty store."""
        raise NotImplementedError("give the suite a fixture `url` with the address of an empty store")

    @pytest.fixture
    def bench(self, url: str) -> Iterator[Bench]:
        """A ledger on an empty store."""
        with ExitStack() as stack:
            runner = stack.enter_context(asyncio.Runner())
            bench = Bench(type(self).keeper, url, runner)
            stack.callback(bench.close)
            yield bench

    @pytest.fixture
    def sharing(self) -> None:
        """Only where several processes may use one store."""
        if not self.shared:
            pytest.skip("this ledger belongs to one process")
