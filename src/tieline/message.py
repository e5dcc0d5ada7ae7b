"""A message is one change of one key; a batch is a list of them and the unit everywhere.

The envelope follows CloudEvents 1.0 (https://github.com/cloudevents/spec): `id`, `source`, `type`,
`subject` (the key), `time`, `dataschema`; what all messages of a batch share is written once, and
`cloudevents()` spells each one out in full.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

MAX_MESSAGES: Final = 2_000
MAX_BYTES: Final = 4_000_000
HEAD: Final = 2_000  # bytes of a packed batch within which its messages begin
_NOTHING: Final = msgspec.Raw(b"null")
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Version(NamedTuple):
    """Which of two messages of a key from one source is newer; `edit` counts a person's repairs."""

    epoch: int
    counter: int
    edit: int = 0


class Outcome(StrEnum):
    """What became of one message at one sink: the whole list."""

    DONE = "done"
    UNCHANGED = "unchanged"
    STALE = "stale"
    SUPERSEDED = "superseded"
    FILTERED = "filtered"
    ECHO = "echo"
    DROPPED = "dropped"


class Reason(StrEnum):
    """Why a message is parked: a message counts as parked instead of having an outcome."""

    RETRY = "retry"
    REFERENCE = "reference"
    ORDER = "order"  # an event behind a parked one of its subject
    DOUBT = "in doubt"
    DEAD = "dead letter"


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One change of one key. `data` is the entity's canonical JSON; `null` means deleted.

    `id` is 16 bytes; `origin` names the system whose change this is, where it is not the source's.
    `subject` orders events; empty means the key does.
    """

    id: bytes
    key: str
    version: Version
    data: msgspec.Raw = _NOTHING
    origin: str = ""
    subject: str = ""

    @property
    def deleted(self) -> bool:
        """Whether this message says that the key is gone."""
        return len(self.data) == 4 and bytes(self.data) == b"null"


class Batch(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Messages of one source, in order, with what they share.

    `sequence` grows with each batch of the source: a consumer knows a batch published twice by it.
    `to` names the one leg a backfill is for; `force` asks to write what the target holds already.
    """

    source: str
    entity: str
    schema: int
    sequence: int
    time: datetime
    messages: list[Message]
    to: str = ""
    force: bool = False
    trace: str = ""

    @property
    def made(self) -> int:
        """`time` in microseconds since 1970: it tells this batch from another one of the same number."""
        return (self.time - _BEGINNING) // _MICROSECOND


class _Label(msgspec.Struct, frozen=True):
    """What of a packed batch stands before its messages."""

    time: datetime


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Batch)
_label: Final = msgspec.json.Decoder(_Label)


def pack(batch: Batch) -> bytes:
    """The batch as bytes, for a channel."""
    return _encoder.encode(batch)


def made_at(head: bytes) -> float | None:
    """When a packed batch was made, in seconds since 1970, from its first `HEAD` bytes; None where that takes more.

    Names are short, and messages come after them: a quotation mark within a name is escaped.
    """
    label, messages, _ = head.partition(b',"messages":[')
    return _label.decode(label + b"}").time.timestamp() if messages else None


def unpack(data: bytes) -> Batch:
    """The batch that `pack` wrote."""
    return _decoder.decode(data)


class _Alone(Message, frozen=True, gc=False, omit_defaults=True):
    """A message out of its batch, with what it needs of that."""

    schema: int = 1


def pack_message(message: Message, schema: int = 1) -> bytes:
    """One message as bytes, as it is parked; `schema` is the version of its entity."""
    return _encoder.encode(_Alone(**msgspec.structs.asdict(message), schema=schema))


def unpack_message(data: bytes) -> Message:
    """The message that `pack_message` wrote."""
    return msgspec.json.decode(data, type=Message)


def schema_of(data: bytes) -> int:
    """The version of its entity under which `pack_message` wrote a message."""
    return msgspec.json.decode(data, type=_Alone).schema


def message_id(source: str, key: str, previous: bytes, content: bytes) -> bytes:
    """16 bytes chained over a key's history: the same change has the same id, A → B → A has three."""
    head = f"{len(source)}:{source}{len(key)}:{key}".encode()
    return hashlib.blake2b(previous + head + content, digest_size=16).digest()


def partition_of(subject: str, partitions: int) -> int:
    """The partition of a key: ours, stable across versions and engines (BLAKE2b, big-endian)."""
    if partitions == 1:
        return 0
    return int.from_bytes(hashlib.blake2b(subject.encode(), digest_size=4).digest(), "big") % partitions


def split(batch: Batch, partitions: int) -> dict[int, Batch]:
    """The batch by partition, each part in order; parts without messages are left out."""
    if partitions == 1 and batch.messages:
        return {0: batch}
    parts: dict[int, list[Message]] = {}
    for message in batch.messages:
        parts.setdefault(partition_of(message.subject or message.key, partitions), []).append(message)
    return {p: msgspec.structs.replace(batch, messages=found) for p, found in parts.items()}


def in_pieces(
    messages: Sequence[Message], most: int = MAX_MESSAGES, size: int = MAX_BYTES
) -> Iterable[list[Message]]:
    """Cut messages into lists of at most `most` messages and about `size` bytes."""
    piece: list[Message] = []
    weight = 0
    for message in messages:
        length = len(message.data)
        if piece and (len(piece) >= most or weight + length > size):
            yield piece
            piece, weight = [], 0
        piece.append(message)
        weight += length
    if piece:
        yield piece


def cloudevents(batch: Batch) -> list[dict[str, Any]]:
    """Each message of the batch as a CloudEvents 1.0 JSON object."""
    shared = {
        "specversion": "1.0",
        "source": f"/{quote(batch.source.replace('.', '/'))}",
        "time": batch.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "dataschema": f"urn:tieline:{quote(batch.entity)}:{batch.schema}",
        **({"traceparent": batch.trace} if batch.trace else {}),
    }
    return [
        shared
        | {
            "id": message.id.hex(),
            "type": f"{batch.entity}.{'deleted' if message.deleted else 'changed'}",
            "subject": message.key,
            "tielineversion": ".".join(map(str, message.version)),
            **({"tielineorigin": message.origin} if message.origin else {}),
            **({"partitionkey": message.subject} if message.subject else {}),
            **({} if message.deleted else _content(message)),
        }
        for message in batch.messages
    ]


def _content(message: Message) -> dict[str, Any]:
    return {"datacontenttype": "application/json", "data": msgspec.json.decode(message.data)}
