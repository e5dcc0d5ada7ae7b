"""What Tieline keeps beside the rows, in their transaction: the held table and a leg's fence rows."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tieline.connector import HeldRow, LegState
from tieline.connectors.sql.dialect import AnyDialect, Session
from tieline.connectors.sql.shape import Column, Kind, Relation
from tieline.errors import Fenced, RetryLater
from tieline.message import Version

_HELD: Final = {
    "target": Kind.TEXT,
    "entity": Kind.TEXT,
    "key": Kind.TEXT,
    "source": Kind.TEXT,
    "epoch": Kind.INTEGER,
    "counter": Kind.INTEGER,
    "edit": Kind.INTEGER,
    "message_id": Kind.BYTES,
    "digest": Kind.BYTES,
    "target_id": Kind.TEXT,
    "version_tag": Kind.TEXT,
    "deleted": Kind.INTEGER,
    "step": Kind.INTEGER,
    "claim": Kind.TEXT,
}
_HELD_READ: Final = ", ".join(list(_HELD)[2:])
_HELD_KEY: Final = ("key", "entity", "target", "source")  # the key tells most rows apart at once
_LEG: Final = {
    "target": Kind.TEXT,
    "leg": Kind.TEXT,
    "partition": Kind.INTEGER,
    "token": Kind.INTEGER,
    "position": Kind.INTEGER,
    "sequence": Kind.INTEGER,
    "counts": Kind.TEXT,
    "made": Kind.INTEGER,
}
_LEG_KEY: Final = ("target", "leg", "partition")


_HELD_NAME: Final = "tieline_held"
_LEG_NAME: Final = "tieline_leg"
_TABLES: Final = {_HELD_NAME: (_HELD, _HELD_KEY), _LEG_NAME: (_LEG, _LEG_KEY)}


class _Claim(msgspec.Struct, frozen=True, array_like=True):
    id: bytes
    at: float
    version: Version


_encode: Final = msgspec.json.Encoder().encode
_decode_claim: Final = msgspec.json.Decoder(_Claim).decode
_decode_counts: Final = msgspec.json.Decoder(dict[str, int]).decode


class Keeping:
    """The two tables in one database, for one generation of one system."""

    def __init__(self, dialect: AnyDialect, held_as: str) -> None:
        self.dialect = dialect
        self.held_as = held_as
        self._known: dict[str, Relation] = {}

    def forget(self) -> None:
        """Look at the tables again: they may have been made in a transaction that was rolled back."""
        self._known.clear()

    def _table(self, session: Session, table: str, *, make: bool) -> Relation | None:
        """One of our tables, with all its columns; in a database that we only read, it is never made."""
        found = self._known.get(table)
        if found is None:
            name, (columns, key) = self.dialect.own(table), _TABLES[table]
            found = self.dialect.describe(session, name)
            if found is None and make:
                self.dialect.create(session, name, columns, key)
                found = self.dialect.describe(session, name)
            if found is not None:
                self._known[table] = found = self._whole(session, found, columns)
        return found

    def _whole(self, session: Session, found: Relation, columns: Mapping[str, Kind]) -> Relation:
        """The table with the columns that it lacks where an earlier version made it."""
        lacking = {column: kind for column, kind in columns.items() if column not in found.columns}
        if not lacking:
            return found
        self.dialect.widen(session, found.name, lacking)
        return self.dialect.describe(session, found.name) or found

    def _made(self, session: Session, table: str) -> Relation:
        found = self._table(session, table, make=True)
        if found is None:
            raise RetryLater(f"{'.'.join(self.dialect.own(table))} was dropped as soon as it was made")
        return found

    def load(self, session: Session, entity: str, keys: Sequence[str]) -> list[HeldRow]:
        """The held rows of these keys, of every source."""
        given = {_storable(key): key for key in keys}
        held = self._table(session, _HELD_NAME, make=False)
        if held is None or not given:
            return []
        sql, parameters = self.dialect.probe(
            held, _HELD_READ, self._fixed(held, entity), held.columns["key"], list(given)
        )
        return [_held(given[row[0]], *row[1:]) for row in session.rows(sql, parameters)]

    def keep(self, session: Session, entity: str, rows: Sequence[HeldRow]) -> None:
        """Merge held rows by key and source; of two for one, the last counts."""
        last = {(row.key, row.source): row for row in rows}
        if not last:
            return
        given = [
            (
                self.held_as,
                entity,
                _storable(row.key),
                row.source,
                *row.version,
                row.message_id,
                row.digest,
                row.target_id,
                row.version_tag,
                int(row.deleted),
                row.step,
                _claimed(row) if row.claim else None,
            )
            for row in last.values()
        ]
        held = self._made(session, _HELD_NAME)
        self.dialect.merge(session, held, held.pick(_HELD_KEY), held.pick(tuple(_HELD)), given)

    def fence(self, session: Session, leg: str, tokens: Mapping[int, int]) -> dict[int, LegState]:
        """Lock the leg's rows, in the order of their partitions, write the tokens into them, and give them as found.

        Raises:
            Fenced: where a row has seen a higher token.
        """
        found = self._locked(session, leg, sorted(tokens))
        if len(found) < len(tokens):
            # Only the key: where another transaction makes the row first, nothing of it is overwritten.
            new = [(self.held_as, leg, partition) for partition in sorted(tokens) if partition not in found]
            legs = self._made(session, _LEG_NAME)
            key = legs.pick(_LEG_KEY)
            self.dialect.merge(session, legs, key, key, new)
            found = self._locked(session, leg, sorted(tokens))
        for partition, state in found.items():
            if state.token > tokens[partition]:
                text = f"token {tokens[partition]} was overtaken by {state.token}"
                raise Fenced(f"{leg}, partition {partition}: {text}")
        shown = {
            partition: msgspec.structs.replace(state, token=tokens[partition])
            for partition, state in found.items()
            if state.token != tokens[partition]
        }
        if shown:
            self._put(session, leg, shown)
        return found

    def move(self, session: Session, leg: str, states: Mapping[int, LegState], tokens: Mapping[int, int]) -> None:
        """Set the leg's rows; no token goes below those given by the fence."""
        raised = {
            partition: msgspec.structs.replace(state, token=max(state.token, tokens.get(partition, 0)))
            for partition, state in states.items()
        }
        if raised:
            self._put(session, leg, raised)

    def _fixed(self, relation: Relation, second: str) -> list[tuple[Column, str]]:
        """The values that all our rows share: this system, and the entity or leg."""
        return list(zip(relation.pick(tuple(relation.columns)[:2]), (self.held_as, second), strict=True))

    def _locked(self, session: Session, leg: str, partitions: Sequence[int]) -> dict[int, LegState]:
        legs = self._made(session, _LEG_NAME)
        if not partitions:
            return {}
        columns = legs.pick(("partition",))
        among, parameters = self.dialect.among(columns, [(partition,) for partition in partitions], 3)
        fixed = self._fixed(legs, leg)
        same = " and ".join(f"{one.sql} = {self.dialect.mark(n, one)}" for n, (one, _) in enumerate(fixed, 1))
        rows = session.rows(
            f"select partition, position, sequence, token, counts, made from {legs.sql} where {same} and {among} "
            f"order by partition{' for update' if self.dialect.locks_rows else ''}",
            [*(value for _, value in fixed), *parameters],
        )
        return {
            partition: LegState(position, sequence, token, _decode_counts(counts or "{}"), made)
            for partition, position, sequence, token, counts, made in rows
        }

    def _put(self, session: Session, leg: str, states: Mapping[int, LegState]) -> None:
        rows: list[tuple[Any, ...]] = [
            (
                *(self.held_as, leg, partition),
                *(state.token, state.position, state.sequence, _encode(state.counts).decode(), state.made),
            )
            for partition, state in sorted(states.items())
        ]
        legs = self._made(session, _LEG_NAME)
        self.dialect.merge(session, legs, legs.pick(_LEG_KEY), legs.pick(tuple(_LEG)), rows)


def _storable(key: str) -> str:
    # PostgreSQL has no NUL in a text; a key with one must not stop its batch.
    return key if "\0" not in key else key.replace("\0", "\\u0000")


def _claimed(row: HeldRow) -> str:
    return _encode(_Claim(row.claim, row.claimed_at, row.claim_version)).decode()


def _held(
    key: str,
    source: str,
    epoch: int,
    counter: int,
    edit: int,
    message_id: bytes,
    digest: bytes,
    target_id: str | None,
    version_tag: str | None,
    deleted: int,
    step: int,
    claim: str | None,
) -> HeldRow:
    row = HeldRow(
        *(key, source, Version(epoch, counter, edit), message_id, digest, target_id, version_tag, bool(deleted), step)
    )
    if claim is None:
        return row
    open_ = _decode_claim(claim)
    return msgspec.structs.replace(row, claim=open_.id, claimed_at=open_.at, claim_version=open_.version)
