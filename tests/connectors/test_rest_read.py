"""REST reads lists whole, whatever their paging, and never takes a failure for an empty list."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from tests.connectors.rest_server import Server, answering, half_a_body, serving, stamp

from tieline.connector import Page
from tieline.connectors.rest import (
    CursorToken,
    Link,
    LinkHeader,
    NextUrl,
    Offset,
    PageNumber,
    Resource,
    Rest,
    RestConnector,
    Since,
    tail,
)
from tieline.errors import ConfigurationError, Hold, RetryLater, Throttled, Unavailable
from tieline.settings import Limits, SystemSettings

KINDS = {
    "none": Resource("/plain"),
    "page number": Resource("/number", items="results", paging=PageNumber(size=7)),
    "page number and count": Resource("/number", items="results", count="count", paging=PageNumber(size=7)),
    "page number and count header": Resource("/number", items="results", count="X-Total", paging=PageNumber(size=7)),
    "offset": Resource("/offset", items="results", paging=Offset(size=7)),
    "offset and count": Resource("/offset", items="results", count="count", paging=Offset(size=7)),
    "token": Resource("/token", items="data", paging=CursorToken(token="meta.next", size=7)),
    "next address": Resource("/next", items="results", count="count", paging=NextUrl()),
    "link header": Resource("/link", paging=LinkHeader()),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


@pytest.fixture
def shop(running: Server) -> Server:
    port = running.port
    running.__dict__.clear()
    running.__init__(port=port)  # type: ignore[misc]
    return running


def settings(shop: Server, **more: Any) -> SystemSettings:
    return SystemSettings("shop", more.pop("url", shop.url), **{"timeout": 5.0} | more)


@asynccontextmanager
async def opened(shop: Server, resource: Resource, **more: Any) -> AsyncIterator[RestConnector]:
    connector = Rest(orders=resource).open(settings(shop, **more))
    try:
        yield connector
    finally:
        await connector.close()


def pages(shop: Server, resource: Resource, since: Any = None, scope: Any = None, **more: Any) -> list[Page]:
    async def reading() -> list[Page]:
        async with opened(shop, resource, **more) as connector:
            return [page async for page in connector.read("orders", since, scope)]

    return asyncio.run(reading())


def ids(read: list[Page]) -> list[str]:
    return [id for page in read for id in page.ids]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 50])
def test_every_paging_gives_every_row_once(shop: Server, kind: str, count: int) -> None:
    """Every kind of paging gives every row of a quiet list once, also at the edges of a page."""
    shop.fill(count)
    shop.largest_page = 7
    assert ids(pages(shop, KINDS[kind])) == numbers(count)


@pytest.mark.parametrize("kind", ["page number", "page number and count", "offset", "offset and count", "token"])
def test_a_server_that_gives_less_than_asked_has_not_ended(shop: Server, kind: str) -> None:
    """A page shorter than asked for is not the end of the list."""
    shop.fill(20)
    shop.largest_page = 3
    assert ids(pages(shop, KINDS[kind])) == numbers(20)


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_is_larger_than_asked(shop: Server, kind: str) -> None:
    """A page of the list is a page in memory, not the whole list."""
    shop.fill(20)
    shop.largest_page = 7
    read = pages(shop, KINDS[kind])
    assert max(len(page.ids) for page in read) == (20 if kind == "none" else 7)


@pytest.mark.parametrize("kind", ["offset", "offset and count"])
def test_a_row_deleted_before_our_place_makes_offsets_skip_none(shop: Server, kind: str) -> None:
    """Rows deleted on pages that were read shift the list; paging by offset notices and steps back."""
    shop.fill(40)

    def delete(_: str, __: str) -> None:
        if shop.count("GET") in {3, 4}:
            for number in numbers(40)[(shop.count("GET") - 3) * 5 :][:5]:
                del shop.rows[number]

    shop.before = delete
    assert set(ids(pages(shop, KINDS[kind]))) == set(numbers(40))


def test_everything_read_so_far_may_vanish(shop: Server) -> None:
    """Where every row read so far is deleted, reading steps back to the beginning and skips none."""
    shop.fill(40)

    def delete(_: str, __: str) -> None:
        if shop.count("GET") == 4:
            shop.rows = {id: row for id, row in shop.rows.items() if int(id) > 19}

    shop.before = delete
    assert set(ids(pages(shop, KINDS["offset"]))) >= {str(n) for n in range(20, 41)}


def test_the_last_rows_may_vanish(shop: Server) -> None:
    """Where the list ends earlier than before, it has ended."""
    shop.fill(20)

    def delete(_: str, __: str) -> None:
        if shop.count("GET") == 3:
            shop.rows = {id: row for id, row in shop.rows.items() if int(id) <= 10}

    shop.before = delete
    assert set(ids(pages(shop, KINDS["offset"]))) >= set(numbers(10))


@pytest.mark.parametrize("kind", ["page number", "page number and count", "offset", "offset and count"])
def test_new_rows_at_the_front_are_harmless(shop: Server, kind: str) -> None:
    """New rows at the front of a list push others onto the next page: seen twice, never skipped."""
    shop.fill(30)
    newest_first = KINDS[kind]
    resource = Resource(
        newest_first.path,
        items="results",
        count=newest_first.count,
        paging=newest_first.paging,
        query={"sort": "-id"},
    )

    def order(_: str, __: str) -> None:
        shop.put({"id": 100 + shop.count("GET"), "number": "new", "updated": stamp(99)})

    shop.before = order
    assert set(ids(pages(shop, resource))) >= set(numbers(30))


def test_a_row_deleted_while_numbered_pages_are_read_has_them_read_again(shop: Server) -> None:
    """Pages by number skip a row when one before it goes; the count tells, and the list is read again."""
    shop.fill(30)

    def delete(_: str, __: str) -> None:
        if shop.count("GET") == 3:
            shop.rows.pop("2", None)

    shop.before = delete
    read = ids(pages(shop, KINDS["page number and count"]))
    assert set(read) >= set(numbers(30)) - {"2"}
    assert len(read) > 30, "it was not read again"


def test_a_row_that_comes_does_not_hide_that_one_went(shop: Server) -> None:
    """The count falls and rises again while the list is read: as many ids as at first, and yet one skipped."""
    shop.fill(30)

    def swap(_: str, __: str) -> None:
        if shop.count("GET") == 3:
            shop.rows.pop("2", None)
        if shop.count("GET") == 4:
            shop.put({"id": 31, "number": "new", "updated": stamp(31)})

    shop.before = swap
    assert set(ids(pages(shop, KINDS["page number and count"]))) >= set(numbers(31)) - {"2"}


def test_a_list_that_never_holds_still_is_read_later(shop: Server) -> None:
    """Where rows go in each reading, the read fails by name instead of missing rows."""
    shop.fill(60)

    def delete(_: str, __: str) -> None:
        shop.rows.pop(next(iter(shop.rows)))

    shop.before = delete
    with pytest.raises(RetryLater, match="left the list each of the 3 times"):
        pages(shop, KINDS["page number and count"])


def test_a_server_that_ignores_the_page_is_found_out(shop: Server) -> None:
    """A server that gives the first page for ever is named, and not read for ever."""
    shop.fill(5)
    with pytest.raises(Hold, match="same page again"):
        pages(shop, Resource("/plain", paging=PageNumber(page="p")))
    with pytest.raises(RetryLater, match="ignores its offset"):
        pages(shop, Resource("/plain", paging=Offset(offset="o", size=5)))


def test_next_addresses_that_go_in_a_circle_are_found_out(shop: Server) -> None:
    """A next address that was read before ends the read with an error."""
    for number in (1, 2):
        row = {"id": number}
        shop.fail("GET", "/api/next", answering(200, {"next": shop.url + "/next?from=1", "results": [row]}))
    with pytest.raises(Hold, match="leads back to itself"):
        pages(shop, KINDS["next address"])


def test_links_to_another_host_are_refused(shop: Server) -> None:
    """A link to another host is not followed: our credentials would go there."""
    shop.fail("GET", "/api/next", answering(200, {"next": "http://evil.example/next", "results": [{"id": 1}]}))
    with pytest.raises(Hold, match=r"links to http://evil\.example"):
        pages(shop, KINDS["next address"])


def test_links_behind_a_proxy_can_be_taken_as_our_own(shop: Server) -> None:
    """With `rebase`, links written under the server's inner name lead to the system's own url."""
    shop.fill(2)
    inner = {"next": "https://inner.example/api/next?from=1", "results": [{"id": 7}]}
    shop.fail("GET", "/api/next", answering(200, inner))
    assert ids(pages(shop, KINDS["next address"], options={"rebase": True})) == ["7", "2"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (half_a_body, "ended half-way"),
        (answering(200, b"<html><title>Back soon</title></html>"), "HTML or XML page instead of JSON"),
        (answering(200, b'{"results": [{"id": 1}'), "no valid JSON"),
        (answering(200, b""), "empty body"),
        (answering(500, "<html><title>Server Error</title>secret stack</html>"), "500: Server Error"),
        (answering(502), "502"),
        (answering(503), "503"),
    ],
)
def test_a_broken_answer_is_an_outage_and_no_empty_list(shop: Server, fault: Any, says: str) -> None:
    """Half a body, a page of HTML, bad JSON, a server error: each is an outage with a clear text."""
    shop.fill(5)
    shop.fail("GET", "/api/number", fault)
    with pytest.raises(Unavailable, match=says):
        pages(shop, KINDS["page number"])


def test_another_shape_is_no_empty_list(shop: Server) -> None:
    """An answer without the list where it should be is named, with what to declare."""
    shop.fail("GET", "/api/number", answering(200, {"error": "try later"}))
    with pytest.raises(RetryLater, match=r"no list at 'results' but .*try later.*declare"):
        pages(shop, KINDS["page number"])


@pytest.mark.parametrize("status", [400, 404, 405, 410])
def test_a_wrong_address_holds_the_source(shop: Server, status: int) -> None:
    """A read that the server calls wrong is for a person to correct: it is not empty and no outage."""
    shop.fail("GET", "/api/number", answering(status, {"detail": "no such page"}))
    with pytest.raises(Hold, match=rf"{status}: no such page → set the system's url or the resource's path"):
        pages(shop, KINDS["page number"])


def test_a_later_page_is_worth_some_patience(shop: Server) -> None:
    """One failure in the middle of a long list does not throw away what was read."""
    shop.fill(30)

    def fail_once(_: str, __: str) -> None:
        if shop.count("GET") == 3:
            shop.fail("GET", "/api/offset", half_a_body)

    shop.before = fail_once
    assert ids(pages(shop, KINDS["offset"])) == numbers(30)


def test_too_many_calls_wait_as_long_as_asked(shop: Server) -> None:
    """429 at the first page is `Throttled` with its time; in the middle of a list the time is waited."""
    shop.fill(30)
    shop.fail("GET", "/api/offset", answering(429, Retry_After="7"))
    with pytest.raises(Throttled) as first:
        pages(shop, KINDS["offset"])
    assert first.value.after == 7

    shop.calls.clear()
    shop.before = lambda _, __: shop.count("GET") == 2 and shop.fail("GET", "/api", answering(429, Retry_After="1"))
    assert ids(pages(shop, KINDS["offset"])) == numbers(30)
    waited = max(after - before for before, after in zip(shop.moments, shop.moments[1:], strict=False))
    assert 0.9 < waited < 3


def test_a_record_without_an_id_stops_only_itself(shop: Server) -> None:
    """What has no id is given as a bad record with its place; the rest goes on."""
    shop.fill(20)
    del shop.rows["7"]["id"]  # the last of a page, where the next page overlaps
    shop.rows["9"] = "no object"  # type: ignore[assignment]
    for kind in ("page number", "offset"):
        read = pages(shop, KINDS[kind])
        assert set(ids(read)) == set(numbers(20)) - {"7", "9"}
        bad = {bad.id: bad for page in read for bad in page.bad}
        assert len(bad) == 2
        assert any(one.place.endswith(" item 7") for one in bad.values())
        assert sum(len(page.bad) for page in read) == 2
        assert {one.raw for one in bad.values()} >= {'"no object"'}


@pytest.mark.parametrize("kind", ["page number", "offset", "offset and count"])
def test_a_whole_page_without_ids_stops_only_itself(shop: Server, kind: str) -> None:
    """A page on which no row tells its id is all bad records, and the pages behind it are read."""
    shop.fill(21)
    for number in range(8, 15):
        del shop.rows[str(number)]["id"]
    read = pages(shop, KINDS[kind])
    assert set(ids(read)) == set(numbers(21)) - {str(n) for n in range(8, 15)}
    assert len({bad.id for page in read for bad in page.bad}) == 7


def test_numbers_are_exact(shop: Server) -> None:
    """A number with a decimal point is read as the Decimal that was written, never as a float."""
    shop.fail("GET", "/api/plain", answering(200, b'[{"id": 1, "total": 1234567890123456.78, "tiny": 0.10}]'))
    [page] = pages(shop, KINDS["none"])
    assert page.records == [{"id": 1, "total": Decimal("1234567890123456.78"), "tiny": Decimal("0.10")}]
    assert str(page.records[0]["tiny"]) == "0.10"


def test_an_answer_may_not_be_endless(shop: Server) -> None:
    """More bytes than allowed are not read into memory."""
    shop.fill(1000)
    with pytest.raises(Hold, match=r"more than 1000 bytes → .* options\.max_body"):
        pages(shop, KINDS["none"], options={"max_body": 1000})


def test_ids_may_come_out_of_an_address(shop: Server) -> None:
    """`tail` takes the id from the end of an address field."""
    shop.put({"id": 1, "url": "http://127.0.0.1/api/orders/00-1/"})
    assert ids(pages(shop, Resource("/plain", id=tail("url")))) == ["00-1"]


# -- children ------------------------------------------------------------------------------------------

WITH_LINES = Resource("/orders/", items="results", children={"lines": Link("lines", items="lines")})


def with_lines(shop: Server, count: int) -> None:
    shop.fill(count)
    shop.lines = {str(n): [{"sku": f"S{n}"}, {"sku": f"S{n}"}] for n in range(1, count + 1)}


@pytest.mark.parametrize("where", ["lines", "/orders/{id}/lines"])
def test_children_stand_in_their_record(shop: Server, where: str) -> None:
    """Children are read from the link in the record or from a path, also two that are equal."""
    with_lines(shop, 3)
    resource = Resource("/orders/", items="results", children={"lines": Link(where, items="lines")})
    [page] = pages(shop, resource)
    assert [record["lines"] for record in page.records] == [[{"sku": f"S{n}"}] * 2 for n in (1, 2, 3)]


def test_children_are_fetched_as_many_at_once_as_allowed(shop: Server) -> None:
    """Children are fetched concurrently, but never more at once than the system's limit."""
    with_lines(shop, 20)
    shop.pause = 0.1  # long enough that on a busy machine calls meet
    pages(shop, WITH_LINES, limits=Limits(at_once=3))
    assert shop.most_at_once == 3


def test_a_record_whose_children_are_gone_is_gone_too(shop: Server) -> None:
    """A record deleted between its page and its children is left out; its key is found missing by the sweep."""
    with_lines(shop, 3)
    shop.before = lambda _, path: path.endswith("2/lines") and shop.rows.pop("2", None)
    [page] = pages(shop, WITH_LINES)
    assert page.ids == ["1", "3"]
    assert page.bad == []


def test_a_record_whose_children_cannot_be_had_stops_only_itself(shop: Server) -> None:
    """A dead link to children parks that record and no other; it is not a record without children."""
    with_lines(shop, 3)
    shop.fail("GET", "/api/orders/2/lines", answering(404))
    [page] = pages(shop, WITH_LINES)
    assert page.ids == ["1", "3"]
    assert [bad.id for bad in page.bad] == ["2"]
    assert "not found" in str(page.bad[0].error)


def test_children_that_fail_fail_the_page(shop: Server) -> None:
    """An outage while children are fetched is an outage, not a record without children."""
    with_lines(shop, 3)
    shop.fail("GET", "/api/orders/2/lines", answering(500), times=9)
    with pytest.raises(Unavailable):
        pages(shop, WITH_LINES)


def test_children_are_remembered_while_the_record_is_the_same(shop: Server) -> None:
    """With a cache, children are fetched again only where the record itself has changed."""
    with_lines(shop, 5)
    resource = Resource("/orders/", items="results", children=WITH_LINES.children, child_cache=4)

    async def twice() -> list[list[Page]]:
        async with opened(shop, resource) as connector:
            first = [page async for page in connector.read("orders")]
            shop.calls.clear()
            shop.rows["3"]["total"] = 99
            shop.lines["3"] = [{"sku": "new"}]
            return [first, [page async for page in connector.read("orders")]]

    [[first], [second]] = asyncio.run(twice())
    assert second.records[2]["lines"] == [{"sku": "new"}]
    assert second.records[1] == first.records[1]
    fetched = [path for _, path in shop.calls if path.endswith("lines")]
    assert "/api/orders/3/lines" in fetched
    assert "/api/orders/4/lines" not in fetched
    assert len(fetched) == 5 - 4 + 1 or "/api/orders/1/lines" in fetched, "more is remembered than asked for"


# -- what changed ----------------------------------------------------------------------------------------

BY_TIME = Since("since", "updated", sort={"sort": "updated"})
INCREMENTAL = Resource("/offset", items="results", paging=Offset(size=7), since=BY_TIME)


def test_only_what_changed_is_read(shop: Server) -> None:
    """A later read begins at the newest value so far, less the overlap."""
    shop.fill(30)
    read = pages(shop, INCREMENTAL)
    assert ids(read) == numbers(30)
    assert read[-1].checkpoint == stamp(30)
    shop.rows["4"]["updated"] = stamp(40)
    shop.rows = {**{k: v for k, v in shop.rows.items() if k != "4"}, "4": shop.rows["4"]}
    assert ids(pages(shop, INCREMENTAL, stamp(30), {"overlap": 2})) == ["28", "29", "30", "4"]
    assert ids(pages(shop, INCREMENTAL, stamp(30), {"overlap": 0})) == ["30", "4"]


def test_each_page_of_an_ordered_read_may_be_gone_on_from(shop: Server) -> None:
    """Read in order, every page's checkpoint leads on to the rows behind it and none is missed."""
    shop.fill(30)
    read = pages(shop, INCREMENTAL)
    for place, page in enumerate(read):
        seen = set(ids(read[: place + 1]))
        rest = ids(pages(shop, INCREMENTAL, page.checkpoint, {"overlap": 0}))
        assert seen | set(rest) == set(numbers(30))


def test_a_list_in_no_order_begins_next_time_where_this_read_began(shop: Server) -> None:
    """What changes behind our place while an unordered list is read is met by the next read."""
    shop.fill(3)
    shop.rows["3"]["updated"] = "2099-01-01T00:00:00Z"  # changed after this read began, as a clock ahead looks
    resource = Resource("/offset", items="results", paging=Offset(size=7), since=Since("since", "updated"))
    [page] = pages(shop, resource)
    assert page.checkpoint < "2099"
    assert page.checkpoint > stamp(3)


@pytest.mark.parametrize(
    ("value", "begin"),
    [
        ("2026-11-21T10:00:00Z", "2026-11-21T09:58:20Z"),
        ("2026-11-21T10:00:00.123456+02:00", "2026-11-21T09:58:20.123456+02:00"),
        ("2026-11-21T10:00:00", "2026-11-21T09:58:20"),
        ("500", "400"),
    ],
)
def test_the_parameter_is_written_as_the_system_writes_it(shop: Server, value: str, begin: str) -> None:
    """Times keep their zone and form; numbers are numbers."""
    pages(shop, INCREMENTAL, value, {"overlap": 100})
    assert shop.queries[0]["since"] == begin
    assert shop.queries[0]["sort"] == "updated"


def test_what_is_no_time_is_named(shop: Server) -> None:
    """A since-field that holds neither a time nor a number holds the source."""
    shop.put({"id": 1, "updated": "yesterday"})
    with pytest.raises(Hold, match="'yesterday', no ISO 8601 time"):
        pages(shop, INCREMENTAL)


def test_a_scope_becomes_the_declared_parameter(shop: Server) -> None:
    """A scope is a filter of the list; a field without a parameter is a mistake, not everything."""
    shop.fill(3)
    resource = Resource("/orders/", items="results", filters={"number": "number"})
    assert ids(pages(shop, resource, scope={"number": "N2"})) == ["2"]
    with pytest.raises(ConfigurationError, match="cannot be filtered by colour"):
        pages(shop, resource, scope={"colour": "red"})


# -- keys and look-ups -------------------------------------------------------------------------------------


def asking(shop: Server, resource: Resource, ask: Callable[[RestConnector], Any], **more: Any) -> Any:
    async def run() -> Any:
        async with opened(shop, resource, **more) as connector:
            return await ask(connector)

    return asyncio.run(run())


def test_keys_are_listed_without_children(shop: Server) -> None:
    """A sweep asks for the list only."""
    with_lines(shop, 5)

    async def keys(connector: RestConnector) -> list[str]:
        return [id async for page in connector.keys("orders") for id in page]

    assert asking(shop, WITH_LINES, keys) == numbers(5)
    assert shop.count("GET") == 1


def test_keys_that_cannot_be_told_hold_the_sweep(shop: Server) -> None:
    """A list with a row of which no id is known is not every id, and nothing may be deleted for it."""
    shop.fill(3)
    del shop.rows["2"]["id"]

    async def keys(connector: RestConnector) -> list[str]:
        return [id async for page in connector.keys("orders") for id in page]

    with pytest.raises(Hold, match="tells no id"):
        asking(shop, WITH_LINES, keys)


@pytest.mark.parametrize("many", [None, "ids"])
def test_a_look_up_answers_in_order_and_none_for_what_is_not_there(shop: Server, many: str | None) -> None:
    """Records come with their children, in the order asked, None where there is none."""
    with_lines(shop, 3)
    resource = Resource("/orders/", items="results", children=WITH_LINES.children, many=many)
    found = asking(shop, resource, lambda c: c.lookup("orders", ["3", "99", "1", "3"]))
    assert [record and record["number"] for record in found] == ["N3", None, "N1", "N3"]
    assert found[0]["lines"] == [{"sku": "S3"}] * 2


def test_ids_may_be_looked_up_in_the_list(shop: Server) -> None:
    """Where a record has no address of its own, or another form there, the list's filter finds it."""
    shop.fill(3)
    resource = Resource("/orders/", id="number", items="results", item=None, filters={"number": "number"})
    assert asking(shop, resource, lambda c: answer(c.capabilities("orders").lookup)) is True
    found = asking(shop, resource, lambda c: c.lookup("orders", ["N2", "N9", "N2"]))
    assert [record and record["id"] for record in found] == [2, None, 2]
    assert shop.count("GET", "/api/orders/") == 2
    nowhere = Resource("/orders/", items="results", item=None)
    assert asking(shop, nowhere, lambda c: answer(c.capabilities("orders").lookup)) is False


async def answer(value: bool) -> bool:
    return value


def test_ids_with_a_comma_are_asked_for_one_by_one(shop: Server) -> None:
    """An id that would look like two in a list is looked up at its own address."""
    for id in ("1", "2", "1,2"):
        shop.put({"id": id, "number": f"N{id}"})
    resource = Resource("/orders/", items="results", many="ids")
    found = asking(shop, resource, lambda c: c.lookup("orders", ["1,2", "", "2"]))
    assert [record and record["number"] for record in found] == ["N1,2", None, "N2"]


def test_a_list_that_ignores_the_ids_is_found_out(shop: Server) -> None:
    """Where the parameter for several ids chooses nothing, that is named."""
    shop.fill(3)
    with pytest.raises(Hold, match="wrong does not choose records"):
        asking(shop, Resource("/orders/", items="results", many="wrong"), lambda c: c.lookup("orders", ["2"]))


@pytest.mark.parametrize("parameter", ["number", "search"])
def test_a_look_up_by_field_takes_only_what_equals(shop: Server, parameter: str) -> None:
    """A filter that also finds similar values gives only the equal one."""
    shop.fill(12)
    resource = Resource("/orders/", items="results", filters={"number": parameter})
    found = asking(shop, resource, lambda c: c.lookup("orders", ["N1", "N99", "N12"], by="number"))
    assert [record and record["id"] for record in found] == [1, None, 12]


@pytest.mark.parametrize("id", ["..", ".", "a/b", "a?b=c", "ä ö", "%2e%2e"])
def test_an_id_stays_one_part_of_the_address(shop: Server, id: str) -> None:
    """No id leads to another address than its own record's."""
    from tieline.errors import Reject

    shop.put({"id": id, "number": "N", "updated": stamp(1)})
    ask: Callable[[RestConnector], Any] = lambda c: c.lookup("orders", [id])  # noqa: E731
    resource = Resource("/orders/", items="results")
    if id in {"..", "."}:
        with pytest.raises(Reject):
            asking(shop, resource, ask)
        return
    found = asking(shop, resource, ask)
    assert shop.calls[0][1].startswith("/api/orders/")
    assert found[0] is None or found[0]["id"] == id


def test_a_system_tells_what_it_has(shop: Server) -> None:
    """Discovery names the resources with their fields and key; check reaches the first one."""
    shop.fill(1)
    [found] = asking(shop, KINDS["offset"], lambda c: c.discover())
    assert found.name == "/offset"
    assert found.key == ("id",)
    assert found.fields == {"id": "int", "number": "str", "total": "int", "updated": "str"}
    asking(shop, KINDS["offset"], lambda c: c.check())


def test_mistakes_of_a_declaration_are_named_at_once() -> None:
    """Everything that cannot work is found when the connector is opened, all of it at once."""
    wrong = Resource("/o", match="number", item="/x", update="PUT", paging=Offset(size=1))
    other = Resource("/p", item=None, delete=True, etag=True)
    with pytest.raises(ConfigurationError) as error:
        Rest(a=wrong, b=other).open(SystemSettings("shop", "http://127.0.0.1:1"))
    assert len(error.value.mistakes) == 5


@pytest.mark.parametrize(
    "url", ["", "shop.example", "ftp://a.example", "http://u:p@a.example", "http://a.example?x=1"]
)
def test_an_address_that_cannot_work_is_named(url: str) -> None:
    """The system's url is an http address without credentials or query, and no secret is said back."""
    with pytest.raises(ConfigurationError, match=r"systems\.shop\.url") as error:
        Rest(orders=Resource("/o")).open(SystemSettings("shop", url))
    assert "u:p" not in str(error.value)
