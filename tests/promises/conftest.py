"""Where ledgers and targets are kept, for promises that are tried on the real ones too."""

from pathlib import Path

import pytest
from tests.connectors.conftest import database

__all__ = ["database"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty ledger of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgresql_database"))
