"""What an adapter's author declares of a REST interface."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from tieline.connector import Record
from tieline.connectors._paging import Offset, OnePage, Paging, at
from tieline.errors import Reject


@dataclass(frozen=True, slots=True)
class Link:
    """Children of a record, such as an order's lines, which take its place in the field of their name.

    `where` is the field that holds the address of their list, or a path such as
    ``/orders/{id}/lines/``. `items` and `paging` are as in `Resource`; `id` is needed for `Offset` only.
    """

    where: str
    items: str = ""
    paging: Paging = dataclasses.field(default_factory=OnePage)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Since:
    """How a list is asked for what changed: `?{parameter}={newest value of field so far}`.

    `field` holds a time (ISO 8601) or a number; the source's overlap is in seconds, or in the number's
    unit. `sort` is the query that orders the list by it, ascending.
    """

    parameter: str
    field: str
    sort: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resource:
    """A list of JSON objects at `path`, below the system's url.

    Reading: `id` is the field that identifies a record, as a dotted path, or a function such as
    `tail("url")`; `items` is where the list stands in the answer ("" is the answer itself), `count`
    where its length stands (a path or a header); `paging` is how it is cut; `query` is always sent;
    `since` makes it incremental; `children` are fetched for each record, and `child_cache` is the
    number of records whose children are remembered while the record itself does not change (0: none).

    Finding: `item` is a record's own path (``/orders/{id}/``; left out: `path` and the id; None: it
    has none, or gives another form of record than the list); `many` is the list's parameter that takes
    several ids, comma between; `filters` maps a field to the list's parameter that finds by it.

    Writing: `create`, `update` and `delete` say what the interface takes; `match` is the field (among
    `filters`) that finds a record which has no known id yet; `etag` sends the version tag as If-Match;
    `idempotency` names the header by which the system knows a create it has done; `wrap` is the path
    under which a single record stands in a body, also when read; `actions` maps a step to its path
    below the item's.
    """

    path: str
    id: str | Callable[[Record], object] = "id"
    item: str | None = ""
    items: str = ""
    paging: Paging = dataclasses.field(default_factory=OnePage)
    count: str = ""
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)
    since: Since | None = None
    children: Mapping[str, Link] = dataclasses.field(default_factory=dict)
    child_cache: int = 0
    filters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    many: str | None = None
    match: str | None = None
    create: Literal["POST", "PUT"] | None = None
    update: Literal["PUT", "PATCH"] | None = None
    delete: bool = False
    etag: bool = False
    idempotency: str | None = None
    wrap: str = ""
    actions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def place(self, id: str, action: str = "") -> str:
        """The path of one record, and of an action on it.

        Raises:
            Reject: where this is no id, or records have no address of their own.
        """
        template = self.item
        if template is None:
            raise Reject("records of this resource have no address of their own; declare item=…")
        if id in {"", ".", ".."}:
            raise Reject("is no id", field="id", value=id)
        if not template:
            slash = "/" if self.path.endswith("/") else ""
            template = f"{self.path.rstrip('/')}/{{id}}{slash}"
        place = template.replace("{id}", quote(id, safe=""))
        return f"{place.rstrip('/')}/{action.lstrip('/')}" if action else place

    def identify(self, record: Record) -> str:
        """The id of a record as text.

        Raises:
            Reject: where the record has none.
        """
        declared = self.id
        id = at(record, declared) if isinstance(declared, str) else declared(record)
        if isinstance(id, str | int) and not isinstance(id, bool) and id != "":
            return str(id)
        raise Reject("a record is identified by text or a whole number", field=str(self.id), value=id)

    def faults(self) -> Iterator[tuple[str, str]]:
        """What cannot work, each with its remedy."""
        if self.match is not None and self.match not in self.filters:
            yield f"match={self.match!r} is no filter", f"add filters={{{self.match!r}: the list's parameter}}"
        if self.item is None and (self.update or self.delete or self.actions or self.create == "PUT"):
            yield "records are written at their own address, and item is None", "give item a path with {id}"
        if self.item and "{id}" not in self.item:
            yield f"item={self.item!r} has no place for the id", "write {id} into it"
        if self.create is None and self.update is None and (self.match or self.etag or self.idempotency):
            yield "is not written, and match, etag and idempotency are for writing", "give create= or update="
        for name, link in self.children.items():
            if isinstance(link.paging, Offset) and not link.id:
                yield f"children {name!r} are paged by offset, which compares ids", "give the Link an id"
        for paging in (self.paging, *(link.paging for link in self.children.values())):
            if isinstance(paging, Offset) and paging.size < 2:
                yield "a page of one row leaves no room for the overlap", "give Offset a size of 2 or more"


def tail(name: str) -> Callable[[Record], str]:
    """The id as the last part of the address in the field `name`: ``…/orders/17/`` is "17"."""

    def last_part(record: Record) -> str:
        address = at(record, name)
        return address.rstrip("/").rpartition("/")[2] if isinstance(address, str) else ""

    return last_part
