# mypy: ignore-errors
"""Makes the database of an installed Roundup tracker. Its argument is the tracker's folder."""

import os
import sys

from roundup.instance import open as open_tracker
from roundup.password import Password


def main(folder: str) -> None:
    """The tables, the first entries and the administrator's password, which no process list shows."""
    tracker = open_tracker(folder)
    tracker.init(Password(os.environ["TRACKER_PASSWORD"], config=tracker.config))


if __name__ == "__main__":
    main(sys.argv[1])
