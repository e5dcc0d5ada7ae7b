"""REST: lists of JSON objects at addresses, read page by page and written one by one.

    shop = Adapter(
        Rest(
            orders=Resource(
                "/admin/orders/",
                id=tail("url"),
                children={"lines": Link("lines")},
            )
        )
    )

docs/connectors/rest.md has all settings, and what each failure means.
"""

import itertools
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tieline.connector import (
    BadRecord,
    Capabilities,
    Change,
    Checkpoint,
    Discovered,
    Page,
    Record,
    Result,
    TargetTransaction,
)
from tieline.connectors._http import Decimals, Http, together
from tieline.connectors._http_errors import Effect
from tieline.connectors._listing import Listing, listed
from tieline.connectors._paging import (
    Answer,
    Ask,
    CursorToken,
    LinkHeader,
    NextUrl,
    Offset,
    OnePage,
    PageNumber,
    Paging,
    at,
    shifts,
)
from tieline.connectors._rest_resource import Link, Resource, Since, tail
from tieline.connectors._rest_write import Writer, unwrapped
from tieline.entity import digest
from tieline.errors import ConfigurationError, Hold, Mistake, Reject
from tieline.settings import SystemSettings

__all__ = [
    "Answer",
    "Ask",
    "CursorToken",
    "Link",
    "LinkHeader",
    "NextUrl",
    "Offset",
    "OnePage",
    "PageNumber",
    "Paging",
    "Resource",
    "Rest",
    "Since",
    "tail",
]

_GONE: Final = frozenset({404, 410})
_IDS_AT_ONCE: Final = 50
_FUZZY: Final = 20  # pages after which a filter that finds other rows too is given up
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


class Rest:
    """A REST interface: its resources by name.

    `check` is a path that tells cheaply whether the system is up and lets us in (left out: the first
    resource's first page). `decimals` says how Decimals are written: as text, which no server turns
    into a float by accident, or as exact JSON numbers. `headers` go with each call.
    """

    def __init__(
        self,
        *,
        check: str = "",
        decimals: Decimals = "text",
        headers: Mapping[str, str] | None = None,
        **resources: Resource,
    ) -> None:
        self.check = check
        self.decimals = decimals
        self.headers = headers or {}
        self._resources = resources

    @property
    def resources(self) -> Mapping[str, Resource]:
        """The declared resources by name."""
        return self._resources

    def open(self, system: SystemSettings) -> "RestConnector":
        """A connector for one system; connects lazily.

        Raises:
            ConfigurationError: naming every setting that cannot work.
        """
        mistakes = [
            Mistake(f"systems.{system.name}: resource {name}", what, remedy)
            for name, resource in self._resources.items()
            for what, remedy in resource.faults()
        ]
        if mistakes:
            raise ConfigurationError(*mistakes)
        return RestConnector(self, Http(system, decimals=self.decimals, headers=self.headers), system.name)

    def identify(self, resource: str, record: Record) -> str:
        """The id of a record as text.

        Raises:
            Reject: where the record has none.
        """
        return self._resources[resource].identify(record)


class RestConnector:
    """A connection to one system's REST interface."""

    def __init__(self, rest: Rest, http: Http, system: str) -> None:
        self._rest = rest
        self._http = http
        self._system = system
        self._remembered: dict[str, _Remembered] = {
            name: _Remembered(resource.child_cache) for name, resource in rest.resources.items()
        }

    def capabilities(self, resource: str) -> Capabilities:
        declared = self._rest.resources[resource]
        since = declared.since
        return Capabilities(
            incremental=since is not None,
            ordered=since is not None and bool(since.sort) and not shifts(declared.paging),
            keys=True,
            lookup=declared.item is not None or declared.many is not None or declared.id in declared.filters,
            writes=declared.create is not None or declared.update is not None,
            deletes=declared.delete,
            # A POST may make a second record, unless the system itself knows it again.
            upsert=declared.create != "POST" or declared.idempotency is not None,
            actions=frozenset(declared.actions),
            bulk=self._http.limits.at_once,
        )

    async def check(self) -> None:
        if self._rest.check or not self._rest.resources:
            await self._http.call("GET", self._rest.check, Effect.READ)
            return
        first = next(iter(self._rest.resources.values()))
        query = {**first.query, **first.paging.first().query}
        reply = await self._http.call("GET", first.path, Effect.READ, query=query)
        listed(reply.json(), first.items, reply)

    async def discover(self) -> list[Discovered]:
        found = []
        for name, declared in self._rest.resources.items():
            fields: dict[str, str] = {}
            async for piece in self._listing(name, declared.query).pages():
                for record in piece.records:
                    fields.update((key, type(value).__name__) for key, value in record.items() if value is not None)
                break
            key = (declared.id,) if isinstance(declared.id, str) else ()
            found.append(Discovered(declared.path, key, fields, "endpoint"))
        return found

    async def read(
        self, resource: str, since: Checkpoint = None, scope: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Page]:
        declared = self._rest.resources[resource]
        filters = dict(scope or {})
        overlap = float(filters.pop("overlap", 0.0))
        query = {**declared.query, **self._filtered(resource, filters)}
        newest = None
        if declared.since is not None:
            newest = _Newest(declared.since, since, bounded=not self.capabilities(resource).ordered)
            query |= newest.query(overlap)
        listing = self._listing(resource, query)
        async for piece in listing.pages():
            checkpoint = None if newest is None else newest.after(piece.records, listing.started)
            page = Page(piece.ids, piece.records, checkpoint, bad=piece.bad)
            yield await self._with_children(resource, page) if declared.children else page

    async def keys(self, resource: str) -> AsyncIterator[list[str]]:
        async for piece in self._listing(resource, self._rest.resources[resource].query).pages():
            for bad in piece.bad:
                raise Hold(f"{self._system}: {bad.place} tells no id, so these are not all: {bad.error}")
            yield piece.ids

    def listen(self, resource: str) -> AsyncIterator[Page]:
        raise ConfigurationError(
            Mistake(f"{self._system}.{resource}", "REST does not push", 'use a trigger such as "every 5m"')
        )

    async def lookup(self, resource: str, ids: Sequence[str], by: str | None = None) -> list[Record | None]:
        declared = self._rest.resources[resource]
        wanted = [id for id in dict.fromkeys(ids) if id]
        by = None if by == declared.id else by
        if by is None and declared.item is None and declared.many is None and isinstance(declared.id, str):
            by = declared.id
        if by is not None:
            name = by
            rows = await together(self._matching(resource, name, value) for value in wanted)
            found = {value: min(row.items()) for value, row in zip(wanted, rows, strict=True) if row}
        elif declared.many is not None:
            found = await self._several(resource, declared.many, wanted)
        else:
            items = await together(self._item(resource, id) for id in wanted)
            found = {id: (id, record) for id, record in zip(wanted, items, strict=True) if record is not None}
        records = dict(found.values())
        if declared.children and records:
            page = await self._with_children(resource, Page(list(records), list(records.values())))
            for bad in page.bad:
                raise bad.error
            records = dict(zip(page.ids, page.records, strict=True))
        return [records.get(found[id][0]) if id in found else None for id in ids]

    async def write(self, resource: str, changes: Sequence[Change]) -> list[Result]:
        declared = self._rest.resources[resource]
        match = declared.match or ""
        return await Writer(self._http, declared, lambda value: self._matching(resource, match, value)).write(changes)

    async def call(self, resource: str, action: str, target_ids: Sequence[str]) -> list[Result]:
        declared = self._rest.resources[resource]
        if action not in declared.actions:
            known = ", ".join(declared.actions) or "none"
            what = f"has no action {action!r} (known: {known})"
            raise ConfigurationError(Mistake(f"{self._system}.{resource}", what, "declare actions={…}"))
        return await Writer(self._http, declared, lambda _: self._matching(resource, "", "")).act(action, target_ids)

    def transaction(self) -> AbstractAsyncContextManager[TargetTransaction]:
        raise NotImplementedError("a REST interface has no transactions; see Capabilities.transactional")

    async def close(self) -> None:
        await self._http.close()

    def _listing(self, resource: str, query: Mapping[str, str]) -> Listing:
        declared = self._rest.resources[resource]
        return Listing(
            self._http,
            declared.path,
            query,
            declared.paging,
            items=declared.items,
            count=declared.count,
            identify=declared.identify,
        )

    def _filtered(self, resource: str, filters: Mapping[str, Any]) -> dict[str, str]:
        declared = self._rest.resources[resource]
        unknown = [name for name in filters if name not in declared.filters]
        if unknown:
            raise ConfigurationError(
                Mistake(
                    f"{self._system}.{resource}",
                    f"cannot be filtered by {', '.join(unknown)}",
                    "declare the list's parameter for it in filters={…}",
                )
            )
        return {declared.filters[name]: str(value) for name, value in filters.items()}

    async def _several(self, resource: str, parameter: str, ids: Sequence[str]) -> dict[str, tuple[str, Record]]:
        """The records with these ids, by lists of some of them at a time."""
        query = self._rest.resources[resource].query
        found: dict[str, tuple[str, Record]] = {}
        plain = [id for id in ids if "," not in id]
        for start in range(0, len(plain), _IDS_AT_ONCE):
            part = plain[start : start + _IDS_AT_ONCE]
            async for piece in self._listing(resource, {**query, parameter: ",".join(part)}).pages():
                if not set(part).issuperset(piece.ids):
                    raise Hold(f"{self._system}.{resource}: {parameter} does not choose records → correct many=…")
                found.update((id, (id, record)) for id, record in zip(piece.ids, piece.records, strict=True))
        for id in set(ids).difference(plain):
            record = await self._item(resource, id)
            if record is not None:
                found[id] = (id, record)
        return found

    async def _item(self, resource: str, id: str) -> Record | None:
        declared = self._rest.resources[resource]
        reply = await self._http.call("GET", declared.place(id), Effect.READ, understood=_GONE)
        if reply.status in _GONE:
            return None
        record = unwrapped(reply.json(), declared.wrap)
        if not isinstance(record, dict):
            raise Hold(f"{reply.call} answered no JSON object → declare item=… and wrap=… as they are there")
        return record

    async def _matching(self, resource: str, name: str, value: str) -> dict[str, Record]:
        """The records whose field has this value, by id; what a loose filter finds besides is left out."""
        query = {**self._rest.resources[resource].query, **self._filtered(resource, {name: value})}
        found: dict[str, Record] = {}
        count = 0
        async for piece in self._listing(resource, query).pages():
            found |= {id: r for id, r in zip(piece.ids, piece.records, strict=True) if str(at(r, name)) == value}
            count += 1
            if count >= _FUZZY:
                raise Hold(f"{self._system}.{resource}: the filter for {name} narrows nothing → declare another")
        return found

    async def _with_children(self, resource: str, page: Page) -> Page:
        """The page with its records' children; records that are gone by now are left out."""
        whole = await together(
            self._whole(resource, id, record) for id, record in zip(page.ids, page.records, strict=True)
        )
        found = [(id, record) for id, record in zip(page.ids, whole, strict=True) if isinstance(record, dict)]
        bad = [*page.bad, *(record for record in whole if isinstance(record, BadRecord))]
        return Page([id for id, _ in found], [record for _, record in found], page.checkpoint, page.gone, bad)

    async def _whole(self, resource: str, id: str, record: Record) -> Record | BadRecord | None:
        declared = self._rest.resources[resource]
        remembered = self._remembered[resource]
        mark = remembered.mark(record)
        known = remembered.get(id, mark)
        if known is not None:
            return {**record, **known}
        try:
            children = {
                name: await self._children(link, name, id, record) for name, link in declared.children.items()
            }
        except _NoChildren as error:
            if declared.item is not None and await self._item(resource, id) is None:
                return None
            reason = Reject(f"{error}; correct it there, or the Link in the adapter")
            return BadRecord(id, f"{declared.path} {id}", msgspec.json.encode(record).decode()[:500], reason)
        remembered.put(id, mark, children)
        return {**record, **children}

    async def _children(self, link: Link, name: str, id: str, record: Record) -> list[Record]:
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


class _Newest:
    """The newest value of a list's since-field: where the next read begins.

    `bounded` is for a list read in no order: what changes while it is read may be met before a newer
    one, so the next read begins no later than this one began.
    """

    def __init__(self, since: Since, checkpoint: Checkpoint, *, bounded: bool) -> None:
        self._since = since
        self._bounded = bounded
        self._text: str | None = checkpoint
        self._value = None if checkpoint is None else _moment(checkpoint, since.field)

    def query(self, overlap: float) -> dict[str, str]:
        """The parameter to ask with, `overlap` before the checkpoint."""
        if self._text is None or self._value is None:
            return dict(self._since.sort)
        if isinstance(self._value, Decimal):
            begin = f"{(self._value - Decimal(str(overlap))).normalize():f}"
        else:
            earlier = self._value - timedelta(seconds=overlap)
            zone = datetime.fromisoformat(self._text).tzinfo
            begin = (earlier.replace(tzinfo=None) if zone is None else earlier.astimezone(zone)).isoformat()
            begin = begin.replace("+00:00", "Z") if self._text.endswith("Z") else begin
        return {**self._since.sort, self._since.parameter: begin}

    def after(self, records: Sequence[Record], started: datetime) -> Checkpoint:
        """The checkpoint after these records."""
        for record in records:
            raw = at(record, self._since.field)
            if raw is None:
                continue
            value = _moment(str(raw), self._since.field)
            if self._bounded and isinstance(value, Decimal):
                raise Hold(f"{self._since.field} is a number, so the list must be read in its order → declare sort=…")
            if self._bounded and isinstance(value, datetime) and value > started:
                value, raw = started, started.isoformat()
            try:
                newer = self._value is None or value > self._value  # type: ignore[operator]
            except TypeError:
                raise Hold(f"{self._since.field} holds times and numbers mixed → read another field") from None
            if newer:
                self._value, self._text = value, str(raw)
        return self._text


def _moment(text: str, name: str) -> datetime | Decimal:
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Hold(f"{name} holds {text[:80]!r}, no ISO 8601 time and no number → read another field") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
