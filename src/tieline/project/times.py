"""How times are written in a project file: durations such as ``5m``, and triggers."""

import math
import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from croniter import croniter

from tieline.system import Trigger

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw])", re.ASCII)
_CRON_FIELDS: Final = 5

HOW_LONG: Final = "write a number and s, m, h, d or w, such as 30s, 5m or 1d"
HOW_TRIGGERED: Final = (
    'write "every 5m", "cron 0 6 * * * Europe/Berlin" (minute hour day month weekday, zone), '
    '"webhook", "change" or "hand"'
)


def seconds(text: str) -> float:
    """The seconds in a duration such as ``90s``, ``5m``, ``1.5h``, ``1d`` or ``2w``.

    Raises:
        ValueError: where it is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration")
    return float(match[1]) * _UNITS[match[2]]


def trigger(text: str) -> Trigger:
    """The trigger that ``every 5m``, ``cron 0 6 * * * Europe/Berlin``, ``webhook`` … stands for.

    Raises:
        ValueError: saying what is wrong with it.
    """
    match text.split():
        case ["webhook"]:
            return Trigger(kind="webhook")
        case ["change"]:
            return Trigger(kind="change")
        case ["hand"]:
            return Trigger(kind="hand")
        case ["every", *rest] if rest:
            between = seconds(" ".join(rest))
            if not between:
                raise ValueError(f"{text!r} never waits")
            return Trigger(kind="every", seconds=between)
        case ["cron", *fields] if len(fields) == _CRON_FIELDS:
            return Trigger(kind="cron", cron=_cron(fields))
        case ["cron", *fields, zone] if len(fields) == _CRON_FIELDS:
            return Trigger(kind="cron", cron=_cron(fields), zone=_zone(zone))
        case _:
            raise ValueError(f"{text!r} is no trigger")


def _cron(fields: list[str]) -> str:
    line = " ".join(fields)
    try:
        after = croniter(line, datetime(2000, 1, 1, tzinfo=UTC)).get_next(float)
    except Exception as error:  # croniter raises whatever its parsing trips over
        raise ValueError(f"{line!r} is no cron line ({error})") from error
    if not math.isfinite(after):
        raise ValueError(f"{line!r} never comes")
    return line


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone, such as Europe/Berlin") from error
    return name
