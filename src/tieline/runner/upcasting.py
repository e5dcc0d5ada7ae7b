"""Earlier versions of an entity are made into this worker's own, where a message is taken in and a batch at a time.

A step without an upcaster changes nothing: what is left out has its default. Whether that is right is checked
against what the ledger has seen, see `tieline.runner.schemas`.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from tieline.entity import Entity, Upcaster, decode, encode, key_of, prove, subject_of
from tieline.errors import Outdated, Reject, TielineError
from tieline.message import Message
from tieline.runner.decide import Work
from tieline.runner.raised import raised

E = TypeVar("E", bound=Entity)

_encoder: Final = msgspec.json.Encoder(decimal_format="string")
_inbox: Final = msgspec.json.Decoder(tuple[int, msgspec.Raw])


def outdated(what: str, entity: type[Entity], version: int) -> Outdated:
    """Why this worker leaves something alone that is of a newer version of the entity than its own."""
    name = entity.__name__
    return Outdated(
        f"{what} is {name} version {version}, and this worker has version {entity.__version__}; "
        f"deploy the newer entities here"
    )


def upcast(entity: type[E], schema: int, messages: Sequence[Message]) -> list[tuple[Message, E] | Reject]:
    """Messages with data of an earlier version, each as it is now with its entity, or why it cannot be."""
    made = _made(entity, schema, [message.data for message in messages])
    return [
        one if isinstance(one, Reject) else _kept(entity, schema, message, *one)
        for message, one in zip(messages, made, strict=True)
    ]


def renew(entity: type[Entity], works: Sequence[Work], schema: int) -> None:
    """Upcast works of an earlier version; what cannot be has the reason in place of its value, and stays as it is."""
    old = [work for work in works if not work.message.deleted]
    for work, new in zip(old, upcast(entity, schema, [work.message for work in old]), strict=True):
        if isinstance(new, Reject):
            work.entity, work.schema = new, schema
        else:
            work.message, work.entity = new
            work.schema = 0


def renew_each(entity: type[Entity], works: Sequence[Work]) -> None:
    """Upcast works each of which says its own version."""
    for schema in {work.schema for work in works} - {0, entity.__version__}:
        renew(entity, [work for work in works if work.schema == schema], schema)


def _kept(entity: type[E], schema: int, message: Message, value: E, data: bytes) -> tuple[Message, E] | Reject:
    """A key and a subject say where a message belongs, so an upcaster has to keep them."""
    if (key := key_of(value)) != message.key:
        return _refused(entity, schema, f"an upcaster must keep the key, {message.key!r}, and made it {key!r}")
    if message.subject and (subject := subject_of(value)) != message.subject:
        what = f"an upcaster must keep the subject, {message.subject!r}, and made it {subject!r}"
        return _refused(entity, schema, what)
    return msgspec.structs.replace(message, data=msgspec.Raw(data)), value


def _made(entity: type[E], schema: int, data: Sequence[msgspec.Raw]) -> list[tuple[E, bytes] | Reject]:
    """Each entity with its canonical bytes, or why there is none."""
    steps = [(version, entity.__upcasters__.get(version)) for version in range(schema, entity.__version__)]
    declared = [(version, function) for version, function in steps if function is not None]
    contents: list[Any] = msgspec.json.decode(b"[" + b",".join(map(bytes, data)) + b"]")
    made = [_stepped(entity, content, declared) for content in contents]
    encoded = [one for one in made if not isinstance(one, Reject)]
    proved = iter(prove(entity, encoded) if encoded else ())
    result = [one if isinstance(one, Reject) else next(proved) for one in made]
    return [_refused(entity, schema, str(one)) if isinstance(one, Reject) else one for one in result]


def _stepped(entity: type[Entity], content: Any, steps: Sequence[tuple[int, Upcaster]]) -> bytes | Reject:
    for version, function in steps:
        who = f"the upcaster of {entity.__name__} version {version}"
        try:
            content = function(content)
        except Exception as error:  # it is the user's code: what it raises concerns this message alone
            return Reject(f"{who} {f'raised {error}' if isinstance(error, TielineError) else raised(error)}")
        if not isinstance(content, dict):
            return Reject(f"{who} gave {type(content).__name__} instead of a dict")
    try:
        return _encoder.encode(content)
    except (TypeError, ValueError, RecursionError) as error:
        return Reject(f"what the upcasters gave has no canonical form: {error}")


def _refused(entity: type[Entity], schema: int, what: str) -> Reject:
    return Reject(f"from {entity.__name__} version {schema} to {entity.__version__}: {what}")


def handed_in(output: Entity) -> bytes:
    """What a process made, for its own source's inbox."""
    return b"[%d,%b]" % (type(output).__version__, encode(output))


def schema_in(data: bytes) -> int:
    """The version of an entity in an inbox."""
    return _inbox.decode(data)[0]


def received(entity: type[E], data: bytes) -> E:
    """The entity that `handed_in` wrote, upcast where it is an earlier version.

    Raises:
        Reject: where it does not fit.
    """
    schema, content = _inbox.decode(data)
    if schema >= entity.__version__:
        return decode(entity, content)
    (made,) = _made(entity, schema, [content])
    if isinstance(made, Reject):
        raise made
    return made[0]
