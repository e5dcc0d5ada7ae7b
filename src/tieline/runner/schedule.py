"""When a source is read next."""

from datetime import datetime
from zoneinfo import ZoneInfo

from croniter import croniter

from tieline.system import Trigger


def seconds_until(triggers: tuple[Trigger, ...], now: float, last: float) -> float | None:
    """Seconds from `now` to the next reading after one at `last` (both since 1970); None: only by hand."""
    if last > now and any(trigger.kind in {"every", "cron"} for trigger in triggers):
        return 0.0  # the ledger's clock was set back: how long ago that was, nobody knows
    waits = [_wait(trigger, now, last) for trigger in triggers]
    known = [wait for wait in waits if wait is not None]
    return max(0.0, min(known)) if known else None


def _wait(trigger: Trigger, now: float, last: float) -> float | None:
    if trigger.kind == "every":
        return last + trigger.seconds - now
    if trigger.kind == "cron":
        zone = ZoneInfo(trigger.zone)
        start = datetime.fromtimestamp(last or now, zone)
        following: datetime = croniter(trigger.cron, start).get_next(datetime)
        return following.timestamp() - now
    return None
