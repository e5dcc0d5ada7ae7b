"""Servers for these tests, and the tables at the end of a run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import postgresql_node as postgresql
from tests.conftest import missing
from tests.faults import record
from tests.faults.engines import Engines

_LONG = os.environ.get("TIELINE_FAULTS") == "long"
_PASSED = ".venv/faults-passed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How a long run goes on after a break."""
    parser.addoption(
        "--go-on", action="store_true", help="leave out fault tests that passed since the last whole run"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has passed, with --go-on; forget it, where a long run begins anew."""
    passed = config.rootpath / _PASSED
    if config.getoption("--go-on", default=False):
        known = set(passed.read_text().splitlines()) if passed.exists() else set()
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in known])
        items[:] = [item for item in items if item.nodeid not in known]
    elif _LONG and not config.option.collectonly:
        passed.unlink(missing_ok=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what has passed at length."""
    if _LONG and report.when == "call" and report.passed:
        with Path(_PASSED).open("a") as passed:
            passed.write(f"{report.nodeid}\n")


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
