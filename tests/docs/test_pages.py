"""What stands in a page is true: its code runs, its links lead somewhere, its checks can fail."""

import re
import tomllib
from pathlib import Path

import pytest
from tests.docs.pages import DOCS, ROOT, Reader, fences, first_missing, name_of, pages, validate

HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
SERVED = "<!-- needs PostgreSQL -->"
OVER_RABBITMQ = "<!-- needs RabbitMQ -->"
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_fences_are_what_they_say(page):
    """Python compiles, TOML and JSON parse, shell lines are shell lines; no fence goes unchecked."""
    for fence in fences(page):
        validate(fence)


@pytest.mark.parametrize("page", [page for page in HOW_TO if "<!-- needs" not in page.read_text()], ids=name_of)
def test_a_how_to_works_as_written(page, tmp_path):
    """Every file is written, every command is run, and prints what the page shows."""
    with Reader(tmp_path) as reader:
        assert reader.follow(page)


@pytest.mark.services
@pytest.mark.parametrize("page", [page for page in HOW_TO if SERVED in page.read_text()], ids=name_of)
def test_a_how_to_works_with_postgresql(page, tmp_path, postgresql_database):
    """The same, over a database server."""
    with Reader(tmp_path, {"TIELINE_STORE": postgresql_database}) as reader:
        assert reader.follow(page)


@pytest.mark.services
@pytest.mark.parametrize("page", [page for page in HOW_TO if OVER_RABBITMQ in page.read_text()], ids=name_of)
def test_a_how_to_works_with_rabbitmq(page, tmp_path, rabbitmq_node):
    """The same, over a message broker."""
    with Reader(tmp_path, {"BUS_URL": rabbitmq_node.url}) as reader:
        assert reader.follow(page)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_files_are_shown_by_name(page):
    """What a fence is to be saved as stands right above it, since its first line is not shown."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```\w+ title=(\S+)", text, re.M):
        above = text[: found.start()].rstrip().splitlines()[-1]
        assert f"`{found[1]}`" in above, f"{name_of(page)}: {found[1]}"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page):
    """A relative link names a file that is there, and a heading that is in it."""
    for path, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} leads to {path}"
        if anchor:
            assert anchor[1:] in _anchors(target), f"{name_of(page)} leads to {path}{anchor}"


def test_the_index_leads_to_every_page():
    """Who begins at the index finds all there is."""
    index = DOCS / "index.md"
    found = {(DOCS / path).resolve() for path, _ in _LINK.findall(index.read_text(encoding="utf-8")) if path}
    assert set(DOCS.rglob("*.md")) - found == {index}


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_what_the_readme_quotes_is_there():
    """Excerpts of the demo's project stand in its files, line by line and in order."""
    company = ROOT / "src" / "tieline" / "demo" / "company"
    quoted = [fence for fence in fences(ROOT / "README.md") if "from" in fence.words]
    assert quoted
    for fence in quoted:
        missing = first_missing(fence.body.splitlines(), (company / fence.words["from"]).read_text())
        assert missing is None, f"{fence.place}: {fence.words['from']} does not say {missing!r}"


def test_project_file_examples_load():
    """What the reference of the project file shows uses known keys only."""
    known = set(re.findall(r"^\| `(\w+)`", (DOCS / "project-file.md").read_text(), re.M))
    for fence in fences(DOCS / "project-file.md"):
        if fence.language == "toml":
            for flow in tomllib.loads(fence.body)["flows"].values():
                assert flow.keys() <= known


def test_a_page_that_is_wrong_is_found(tmp_path):
    """The checks would be worth nothing if they let everything pass."""
    with Reader(tmp_path) as reader:
        for body in ("$ echo one\ntwo", "$ false", "$ cd nowhere"):
            wrong = tmp_path / "wrong.md"
            wrong.write_text(f"```console\n{body}\n```\n")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("tests.docs.pages.name_of", str)
                with pytest.raises(AssertionError):
                    reader.follow(wrong)
    assert first_missing(["a … c", "d"], "x\na b   c\nd e") is None
    assert first_missing(["d", "a"], "a\nd") == "a"
