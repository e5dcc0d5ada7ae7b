"""Work that is left between two steps, because somebody waits for it to end."""

from collections.abc import Awaitable, Callable

Called = Callable[[], Awaitable[bool]]
"""Whether this worker is called away from what it is at: it is to stop, or others have no share yet."""


class BrokenOff(Exception):
    """What was confirmed stays confirmed, the rest comes again: here, or at whoever takes over."""


async def never() -> bool:
    """Nobody calls."""
    return False
