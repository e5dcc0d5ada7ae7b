"""The tables at the end of a run."""

import pytest
from tests.faults import record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was killed where, and what came of it."""
    if record.killed or record.stopped:
        terminalreporter.write_line("")
        terminalreporter.write(record.shown())
