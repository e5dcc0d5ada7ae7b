"""Cursors and counters, one row a source."""

import json
from collections.abc import Mapping
from typing import Final

from tieline.ledger import SourceState
from tieline.ledgers.dialect import Merge, Row, Session
from tieline.ledgers.texts import Names, shown


class SqlSources:
    """Cursors and counters."""

    _merge: Final = Merge(
        "source",
        "source epoch counter sequence cursor mapping read_at swept_at failure",
        "integer bigint bigint bigint text bigint float8 float8 text",
        key="source",
    )

    def __init__(self, session: Session, names: Names) -> None:
        self._session = session
        self._names = names

    def get(self, source: str) -> SourceState:
        rows = self._session.rows(_SOURCE + " where source = ?", self._names.known(source))
        return _source(rows[0]) if rows else SourceState()

    def put(self, source: str, state: SourceState) -> None:
        row = (
            self._names.id(source),
            state.epoch,
            state.counter,
            state.sequence,
            json.dumps(state.cursor),
            state.mapping,
            state.read_at,
            state.swept_at,
            shown(state.failure),
        )
        self._session.merge(self._merge, [row])

    def were_read(self, at: Mapping[str, float]) -> None:
        query = "update source set read_at = ? where source = ? and read_at < ?"
        known = [(self._names.known(source), when) for source, when in at.items()]
        self._session.many(query, [(when, number, when) for number, when in sorted(known)])

    def all(self) -> dict[str, SourceState]:
        return {self._names.name(row[0]): _source(row) for row in self._session.rows(_SOURCE)}


_SOURCE: Final = f"select {', '.join(SqlSources._merge.names)} from source"


def _source(row: Row) -> SourceState:
    return SourceState(row[1], row[2], row[3], json.loads(row[4]), *row[5:])
