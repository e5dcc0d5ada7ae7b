"""What sources have shown."""

from collections.abc import Sequence
from typing import Final

from tieline.ledger import SeenRow
from tieline.ledgers.dialect import Merge, Row, Session
from tieline.ledgers.texts import Names, Texts
from tieline.message import Version


class SqlSeen:
    """What sources have shown."""

    _merge: Final = Merge(
        "seen",
        "source key record epoch counter edit message_id record_digest entity_digest mapping gone origin at",
        "integer text text bigint bigint integer bytea bytea bytea bigint smallint text float8",
        key="source key",
    )

    def __init__(self, session: Session, names: Names, texts: Texts) -> None:
        self._session = session
        self._names = names
        self._texts = texts

    def by_record(self, source: str, records: Sequence[str]) -> list[SeenRow]:
        return self._among("record", source, records, index="seen_record")

    def by_key(self, source: str, keys: Sequence[str]) -> list[SeenRow]:
        return self._among("key", source, keys)

    def _among(self, column: str, source: str, texts: Sequence[str], index: str = "") -> list[SeenRow]:
        if not texts:
            return []
        session = self._session
        wanted, values = session.wanted(self._texts.sought(texts))
        query = session.join(wanted, _COLUMNS, "seen", f"source = ? and seen.{column} = w.v", index)
        return self._shown(session.rows(query, *values, self._names.known(source)))

    def put(self, source: str, rows: Sequence[SeenRow]) -> None:
        if not rows:
            return
        number = self._names.id(source)
        keys = self._texts.stored([row.key for row in rows])
        records = self._texts.stored([row.record for row in rows])
        self._session.merge(
            self._merge,
            [
                (
                    number,
                    key,
                    record,
                    *row.version,
                    row.message_id,
                    row.record_digest,
                    row.entity_digest,
                    row.mapping,
                    int(row.gone),
                    row.origin,
                    row.at,
                )
                for row, key, record in zip(rows, keys, records, strict=True)
            ],
        )

    def count(self, source: str) -> int:
        query = "select count(*) from seen where source = ? and gone = 0"
        return int(self._session.rows(query, self._names.known(source))[0][0])

    def sweep_start(self, source: str) -> None:
        self._session.run("delete from sweep where source = ?", self._names.known(source))

    def sweep_mark(self, source: str, records: Sequence[str]) -> None:
        number = self._names.id(source)
        rows = [(number, record) for record in self._texts.stored(records)]
        self._session.merge(Merge("sweep", "source record", "integer text", key="source record"), rows)

    def sweep_spare(self, source: str) -> None:
        number, run = self._names.known(source), self._session.run
        living = "select 1 from seen where seen.source = missed.source and seen.record = missed.record and gone = 0"
        there = f"exists ({_MARK.format('missed')}) or not exists ({living})"
        run(f"delete from missed where source = ? and ({there})", number)
        new = f"select distinct source, record, 1 from seen where {_MISSING}"
        run(f"insert into missed (source, record, fresh) {new} on conflict (source, record) do nothing", number)
        fresh = "missed where source = ? and fresh = 1"
        run(f"insert into sweep (source, record) select source, record from {fresh}", number)
        run("update missed set fresh = 0 where source = ? and fresh = 1", number)

    def sweep_count(self, source: str) -> int:
        query = f"select count(*) from seen where {_MISSING}"
        return int(self._session.rows(query, self._names.known(source))[0][0])

    def sweep_missing(self, source: str, after: str, limit: int) -> list[SeenRow]:
        # "offset 0" has each row's mark looked up as the walk comes to it; else each page began by comparing all.
        return self._walk(source, after, limit, f"gone = 0 and not exists ({_MARK.format('seen')} limit 1 offset 0)")

    def gone(self, source: str, before: int, after: str, limit: int) -> list[SeenRow]:
        return self._walk(source, after, limit, "gone = 1 and epoch < ?", before)

    def living(self, source: str, after: str, limit: int) -> list[SeenRow]:
        return self._walk(source, after, limit, "gone = 0")

    def _walk(self, source: str, after: str, limit: int, which: str, *values: int) -> list[SeenRow]:
        (start,) = self._texts.sought([after])
        self._session.walk()
        query = f"{_SEEN} where source = ? and key > ? and {which} order by key limit ?"
        return self._shown(self._session.rows(query, self._names.known(source), start, *values, limit))

    def _shown(self, rows: list[Row]) -> list[SeenRow]:
        return [
            SeenRow(row[0], row[1], Version(*row[2:5]), row[5], row[6], row[7], row[8], row[9] != 0, row[10], row[11])
            for row in self._texts.whole(rows, 0, 1)
        ]


_COLUMNS: Final = ", ".join(SqlSeen._merge.names[1:])
_SEEN: Final = f"select {_COLUMNS} from seen"
_MARK: Final = "select 1 from sweep where sweep.source = {0}.source and sweep.record = {0}.record"
_MISSING: Final = f"source = ? and gone = 0 and not exists ({_MARK.format('seen')})"
