"""Keys that are looked at again, for a call that may land when everybody has gone on.

After the settling time nothing of a cut-off call is under way, unless its worker stood still in the middle
of it: that one may wake up at any time, write what is old by then, and die before it can tell. So where a
call was found begun and not confirmed, what the target has after the next confirm is remembered as the
target itself reads it, and looked at again after the settling time, twice that time, and so on. Where it
differs, the current value is sent again; and if that changes what is read, something was written late.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from tieline.adapter import Sink
from tieline.connector import Connector, HeldRow, Record
from tieline.entity import digest
from tieline.errors import AccessRefused, Unavailable
from tieline.ledger import Stores, late_note
from tieline.runner.applying import Desk, Holding
from tieline.runner.decide import Work
from tieline.runner.plan import LegPlan
from tieline.runner.requests import Request, ask, over_their_legs

log = structlog.get_logger()

_LONGEST: Final = 3_600.0  # seconds; a connection that stands still for longer is given up by the other end
_GONE: Final = "gone"


class Watch(msgspec.Struct, frozen=True):
    """One key. `value` finds its record, by the sink's match field or else by id.

    `reading` is what `fields` read as after `message` was confirmed, "" where nobody has looked since;
    `suspect` what they read as when the current value was asked for.
    """

    key: str
    value: str
    fields: list[str]
    message: bytes
    due: float
    pause: float
    reading: str = ""
    suspect: str = ""


def watched(stores: Stores, leg: str) -> dict[str, Watch]:
    """What is watched on a leg, by key."""
    notes = stores.notes.starting(f"watch/{leg}/").values()
    return {watch.key: watch for watch in msgspec.convert(list(notes), list[Watch])}


def due_watches(stores: Stores, leg: str) -> list[Watch]:
    """What is to be looked at now."""
    now = stores.now()
    return [watch for watch in watched(stores, leg).values() if watch.due <= now]


def flag_late(stores: Stores, leg: LegPlan, keys: Sequence[str]) -> None:
    """Note that these keys were written late, and send their current values again, of every source."""
    send_again(stores, leg, keys, "written late by a worker taken over")
    _note_late(stores, leg, keys)


def send_again(stores: Stores, leg: LegPlan, keys: Sequence[str], why: str) -> None:
    """Ask every source that writes these keys for their current values."""
    rows = stores.held.get(leg.held_in, leg.entity.__name__, keys)
    sources = {(row.source, row.key) for row in rows if row.message_id} | {(leg.source.name, key) for key in keys}
    asked = [Request("resend", source, "", key=key, force=True, why=why) for source, key in sorted(sources)]
    ask(stores, over_their_legs(stores, leg.target, asked))


def _note_late(stores: Stores, leg: LegPlan, keys: Sequence[str]) -> None:
    for key in keys:
        stores.notes.put(late_note(leg.name, key), {"at": stores.now(), "leg": leg.name, "key": key})


def _note(leg: str, key: str) -> str:
    return f"watch/{leg}/{digest(key.encode(errors='surrogatepass')).hex()}"  # a key may hold what a name may not


class Watches:
    """Watches keys of one leg; its target can be asked."""

    def __init__(self, desk: Desk, connector: Connector, sink: Sink) -> None:
        self._leg = desk.leg
        self._ledger = desk.ledger
        self._connector = connector
        self._sink = sink

    def of(
        self, work: Work, record: Record | None, target_id: str | None, now: float, before: Watch | None
    ) -> Watch | None:
        """The watch of a key whose message is being confirmed; None where its record could not be found again."""
        value = self._value(work, record, target_id)
        if value is None:
            return None
        fields = sorted(record) if record is not None else before.fields if before is not None else []
        pause = self._leg.settling
        suspect = before.suspect if before is not None and before.message == work.message.id else ""
        return Watch(work.message.key, value, fields, work.message.id, now + pause, pause, suspect=suspect)

    def _value(self, work: Work, record: Record | None, target_id: str | None) -> str | None:
        if self._sink.match is None:
            return target_id or work.target_id
        return work.message.key if record is None else str(record.get(self._sink.match))

    def keep(self, stores: Stores, watches: Iterable[Watch]) -> None:
        """Watch these from now on."""
        for watch in watches:
            stores.notes.put(_note(self._leg.name, watch.key), msgspec.to_builtins(watch))

    async def read_back(self, watches: Sequence[Watch], holding: Holding) -> None:
        """Remember what these keys read as now that they are confirmed.

        Where the current value was asked for and has changed what is read, something else stood there.
        """
        try:
            readings = await self._readings(watches)
        except (Unavailable, AccessRefused):
            return  # nobody has looked: the next look sends the current value again
        read = [msgspec.structs.replace(w, reading=r, suspect="") for w, r in zip(watches, readings, strict=True)]
        late = [w.key for w, r in zip(watches, readings, strict=True) if w.suspect and w.suspect != r]

        def work(stores: Stores) -> None:
            self.keep(stores, read)
            _note_late(stores, self._leg, late)

        await self._ledger.transact(work, holding.fences())
        if late:
            log.warning("written late", leg=self._leg.name, keys=len(late))

    async def look(self, watches: Sequence[Watch], holding: Holding) -> None:
        """Look again; what is not as it was is sent again."""
        leg, keys = self._leg, [watch.key for watch in watches]
        readings = await self._readings(watches)

        def work(stores: Stores) -> list[str]:
            held = {
                row.key: row
                for row in stores.held.get(leg.held_in, leg.entity.__name__, keys)
                if row.source == leg.source.name
            }
            now = stores.now()
            looked = [
                _looked(watch, reading, held.get(watch.key), now, leg.settling)
                for watch, reading in zip(watches, readings, strict=True)
            ]
            again = [watch.key for watch in looked if watch.suspect]
            send_again(stores, leg, again, "it is not as it was")
            self.keep(stores, looked)
            for watch in looked:
                if watch.pause > _LONGEST:
                    stores.notes.put(_note(leg.name, watch.key), None)
            return again

        if again := await self._ledger.transact(work, holding.fences()):
            log.info("sent again: not as it was, or nobody has looked yet", leg=leg.name, keys=again)

    async def _readings(self, watches: Sequence[Watch]) -> list[str]:
        values = [watch.value for watch in watches]
        records = await self._connector.lookup(self._sink.resource, values, by=self._sink.match)
        return [self._reading(watch.fields, record) for watch, record in zip(watches, records, strict=True)]

    def _reading(self, fields: Sequence[str], record: Mapping[str, Any] | None) -> str:
        """A record's id and the fields that we write, as the target gives them."""
        if record is None:
            return _GONE
        assert self._leg.settings is not None
        ours = [self._leg.settings.identify(self._sink.resource, dict(record)), *(record.get(f) for f in fields)]
        return digest(msgspec.json.encode(ours, order="deterministic")).hex()


def _looked(watch: Watch, reading: str, row: HeldRow | None, now: float, settling: float) -> Watch:
    """A watch after a look, with what it read."""
    later = msgspec.structs.replace(watch, due=now + 2 * watch.pause, pause=2 * watch.pause)
    kept = row is not None and row.claim == row.message_id and now >= row.claimed_at + settling
    if row is None or (row.claim and not kept):
        return msgspec.structs.replace(watch, due=now + watch.pause)  # a call is under way, or in doubt
    if row.message_id != watch.message:  # held moved, and nothing was written
        return msgspec.structs.replace(later, message=row.message_id, reading=reading)
    if reading != watch.reading:
        return msgspec.structs.replace(later, suspect=reading)
    return later
