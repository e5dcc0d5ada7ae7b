"""Legs, their positions and their counts."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tieline.connector import LegState
from tieline.ledger import LegRow, Way
from tieline.ledgers.dialect import Merge, Session
from tieline.ledgers.texts import Names, shown


class SqlLegs:
    """Legs, their positions and their counts."""

    _merge: Final = Merge(
        "leg",
        "leg flow source target entity ways paused probe_at",
        "integer text text text text text text float8",
        key="leg",
    )
    _state: Final = Merge(
        "leg_state",
        "leg channel partition position sequence token counts",
        "integer integer integer bigint bigint bigint text",
        key="leg channel partition",
    )

    def __init__(self, session: Session, names: Names) -> None:
        self._session = session
        self._names = names

    def get(self, leg: str) -> LegRow | None:
        rows = self._rows(" where leg = ?", self._names.known(leg))
        return rows[0] if rows else None

    def among(self, legs: Sequence[str]) -> dict[str, LegRow]:
        session = self._session
        rows = self._rows(f" where leg {session.among}", session.listed(self._names.all_known(legs)))
        return {row.leg: row for row in rows}

    def of_source(self, source: str) -> list[LegRow]:
        return self._rows(" where source = ? order by leg", source)

    def all(self) -> list[LegRow]:
        return self._rows(" order by leg")

    def _rows(self, which: str, *values: Any) -> list[LegRow]:
        session = self._session
        found = session.rows(_LEG + which, *values)
        counts: dict[int, dict[str, int]] = {row[0]: {} for row in found}
        query = f"select leg, outcome, count from leg_count where leg {session.among} order by leg, outcome"
        for leg, outcome, count in session.rows(query, session.listed(counts)):
            counts[leg][outcome] = count
        return [
            LegRow(
                leg=self._names.name(number),
                flow=flow,
                source=source,
                target=target,
                entity=entity,
                ways=msgspec.json.decode(ways, type=list[Way]),
                paused=paused,
                probe_at=probe_at,
                entered=counts[number].pop("", 0),
                counts=counts[number],
            )
            for number, flow, source, target, entity, ways, paused, probe_at in found
        ]

    def put(self, row: LegRow) -> None:
        ways = msgspec.json.encode(row.ways).decode()
        places = (row.flow, row.source, row.target, row.entity, ways, shown(row.paused), row.probe_at)
        self._session.merge(self._merge, [(self._names.id(row.leg), *places)])

    def count(self, leg: str, entered: int = 0, counts: Mapping[str, int] = {}) -> None:
        number = self._names.id(leg)
        added = sorted((str(outcome), count) for outcome, count in {**counts, "": entered}.items() if count)
        self._session.many(
            "insert into leg_count (leg, outcome, count) values (?, ?, ?)"
            " on conflict (leg, outcome) do update set count = leg_count.count + excluded.count",
            [(number, outcome, count) for outcome, count in added],
        )

    def states(self, leg: str, channel: str) -> dict[int, LegState]:
        query = (
            "select partition, position, sequence, token, counts from leg_state"
            " where leg = ? and channel = ? order by partition"
        )
        found = self._session.rows(query, self._names.known(leg), self._names.known(channel))
        return {
            partition: LegState(position, sequence, token, json.loads(counts))
            for partition, position, sequence, token, counts in found
        }

    def move(self, leg: str, channel: str, states: Mapping[int, LegState]) -> None:
        numbers = self._names.id(leg), self._names.id(channel)
        self._session.merge(
            self._state,
            [
                (*numbers, partition, state.position, state.sequence, state.token, json.dumps(state.counts))
                for partition, state in sorted(states.items())
            ],
        )

    def behind(self) -> list[tuple[str, str]]:
        query = (
            "select distinct s.leg, s.channel from leg_state s"
            " join channel_partition p on p.channel = s.channel and p.partition = s.partition"
            " join channel_trimmed t on t.channel = s.channel and t.partition = s.partition"
            " where p.last > s.position and p.last > t.position"
        )
        name = self._names.name
        return [(name(leg), name(channel)) for leg, channel in self._session.rows(query)]

    def totals(self, leg: str) -> dict[str, int]:
        session, number = self._session, self._names.known(leg)
        query = "select outcome, count from leg_count where leg = ? and outcome <> ''"
        total: Counter[str] = Counter(dict(session.rows(query, number)))
        for (counts,) in session.rows("select counts from leg_state where leg = ?", number):
            total.update(json.loads(counts))
        return dict(total)

    def all_totals(self) -> dict[str, dict[str, int]]:
        totals: dict[int, Counter[str]] = {}
        for leg, outcome, count in self._session.rows(
            "select leg, outcome, count from leg_count where outcome <> ''"
        ):
            totals.setdefault(leg, Counter())[outcome] += count
        for leg, counts in self._session.rows("select leg, counts from leg_state where counts <> '{}'"):
            totals.setdefault(leg, Counter()).update(json.loads(counts))
        return {self._names.name(leg): dict(total) for leg, total in totals.items()}

    def ahead(self, legs: Sequence[str], length: int) -> dict[str, list[bytes]]:
        session = self._session
        numbers = {self._names.known(leg): leg for leg in legs}
        passed = "case when s.position > coalesce(t.position, 0) then s.position else coalesce(t.position, 0) end"
        head = (
            "select substr(k.data, 1, ?) from kept k where k.channel = s.channel and k.partition = s.partition"
            f" and k.position > {passed} order by k.position limit 1"
        )
        query = (
            f"select s.subscription, ({head}) from subscription s left join leg_state t"
            " on t.leg = s.subscription and t.channel = s.channel and t.partition = s.partition"
            f" where s.subscription {session.among}"
        )
        found: dict[str, list[bytes]] = {}
        for number, data in session.rows(query, length, session.listed(list(numbers))):
            if data is not None:
                found.setdefault(numbers[number], []).append(data)
        return found


_LEG: Final = f"select {', '.join(SqlLegs._merge.names)} from leg"
