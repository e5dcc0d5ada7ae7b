"""What an HTTP answer, or the lack of one, means: one table for every connector that speaks HTTP."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import IntEnum
from typing import Any, Final

import msgspec

from tieline.errors import AccessRefused, Hold, InDoubt, Reject, RetryLater, Throttled, TielineError, Unavailable

_SHOWN: Final = 500
_PATIENCE: Final = 10.0  # seconds, where a system says "too many" and not for how long
_LONGEST: Final = 86_400.0
_SECONDS: Final = re.compile(r"-?\d{1,12}(\.\d+)?", re.ASCII)


class NotLetIn(AccessRefused):
    """Refused by this status: a login may have run out."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


class Effect(IntEnum):
    """What a call may leave behind, and so what its failure means.

    READ leaves nothing. REPEAT may be done twice (an update, a delete). ONCE may not (a create that
    can be looked up, an action). BLIND may not, and nobody can be asked afterwards.
    """

    READ = 0
    REPEAT = 1
    ONCE = 2
    BLIND = 3


# status → what it means for READ, REPEAT, ONCE, BLIND. A gateway that got no answer (502, 504) may have
# handed a create on, and "found elsewhere" (302) is how forms say that they have been filed; so only what
# can be repeated is a plain outage.
_MEANING: Final[Mapping[int, tuple[type[TielineError], ...]]] = {
    302: (Hold, Hold, InDoubt, InDoubt),
    401: (AccessRefused,) * 4,
    403: (AccessRefused,) * 4,
    407: (AccessRefused,) * 4,
    408: (Unavailable, RetryLater, RetryLater, RetryLater),
    423: (Unavailable, RetryLater, RetryLater, RetryLater),
    425: (Unavailable, RetryLater, RetryLater, RetryLater),
    429: (Throttled,) * 4,
    500: (Unavailable, RetryLater, RetryLater, InDoubt),
    502: (Unavailable, Unavailable, InDoubt, InDoubt),
    503: (Unavailable,) * 4,
    504: (Unavailable, Unavailable, InDoubt, InDoubt),
}
_OTHER_3XX: Final = (Hold,) * 4
_OTHER_4XX: Final = (Hold, Reject, Reject, Reject)
_OTHER_5XX: Final = (Unavailable, RetryLater, InDoubt, InDoubt)
_NO_ANSWER: Final = (Unavailable, Unavailable, InDoubt, InDoubt)


def refused(
    call: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    effect: Effect,
    sent: Mapping[str, Any] | None = None,
) -> TielineError:
    """The error that an answer other than 2xx means; `sent` gives the value of a field it complains of."""
    text, field = _told(body, sent or {})
    said = f"{call} answered {status}" + (f": {text}" if text else "")
    others = {3: _OTHER_3XX, 4: _OTHER_4XX}.get(status // 100, _OTHER_5XX)
    meaning = _MEANING.get(status, others)[effect]
    if meaning is Throttled or (status == 503 and "Retry-After" in headers):
        return Throttled(said, after=retry_after(headers))
    if meaning is AccessRefused:
        return NotLetIn(said, status)
    if meaning is Hold:
        remedy = "set the system's url or the resource's path to what it serves"
        return Hold(f"{said}{_redirect(status, headers)} → {remedy}")
    if meaning is RetryLater and "Retry-After" in headers:
        return RetryLater(said, after=retry_after(headers))
    if meaning is Reject and field is not None:
        return Reject(said, field=field, value=(sent or {}).get(field))
    return meaning(said)


def unanswered(call: str, why: str, effect: Effect, *, sent: bool) -> TielineError:
    """The error for a call that got no whole answer; `sent` tells whether the system may have acted on it."""
    if not sent:
        return Unavailable(f"{call} was not sent: {why}")
    meaning = _NO_ANSWER[effect]
    return meaning(f"{call} got no whole answer: {why}")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait by the Retry-After header (seconds or HTTP date), at most a day."""
    raw = headers.get("Retry-After", "").strip()
    if not raw:
        return _PATIENCE
    if _SECONDS.fullmatch(raw):
        return min(_LONGEST, max(0.0, float(raw)))
    try:
        until = parsedate_to_datetime(raw)
        # The system's own clock, where it tells it: ours may be off.
        now = parsedate_to_datetime(headers["Date"]) if "Date" in headers else datetime.now(UTC)
        return min(_LONGEST, max(0.0, (until - now).total_seconds()))
    except (ValueError, TypeError):
        return _PATIENCE


def _redirect(status: int, headers: Mapping[str, str]) -> str:
    if status // 100 != 3:
        return ""
    target = re.sub(r"[?#].*", "", headers.get("Location", "nowhere"))
    return f" (a redirect to {target[:200]}, not followed with credentials)"


def _told(body: bytes, sent: Mapping[str, Any]) -> tuple[str, str | None]:
    """What the system says in an error body, and the field it names."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return _plain(body), None
    if isinstance(found, dict):
        field = _field(found, sent)
        text = _first(found, "detail", "message", "error_description", "error", "errors", "title")
        return _short(text if text is not None else found), field
    return _short(found), None


def _first(found: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        inner = found.get(name)
        if isinstance(inner, dict):
            inner = _first(inner, "message", "detail") or inner
        if inner:
            return inner
    return None


def _field(found: Mapping[str, Any], sent: Mapping[str, Any]) -> str | None:
    """The field named by `{"errors": [{"field": …}]}`, `{"errors": {field: …}}` or `{field: [text]}`."""
    errors = found.get("errors", found.get("invalid-params"))
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        named = errors[0].get("field") or errors[0].get("name")
        return named if isinstance(named, str) else None
    by_field = errors if isinstance(errors, dict) else found
    return next((name for name in by_field if name in sent), None)


def _short(found: Any) -> str:
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return " ".join(text.split())[:_SHOWN]


def _plain(body: bytes) -> str:
    text = body[:20_000].decode(errors="replace")
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    if title is not None:
        text = title[1]
    return _short(re.sub(r"<[^>]*>", " ", text))
