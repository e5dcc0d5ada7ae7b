"""What a user's own function raised, told so that they find the line."""

import traceback
from pathlib import Path
from typing import Final

_OURS: Final = str(Path(__file__).parent)


def raised(error: Exception) -> str:
    """Kind, text and place: the innermost line of the file that was called, such as `adapters/shop.py:17`."""
    said = f"raised {type(error).__name__}: {error}"
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    theirs = [(file, line) for file, line in places if not file.startswith(_OURS)]
    if not theirs:
        return said
    called = theirs[0][0]
    line = next(line for file, line in reversed(theirs) if file == called)
    return f"{said} (at {'/'.join(Path(called).parts[-2:])}:{line})"
