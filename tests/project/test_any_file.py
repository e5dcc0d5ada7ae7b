"""Whatever stands in a project file, it is a landscape or a list of mistakes, and never anything else."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.errors import ConfigurationError, Mistake
from tieline.project import Project, read
from tieline.project.lines import line_numbers

_WORDS = ["shop", "erp", "invoicing", "Order", "Customer", "direct", "bus", "adapters.shop", "entities", "tieline"]
_TEXTS = st.one_of(
    st.sampled_from(
        [*_WORDS, "every 5m", "cron * * * * *", "1d", "${env:X}", "${file:.}", "${file:\0}", "${", "", "://"]
    ),
    st.text(max_size=12),
)
_VALUES = st.recursive(
    st.one_of(
        _TEXTS,
        st.integers(),
        st.floats(),
        st.booleans(),
        st.datetimes(),
        st.dates(),
        st.times(),
        st.sampled_from([10**400, -(10**400), 2**63]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_GOOD = Path(__file__).parent / "acme"
_TOML = (_GOOD / "tieline.toml").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The Python of the company stays good; only its file is spoilt."""
    folder = tmp_path_factory.mktemp("acme")
    shutil.copytree(_GOOD, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHOP_TOKEN", "x")
        yield folder


def judge(folder: Path, text: bytes) -> None:
    (folder / "tieline.toml").write_bytes(text)
    try:
        found = read(folder)
    except ConfigurationError as error:
        found = error.mistakes
    assert isinstance(found, Project) or (found and all(isinstance(one, Mistake) and one.remedy for one in found))


@st.composite
def spoilt_values(draw: st.DrawFn) -> bytes:
    """The good file with some values replaced, removed or added, anywhere."""
    good = tomllib.loads(_TOML)
    for _ in range(draw(st.integers(1, 4))):
        table: dict[str, Any] = good
        while True:
            deeper = [key for key, value in table.items() if isinstance(value, dict)]
            if not deeper or draw(st.booleans()):
                break
            table = table[draw(st.sampled_from(deeper))]
        keys = [*table, draw(_TEXTS)]
        key = draw(st.sampled_from(keys))
        if draw(st.integers(0, 4)) == 0:
            table.pop(key, None)
        else:
            table[key] = draw(_VALUES)
    return tomlkit.dumps(good).encode()


@st.composite
def spoilt_text(draw: st.DrawFn) -> bytes:
    """The good file with pieces of its text cut out, doubled or typed in."""
    text = _TOML.encode()
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 20)))
        typed = st.binary(max_size=4) | st.sampled_from([b'"', b"[", b"}", b"\n"])
        put = draw(st.just(b"") | st.just(text[at:end] * 2) | typed)
        text = text[:at] + put + text[end:]
    return text


@settings(max_examples=150)
@given(text=spoilt_values())
def test_any_values_give_a_landscape_or_mistakes(folder, text):
    """Values of any type, at any place of a good file."""
    judge(folder, text)


@settings(max_examples=150)
@given(text=spoilt_text())
def test_any_text_gives_a_landscape_or_mistakes(folder, text):
    """Slips of the keyboard, at any place of a good file."""
    judge(folder, text)


@settings(max_examples=200)
@given(st.dictionaries(_TEXTS, _VALUES, max_size=5))
def test_every_key_of_any_file_has_a_line(values):
    """The walk over the text meets every key that the parser gives, whatever its form."""
    text = tomlkit.dumps(values)
    lines = line_numbers(text)

    def check(value: Any, path: tuple[str | int, ...]) -> None:
        if path:
            assert path in lines
            assert 1 <= lines[path] <= text.count("\n") + 1
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            check(inner, (*path, key))

    check(tomllib.loads(text), ())
