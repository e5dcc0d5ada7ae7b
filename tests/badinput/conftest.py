"""A PostgreSQL server of these tests' own, which they may stop and start."""

from collections.abc import Iterator

import pytest
from tests import postgresql_node
from tests.conftest import missing


@pytest.fixture(scope="session")
def own_server() -> Iterator[postgresql_node.Node]:
    """The server, running; whoever stops it starts it again."""
    try:
        node = postgresql_node.Node()
    except ImportError:
        missing("no PostgreSQL server to stop", postgresql_node.HOW)
        return
    node.start()
    try:
        yield node
    finally:
        node.close()
