"""A project fresh from `tieline new`."""

from pathlib import Path

import pytest
from tests.cli.shop import Shop
from typer.testing import CliRunner

from tieline.cli import app


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A project in a folder of its own."""
    folder = tmp_path / "corner-shop"
    result = CliRunner().invoke(app, ["new", str(folder)])
    assert result.exit_code == 0, result.output
    return Shop(folder)
