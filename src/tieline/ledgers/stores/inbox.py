"""What came in for a source and is not in a batch yet."""

from collections.abc import Sequence
from typing import Final

from tieline.ledger import InboxRow
from tieline.ledgers.dialect import Merge, Session
from tieline.ledgers.texts import Names, Texts


class SqlInbox:
    """What came in for a source. Positions follow each other in the order of commits, as in a channel."""

    _merge: Final = Merge(
        "inbox", "source position record data origin", "integer bigint text bytea text", key="source position"
    )

    def __init__(self, session: Session, names: Names, texts: Texts) -> None:
        self._session = session
        self._names = names
        self._texts = texts

    def append(self, source: str, rows: Sequence[tuple[str, bytes, str]]) -> None:
        if not rows:
            return
        session, number = self._session, self._names.id(source)
        ((last,),) = session.rows(
            "insert into inbox_end (source, last) values (?, ?) on conflict (source)"
            " do update set last = inbox_end.last + excluded.last returning last",
            number,
            len(rows),
        )
        records = self._texts.stored([record for record, _, _ in rows])
        session.merge(
            self._merge,
            [
                (number, position, record, data, origin)
                for position, record, (_, data, origin) in zip(
                    range(last - len(rows) + 1, last + 1), records, rows, strict=True
                )
            ],
        )

    def read(self, source: str, limit: int) -> list[InboxRow]:
        query = "select position, record, data, origin from inbox where source = ? order by position limit ?"
        rows = self._session.rows(query, self._names.known(source), limit)
        return [InboxRow(*row) for row in self._texts.whole(rows, 1)]

    def remove(self, source: str, up_to: int) -> None:
        self._session.run("delete from inbox where source = ? and position <= ?", self._names.known(source), up_to)

    def depth(self, source: str) -> int:
        query = "select count(*) from inbox where source = ?"
        return int(self._session.rows(query, self._names.known(source))[0][0])

    def filled(self) -> list[str]:
        query = "select source from inbox_end e where exists (select 1 from inbox i where i.source = e.source)"
        return [self._names.name(source) for (source,) in self._session.rows(query)]
