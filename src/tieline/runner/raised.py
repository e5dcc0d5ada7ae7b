"""What a user's own function raised, told so that they find the line."""

import os
import traceback
from pathlib import Path
from typing import Final

_OURS: Final = str(Path(__file__).parents[1]) + os.sep


def raised(error: Exception) -> str:
    """Kind, text and place of an error that is not one of Tieline's own."""
    return f"raised {type(error).__name__}: {placed(error)}"


def placed(error: Exception) -> str:
    """Text and place: the innermost line of the user's file that was called, such as `(at adapters/shop.py:17)`."""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    theirs = [(file, line) for file, line in places if not file.startswith(_OURS)]
    if not theirs:
        return str(error)
    called = theirs[0][0]
    line = next(line for file, line in reversed(theirs) if file == called)
    return f"{error} (at {'/'.join(Path(called).parts[-2:])}:{line})"
