"""The architecture is what the listing shows: imports go one way, and stand where they can be seen."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "tieline"
KEEPERS = {"connectors": "connector", "ledgers": "ledger", "buses": "bus"}
PORTS = set(KEEPERS.values())


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("tieline", cache_dir=None)


def _within(package: str, module: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _edges(graph: grimp.ImportGraph) -> Iterator[tuple[str, str]]:
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            yield importer, imported


def test_layers_are_kept(capsys):
    """Faces, wiring, behaviour, keepers, ports and words import downwards only."""
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_nothing_imports_in_a_circle(imports):
    """No two modules need each other, however far round."""
    open_, done = set(), set()
    circles = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in open_:
            circles.append(" → ".join((*path[path.index(module) :], module)))
        elif module not in done:
            open_.add(module)
            for imported in sorted(imports.find_modules_directly_imported_by(module)):
                visit(imported, (*path, module))
            open_.remove(module)
            done.add(module)

    for module in sorted(imports.modules - {"tieline"}):
        visit(module, ())
    assert not circles


def test_only_the_wiring_and_the_faces_name_keepers(imports):
    """Behaviour runs on ports: who it runs on is decided once, where it is put together."""
    allowed = {"assembly", "plugins", "testing", "cli", "console", "demo", *KEEPERS}
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _edges(imports)
        if any(_within(f"tieline.{folder}", imported) for folder in KEEPERS) and importer.split(".")[1] not in allowed
    ]
    assert not wrong


def test_a_keeper_knows_its_own_port_only(imports):
    """A ledger may use the rows that the connector port defines, and a bus in SQL stands on the ledger port."""
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _edges(imports)
        for folder, port in KEEPERS.items()
        if _within(f"tieline.{folder}", importer)
        and imported.removeprefix("tieline.") in PORTS - {port}
        and not imports.find_shortest_chain(f"tieline.{port}", imported)
        and (importer, imported) != ("tieline.buses.sql", "tieline.ledger")
    ]
    assert not wrong


def test_a_keeper_knows_no_sibling(imports):
    """Two connectors, or two buses, share what starts with an underscore, and nothing else."""
    wrong = [
        f"{importer} imports {imported}"
        for folder in ("connectors", "buses")
        for importer, imported in _edges(imports)
        if _within(f"tieline.{folder}", importer) and _within(f"tieline.{folder}", imported)
        if len(imported.split(".")) > 2 and not imported.split(".")[2].startswith("_")
        if importer.split(".")[2:3] != imported.split(".")[2:3]
    ]
    assert not wrong


def test_nothing_private_is_imported_from_elsewhere(imports):
    """A name with an underscore belongs to the folder it stands in."""
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _edges(imports)
        for depth, part in enumerate(imported.split("."))
        if part.startswith("_") and not part.startswith("__")
        if importer.split(".")[:depth] != imported.split(".")[:depth]
    ]
    assert not wrong


def _core_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[\[><=~!; ]", requirement)[0].lower() for requirement in project["dependencies"]}


def _is_optional(module: str, homes: dict[str, list[str]], core: set[str]) -> bool:
    """Whether a module is neither ours, nor Python's, nor of a package that is always installed."""
    root = module.partition(".")[0]
    if root == "tieline" or root in sys.stdlib_module_names:
        return False
    return not core & {home.lower() for home in homes.get(root, [])}


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_stand_at_the_top(file):
    """Inside a function only what may be missing is imported, so that nothing hides a dependency."""
    homes, core = dict(packages_distributions()), _core_dependencies()
    wrong = []
    for function in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom):
                names = ["tieline"] if node.level else [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            wrong += [
                f"{file.name}:{node.lineno} imports {name}" for name in names if not _is_optional(name, homes, core)
            ]
    assert not wrong


def test_the_check_sees_hidden_imports():
    """The rule would be worth nothing if it let everything pass."""
    homes, core = dict(packages_distributions()), _core_dependencies()
    assert not _is_optional("tieline.runner", homes, core)
    assert not _is_optional("json", homes, core)
    assert not _is_optional("aiohttp.web", homes, core)
    assert _is_optional("nats", homes, core)
