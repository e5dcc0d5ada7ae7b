"""Packed batches by channel and partition."""

from collections.abc import Mapping, Sequence
from typing import Final

from tieline.errors import ConfigurationError, Mistake
from tieline.ledger import Kept
from tieline.ledgers.dialect import Session
from tieline.ledgers.texts import Names

_MOST_ROWS: Final = 2_000  # looked at in one read
_MOST_BYTES: Final = 16_000_000  # given by one read
_TRIMMED_AT_ONCE: Final = 1_000  # rows of a partition, in one `done`


class SqlChannels:
    """Packed batches by channel and partition.

    A partition's position is a counter of its own, in a row that a publisher locks until its commit:
    positions have no gaps and become visible in order, so a reader that is past one misses nothing.
    """

    def __init__(self, session: Session, names: Names) -> None:
        self._session = session
        self._names = names

    def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> int:
        session, number = self._session, self._names.id(channel)
        insert = "insert into channel (channel, partitions) values (?, ?) on conflict (channel) do nothing"
        session.run(insert, number, partitions)
        ((there,),) = session.rows(f"select partitions from channel where channel = ?{session.lock}", number)
        for table, columns in (
            ("channel_partition", "channel, partition, last, total"),
            ("channel_trimmed", "channel, partition, position"),
        ):
            zeros = ", 0" * (columns.count(",") - 1)
            session.many(
                f"insert into {table} ({columns}) values (?, ?{zeros}) on conflict (channel, partition) do nothing",
                [(number, partition) for partition in range(there)],
            )
        query = "select distinct subscription from subscription where channel = ?"
        known = {s for (s,) in session.rows(query, number)}
        new = [s for s in self._names.ids(subscriptions).values() if s not in known]
        if new:
            ends = session.rows(
                f"select partition, last from channel_partition where channel = ? order by partition{session.lock}",
                number,
            )
            session.many(
                "insert into subscription (channel, subscription, partition, position) values (?, ?, ?, ?)"
                " on conflict (channel, subscription, partition) do nothing",
                [(number, s, partition, last) for s in sorted(new) for partition, last in ends],
            )
        return int(there)

    def append(self, channel: str, rows: Sequence[tuple[int, int, int, bytes]]) -> dict[int, int]:
        session, number = self._session, self._names.known(channel)
        partitions = {row[0] for row in rows}
        ends = {
            partition: (last, total)
            for partition, last, total in session.rows(
                "select p.partition, p.last, p.total from channel_partition p"
                " join channel c on c.channel = p.channel and p.partition < c.partitions"
                f" where p.channel = ? and p.partition {session.among} order by p.partition"
                f"{session.lock and session.lock + ' of p'}",
                number,
                session.listed(sorted(partitions)),
            )
        }
        for partition in partitions - ends.keys():
            what = f"has no partition {partition}, or is not declared"
            raise ConfigurationError(Mistake(f"channel {channel}", what, "declare it before the first publish"))
        kept = []
        for partition, sequence, count, data in rows:
            last, total = ends[partition]
            ends[partition] = last + 1, total + count
            kept.append((number, partition, last + 1, sequence, count, total + count, data))
        session.many(
            "insert into kept (channel, partition, position, sequence, count, total, data)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            kept,
        )
        session.many(
            "update channel_partition set last = ?, total = ? where channel = ? and partition = ?",
            [(last, total, number, partition) for partition, (last, total) in ends.items()],
        )
        return {partition: last for partition, (last, _) in ends.items()}

    def read(self, channel: str, after: Mapping[int, int], most: int) -> list[Kept]:
        session, number = self._session, self._names.known(channel)
        spans, values = session.pairs(self._spans(number, after))
        if not values:
            return []
        # Headers first: what is chosen is loaded, and nothing else. Each row holds a message at least.
        columns = "position - w.b, partition, position, count, length(data)"
        within = "channel = ? and partition = w.a and position > w.b and position <= w.b + ?"
        headers = session.rows(
            f"{session.join(spans, columns, 'kept', within)} order by 1, 2 limit ?",
            *values,
            number,
            min(most, _MOST_ROWS),
            _MOST_ROWS,
        )
        chosen: list[tuple[int, int]] = []
        messages = size = 0
        for _, partition, position, count, length in headers:
            if chosen and (messages + count > most or size + length > _MOST_BYTES):
                break
            chosen.append((partition, position))
            messages += count
            size += length
        wanted, values = session.pairs(chosen)
        columns = "partition, position, sequence, count, data"
        query = session.join(wanted, columns, "kept", "channel = ? and partition = w.a and position = w.b")
        return [Kept(*row) for row in sorted(session.rows(query, *values, number))]

    def _spans(self, number: int, after: Mapping[int, int]) -> list[tuple[int, int]]:
        """(partition, position) of those partitions that have something after the position."""
        session = self._session
        spans = []
        for partition, last, trimmed in session.rows(
            "select p.partition, p.last, t.position from channel_partition p"
            " join channel_trimmed t on t.channel = p.channel and t.partition = p.partition"
            f" where p.channel = ? and p.partition {session.among}",
            number,
            session.listed(list(after)),
        ):
            start = max(after[partition], trimmed)
            if last > start:
                spans.append((partition, start))
        return spans

    def ends(self, channel: str) -> dict[int, int]:
        query = (
            "select p.partition, p.last from channel_partition p"
            " join channel c on c.channel = p.channel and p.partition < c.partitions where p.channel = ?"
        )
        return dict(self._session.rows(query, self._names.known(channel)))

    def depth(self, channel: str, after: Mapping[int, int]) -> int:
        session, number = self._session, self._names.known(channel)
        places, values = session.pairs(after.items())
        if not values:
            return 0
        before = (
            "select k.total - k.count from kept k where k.channel = p.channel and k.partition = p.partition"
            " and k.position > w.b order by k.position limit 1"
        )
        query = (
            f"select sum(p.total - coalesce(({before}), p.total)) from {places}"
            " cross join channel_partition p where p.channel = ? and p.partition = w.a"
        )
        return int(session.rows(query, *values, number)[0][0] or 0)

    def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        session, number, subscriber = self._session, self._names.known(channel), self._names.known(subscription)
        session.many(
            "update subscription set position = ?"
            " where channel = ? and subscription = ? and partition = ? and position < ?",
            [(at, number, subscriber, partition, at) for partition, at in sorted(positions.items())],
        )
        query = (
            "select t.partition, t.position, min(s.position) from channel_trimmed t"
            " join subscription s on s.channel = t.channel and s.partition = t.partition"
            f" where t.channel = ? and t.partition {session.among}"
            " group by t.partition, t.position having min(s.position) > t.position"
        )
        for partition, start, needless in session.rows(query, number, session.listed(list(positions))):
            self._trim(number, partition, min(needless, start + _TRIMMED_AT_ONCE))

    def _trim(self, number: int, partition: int, upto: int) -> None:
        place = "channel = ? and partition = ?"
        forward = f"update channel_trimmed set position = ? where {place} and position < ?"
        if self._session.run(forward, upto, number, partition, upto):
            self._session.run(f"delete from kept where {place} and position <= ?", number, partition, upto)

    def forget(self, channel: str, subscription: str) -> None:
        session, number = self._session, self._names.known(channel)
        session.rows(f"select partitions from channel where channel = ?{session.lock}", number)
        drop = "delete from subscription where channel = ? and subscription = ?"
        dropped = session.run(drop, number, self._names.known(subscription))
        ((left,),) = session.rows("select count(*) from subscription where channel = ?", number)
        if dropped and not left:
            # The counters stay: positions never go back, should the channel be declared again.
            session.run("delete from channel where channel = ?", number)
            session.run("delete from kept where channel = ?", number)
            last = (
                "select last from channel_partition p"
                " where p.channel = channel_trimmed.channel and p.partition = channel_trimmed.partition"
            )
            session.run(f"update channel_trimmed set position = ({last}) where channel = ?", number)
