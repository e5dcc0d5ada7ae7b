"""Thousands of seeded lives of a company: crashes, freezes, outages, decisions, changes of way, backfills.

Each seed ends with an oracle that looks at the targets alone: the end equals the source, versions of a key only
rise, nothing is there twice, and every leg's books balance. `TIELINE_FAULTS=long` plays many more.
"""

import os

import pytest
from tests.runner.play import Play

from tieline.testing import clock

BLOCK = 25
SEEDS = 5_000 if os.environ.get("TIELINE_FAULTS") == "long" else 250


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_whatever_happens_the_end_is_right(first: int) -> None:
    """A failing seed tells what it was about, what happened, and what is wrong."""
    for seed in range(first, first + BLOCK):
        play = Play(seed)
        wrong = clock.run(play.run())
        assert not wrong, "\n".join([f"seed {seed}: {play.about}", *play.trial.trace[-120:], *wrong])
