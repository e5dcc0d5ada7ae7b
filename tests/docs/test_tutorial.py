"""The tutorial is done from top to bottom, command by command, as a reader would."""

from tests.docs.pages import DOCS, Reader


def test_the_tutorial_works_as_written(tmp_path):
    """Every file is written, every command is run, and prints what the page shows."""
    with Reader(tmp_path) as reader:
        assert reader.follow(DOCS / "tutorial.md") > 20
