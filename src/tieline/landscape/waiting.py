"""What is parked, for people: one by one and grouped by cause, each with a name to call it by."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from tieline.entity import Entity, decode, encode, key_of, subject_of
from tieline.errors import Reject
from tieline.landscape.status import MOST_PARKED
from tieline.landscape.trace import version_text
from tieline.ledger import ParkedRow, Stores
from tieline.message import Message, Reason, Version, message_id, schema_of, unpack_message
from tieline.runner.upcasting import outdated, upcast

_VARYING: Final = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"|[0-9a-f]{16,}|\d+(?:[.,:]\d+)*")


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One parked message, or (`of_source`) one record that its source could not make an entity of.

    `ref` names exactly this message: once another one waits in its place, the ref is unknown.
    """

    ref: str
    group: str
    leg: str
    key: str
    version: str
    reason: Reason
    error: str
    since: float
    attempt: int = 0
    not_before: float = 0.0
    waits_for: str = ""
    decision: str = ""
    decided_by: str = ""
    of_source: bool = False
    for_a_person: bool = False


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of one leg that wait for one reason, with errors that differ only in names and numbers, if at all."""

    group: str
    leg: str
    reason: Reason
    cause: str
    count: int
    decided: int
    for_a_person: int
    since: float
    keys: list[str]


def rows(stores: Stores, leg: str | None = None, reason: Reason | None = None) -> list[ParkedRow]:
    """What is parked, oldest first."""
    return stores.parked.list(leg, reason, limit=MOST_PARKED)


def of_sources(stores: Stores) -> frozenset[str]:
    """The names under which sources park records; the others are legs."""
    return frozenset(stores.sources.all())


def ref(row: ParkedRow) -> str:
    """Eight letters and digits that name this message at this leg."""
    return _short(row.leg, row.key, row.message_id.hex())


def group_of(row: ParkedRow) -> str:
    """Six letters and digits that name the row's group."""
    return _short(row.leg, row.reason.value, cause(row.error))[:6]


def cause(error: str) -> str:
    """An error without what differs between one message and the next."""
    return _VARYING.sub("…", " ".join(error.split()))


def _common(members: Sequence[ParkedRow]) -> str:
    """What the errors of a group say alike: all of it where they do not differ."""
    errors = {" ".join(row.error.split()) for row in members}
    return errors.pop() if len(errors) == 1 else cause(members[0].error)


def shown(row: ParkedRow, sources: frozenset[str]) -> Waiting:
    """A parked row as people see it."""
    return Waiting(
        ref=ref(row),
        group=group_of(row),
        leg=row.leg,
        key=_printable(row.key),
        version=version_text(row.version),
        reason=row.reason,
        error=row.error,
        since=row.parked_at,
        attempt=row.attempt,
        not_before=row.not_before,
        waits_for=" ".join(row.waits_for) if row.waits_for else "",
        decision=row.decision,
        decided_by=row.decided_by,
        of_source=row.leg in sources,
        for_a_person=row.for_a_person,
    )


def groups(parked: Iterable[ParkedRow]) -> list[Group]:
    """The groups of these rows, those that wait for a person first, then the largest."""
    found: dict[str, list[ParkedRow]] = {}
    for row in parked:
        found.setdefault(group_of(row), []).append(row)
    made = [
        Group(
            group=name,
            leg=members[0].leg,
            reason=members[0].reason,
            cause=_common(members),
            count=len(members),
            decided=sum(1 for row in members if row.decision),
            for_a_person=sum(row.for_a_person for row in members),
            since=min(row.parked_at for row in members),
            keys=[_printable(row.key) for row in members[:5]],
        )
        for name, members in found.items()
    ]
    return sorted(made, key=lambda group: (not group.for_a_person, -group.count, group.leg))


def upcast_content(row: ParkedRow, entity: type[Entity]) -> bytes:
    """The content of a parked message as this project's version of the entity has it.

    Raises:
        Reject: where an upcaster cannot make it.
        Outdated: where it is of a newer version than the project's.
    """
    message, schema = unpack_message(row.message), schema_of(row.message)
    if schema > entity.__version__:
        raise outdated(f"what is parked for {row.key!r}", entity, schema)
    if schema == entity.__version__ or message.deleted:
        return bytes(message.data)
    (new,) = upcast(entity, schema, [message])
    if isinstance(new, Reject):
        raise new
    return bytes(new[0].data)


def edited(row: ParkedRow, entity: type[Entity], data: Sequence[bytes]) -> Message:
    """The message that takes the place of `row`'s: the first of `data` that is a whole `entity`, as version n.1.

    Raises:
        Reject: naming the field, where none of them is, or where it is another key's or subject's.
    """
    message = unpack_message(row.message)
    value = _first_whole(entity, data)
    if key_of(value) != row.key:
        raise Reject(
            "an edit stays with its key; correct the key in the source system", field="key", value=key_of(value)
        )
    if message.subject and subject_of(value) != message.subject:
        raise Reject("an edit stays with its subject", field="subject", value=subject_of(value))
    content = encode(value)
    version = Version(row.version.epoch, row.version.counter, row.version.edit + 1)
    return msgspec.structs.replace(
        message,
        id=message_id(row.leg, row.key, row.message_id, content),
        version=version,
        data=msgspec.Raw(content),
    )


def _first_whole(entity: type[Entity], data: Sequence[bytes]) -> Entity:
    first: Reject | None = None
    for one in data:
        try:
            return decode(entity, one)
        except Reject as error:
            first = first or error
    raise first or Reject("nothing to put in its place")


def _short(*parts: str) -> str:
    text = "\0".join(parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _printable(key: str) -> str:
    """A record's id may hold half a character, which no terminal takes: that is shown by its number."""
    return key.encode("utf-8", "backslashreplace").decode()


def with_fields(content: Any, fields: Sequence[tuple[str, str]]) -> list[bytes]:
    """The content with fields set, in each way that their text can be meant: as JSON first, then as text.

    A field is named by its way, such as ``total.amount`` or ``lines.0.sku``.

    Raises:
        Reject: where the content has no such place.
    """
    ways: list[list[Any]] = [[]]
    for _, text in fields:
        ways = [[*way, value] for way in ways for value in _meanings(text)]
    made = []
    for way in ways:
        copy = msgspec.json.decode(msgspec.json.encode(content))
        for (path, _), value in zip(fields, way, strict=True):
            _put(copy, path, value)
        made.append(msgspec.json.encode(copy))
    return made


def _meanings(text: str) -> list[Any]:
    try:
        msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return [text]
    # Raw keeps a number as it was typed: 12.50 must not pass through a float.
    return [msgspec.Raw(text.encode()), text]


def _put(content: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    place = content
    for step in way:
        place = _step(place, step, path)
    if isinstance(place, list):
        place[_index(place, last, path)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise Reject("there is nothing to set there", field=path, value=place)


def _step(place: Any, step: str, path: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, step, path)]
    if isinstance(place, dict) and step in place:
        return place[step]
    raise Reject("there is no such place", field=path, value=step)


def _index(place: list[Any], step: str, path: str) -> int:
    if not step.isdecimal() or int(step) >= len(place):
        raise Reject(f"the list has items 0 to {len(place) - 1}", field=path, value=step)
    return int(step)
