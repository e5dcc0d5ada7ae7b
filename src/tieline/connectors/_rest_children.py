"""Children of records, fetched from addresses of their own."""

import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

import msgspec

from tieline.connector import BadRecord, Page, Record
from tieline.connectors._http import Http, together
from tieline.connectors._listing import Listing
from tieline.connectors._paging import at
from tieline.connectors._rest_resource import Link, Resource
from tieline.entity import digest
from tieline.errors import Reject


class Children:
    """Puts their children into a resource's records. `item` tells whether a record is still there."""

    def __init__(self, http: Http, resource: Resource, item: Callable[[str], Awaitable[Record | None]]) -> None:
        self._http = http
        self._resource = resource
        self._item = item
        self._remembered = _Remembered(resource.child_cache)

    async def added(self, page: Page) -> Page:
        """The page with its records' children; records that are gone by now are left out."""
        whole = await together(self._whole(id, record) for id, record in zip(page.ids, page.records, strict=True))
        found = [(id, record) for id, record in zip(page.ids, whole, strict=True) if isinstance(record, dict)]
        bad = [*page.bad, *(record for record in whole if isinstance(record, BadRecord))]
        return Page([id for id, _ in found], [record for _, record in found], page.checkpoint, page.gone, bad)

    async def _whole(self, id: str, record: Record) -> Record | BadRecord | None:
        declared, mark = self._resource, self._remembered.mark(record)
        known = self._remembered.get(id, mark)
        if known is not None:
            return {**record, **known}
        try:
            children = {name: await self._of(link, name, id, record) for name, link in declared.children.items()}
        except _NoChildren as error:
            if declared.item is not None and await self._item(id) is None:
                return None
            reason = Reject(f"{error}; correct it there, or the Link in the adapter")
            return BadRecord(id, f"{declared.path} {id}", msgspec.json.encode(record).decode()[:500], reason)
        self._remembered.put(id, mark, children)
        return {**record, **children}

    async def _of(self, link: Link, name: str, id: str, record: Record) -> list[Record]:
        there = record.get(link.where)
        if isinstance(there, list):
            return there
        place = link.where.replace("{id}", quote(id, safe="")) if "/" in link.where else there
        if not isinstance(place, str) or not place:
            raise _NoChildren(f"children {name!r} have no address in {link.where!r}")
        numbers = itertools.count()  # without an id of their own, two equal children are two

        def identify(child: Record) -> str:
            return str(at(child, link.id)) if link.id else str(next(numbers))

        found: list[Record] = []
        listing = Listing(self._http, place, {}, link.paging, items=link.items, count="", identify=identify)
        listing.absent = _NoChildren(f"children {name!r} are not found at {place[:200]}")
        async for piece in listing.pages():
            if piece.bad:
                raise _NoChildren(f"children {name!r}: {piece.bad[0].error}")
            found += piece.records
        return found


class _NoChildren(Exception):
    """This one record's children cannot be had."""


class _Remembered:
    """Children of the records seen last, kept while the record itself stays the same."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[bytes, dict[str, list[Record]]]] = OrderedDict()

    def mark(self, record: Record) -> bytes:
        """The record's digest; nothing where nothing is remembered."""
        return digest(msgspec.json.encode(record)) if self._most else b""

    def get(self, id: str, mark: bytes) -> dict[str, list[Record]] | None:
        """The children, where the record has not changed."""
        kept = self._kept.get(id)
        if kept is None or kept[0] != mark:
            return None
        self._kept.move_to_end(id)
        return {name: [dict(child) for child in children] for name, children in kept[1].items()}

    def put(self, id: str, mark: bytes, children: Mapping[str, list[Record]]) -> None:
        """Remember, and forget what was asked for longest ago."""
        if not self._most:
            return
        self._kept[id] = (mark, {name: [dict(child) for child in found] for name, found in children.items()})
        self._kept.move_to_end(id)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
