"""The tables of the connector pages are those of the code."""

import re
from pathlib import Path

import pytest

from tieline.connectors._http_errors import Effect, refused, unanswered
from tieline.connectors._tryton import failure

PAGES = Path(__file__).parents[2] / "docs" / "connectors"
ERRORS = {
    "UserError": ["UserError", ["text", "", None]],
    "UserWarning": ["UserWarning", ["name", "text", ""]],
    "ConcurrencyException": ["ConcurrencyException", "text"],
    "LoginException": ["LoginException", ["name", "text", "char"]],
    "anything else": ["'field'", ""],
}


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without its head."""
    text = (PAGES / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


HTTP = table("rest.md", "What each failure means")
TRYTON = table("jsonrpc.md", "What each failure means")


@pytest.mark.parametrize("row", HTTP, ids=lambda row: row[0])
def test_what_the_page_says_of_an_answer_is_so(row: list[str]) -> None:
    """Each status in the table means for each kind of call what the page says."""
    answer, *meanings = row
    for effect, meaning in zip(Effect, meanings, strict=True):
        if answer.startswith("not sent"):
            assert type(unanswered("c", "why", effect, sent=False)).__name__ == meaning
        elif answer.startswith("no answer"):
            assert type(unanswered("c", "why", effect, sent=True)).__name__ == meaning
        else:
            named = [int(status) for status in re.findall(r"\d{3}", answer)]
            others = {"other 3xx": [301, 307], "other 4xx": [400, 404, 409, 410, 422], "other 5xx": [501, 507]}
            statuses = named or next(codes for words, codes in others.items() if answer.startswith(words))
            for status in statuses:
                found = type(refused("c", status, {}, b"", effect)).__name__
                assert found.replace("NotLetIn", "AccessRefused") == meaning, status


def test_the_page_leaves_no_answer_out() -> None:
    """Every status that means something of its own is in the table."""
    shown = {int(status) for row in HTTP for status in re.findall(r"\d{3}", row[0])}
    plain = {3: 301, 4: 400, 5: 501}
    for status in range(300, 600):
        meanings = [type(refused("c", status, {}, b"", effect)) for effect in Effect]
        usual = [type(refused("c", plain[status // 100], {}, b"", effect)) for effect in Effect]
        assert (status in shown) == (meanings != usual), status


@pytest.mark.parametrize("row", TRYTON, ids=lambda row: row[0])
def test_what_the_page_says_of_trytons_errors_is_so(row: list[str]) -> None:
    """Each of Tryton's exceptions means what the page says."""
    said, reading, writing = row
    error = next(error for name, error in ERRORS.items() if said.startswith(name))
    for effect in Effect:
        meaning = reading if effect is Effect.READ else writing
        assert type(failure("c", error, effect)).__name__ == meaning
