"""Tables fit the window they are shown in, and lose nothing by it."""

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from tieline.cli.output import Listing

ERROR = "total: a float is not exact; read it as text or Decimal, and say which currency it is in"


def shown(listing, width):
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(listing)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def waiting():
    rows = [("1a", "orders>office", "1,000", "a person", ERROR), ("2b", "customers>office", "2", "", "[bold]?")]
    return Listing(["ref", "leg", "count", "next", "error"], rows, right=["count"], long=["next", "error"])


def test_a_row_stays_on_one_line_where_there_is_room():
    """Markup in a text is shown as it stands."""
    lines = shown(waiting(), 200)
    assert len(lines) == 3
    assert lines[1].endswith(f"a person  {ERROR}")
    assert lines[2].endswith("[bold]?")


def test_in_a_narrow_window_long_columns_stand_below_their_row():
    """Each with its name, and the short columns stay in line; an empty one is left out."""
    lines = shown(waiting(), 60)
    assert lines == [
        "ref  leg               count",
        "1a   orders>office     1,000",
        "  next: a person",
        "  error: total: a float is not exact; read it as text or",
        "  Decimal, and say which currency it is in",
        "2b   customers>office      2",
        "  error: [bold]?",
    ]


def test_space_goes_before_words_are_broken():
    """A little too wide is made to fit by less space between the columns."""
    listing = Listing(["leg", "way", "in"], [("orders>office", "direct", "12")], right=["in"])
    assert shown(listing, 26)[1] == "orders>office  direct  12"
    assert shown(listing, 24)[1] == "orders>office direct 12"


@pytest.mark.parametrize("width", [16, 20, 30])
def test_nothing_is_cut_off_in_a_window_that_is_far_too_narrow(width):
    """Texts are broken over lines, and numbers stay whole."""
    together = "".join(shown(waiting(), width)).replace(" ", "")
    assert ERROR.replace(" ", "") in together
    assert "1,000" in together


def test_a_coloured_text_keeps_its_colour():
    """Texts may come styled."""
    console = Console(file=StringIO(), width=80, force_terminal=True)
    console.print(Listing(["place", "what"], [(Text("entities.py:3", "red"), "x" * 100)], long=["what"]))
    assert "\x1b[31mentities.py:3" in console.file.getvalue()
