"""A REST target in every kind of trouble: what becomes of the leg and the message, and that each is applied once."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from tests.badinput import company
from tests.badinput.company import Work
from tests.connectors.rest_server import Fault, answering, half_a_body, never, serving

from tieline import Adapter
from tieline.connectors.rest import OnePage, Resource, Rest
from tieline.message import Reason
from tieline.system import System

COUNT = 12


class Desk:
    """An ordering desk over HTTP: it numbers what it is given, and keeps a history of orders made and changed.

    `before` are met instead of doing what is asked, `after` when it is done; both by method and a text
    of the body, and used up.
    """

    def __init__(self, file: Path) -> None:
        self.port = 0
        self.before: list[tuple[str, str, Fault]] = []
        self.after: list[tuple[str, str, Fault]] = []
        self.calls: Counter[str] = Counter()
        self._file = file
        with closing(sqlite3.connect(file)) as desk:
            desk.executescript(
                "create table orders (id integer primary key, number text, total text);"
                "create table history (at integer primary key, number text, total text);"
                "create table changes (at integer primary key, number text, total text);"
            )
        self._app = Starlette(
            routes=[
                Route("/orders", self._list, methods=["GET"]),
                Route("/orders", self._create, methods=["POST"]),
                Route("/orders/{id}", self._update, methods=["PUT"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method = scope["method"]
        self.calls[method] += 1
        body = b""
        while (part := await receive()).get("more_body"):
            body += part["body"]
        body += part.get("body", b"")
        told = False

        async def again() -> dict[str, object]:
            nonlocal told
            if told:
                return dict(await receive())
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        for place, (on, text, fault) in enumerate(self.before):
            if method == on and text.encode() in body:
                del self.before[place]
                return await fault(scope, receive, send)
        for place, (on, text, fault) in enumerate(self.after):
            if method == on and text.encode() in body:
                del self.after[place]

                async def unheard(_: object) -> None:
                    return

                await self._app(scope, again, unheard)
                return await fault(scope, receive, send)
        await self._app(scope, again, send)

    async def _list(self, request: Request) -> Response:
        number = request.query_params.get("number")
        with closing(sqlite3.connect(self._file)) as desk:
            rows = desk.execute(
                "select id, number, total from orders where ?1 is null or number = ?1", (number,)
            ).fetchall()
        return JSONResponse([dict(zip(("id", "number", "total"), row, strict=True)) for row in rows])

    async def _create(self, request: Request) -> Response:
        order = await request.json()
        with closing(sqlite3.connect(self._file)) as desk, desk:
            given = (order["number"], order["total"])
            made = desk.execute("insert into orders (number, total) values (?, ?)", given).lastrowid
            desk.execute("insert into history (number, total) values (?, ?)", given)
        return JSONResponse({"id": made, **order}, 201)

    async def _update(self, request: Request) -> Response:
        order = await request.json()
        with closing(sqlite3.connect(self._file)) as desk, desk:
            desk.execute("update orders set total = ? where id = ?", (order["total"], request.path_params["id"]))
            desk.execute("insert into changes (number, total) values (?, ?)", (order["number"], order["total"]))
        return JSONResponse(order)

    def changed(self) -> list[tuple[str, str]]:
        """Number and total of each order that was changed after it was made."""
        with closing(sqlite3.connect(self._file)) as desk:
            return desk.execute("select number, total from changes").fetchall()

    def system(self, name: str = "desk") -> System:
        """The desk as a target: a create that is cut off can be looked up, and is not done twice."""
        orders = Resource(
            "/orders",
            paging=OnePage(),
            item="/orders/{id}",
            filters={"number": "number"},
            match="number",
            create="POST",
            update="PUT",
        )
        adapter = Adapter(Rest(orders=orders))
        adapter.sink(company.Order, "orders", name="order", match="number")(
            lambda order: {"number": order.number, "total": str(order.total.amount)}
        )
        return company.system(name, adapter, f"http://127.0.0.1:{self.port}", timeout=1.0, settling=1.5)


class Case:
    """One kind of trouble: `fault` times `times` on creates that hold `text`, before or after they are done."""

    def __init__(self, fault: Fault, expected: str, *, text: str = "", times: int = 1, after: bool = False) -> None:
        self.fault = fault
        self.expected = expected
        self.text = text
        self.times = times
        self.after = after


CASES = {
    "429 with Retry-After": Case(answering(429, {"detail": "slowly"}, Retry_After="2"), "paused: 429"),
    "503 for all": Case(answering(503, "closed for the night"), "paused: 503", times=COUNT),
    "500 for one": Case(answering(500, {"detail": "oops"}), "retry: 500", text="00007", times=2),
    "half a body after it is done": Case(half_a_body, "paused: no whole answer", text="00007", after=True),
    "half a body instead": Case(half_a_body, "paused: no whole answer", text="00007"),
    "never, after it is done": Case(never, "in doubt: no whole answer", text="00007", after=True),
    "never": Case(never, "in doubt: no whole answer", text="00007"),
    "a gateway's 502 after it is done": Case(answering(502, "bad gateway"), "paused: 502", text="00007", after=True),
}


@pytest.mark.parametrize("name", CASES)
def test_every_order_is_created_exactly_once(name: str, tmp_path: Path) -> None:
    """An outage pauses the leg, one bad answer retries one message, a cut-off call is settled by look-up."""
    case = CASES[name]
    shop = company.make_shop(tmp_path / "shop.db", COUNT)
    kind, _, text = case.expected.partition(": ")

    async def seen(work: Work) -> bool:
        if kind == "paused":
            leg = (await work.legs())[0]
            return text in leg.paused and not leg.parked and leg.off_by == 0
        reason = Reason.RETRY if kind == "retry" else Reason.DOUBT
        rows = await work.parked()
        assert [row.key for row in rows if row.key != "00007"] == []
        return any(row.reason is reason and text in row.error for row in rows)

    async def check(desk: Desk) -> None:
        landscape = company.landscape(f"sqlite:///{tmp_path / 'ledger.db'}", company.shop_system(shop), desk.system())
        async with company.working(landscape) as work:
            await work.until(case.expected, lambda: seen(work))
            await work.until_level(COUNT)
            assert await work.parked() == []

    with serving(Desk(tmp_path / "desk.db")) as desk:
        (desk.after if case.after else desk.before).extend([("POST", case.text, case.fault)] * case.times)
        asyncio.run(check(desk))
        assert desk.before == desk.after == []
    assert company.history_of(tmp_path / "desk.db") == company.each_once(range(COUNT))
    # What was found to be there may be brought up to date once more: to the same value, and nothing else is touched.
    assert desk.changed() in ([], [("00007", "7.50")] if case.after else [])


def test_a_throttled_leg_waits_as_long_as_it_is_asked_to(tmp_path: Path) -> None:
    """While it waits, it calls nobody."""
    shop = company.make_shop(tmp_path / "shop.db", COUNT)

    async def check(desk: Desk) -> None:
        landscape = company.landscape(f"sqlite:///{tmp_path / 'ledger.db'}", company.shop_system(shop), desk.system())
        async with company.working(landscape) as work:
            await work.until("it is throttled", lambda: "429" in work.said)
            calls = desk.calls.copy()
            await asyncio.sleep(1.5)
            assert desk.calls == calls
            await work.until_level(COUNT)

    with serving(Desk(tmp_path / "desk.db")) as desk:
        desk.before.append(("POST", "", answering(429, {"detail": "slowly"}, Retry_After="3")))
        asyncio.run(check(desk))
    assert company.history_of(tmp_path / "desk.db") == company.each_once(range(COUNT))
