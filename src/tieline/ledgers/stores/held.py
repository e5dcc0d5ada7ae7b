"""What targets have of ours."""

from collections.abc import Sequence
from typing import Any, Final

from tieline.connector import HeldRow
from tieline.ledgers.dialect import Merge, Session
from tieline.ledgers.texts import Names, Texts
from tieline.message import Version


class SqlHeld:
    """What targets have of ours."""

    _merge: Final = Merge(
        "held",
        "target entity key source epoch counter edit message_id digest target_id version_tag deleted step"
        " claim claimed_at claim_epoch claim_counter claim_edit sequence at",
        "integer integer text integer bigint bigint integer bytea bytea text text smallint integer"
        " bytea float8 bigint bigint integer bigint float8",
        key="target entity key source",
    )

    def __init__(self, session: Session, names: Names, texts: Texts) -> None:
        self._session = session
        self._names = names
        self._texts = texts

    def get(self, target: str, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        if not keys:
            return []
        wanted, values = self._session.wanted(self._texts.sought(keys))
        query = self._session.join(wanted, _COLUMNS, "held", "target = ? and entity = ? and held.key = w.v")
        return self._rows(query, values, target, entity)

    def claimed(self, target: str, entity: str) -> list[HeldRow]:
        which = "target = ? and entity = ? and length(claim) > 0 order by claimed_at, key"
        return self._rows(f"select {_COLUMNS} from held where {which}", (), target, entity)

    def _rows(self, query: str, values: tuple[Any, ...], target: str, entity: str) -> list[HeldRow]:
        rows = self._session.rows(query, *values, self._names.known(target), self._names.known(entity))
        name = self._names.name
        return [
            HeldRow(
                key=row[0],
                source=name(row[1]),
                version=Version(*row[2:5]),
                message_id=row[5],
                digest=row[6],
                target_id=row[7],
                version_tag=row[8],
                deleted=row[9] != 0,
                step=row[10],
                claim=row[11],
                claimed_at=row[12],
                claim_version=Version(*row[13:16]),
                sequence=row[16],
                at=row[17],
            )
            for row in self._texts.whole(rows, 0, 7, 8)
        ]

    def put(self, target: str, entity: str, rows: Sequence[HeldRow]) -> None:
        if not rows:
            return
        place = self._names.id(target), self._names.id(entity)
        sources = self._names.ids(row.source for row in rows)
        stored = self._texts.stored
        keys = stored([row.key for row in rows])
        target_ids = stored([row.target_id for row in rows])
        tags = stored([row.version_tag for row in rows])
        self._session.merge(
            self._merge,
            [
                (
                    *place,
                    key,
                    sources[row.source],
                    *row.version,
                    row.message_id,
                    row.digest,
                    target_id,
                    tag,
                    int(row.deleted),
                    row.step,
                    row.claim,
                    row.claimed_at,
                    *row.claim_version,
                    row.sequence,
                    row.at,
                )
                for row, key, target_id, tag in zip(rows, keys, target_ids, tags, strict=True)
            ],
        )


_COLUMNS: Final = ", ".join(SqlHeld._merge.names[2:])
