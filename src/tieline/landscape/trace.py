"""Where one key is: at every source, under way, parked, and at every target."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tieline.connector import HeldRow
from tieline.entity import Entity
from tieline.landscape.status import Flight
from tieline.ledger import LegRow, SeenRow, Stores, late_note
from tieline.message import Message, Version, unpack_message
from tieline.system import Landscape


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """The key at one place. `state` is the place's word for it; `at` is seconds since 1970, None if unknown.

    `place` is a source, a leg or a target; `source` says whose version it is. `content` is the entity
    as it stood, where the ledger has it.
    """

    place: str
    state: str
    source: str
    version: Version
    message_id: str
    at: float | None = None
    their_id: str = ""
    note: str = ""
    content: Any = None


def held_in(landscape: Landscape, target: str) -> str:
    """The name under which the ledger keeps what a target holds."""
    system = landscape.systems.get(target)
    return target if system is None else system.settings.held_as


def trace(
    landscape: Landscape,
    stores: Stores,
    entity: type[Entity],
    key: str,
    held_there: Mapping[str, Sequence[HeldRow]] = {},
) -> list[Sighting]:
    """Every place that knows `key`; `held_there` are the rows of targets that keep a held table themselves."""
    name = entity.__name__
    legs = [row for row in stores.legs.all() if row.entity == name]
    found: list[Sighting] = []
    for source in dict.fromkeys(row.source for row in legs):
        found += [_seen(source, row) for row in stores.seen.by_key(source, [key])]
    for row in legs:
        found += _on_the_way(stores, row, key, by_key=entity.__subject__ is None)
        found += _parked(stores, row, key)
    for target in dict.fromkeys(row.target for row in legs if row.target not in landscape.processes):
        rows = {row.source: row for row in stores.held.get(held_in(landscape, target), name, [key])}
        rows |= {row.source: row for row in held_there.get(target, ())}
        late = {row.source for row in legs if row.target == target and stores.notes.get(late_note(row.leg, key))}
        found += [_held(target, row, row.source in late) for row in rows.values() if row.version.counter or row.claim]
    return found


def _seen(source: str, row: SeenRow) -> Sighting:
    return Sighting(
        place=source,
        state="gone" if row.gone else "seen",
        source=source,
        version=row.version,
        message_id=row.message_id.hex(),
        at=row.at or None,
        their_id=row.record,
        note=f"a change made in {row.origin}" if row.origin else "",
    )


def _on_the_way(stores: Stores, row: LegRow, key: str, *, by_key: bool) -> list[Sighting]:
    flight = Flight(stores, row)
    if not flight.counted:
        return []
    return [
        Sighting(
            place=row.leg,
            state="in flight",
            source=row.source,
            version=message.version,
            message_id=message.id.hex(),
            content=content_of(message),
        )
        for message in flight.messages(key, by_key)
    ]


def _parked(stores: Stores, leg: LegRow, key: str) -> list[Sighting]:
    return [
        Sighting(
            place=leg.leg,
            state=f"parked: {row.reason.value}",
            source=leg.source,
            version=row.version,
            message_id=row.message_id.hex(),
            at=row.parked_at or None,
            note=row.error,
            content=content_of(unpack_message(row.message)),
        )
        for row in stores.parked.by_key(leg.leg, [key])
    ]


def _held(target: str, row: HeldRow, late: bool) -> Sighting:
    claimed = row.claim and f"a call for version {version_text(row.claim_version)} was begun and not confirmed"
    notes = [claimed, late and "written late once by a worker that had been taken over, and sent again"]
    return Sighting(
        place=target,
        state=_held_state(row),
        source=row.source,
        version=row.version,
        message_id=row.message_id.hex(),
        at=row.at or row.claimed_at or None,
        their_id=row.target_id or "",
        note="; ".join(note for note in notes if note),
    )


def _held_state(row: HeldRow) -> str:
    """A first message that was dropped or filtered left nothing at the target, nor did a delete that took the row."""
    if row.target_id is None and (row.deleted or not row.digest):
        return "not there"
    return "deleted" if row.deleted else "held"


def content_of(message: Message) -> Any:
    """The entity in a message as JSON values; None for a delete."""
    return msgspec.json.decode(message.data)


def version_text(version: Version) -> str:
    """A version as people read it: 1.42, and 1.42.1 for its first edit."""
    return ".".join(map(str, version if version.edit else version[:2]))
