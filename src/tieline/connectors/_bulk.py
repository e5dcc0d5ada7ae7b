"""Writing many changes: in order within a key, and without letting a bad one spoil the others."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from tieline.connector import Change, Result
from tieline.errors import AccessRefused, Fenced, Hold, InDoubt, Reject, RetryLater, TielineError, Unavailable

T = TypeVar("T")

OUTAGES: Final = (Unavailable, AccessRefused, Hold, Fenced)
"""What the system as a whole answered, or who works on it: nothing more is sent."""


async def halving(items: Sequence[T], attempt: Callable[[Sequence[T]], Awaitable[Sequence[Result]]]) -> list[Result]:
    """The results of `attempt` on all items; where it fails whole, on halves, until the bad one stands alone.

    `attempt` fails whole by raising. Only what may be one item's fault is halved; an outage, and a call
    that was cut off, is everybody's result, and nothing more is attempted after it.
    """
    results: list[Result] = []
    waiting = [items]
    while waiting:
        part = waiting.pop()
        if not part:
            continue
        try:
            results += await attempt(part)
        except OUTAGES as error:
            everybody = failed(error)
            results += [everybody for _ in range(len(part) + sum(map(len, waiting)))]
            return results
        except InDoubt as error:
            results += [Result(error=error) for _ in part]
            results += [Result(error=stops(results[-1])) for _ in range(sum(map(len, waiting)))]
            return results
        except TielineError as error:
            if len(part) == 1:
                results.append(Result(error=error))
                continue
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
    return results


def in_waves(changes: Sequence[Change]) -> Iterator[list[int]]:
    """Places of changes, in waves in which no key is met twice; a key's changes keep their order."""
    waves: list[list[int]] = []
    met: dict[str, int] = {}
    for place, change in enumerate(changes):
        wave = met[change.key] = met.get(change.key, -1) + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(place)
    return iter(waves)


def failed(error: TielineError) -> Result:
    """The result of a change that met this error.

    What holds a reading (a wrong address) is no change's own fault: it is an outage with its remedy.
    """
    return Result(error=Unavailable(str(error)) if isinstance(error, Hold) else error)


def stops(result: Result) -> TielineError | None:
    """What is said of changes that are not sent any more after this result; None: they are sent."""
    if isinstance(result.error, InDoubt):
        return Unavailable(f"not sent after a call that was cut off: {result.error}")
    return result.error if isinstance(result.error, OUTAGES) else None


def following(change: Change, before: Change | None, result: Result | None) -> Change:
    """A change after an earlier one of its key: with the row that was made, or without the one deleted."""
    if before is None or result is None or result.error is not None:
        return change
    if before.record is None:
        return msgspec.structs.replace(change, target_id=None, version_tag=None)
    target_id = change.target_id or result.target_id
    return msgspec.structs.replace(change, target_id=target_id, version_tag=result.version_tag)


def behind(earlier: Result | None) -> TielineError | None:
    """What keeps a change from being written after an earlier one of its key, if anything does."""
    if earlier is None or earlier.error is None or isinstance(earlier.error, Reject):
        return None
    if isinstance(earlier.error, OUTAGES):
        return earlier.error
    return RetryLater(f"an earlier change of this key is not settled: {earlier.error}")
