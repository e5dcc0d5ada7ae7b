"""The shipped suite, against a server that keeps documents under ids of our choice, by four ways of paging."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from tests.connectors.rest_server import serving

from tieline.connector import Page, Record
from tieline.connectors.rest import CursorToken, Offset, PageNumber, Paging, Resource, Rest, Since
from tieline.settings import SystemSettings
from tieline.testing.connector import ConnectorSuite, Counterpart

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


class Documents:
    """Orders under their number: PUT replaces, PATCH changes, and the list is told by time or in no order.

    Amounts are JSON numbers with a decimal point, as a column of decimals gives them.
    """

    def __init__(self) -> None:
        self.port = 0
        self._rows: dict[str, Record] = {}
        self._lock = threading.Lock()
        self._last = datetime.now(UTC)

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()

    def put(self, record: Record) -> None:
        with self._lock:
            self._keep(record)

    def put_late(self, record: Record, seconds: float) -> None:
        with self._lock:
            self._rows[record["number"]] = {
                **record,
                "updated": stamp(datetime.now(UTC) - timedelta(seconds=seconds)),
            }

    def drop(self, id: str) -> None:
        with self._lock:
            self._rows.pop(id, None)

    def rows(self) -> Mapping[str, Record]:
        with self._lock:
            return {id: {k: v for k, v in row.items() if k != "updated"} for id, row in self._rows.items()}

    def _keep(self, record: Record) -> Record:
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        row = {**record, "updated": stamp(self._last)}
        row["total"] = pointed(row["total"])
        row["lines"] = [{**line, "price": pointed(line["price"])} for line in row.get("lines", [])]
        self._rows[row["number"]] = row
        return row

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message.get("more_body"):
                break
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
        place = scope["raw_path"].decode().removeprefix("/api/docs/")
        with self._lock:
            status, answer = self._answer(scope["method"], unquote(place), query, body)
        data = b"" if answer is None else _encoder.encode(answer)
        await Response(data, status, media_type="application/json")(scope, receive, send)

    def _answer(self, method: str, id: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if not id:
            return 200, self._page(query)
        row = self._rows.get(id)
        if method in {"GET", "PATCH"} and row is None:
            return 404, {"detail": "no such order"}
        if method == "DELETE":
            return (404, None) if self._rows.pop(id, None) is None else (204, None)
        if method == "GET":
            return 200, row
        record = _decoder.decode(body)
        if "\0" in record.get("note", ""):
            return 422, {"note": ["holds a zero byte"]}
        if record.get("total", 0) == Decimal("-666"):
            return 422, {"total": ["is refused"]}
        known = row if method == "PATCH" and row is not None else {"number": id, "lines": []}
        return 200, self._keep({**known, **record})

    def _page(self, query: dict[str, str]) -> Any:
        rows = [row for row in self._rows.values() if row["updated"] >= query.get("since", "")]
        if "note" in query:
            rows = [row for row in rows if row["note"] == query["note"]]
        if "number" in query:
            rows = [row for row in rows if row["number"] == query["number"]]
        by_time = query.get("sort") == "updated" or not {"page", "offset"} & set(query)
        rows.sort(key=lambda row: (row["updated"], row["number"]) if by_time else (row["number"],))
        answer: dict[str, Any] = {"count": len(rows)}
        if "page" in query:
            start, size = (int(query["page"]) - 1) * int(query["page_size"]), int(query["page_size"])
        elif "limit" in query and "offset" in query:
            start, size = int(query["offset"]), int(query["limit"])
        else:
            at, number = query.get("cursor", "|").split("|", 1)
            rows = [row for row in rows if (row["updated"], row["number"]) > (at, number)]
            start, size = 0, int(query["limit"])
        page = rows[start : start + size]
        if len(rows) > size and page:
            answer["next"] = f"{page[-1]['updated']}|{page[-1]['number']}"
        return {**answer, "results": page}


def stamp(moment: datetime) -> str:
    """A time with microseconds, as this server writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def pointed(amount: Any) -> Decimal:
    """An amount with a decimal point, whatever its digits."""
    return Decimal(f"{Decimal(amount):f}") if "." in f"{Decimal(amount):f}" else Decimal(f"{Decimal(amount):f}.0")


def spoil(record: Record) -> Record:
    """A record that this server refuses."""
    return {**record, "total": Decimal("-666")}


@pytest.fixture(scope="module")
def running() -> Iterator[Documents]:
    with serving(Documents()) as server:
        yield server


def counterpart(server: Documents, paging: Paging, since: Since | None, count: str = "") -> Counterpart:
    """The server without any orders, and a resource that reads it so."""
    server.clear()
    resource = Resource(
        "/docs/",
        id="number",
        item="/docs/{id}",
        items="results",
        count=count,
        paging=paging,
        since=since,
        filters={"number": "number", "note": "note"},
        match="number",
        create="PUT",
        update="PATCH",
        delete=True,
    )
    settings = SystemSettings("docs", f"http://127.0.0.1:{server.port}/api", timeout=10.0)
    return Counterpart(
        connector=Rest(orders=resource, decimals="number"),
        system=settings,
        put=server.put,
        drop=server.drop,
        rows=server.rows,
        gone=SystemSettings("docs", "http://127.0.0.1:9/api"),
        put_late=server.put_late,
        spoil=spoil,
    )


BY_TIME = Since("since", "updated", sort={"sort": "updated"})


class TestByOffset(ConnectorSuite):
    """Read in the order of change, by offset and limit."""

    @pytest.fixture
    def counterpart(self, running: Documents) -> Counterpart:
        return counterpart(running, Offset(size=40), BY_TIME)


class TestByToken(ConnectorSuite):
    """Read in the order of change, by the server's own token."""

    @pytest.fixture
    def counterpart(self, running: Documents) -> Counterpart:
        return counterpart(running, CursorToken(token="next", size=40), BY_TIME)


class TestWholeByNumber(ConnectorSuite):
    """Read whole each time, in pages by number, with the count that the server tells."""

    @pytest.fixture
    def counterpart(self, running: Documents) -> Counterpart:
        return counterpart(running, PageNumber(size=40), None, "count")


class TestInNoOrder(ConnectorSuite):
    """Read by what changed, in the order of the ids: only the end of a reading has a checkpoint."""

    @pytest.fixture
    def counterpart(self, running: Documents) -> Counterpart:
        return counterpart(running, Offset(size=40), replace(BY_TIME, sort={}))

    def test_reads_what_changed(self, counterpart: Counterpart) -> None:
        """What was changed or added is shown, and not what is older than the second this reading began in."""
        assert counterpart.put_late is not None
        for order in counterpart.orders(counterpart.many):
            counterpart.put_late(order, 60.0)

        async def read(since: Any) -> list[Page]:
            async with counterpart.opened() as connector:
                return [page async for page in connector.read(counterpart.resource, since)]

        since = asyncio.run(read(None))[-1].checkpoint
        counterpart.put(counterpart.order("10003", "changed"))
        counterpart.put(counterpart.order("99999", "added"))
        newest = {
            str(10_000 + counterpart.many - 1)
        }  # the list is asked for what is not older than the newest so far
        assert {id for page in asyncio.run(read(since)) for id in page.ids} == {"10003", "99999"} | newest
