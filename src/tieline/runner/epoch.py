"""What a recovery means for those who read and deliver after it, kept as notes.

A ledger that is put back from a back-up has forgotten a time in which it went on. Its sources show
that time's changes again; what its targets were given in it, only they know.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from tieline.ledger import SourceState, Stores
from tieline.message import Version

OLDER_LEDGER: Final = (
    "the ledger is an older copy, or another landscape writes there under the same names. "
    "Bring back the newest ledger or, where that is lost: tieline recover"
)

_NOTE: Final = "recovery"
_ENDLESS: Final = 1 << 60


class Recovery(msgspec.Struct, frozen=True):
    """The last time that this ledger was found to be an older one.

    Since then versions are of this epoch, and tokens are higher. `legs` may have delivered what the
    ledger does not know of.
    """

    epoch: int
    token: int
    at: float
    legs: list[str]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Messages up to a version may have reached a leg's target in the time that the ledger has forgotten."""

    until: Version
    epoch: int
    at: float

    @property
    def ends(self) -> bool:
        """Whether the leg's source has been read again, so that its end is known."""
        return self.until.counter < _ENDLESS


def last_recovery(stores: Stores) -> Recovery | None:
    """None where the ledger was never an older one."""
    note = stores.notes.get(_NOTE)
    return None if note is None else msgspec.convert(note, Recovery)


def begin_epoch(stores: Stores, recovery: Recovery) -> None:
    """Keep a recovery; the sources that are to be read again are told apart."""
    stores.notes.put(_NOTE, msgspec.to_builtins(recovery))


def forgotten(stores: Stores, leg: str, source: str) -> Forgotten | None:
    """What a leg cannot know of its target, if there is anything."""
    recovery = last_recovery(stores)
    if recovery is None or leg not in recovery.legs:
        return None
    note = stores.notes.get(_reading(source))
    if note is None:
        return None
    counter = _ENDLESS if note["until"] is None else note["until"]
    return Forgotten(Version(recovery.epoch, counter, _ENDLESS), recovery.epoch, recovery.at)


def in_this_epoch(stores: Stores, state: SourceState) -> SourceState:
    """Where a source stands, also one that was not there when the ledger was last recovered."""
    recovery = last_recovery(stores)
    if recovery is None or state.epoch >= recovery.epoch:
        return state
    return msgspec.structs.replace(state, epoch=recovery.epoch)


def trust(stores: Stores, leg: str) -> None:
    """Another system stands where the leg's target was: it was given nothing."""
    recovery = last_recovery(stores)
    if recovery is not None and leg in recovery.legs:
        begin_epoch(stores, msgspec.structs.replace(recovery, legs=[name for name in recovery.legs if name != leg]))


def ask_to_read_again(stores: Stores, source: str) -> None:
    """Nothing that was seen of a source is believed until it was read again."""
    stores.notes.put(_reading(source), {"until": None})


def is_to_be_read_again(stores: Stores, source: str) -> bool:
    """Whether a recovery asked for it, and it has not been done."""
    note = stores.notes.get(_reading(source))
    return note is not None and note["until"] is None


def was_read_again(stores: Stores, source: str, counter: int) -> None:
    """Everything that a source shows has been given anew, under versions up to this counter."""
    stores.notes.put(_reading(source), {"until": counter})


def _reading(source: str) -> str:
    return f"reading again/{source}"
