"""Each dependency has a reason, and the page says what the project file of the package says."""

import re
import tomllib

from tests.docs.pages import DOCS, ROOT

UNUSED = "nothing that ships uses it yet"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGE = (DOCS / "dependencies.md").read_text()
ROWS = {heading.strip(): text for heading, text in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", PAGE, re.M)}


def _bounds(requirements: list[str]) -> dict[str, str]:
    """Package names with their bounds, extras and markers left out."""
    found = (re.match(r"([\w-]+)(?:\[[^\]]*\])?\s*([^;]*)", one) for one in requirements)
    return {one[1]: one[2].strip() for one in found if one}


def _listed(heading: str, package: int = 0) -> dict[str, str]:
    rows = [re.findall(r"`([^`]+)`", row.rpartition("|")[0]) for row in ROWS[heading].splitlines() if "`" in row]
    return {
        row[package]: row[package + 1] for row in rows if row[package + 1 :][:1] and row[package + 1][0] in "><=~"
    }


def test_the_core_is_as_listed():
    """Name and bound, no more and no fewer."""
    assert _listed("Always installed") == _bounds(PYPROJECT["project"]["dependencies"])


def test_extras_are_as_listed():
    """The same for each extra."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert _listed("Extras", package=1) == {k: v for some in extras.values() for k, v in _bounds(some).items()}
    assert set(re.findall(r"^\| `(\w+)` \| `", ROWS["Extras"], re.M)) == set(extras)


def test_what_developers_need_is_as_listed():
    """The same for the group that tests and checks are made with."""
    assert _listed("To work on Tieline") == _bounds(PYPROJECT["dependency-groups"]["dev"])


def test_nothing_is_installed_for_nothing():
    """What no module imports is said to be unused, and what is said to be unused is not imported."""
    source = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    for package in _bounds(PYPROJECT["project"]["dependencies"]):
        (row,) = re.findall(rf"^\| `{package}` .*$", ROWS["Always installed"], re.M)
        used = re.search(rf"^\s*(from|import) {package}\b", source, re.M) is not None
        assert used != (UNUSED in row), f"{package}: {'used' if used else 'not used'} by src"
