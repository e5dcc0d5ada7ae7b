"""The pytest plugin: `in_virtual_time` runs a coroutine with a clock that jumps over waiting."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tieline.connectors import memory
from tieline.testing import clock


@pytest.fixture
def in_virtual_time() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a coroutine in virtual time; stores in memory are dropped afterwards."""
    yield clock.run
    memory.forget()
