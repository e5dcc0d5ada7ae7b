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

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

from tieline.connector import (
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
from tieline.connectors._rest_children import Children
from tieline.connectors._rest_resource import Link, Resource, Since, tail
from tieline.connectors._rest_since import Newest
from tieline.connectors._rest_write import Writer, unwrapped
from tieline.errors import ConfigurationError, Hold, Mistake
from tieline.settings import SystemSettings
from tieline.throttle import Throttle

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

    def open(self, system: SystemSettings, throttle: Throttle | None = None) -> "RestConnector":
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
        http = Http(system, decimals=self.decimals, headers=self.headers, throttle=throttle)
        return RestConnector(self, http, system.name)

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
        self._children = {
            name: Children(http, resource, partial(self._item, name)) for name, resource in rest.resources.items()
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
            newest = Newest(declared.since, since, bounded=not self.capabilities(resource).ordered)
            query |= newest.query(overlap)
        listing = self._listing(resource, query)
        async for piece in listing.pages():
            checkpoint = None if newest is None else newest.after(piece.records, listing.started)
            page = Page(piece.ids, piece.records, checkpoint, bad=piece.bad)
            yield await self._children[resource].added(page) if declared.children else page

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
            page = await self._children[resource].added(Page(list(records), list(records.values())))
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
