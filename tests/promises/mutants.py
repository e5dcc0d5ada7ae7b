"""What the mutants share: when one counts as found out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def red(reason: str) -> Iterator[None]:
    """The check inside fails, and says itself that this is broken: it was not the patch that failed."""
    with pytest.raises(AssertionError, match=rf"\A{re.escape(reason)}"):
        yield
