"""How an interface cuts a list into pages: what to ask first, and what to ask next."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from yarl import URL


@dataclass(frozen=True, slots=True)
class Ask:
    """One page to ask for: at the list's own path, or at a `link` that the server gave."""

    query: Mapping[str, str]
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page was answered with, as far as paging looks at it."""

    url: URL
    headers: Mapping[str, str]
    body: Any
    items: int
    total: int | None


class Paging(Protocol):
    """A kind of paging. `shifts` says that a row deleted while a list is read makes it skip another."""

    shifts: ClassVar[bool]

    def first(self) -> Ask:
        """What to ask for first."""

    def next(self, asked: Ask, answer: Answer) -> Ask | None:
        """What to ask for after `answer`, None at the end."""


@dataclass(frozen=True, slots=True)
class OnePage:
    """The whole list in one answer."""

    shifts: ClassVar[bool] = False

    def first(self) -> Ask:
        return Ask({})

    def next(self, asked: Ask, answer: Answer) -> Ask | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageNumber:
    """Pages by number: `?page=2&page_size=100`. The end is an empty page, or a 404 past the last."""

    page: str = "page"
    size: int = 100
    size_parameter: str | None = "page_size"
    start: int = 1
    shifts: ClassVar[bool] = True

    def first(self) -> Ask:
        size = {self.size_parameter: str(self.size)} if self.size_parameter else {}
        return Ask({self.page: str(self.start), **size})

    def next(self, asked: Ask, answer: Answer) -> Ask | None:
        # A page shorter than asked for is no end: a server may give less than it was asked.
        if not answer.items:
            return None
        return Ask({**asked.query, self.page: str(int(asked.query[self.page]) + 1)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """Pages by offset and limit. Each page begins with the last item of the one before it.

    That item shows whether the list has shifted; if so, reading steps back until it meets what it knows.
    """

    offset: str = "offset"
    limit: str = "limit"
    size: int = 100
    shifts: ClassVar[bool] = False

    def first(self) -> Ask:
        return self.at(0)

    def at(self, offset: int) -> Ask:
        """The page that begins at `offset`."""
        return Ask({self.offset: str(offset), self.limit: str(self.size)})

    def next(self, asked: Ask, answer: Answer) -> Ask | None:
        if not answer.items:
            return None
        return self.at(int(asked.query[self.offset]) + answer.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorToken:
    """Each answer holds a token for the next page at `token`, a path such as ``meta.next_cursor``."""

    token: str
    parameter: str = "cursor"
    size: int = 100
    size_parameter: str | None = "limit"
    shifts: ClassVar[bool] = False

    def first(self) -> Ask:
        return Ask({self.size_parameter: str(self.size)} if self.size_parameter else {})

    def next(self, asked: Ask, answer: Answer) -> Ask | None:
        token = at(answer.body, self.token)
        return None if token is None or token == "" else Ask({**asked.query, self.parameter: str(token)})


@dataclass(frozen=True, slots=True, kw_only=True)
class NextUrl:
    """Each answer holds the address of the next page at `link`, as Django REST framework's `next`.

    `keyset` promises that these addresses hold a place in the order, not a page number or offset.
    """

    link: str = "next"
    size: int = 100
    size_parameter: str | None = None
    keyset: bool = False
    shifts: ClassVar[bool] = True

    def first(self) -> Ask:
        return Ask({self.size_parameter: str(self.size)} if self.size_parameter else {})

    def next(self, asked: Ask, answer: Answer) -> Ask | None:
        link = at(answer.body, self.link)
        return Ask({}, str(answer.url.join(URL(str(link))))) if link else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkHeader:
    """Each answer's Link header (RFC 8288) names the next page.

    `keyset` promises that these addresses hold a place in the order, not a page number or offset.
    """

    size: int = 100
    size_parameter: str | None = "per_page"
    keyset: bool = False
    shifts: ClassVar[bool] = True

    def first(self) -> Ask:
        return Ask({self.size_parameter: str(self.size)} if self.size_parameter else {})

    def next(self, asked: Ask, answer: Answer) -> Ask | None:
        link = next_of(answer.headers.get("Link", ""))
        return Ask({}, str(answer.url.join(URL(link)))) if link else None


def shifts(paging: Paging) -> bool:
    """Whether a row deleted while the list is read can make another one be skipped."""
    return paging.shifts and not getattr(paging, "keyset", False)


def at(value: Any, path: str) -> Any:
    """What stands at a dotted path inside JSON, None where nothing does."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def next_of(header: str) -> str | None:
    """The address with rel=next in a Link header (RFC 8288), which may hold commas inside `<…>` or quotes."""
    place = 0
    while (start := header.find("<", place)) >= 0 and (end := header.find(">", start)) >= 0:
        rest, quoted = end + 1, False
        while rest < len(header) and (quoted or header[rest] != ","):
            quoted ^= header[rest] == '"'
            rest += 1
        for parameter in header[end + 1 : rest].split(";"):
            name, _, value = parameter.strip().partition("=")
            if name.strip().lower() == "rel" and "next" in value.strip().strip('"').lower().split():
                return header[start + 1 : end]
        place = rest + 1
    return None
