"""Servers for these tests, and the tables at the end of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import postgresql_node as postgresql
from tests.conftest import missing
from tests.faults import record
from tests.faults.engines import Engines


@pytest.fixture(scope="session")
def postgresql_node() -> Iterator[postgresql.Node]:
    """A PostgreSQL server that a test may stop, if it starts it again."""
    try:
        node = postgresql.Node(fsync="on")
    except ImportError:
        missing("no PostgreSQL server to stop", postgresql.HOW)
        return
    node.start()
    try:
        yield node
    finally:
        node.close()


@pytest.fixture
def engines(tmp_path: Path, request: pytest.FixtureRequest) -> Engines:
    """Engines by their names."""
    return Engines(tmp_path, request.getfixturevalue)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was killed where, and what came of it."""
    if record.killed or record.stopped or record.fallen or record.moved:
        terminalreporter.write_line("")
        terminalreporter.write(record.shown())
