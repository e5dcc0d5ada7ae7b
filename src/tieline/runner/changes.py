"""From a mapped page to what one commit keeps: new seen rows, versions, chained ids, messages. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tieline.entity import Entity, digest
from tieline.ledger import SeenRow
from tieline.message import Message, Version, message_id
from tieline.runner.mapping import Mapped, MappedPage

_DELETED = b"\x00deleted"


@dataclass(slots=True)
class Clash:
    """A second record gives a key that another living record has given."""

    second: Mapped
    holder: SeenRow


@dataclass(slots=True)
class Changes:
    """What one commit of the reader keeps; `rows` is by key, the last word on it.

    What was seen in an epoch before `believed` may not be what the targets have: it is given anew.
    """

    source: str
    epoch: int
    counter: int
    mapping: int
    origins: Mapping[str, str] = field(default_factory=dict)  # by key: whose change it is, if not the source's own
    at: float = 0.0  # when it was read, by the ledger's clock
    believed: int = 0
    rows: dict[str, SeenRow] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    entities: dict[bytes, Entity] = field(default_factory=dict)  # of the messages, by id

    def compare(
        self, page: MappedPage, by_key: Mapping[str, SeenRow], by_record: Mapping[str, Sequence[SeenRow]]
    ) -> None:
        """Messages for what is new, changed or no longer given; clashes must have been settled."""
        given = {(m.record, m.key) for m in page.mapped}
        taken = {m.key for m in page.mapped}
        for record in page.read:
            for row in by_record.get(record, ()):
                # A key that another record of this page gives passes over, with no delete between.
                if (record, row.key) not in given and row.key not in taken and not row.gone:
                    self.delete(row)
        for one in page.mapped:
            self._give(one, self.rows.get(one.key) or by_key.get(one.key))

    def _give(self, one: Mapped, row: SeenRow | None) -> None:
        entity_digest = digest(one.data)
        believed = row is not None and row.version.epoch >= self.believed
        if row is not None and not row.gone and row.entity_digest == entity_digest and believed:
            self.rows[one.key] = msgspec.structs.replace(
                row, record=one.record, record_digest=one.record_digest, mapping=self.mapping
            )
            return
        version, new_id = self._next(one.key, row, entity_digest)
        origin = self.origins.get(one.key, "")
        self.rows[one.key] = SeenRow(
            key=one.key,
            record=one.record,
            version=version,
            message_id=new_id,
            record_digest=one.record_digest,
            entity_digest=entity_digest,
            mapping=self.mapping,
            origin=origin,
            at=self.at,
        )
        data = msgspec.Raw(one.data)
        if one.entity is not None:
            self.entities[new_id] = one.entity
        self.messages.append(
            Message(id=new_id, key=one.key, version=version, data=data, origin=origin, subject=one.subject)
        )

    def delete(self, row: SeenRow) -> None:
        """The key is gone: a tombstone and its message."""
        version, new_id = self._next(row.key, row, _DELETED)
        self.rows[row.key] = msgspec.structs.replace(
            row, version=version, message_id=new_id, entity_digest=b"", record_digest=b"", gone=True, at=self.at
        )
        self.messages.append(Message(id=new_id, key=row.key, version=version))

    def _next(self, key: str, row: SeenRow | None, content: bytes) -> tuple[Version, bytes]:
        self.counter += 1
        previous = row.message_id if row is not None else b""
        return Version(self.epoch, self.counter), message_id(self.source, key, previous, content)


def clashes(
    page: MappedPage, by_key: Mapping[str, SeenRow], leaving: Iterable[str]
) -> tuple[list[Clash], dict[str, Mapped]]:
    """Mapped entities whose key another living record holds, and the first giver of each key here.

    `leaving` are records that the system says are gone; records of this page that no longer give a
    key have left it too.
    """
    gone = set(leaving)
    given = {(m.record, m.key) for m in page.mapped}
    first: dict[str, Mapped] = {}
    found: list[Clash] = []
    for one in page.mapped:
        row = by_key.get(one.key)
        other = first.setdefault(one.key, one)
        if other is not one:
            found.append(Clash(one, _as_row(other)))
        elif row is not None and not row.gone and row.record != one.record and row.record not in gone:
            if row.record in page.read and (row.record, row.key) not in given:
                continue
            found.append(Clash(one, row))
    return found, first


def _as_row(one: Mapped) -> SeenRow:
    return SeenRow(
        key=one.key,
        record=one.record,
        version=Version(0, 0),
        message_id=b"",
        record_digest=one.record_digest,
        entity_digest=b"",
    )
