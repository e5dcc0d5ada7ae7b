"""The reference is what the code says, and nothing of the code goes without a word."""

import ast
import inspect
import re
import subprocess
import sys

import pytest
from tests.docs.pages import DOCS, ROOT

import tieline
from tieline import bus, connector, errors, ledger
from tieline.cli import COMMANDS
from tieline.message import Outcome, Reason
from tieline.project.table import Table

GENERATED = DOCS / "reference"
WRITTEN = "\n".join(
    page.read_text() for page in [ROOT / "README.md", *DOCS.rglob("*.md")] if GENERATED not in page.parents
)
EVERYTHING = WRITTEN + "\n".join(page.read_text() for page in GENERATED.glob("*.md"))
KEEPERS = sorted({path.stem for path in (ROOT / "src/tieline/connectors").iterdir() if not path.stem.startswith("_")})


def test_the_reference_is_up_to_date():
    """`make docs` would change nothing."""
    done = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained(name):
    """Not only in the reference."""
    assert f"tieline {name}" in WRITTEN


def _keys() -> set[str]:
    """Every key of a project file: what the code that reads one asks its tables for."""
    asking = {name for name, one in vars(Table).items() if inspect.isfunction(one) and not name.startswith("_")}
    found = set()
    for file in (ROOT / "src/tieline/project").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            match node:
                case ast.Call(func=ast.Attribute(attr=method), args=[ast.Constant(value=str(key)), *_]):
                    if method in asking and key.isidentifier():
                        found.add(key)
    return found


def test_every_key_of_a_project_file_is_explained():
    """On the page of the project file."""
    page = (DOCS / "project-file.md").read_text()
    keys = _keys()
    assert {"via", "robustness", "sweep", "brake", "per_second", "give_up"} <= keys
    missing = [key for key in sorted(keys) if not re.search(rf"[`.\[]{key}\b", page)]
    assert not missing


@pytest.mark.parametrize("port", [connector.Connector, connector.TargetTransaction, bus.Bus, ledger.Ledger])
def test_every_method_of_a_port_is_explained(port):
    """A port's page has each method with its signature."""
    methods = [name for name, one in vars(port).items() if inspect.isfunction(one) and not name.startswith("_")]
    assert methods
    for name in methods:
        assert re.search(rf"^(async )?def {name}\(", EVERYTHING, re.M), f"{port.__name__}.{name}"


@pytest.mark.parametrize("name", KEEPERS)
def test_every_connector_is_explained(name):
    """With what it is able to do."""
    page = (GENERATED / "connectors.md").read_text()
    assert f"## `tieline.connectors.{name}`" in page
    assert re.search(rf"^\| {name} \|", page, re.M)


@pytest.mark.parametrize("word", [*Outcome, *Reason], ids=lambda word: f"{type(word).__name__} {word.value}")
def test_every_outcome_and_reason_is_explained(word):
    """What became of a message is a word that one can look up."""
    pages = (DOCS / "glossary.md").read_text() + (DOCS / "how-to" / "parked-messages.md").read_text()
    assert re.search(rf"\b{word.value}\b", pages)


def test_every_error_is_explained():
    """Whatever is raised on purpose has a heading."""
    page = (GENERATED / "errors.md").read_text()
    for name, thing in vars(errors).items():
        if inspect.isclass(thing) and issubclass(thing, Exception):
            assert f"## `{name}`" in page


def test_every_public_name_is_explained():
    """What `import tieline` gives has a heading."""
    for name in tieline.__all__:
        assert re.search(rf"^#+ `{name}`$", EVERYTHING, re.M), name


def test_every_fact_of_a_connector_is_explained():
    """Each capability has a column."""
    header = next(
        line for line in (GENERATED / "connectors.md").read_text().splitlines() if line.startswith("| conn")
    )
    for name in inspect.signature(connector.Capabilities).parameters:
        assert f"| {name} " in header
