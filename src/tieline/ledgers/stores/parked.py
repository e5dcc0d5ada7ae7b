"""Messages that wait."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tieline.ledger import NEVER, ParkedRow
from tieline.ledgers.dialect import Merge, Session
from tieline.ledgers.texts import Names, Texts, shown
from tieline.message import Reason, Version, unpack_message


class SqlParked:
    """Messages that wait."""

    _merge: Final = Merge(
        "parked",
        "leg key message_id epoch counter edit reason message error subject attempt not_before"
        " waits_entity waits_key partition position decision decided_by parked_at force",
        "integer text bytea bigint bigint integer text bytea text text integer float8"
        " integer text integer bigint text text float8 smallint",
        key="leg key",
        guard="(excluded.epoch, excluded.counter, excluded.edit) > (parked.epoch, parked.counter, parked.edit)"
        " or (excluded.message_id = parked.message_id and parked.decision = '')",
    )

    def __init__(self, session: Session, names: Names, texts: Texts) -> None:
        self._session = session
        self._names = names
        self._texts = texts

    def by_key(self, leg: str, keys: Sequence[str]) -> list[ParkedRow]:
        return self._among("key", leg, keys)

    def by_subject(self, leg: str, subjects: Sequence[str]) -> list[ParkedRow]:
        found = self._among("subject", leg, subjects, index="parked_subject")
        return sorted(found, key=lambda row: row.version)

    def _among(self, column: str, leg: str, texts: Sequence[str], index: str = "") -> list[ParkedRow]:
        if not texts:
            return []
        wanted, values = self._session.wanted(self._texts.sought(texts))
        query = self._session.join(wanted, _COLUMNS, "parked", f"leg = ? and parked.{column} = w.v", index)
        return self._rows(query, *values, self._names.known(leg))

    def _where(self, which: str, *values: Any) -> list[ParkedRow]:
        return self._rows(f"select {_COLUMNS} from parked where {which}", *values)

    def _rows(self, query: str, *values: Any) -> list[ParkedRow]:
        name = self._names.name
        return [
            ParkedRow(
                leg=name(row[0]),
                key=row[1],
                message_id=row[2],
                version=Version(*row[3:6]),
                reason=Reason(row[6]),
                message=row[7],
                error=row[8],
                subject=row[9],
                attempt=row[10],
                not_before=row[11],
                waits_for=(name(row[12]), row[13]) if row[12] else None,
                partition=row[14],
                position=row[15],
                decision=row[16],
                decided_by=row[17],
                parked_at=row[18],
                force=row[19] != 0,
            )
            for row in self._texts.whole(self._session.rows(query, *values), 1, 9, 13)
        ]

    def put(self, rows: Sequence[ParkedRow]) -> list[ParkedRow]:
        if not rows:
            return []
        there = self._there(rows)
        now = self._session.now()
        accepted: dict[tuple[str, str], ParkedRow] = {}
        superseded = []
        for row in rows:
            place = row.leg, row.key
            old = there.get(place)
            if old is not None:
                if row.message_id == old.message_id:
                    if old.decision:
                        continue
                elif row.version > old.version:
                    superseded.append(old)
                else:
                    continue
            since = old.parked_at if old is not None and old.message_id == row.message_id else now
            dated = row if row.parked_at else msgspec.structs.replace(row, parked_at=since)
            there[place] = accepted[place] = dated
        self._keep(list(accepted.values()))
        return superseded

    def _there(self, rows: Sequence[ParkedRow]) -> dict[tuple[str, str], ParkedRow]:
        keys: dict[str, list[str]] = {}
        for row in rows:
            keys.setdefault(row.leg, []).append(row.key)
        return {(old.leg, old.key): old for leg in sorted(keys) for old in self._among("key", leg, keys[leg])}

    def _keep(self, rows: Sequence[ParkedRow]) -> None:
        if not rows:
            return
        legs = self._names.ids(row.leg for row in rows)
        waits = [row.waits_for or ("", None) for row in rows]
        entities: dict[str, int | None] = {**self._names.ids(e for e, _ in waits if e), "": None}
        stored = self._texts.stored
        keys = stored([row.key for row in rows])
        subjects = stored([row.subject for row in rows])
        waited = stored([key for _, key in waits])
        self._session.merge(
            self._merge,
            [
                (
                    legs[row.leg],
                    key,
                    row.message_id,
                    *row.version,
                    row.reason.value,
                    row.message,
                    shown(row.error),
                    subject,
                    row.attempt,
                    row.not_before,
                    entities[wait[0]],
                    waits_key,
                    row.partition,
                    row.position,
                    row.decision,
                    shown(row.decided_by),
                    row.parked_at,
                    int(row.force),
                )
                for row, key, subject, wait, waits_key in zip(rows, keys, subjects, waits, waited, strict=True)
            ],
        )

    def remove(self, leg: str, ids: Sequence[tuple[str, bytes]]) -> int:
        if not ids:
            return 0
        session, number = self._session, self._names.known(leg)
        keys = self._texts.sought([key for key, _ in ids])
        gone = {(key, message_id) for key, (_, message_id) in zip(keys, ids, strict=True)}
        which = f"leg = ? and key {session.among}"
        query = f"select key, message_id from parked where {which} order by key{session.lock}"
        there = [key for key, held in session.rows(query, number, session.listed(keys)) if (key, held) in gone]
        return session.run(f"delete from parked where {which}", number, session.listed(there))

    def due(self, leg: str, now: float, limit: int) -> list[ParkedRow]:
        which = "leg = ? and due is not null and due <= ? order by due, epoch, counter limit ?"
        return self._where(which, self._names.known(leg), now, limit)

    def waiting(self, leg: str, limit: int) -> list[ParkedRow]:
        which = "leg = ? and reason in ('reference', 'order') order by epoch, counter limit ?"
        return self._where(which, self._names.known(leg), limit)

    def stirring(self, now: float) -> list[str]:
        name = self._names.name
        return [name(leg) for (leg,) in self._session.rows(_STIRRING, now, now)]

    def wake(self, target: str, entity: str, keys: Sequence[str]) -> int:
        if not keys:
            return 0
        session = self._session
        wanted, values = session.wanted(self._texts.sought(keys))
        which = "reason = 'reference' and waits_entity = ? and waits_key = w.v"
        query = session.join(wanted, "leg, parked.key", "parked", which, index="parked_reference")
        waiting: dict[int, list[str]] = {number: [] for (number,) in session.rows(_LEGS_TO, target)}
        for number, key in session.rows(query, *values, self._names.known(entity)):
            if number in waiting:
                waiting[number].append(key)
        update = f"update parked set reason = 'retry', not_before = ? where leg = ? and key {session.among}"
        now = session.now()
        return sum(session.run(update, now, n, session.listed(found)) for n, found in waiting.items() if found)

    def list(self, leg: str | None = None, reason: Reason | None = None, limit: int = 1000) -> "_Parked":
        terms: dict[str, Any] = {}
        if leg is not None:
            terms["leg = ?"] = self._names.known(leg)
        if reason is not None:
            terms["reason = ?"] = reason.value
        which = " and ".join(terms) or "1 = 1"
        return self._where(f"{which} order by parked_at, leg, key limit ?", *terms.values(), limit)

    def counts(self, leg: str) -> dict[Reason, int]:
        query = "select reason, count(*) from parked where leg = ? group by reason"
        return {Reason(reason): count for reason, count in self._session.rows(query, self._names.known(leg))}

    def all_counts(self) -> dict[str, dict[Reason, int]]:
        found: dict[str, dict[Reason, int]] = {}
        for leg, reason, count in self._session.rows("select leg, reason, count(*) from parked group by leg, reason"):
            found.setdefault(self._names.name(leg), {})[Reason(reason)] = count
        return found

    def for_a_person(self, leg: str) -> int:
        which = "reason = 'dead letter' or (reason = 'in doubt' and not_before >= ?)"
        query = f"select count(*) from parked where leg = ? and decision = '' and ({which})"
        return int(self._session.rows(query, self._names.known(leg), NEVER)[0][0])

    def decide(self, leg: str, key: str, message_id: bytes, decision: str, by: str, message: bytes = b"") -> bool:
        changes: dict[str, Any] = {"decision": decision, "decided_by": shown(by)}
        if message:
            edited = unpack_message(message)
            epoch, counter, edit = edited.version
            changes |= {"message": message, "message_id": edited.id}
            changes |= {"epoch": epoch, "counter": counter, "edit": edit}
        (short,) = self._texts.sought([key])
        update = f"update parked set {', '.join(f'{column} = ?' for column in changes)}"
        which = "where leg = ? and key = ? and message_id = ?"
        place = self._names.known(leg), short, message_id
        return self._session.run(f"{update} {which}", *changes.values(), *place) > 0


_LEGS_TO: Final = "select leg from leg where target = ? order by leg"
_COLUMNS: Final = ", ".join(SqlParked._merge.names)
_Parked = list[ParkedRow]  # inside the class, `list` is a method

# Leg by leg along the index: what waits long is not looked at, however much of it there is.
_STIRRING: Final = """
with recursive each (leg) as (
    select min(leg) from parked where due is not null
    union all
    select (select min(p.leg) from parked p where p.due is not null and p.leg > each.leg)
    from each where each.leg is not null
)
select leg from each where leg is not null
    and exists (select 1 from parked p where p.leg = each.leg and p.due is not null and p.due <= ?)
union
select leg from parked where reason in ('reference', 'order') and reason = 'reference' and not_before <= ?
union
select leg from parked p where reason in ('reference', 'order') and reason = 'order' and not exists (
    select 1 from parked q where q.leg = p.leg and q.subject = p.subject
        and (q.epoch, q.counter, q.edit) < (p.epoch, p.counter, p.edit)
)
"""
