"""A real HTTP server with every kind of paging and every kind of failure, for tests of HTTP connectors."""

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Row = dict[str, Any]
Fault = Callable[[Scope, Receive, Send], Awaitable[None]]


def answering(status: int, body: bytes | str | dict[str, Any] = b"", **headers: str) -> Fault:
    """Answer with this, without doing anything."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    kind = "application/json" if isinstance(body, dict) else "text/html"
    named = {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
    response = Response(data, status, named)

    async def fault(scope: Scope, receive: Receive, send: Send) -> None:
        await response(scope, receive, send)

    return fault


def later(seconds: float, fault: Fault) -> Fault:
    """The same, after some seconds."""

    async def delayed(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await fault(scope, receive, send)

    return delayed


async def half_a_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Promise 1,000 bytes, send a few, and close."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"results": [', "more_body": True})
    raise ConnectionError("closed half-way on purpose")


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    """Never answer; leave when the client has."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass
class Server:
    """Rows behind several interfaces, and what a test plays with.

    `before` runs before each call with its method and path and may change rows, as other users do.
    `faults` are used up one per call that fits: (method, path begins with) → fault; `after` ones are
    met when the call has taken effect.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    lines: dict[str, list[Row]] = field(default_factory=dict)
    port: int = 0
    calls: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    logins: int = 0
    sessions: set[str] = field(default_factory=set)
    largest_page: int = 100
    pause: float = 0.0
    before: Callable[[str, str], None] = lambda method, path: None
    faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    after: list[tuple[str, str, Fault]] = field(default_factory=list)
    idempotent: dict[str, str] = field(default_factory=dict)
    numbers: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def fill(self, count: int) -> None:
        """`count` rows, numbered from 1, each changed a second after the one before."""
        for number in range(1, count + 1):
            self.put({"id": number, "number": f"N{number}", "total": number, "updated": stamp(number)})
        self.numbers = count

    def put(self, row: Row) -> None:
        self.rows[str(row["id"])] = row

    def fail(self, method: str, path: str, fault: Fault, times: int = 1) -> None:
        self.faults += [(method, path, fault)] * times

    def lose(self, method: str, path: str, fault: Fault) -> None:
        """Do what is asked, and then answer like this."""
        self.after.append((method, path, fault))

    def count(self, method: str, path: str = "") -> int:
        return sum(1 for m, p in self.calls if m == method and p.startswith(path))

    # -- the application ---------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.moments.append(time.monotonic())
            self.calls.append((method, path))
            self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
            self.queries.append(dict(Request(scope).query_params))
            if self.pause:
                await asyncio.sleep(self.pause)
            self.before(method, path)
            for place, (m, p, fault) in enumerate(self.faults):
                if m == method and path.startswith(p):
                    del self.faults[place]
                    await fault(scope, receive, send)
                    return
            for place, (m, p, fault) in enumerate(self.after):
                if m == method and path.startswith(p):
                    del self.after[place]

                    async def swallow(_: Any) -> None:
                        return

                    await self._app(scope, receive, swallow)
                    await fault(scope, receive, send)
                    return
            await self._app(scope, receive, send)
        finally:
            self.at_once -= 1

    def __post_init__(self) -> None:
        self._app = Starlette(
            routes=[
                Route("/api/plain", self._plain),
                Route("/api/number", self._number),
                Route("/api/offset", self._offset),
                Route("/api/token", self._token),
                Route("/api/next", self._next),
                Route("/api/link", self._link),
                Route("/api/keyset", self._keyset),
                Route("/api/login/", self._login, methods=["POST"]),
                Route("/api/private", self._private),
                Route("/api/guarded/{way}", self._guarded),
                Route("/api/orders/", self._orders, methods=["GET", "POST"]),
                Route("/api/orders/{id}/", self._order, methods=["GET", "PUT", "PATCH", "DELETE"]),
                Route("/api/orders/{id}/lines", self._lines),
                Route("/api/orders/{id}/confirm", self._confirm, methods=["POST"]),
            ]
        )

    def _listed(self, request: Request) -> list[Row]:
        query = request.query_params
        rows = list(self.rows.values())
        if "since" in query:
            rows = [row for row in rows if row["updated"] >= query["since"]]
        if query.get("sort") == "updated":
            rows.sort(key=lambda row: row["updated"])
        if query.get("sort") == "-id":
            rows.sort(key=lambda row: -int(row["id"]))
        return rows

    async def _plain(self, request: Request) -> Response:
        return JSONResponse(self._listed(request))

    async def _number(self, request: Request) -> Response:
        rows, query = self._listed(request), request.query_params
        size = min(int(query.get("page_size", 10)), self.largest_page)
        start = (int(query["page"]) - 1) * size
        page = rows[start : start + size]
        if not page and start:
            return JSONResponse({"detail": "Invalid page."}, 404)
        return JSONResponse({"count": len(rows), "results": page}, headers={"X-Total": str(len(rows))})

    async def _offset(self, request: Request) -> Response:
        rows, query = self._listed(request), request.query_params
        start, size = int(query["offset"]), min(int(query["limit"]), self.largest_page)
        return JSONResponse({"count": len(rows), "results": rows[start : start + size]})

    async def _token(self, request: Request) -> Response:
        rows = sorted(self._listed(request), key=lambda row: int(row["id"]))
        after = int(base64.b64decode(request.query_params.get("cursor", "MA==")))
        size = min(int(request.query_params["limit"]), self.largest_page)
        page = [row for row in rows if int(row["id"]) > after][:size]
        more = bool(page) and page[-1] is not rows[-1]
        token = base64.b64encode(str(page[-1]["id"]).encode()).decode() if more else None
        return JSONResponse({"data": page, "meta": {"next": token}})

    async def _next(self, request: Request) -> Response:
        rows, start = self._listed(request), int(request.query_params.get("from", 0))
        page = rows[start : start + self.largest_page]
        more = start + self.largest_page < len(rows)
        address = request.url.include_query_params(**{"from": start + self.largest_page})
        return JSONResponse({"count": len(rows), "next": str(address) if more else None, "results": page})

    async def _link(self, request: Request) -> Response:
        rows, start = self._listed(request), int(request.query_params.get("from", 0))
        page = rows[start : start + self.largest_page]
        headers = {}
        if start + self.largest_page < len(rows):
            following = request.url.include_query_params(**{"from": start + self.largest_page})
            headers["Link"] = (
                f'<{request.url.path}>; rel="first"; title="a, b", <{following.path}?{following.query}>; rel=next'
            )
        return JSONResponse(page, headers=headers)

    async def _keyset(self, request: Request) -> Response:
        rows = sorted(self._listed(request), key=lambda row: int(row["id"]))
        after = int(request.query_params.get("after", 0))
        page = [row for row in rows if int(row["id"]) > after][: self.largest_page]
        more = bool(page) and page[-1] is not rows[-1]
        address = request.url.include_query_params(after=page[-1]["id"]) if more else None
        return JSONResponse({"next": str(address) if address else None, "results": page})

    async def _login(self, request: Request) -> Response:
        body = await request.body()
        if request.headers["content-type"] == "application/json":
            given = json.loads(body)
        else:
            given = dict(part.split("=") for part in body.decode().split("&"))
        self.logins += 1
        await asyncio.sleep(0.05)
        if given != {"username": "ann", "password": "pass-w0rd"}:
            return JSONResponse({"detail": f"no such login: {given}"}, 400)
        session = f"s{self.logins}"
        self.sessions.add(session)
        response = JSONResponse({}, 200)
        response.set_cookie("sessionid", session)
        response.set_cookie("csrftoken", f"csrf-{session}")
        return response

    async def _private(self, request: Request) -> Response:
        if request.cookies.get("sessionid") not in self.sessions:
            return JSONResponse({"detail": "log in"}, 403)
        return JSONResponse([{"id": 1, "csrf": request.headers.get("x-csrftoken")}])

    async def _guarded(self, request: Request) -> Response:
        way = request.path_params["way"]
        let_in = {
            "bearer": request.headers.get("authorization") == "Bearer t0ken",
            "basic": request.headers.get("authorization") == "Basic " + base64.b64encode(b"ann:pass-w0rd").decode(),
            "header": request.headers.get("x-api-key") == "k3y",
            "query": request.query_params.get("api_key") == "k3y",
        }[way]
        if not let_in:
            said = f"not with {request.headers.get('authorization')} and {request.query_params.get('api_key')}"
            return JSONResponse({"detail": said}, 401)
        return JSONResponse([{"id": 1}])

    async def _orders(self, request: Request) -> Response:
        if request.method == "GET":
            query = request.query_params
            rows = self._listed(request)
            if "number" in query:
                rows = [row for row in rows if row["number"] == query["number"]]
            if "search" in query:
                rows = [row for row in rows if query["search"] in row["number"]]
            if "ids" in query:
                rows = [row for row in rows if str(row["id"]) in query["ids"].split(",")]
            return JSONResponse({"results": [self._shown(row, request) for row in rows]})
        body = await request.body()
        self.bodies.append(body)
        key = request.headers.get("idempotency-key")
        if key is not None and key in self.idempotent:
            return JSONResponse(self.rows[self.idempotent[key]], 200)
        record = json.loads(body)
        problem = refusal(record)
        if problem is not None:
            return JSONResponse(problem, 422)
        self.numbers += 1
        row = {**record, "id": self.numbers, "version": 1}
        self.put(row)
        if key is not None:
            self.idempotent[key] = str(self.numbers)
        return JSONResponse(row, 201, headers={"ETag": '"1"'})

    async def _order(self, request: Request) -> Response:
        id, method = request.path_params["id"], request.method
        row = self.rows.get(id)
        if method == "DELETE":
            if self.rows.pop(id, None) is None:
                return JSONResponse({"detail": "Not found."}, 404)
            return Response(status_code=204)
        if method == "GET":
            if row is None:
                return JSONResponse({"detail": "Not found."}, 404)
            return JSONResponse(self._shown(row, request), headers={"ETag": f'"{row.get("version", 1)}"'})
        record = json.loads(body := await request.body())
        self.bodies.append(body)
        if row is None and method == "PATCH":
            return JSONResponse({"detail": "Not found."}, 404)
        version = 0 if row is None else row.get("version", 1)
        if request.headers.get("if-match", f'"{version}"') != f'"{version}"':
            return JSONResponse({"detail": "changed by somebody else"}, 412)
        problem = refusal(record)
        if problem is not None:
            return JSONResponse(problem, 422)
        kept = row or {"id": id} if method == "PATCH" or row is None else {"id": row["id"]}
        self.rows[id] = {**kept, **record, "version": version + 1}
        return JSONResponse(self.rows[id], headers={"ETag": f'"{version + 1}"'})

    async def _lines(self, request: Request) -> Response:
        id = request.path_params["id"]
        if id not in self.rows or id not in self.lines:
            return JSONResponse({"detail": "Not found."}, 404)
        return JSONResponse({"lines": self.lines[id]})

    async def _confirm(self, request: Request) -> Response:
        row = self.rows.get(request.path_params["id"])
        if row is None:
            return JSONResponse({"detail": "Not found."}, 404)
        if row.get("state") == "cancelled":
            return JSONResponse({"detail": "a cancelled order cannot be confirmed"}, 409)
        row["state"] = "confirmed"
        return JSONResponse(row)

    def _shown(self, row: Row, request: Request) -> Row:
        id = str(row.get("id"))
        if id not in self.lines:
            return row
        return {**row, "lines": f"{request.base_url}api/orders/{id}/lines"}


def refusal(record: Row) -> dict[str, Any] | None:
    """What this shop does not take."""
    if float(record.get("total", 0)) < 0:
        return {"total": ["must not be negative"]}
    return None


def stamp(seconds: int) -> str:
    """A time so many seconds after a fixed one."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_790_000_000 + seconds))


class Served(Protocol):
    """An application that wants to know its port."""

    port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


S = TypeVar("S", bound=Served)


@contextmanager
def serving(server: S, port: int = 0) -> Iterator[S]:
    """Serve on a free port of this machine, or on this one, in a thread of its own, until left."""
    # Told that it is TCP, asyncio switches Nagle's delays off.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        server.port = taken.getsockname()[1]
        config = uvicorn.Config(
            server, log_level="critical", lifespan="off", ws="none", access_log=False, timeout_graceful_shutdown=1
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [taken]}, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.005)
        try:
            yield server
        finally:
            running.should_exit = True
            thread.join(10)


def length(head: bytes) -> int:
    """The Content-Length among these header lines."""
    named = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((int(value) for name, _, value in named if name.lower() == b"content-length"), 0)


class Cutting:
    """A way to a server on `port` that does everything, and then cuts the line instead of answering.

    `cuts` are texts of requests (in a request line or a body) whose answers are lost.
    """

    def __init__(self, port: int, path: str, *cuts: str) -> None:
        self._port = port
        self._path = path
        self._cuts = cuts
        self.seen: list[str] = []

    async def __aenter__(self) -> str:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}{self._path}"

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._port)
        cut = False

        async def answer() -> None:
            while data := await there_reader.read(65_536):
                if cut:
                    break
                writer.write(data)
            writer.close()

        answering_ = asyncio.create_task(answer())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(length(head))
                asked = (head + body).decode()
                self.seen.append(asked)
                cut = any(text in asked for text in self._cuts)
                there.write(head + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            there.close()
            await answering_
