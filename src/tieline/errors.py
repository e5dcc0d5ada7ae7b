"""Errors, named by what happens next.

TielineError
├── ConfigurationError   fix the project: every mistake found, each with its place and remedy
│   └── MissingExtra     install an optional part
├── Reject               this message cannot be applied as it is: it is parked for a person
│   └── Misfit           … because a value does not fit its field
├── MissingReference     it needs another entity first: it is parked until that one is there
├── RetryLater           it may work later: it is parked with a time
├── InDoubt              nobody knows whether it took effect: settled by look-up, never blindly
├── Unavailable          the system is down: the leg pauses and probes, nothing is parked
│   ├── Throttled        the system asked to wait so many seconds
│   └── LedgerUnavailable  Tieline's own store is: whoever needs it waits, and no system is to blame
├── AccessRefused        credentials are refused: the leg holds and its owner is called
├── Hold                 something needs a person before this source or leg goes on
│   └── Outdated         … namely a newer project in this worker: another worker may go on with it
└── Fenced               another worker has taken over: stand down
"""

from dataclasses import dataclass
from typing import Any


class TielineError(Exception):
    """Root of all errors raised on purpose."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a project: `where` is `file:line` or the nearest known place."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} → {self.remedy}"


class ConfigurationError(TielineError):
    """The project has mistakes; all of them are in `mistakes`."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__("\n".join(str(m) for m in mistakes))
        self.mistakes = mistakes


class MissingExtra(ConfigurationError):
    """An optional part of Tieline is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(Mistake(what, "is not installed", f"pip install 'tieline[{extra}]'"))


class Reject(TielineError):
    """This message or record cannot be applied as it is; it waits for a person (dead letter)."""

    def __init__(self, reason: str, *, field: str | None = None, value: Any = None) -> None:
        shown = reason if field is None else f"{field}: {reason} (got {str(value)[:80]!r})"
        super().__init__(shown)
        self.field = field
        self.value = value


class Misfit(Reject, ValueError):
    """A value does not fit its field. As a ValueError it gets its place from whatever decodes."""


class MissingReference(TielineError):
    """The target does not have the entity that this message refers to."""

    def __init__(self, entity: str, key: str) -> None:
        super().__init__(f"waits for {entity} {key!r}")
        self.entity = entity
        self.key = key


class RetryLater(TielineError):
    """This message may work later; `after` is the number of seconds asked for, if any."""

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class InDoubt(TielineError):
    """The call was cut off: it may or may not have taken effect."""


class Unavailable(TielineError):
    """The system cannot be reached or is failing as a whole."""

    after: float | None = None


class Throttled(Unavailable):
    """The system asked to be left alone for `after` seconds."""

    def __init__(self, reason: str, *, after: float) -> None:
        super().__init__(reason)
        self.after = after


class LedgerUnavailable(Unavailable):
    """The ledger, or a bus elsewhere, cannot be reached or takes nothing more."""


class AccessRefused(TielineError):
    """The system refused our credentials or our rights; only its owner can mend that."""


class Hold(TielineError):
    """A person must decide before this goes on."""


class Outdated(Hold):
    """What is to be read or delivered is of a newer project than this worker's."""


class Fenced(TielineError):
    """The lease behind this work has passed to another worker."""


NO_MESSAGES_FAULT = (Unavailable, AccessRefused, Hold, ConfigurationError)
"""What stops a source or a leg as a whole, whichever message met it."""
