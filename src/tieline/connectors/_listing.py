"""Reading a list to its end, page by page, while its rows come, go and move.

A row seen twice is harmless; one skipped is not. How a skip is noticed depends on the paging:

- `Offset`: every page begins with the last row of the one before. Where it does not, rows before it
  are gone, and reading steps back until it meets rows it knows.
- pages that may shift and a list that states its count: rows left while it was read, or fewer ids
  were seen than were stated → it is read again, three times at most, then later.
- pages that may shift without a stated count: nothing shows it; the next whole read does.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from tieline.connector import BadRecord, Record
from tieline.connectors._http import Http, Reply
from tieline.connectors._http_errors import Effect
from tieline.connectors._paging import Answer, Ask, Offset, PageNumber, Paging, at, shifts
from tieline.entity import digest
from tieline.errors import Hold, Reject, RetryLater, Unavailable

_ROUNDS: Final = 3
_STEPS_BACK: Final = 20
_SHORT: Final = 5  # short pages in a row that are the end, though each had something new
_PAUSES: Final = (0.5, 2.0)  # seconds before a later page is asked for again
_NOT_FOUND: Final = frozenset({404, 410})


class Piece(msgspec.Struct):
    """One page of a list: records with their ids, and what is no record."""

    ids: list[str]
    records: list[Record]
    bad: list[BadRecord] = []
    after: int = 0  # rows behind the last that has an id


class Listing:
    """One list of a system. `items` and `count` are paths in the answer; `count` may name a header.

    `started` is when reading began, by the system's own clock where it tells it. `absent` is raised
    where the list is not there; left None, that holds the source.
    """

    def __init__(
        self,
        http: Http,
        path: str,
        query: Mapping[str, str],
        paging: Paging,
        *,
        items: str,
        count: str,
        identify: Callable[[Record], str],
    ) -> None:
        self._http = http
        self._path = path
        self._query = query
        self._paging = paging
        self._items = items
        self._count = count
        self._identify = identify
        self.started = datetime.now(UTC)
        self.absent: Exception | None = None

    def pages(self) -> AsyncIterator[Piece]:
        """All pages, the list's whole content.

        Raises:
            RetryLater: where rows move so fast that no read was whole.
            Hold: where pages go round in a circle.
        """
        if isinstance(self._paging, Offset):
            return self._by_offset(self._paging)
        return self._onward()

    async def _onward(self) -> AsyncIterator[Piece]:
        watching = bool(self._count) and shifts(self._paging)
        for _ in range(_ROUNDS):
            seen: set[int] = set()
            totals: list[int] = []
            asked: set[tuple[object, ...]] = set()
            previous: list[str] = []
            ask: Ask | None = self._paging.first()
            while ask is not None:
                mark = (ask.link, *sorted(ask.query.items()))
                if mark in asked:
                    raise Hold(f"{self._path}: page {ask.link or dict(ask.query)} leads back to itself → {_REMEDY}")
                asked.add(mark)
                piece, answer = await self._ask(ask, later=len(asked) > 1)
                if piece.ids and piece.ids == previous:
                    raise Hold(f"{self._path}: the next page is the same page again → {_REMEDY}")
                previous = piece.ids
                if answer.items:
                    yield piece
                if watching:
                    seen.update(map(hash, piece.ids))
                    seen.update(hash(bad.id) for bad in piece.bad)
                if watching and answer.total is not None:
                    totals.append(answer.total)
                ask = self._paging.next(ask, answer)
                if isinstance(self._paging, PageNumber) and totals and len(seen) >= totals[-1]:
                    ask = None
            fell = any(later < earlier for earlier, later in itertools.pairwise(totals))
            if not totals or (not fell and len(seen) >= totals[0]):
                return
        raise RetryLater(f"{self._path}: rows left the list each of the {_ROUNDS} times it was read")

    async def _by_offset(self, paging: Offset) -> AsyncIterator[Piece]:
        start, last, back = 0, "", 0
        largest, short = 2, 0  # rows of the largest page so far; pages in a row that were shorter
        known: set[str] = set()  # ids of the page before
        while True:
            piece, answer = await self._ask(paging.at(start), later=start > 0)
            ids = piece.ids
            if back > _STEPS_BACK:
                raise RetryLater(f"{self._path}: the list shifts faster than it can be read, or ignores its offset")
            if known and start and known.isdisjoint(ids):
                back += 1
                start = max(0, start - paging.size)
                continue
            if not answer.items:
                return
            largest = max(largest, answer.items)
            short = short + 1 if answer.items < largest else 0
            fresh = _without(piece, known)
            if fresh.ids or fresh.bad:
                yield fresh
            elif short and ids[-1] == last:
                return
            else:
                back += 1
            start += answer.items
            if short > _SHORT or (answer.total is not None and start >= answer.total):
                return
            # The next page begins with the last row that has an id, unless nothing would be gained by it.
            known, last = set(), ""
            if ids and piece.after + 1 < answer.items:
                known, last = {*ids, *(bad.id for bad in piece.bad)}, ids[-1]
                start -= piece.after + 1

    async def _ask(self, ask: Ask, *, later: bool) -> tuple[Piece, Answer]:
        """One page; a later one is worth some patience, or all the earlier ones are read in vain."""
        for pause in (*_PAUSES, None):
            try:
                return await self._ask_once(ask, later)
            except Unavailable as error:
                if not later or pause is None:
                    raise
                await asyncio.sleep(pause if error.after is None else error.after)
        raise AssertionError

    async def _ask_once(self, ask: Ask, later: bool) -> tuple[Piece, Answer]:
        query = {**self._query, **ask.query} if ask.link is None else {}
        ends = later and isinstance(self._paging, PageNumber)
        understood = _NOT_FOUND if ends or self.absent is not None else frozenset[int]()
        reply = await self._http.call("GET", ask.link or self._path, Effect.READ, query=query, understood=understood)
        if not later:
            self.started = _clock(reply.headers)
        if reply.status in _NOT_FOUND:
            if not ends and self.absent is not None:
                raise self.absent
            return Piece([], []), Answer(reply.url, reply.headers, None, 0, None)
        body = reply.json()
        items = listed(body, self._items, reply)
        total = at(body, self._count) if self._count else None
        if total is None and self._count in reply.headers:
            total = reply.headers[self._count]
        whole = int(total) if isinstance(total, int) or (isinstance(total, str) and total.isdecimal()) else None
        return self._piece(items, reply), Answer(reply.url, reply.headers, body, len(items), whole)

    def _piece(self, items: list[Any], reply: Reply) -> Piece:
        identify = self._identify
        records: dict[str, Record] = {}
        bad = []
        last = 0
        for place, item in enumerate(items, 1):
            try:
                if not isinstance(item, dict):
                    raise Reject("is no JSON object")
                records[identify(item)] = item
                last = place
            except Reject as error:
                raw = msgspec.json.encode(item)
                where = f"{reply.url.path} item {place}"
                bad.append(BadRecord(digest(raw).hex(), where, raw.decode()[:500], error))
        return Piece(list(records), list(records.values()), bad, len(items) - last)


_REMEDY: Final = "declare the paging that this interface has"


def _without(piece: Piece, known: set[str]) -> Piece:
    if known.isdisjoint(piece.ids):
        return piece
    fresh = [(id, record) for id, record in zip(piece.ids, piece.records, strict=True) if id not in known]
    bad = [bad for bad in piece.bad if bad.id not in known]
    return Piece([id for id, _ in fresh], [record for _, record in fresh], bad)


def _clock(headers: Mapping[str, str]) -> datetime:
    try:
        return parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError):
        return datetime.now(UTC)


def listed(body: Any, items: str, reply: Reply) -> list[Any]:
    """The list that stands in an answer at the path `items`, or is the answer itself.

    Raises:
        RetryLater: where there is none: that is no empty list.
    """
    found = at(body, items) if items else body
    if isinstance(found, list):
        return found
    shown = msgspec.json.encode(body).decode()[:200]
    place = f"no list at {items!r}" if items else "no list"
    raise RetryLater(f"{reply.call} answered {place} but {shown}; declare where the items stand (items=…)")
