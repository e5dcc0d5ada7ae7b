"""A small order desk behind HTTP, without transactions: ``python server.py DATABASE [PORT]``; prints its port.

POST creates, PUT updates, DELETE deletes, GET ?reference= finds, POST …/confirm/ confirms. It refuses
nothing that is done twice: what it was told stands in its history. POST /hold/ makes the next PUT of a hot
order, or the next payment, wait in here, not applied, until POST /release/: a call that is still on its
way. POST /held/ tells whose.
"""

import json
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

FIELDS = "id, reference, version, confirmed"


class Desk(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, database: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.database = sqlite3.connect(database, check_same_thread=False, isolation_level=None, timeout=30)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.holding = False
        self.held = ""
        self.released = threading.Event()

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with self.lock:
            found = self.database.execute(sql, values).fetchall()
        return [
            {"id": number, "reference": reference, "version": version, "confirmed": bool(confirmed)}
            for number, reference, version, confirmed in found
        ]

    def control(self, word: str) -> dict[str, Any]:
        with self.lock:
            if word == "hold":
                self.holding, self.held = True, ""
                self.released.clear()
            elif word == "release":
                self.holding = False
                self.released.set()
            return {"held": self.held}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed breaks its connection off: that is what these tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def pass_hold(self, reference: str) -> None:
        with self.lock:  # of two calls at a time only one is held
            waits = self.holding and not self.held and reference.startswith("hot-")
            if waits:
                self.held = reference
        if waits:
            self.released.wait()


class Handler(BaseHTTPRequestHandler):
    server: Desk
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer

    def do_GET(self) -> None:
        parts, query = self._path()
        if len(parts) == 2:
            self._one(self.server.rows(f"SELECT {FIELDS} FROM orders WHERE id = ?", parts[1]))
        elif "reference" in query:
            by = f"SELECT {FIELDS} FROM orders WHERE reference = ?"
            self._answer(200, self.server.rows(by, query["reference"][0]))
        else:
            self._answer(200, self.server.rows(f"SELECT {FIELDS} FROM orders"))

    def do_POST(self) -> None:
        parts, _ = self._path()
        body = self._body()
        if parts[0] in {"hold", "release", "held"}:
            self._answer(200, self.server.control(parts[0]))
        elif len(parts) == 3 and parts[2] == "confirm":
            self._one(self.server.rows(f"UPDATE orders SET confirmed = 1 WHERE id = ? RETURNING {FIELDS}", parts[1]))
        elif parts[0] == "payments":
            self.server.pass_hold("hot-payment")
            with self.server.lock:
                pay = "INSERT INTO payments (number, account, n) VALUES (?, ?, ?) RETURNING id"
                made = self.server.database.execute(pay, (body["number"], body["account"], body["n"])).fetchone()
            self._answer(201, {"id": made[0], **body})
        else:
            create = f"INSERT INTO orders (reference, version) VALUES (?, ?) RETURNING {FIELDS}"
            self._answer(201, self.server.rows(create, body["reference"], body["version"])[0])

    def do_PUT(self) -> None:
        parts, _ = self._path()
        body = self._body()
        self.server.pass_hold(body["reference"])
        update = f"UPDATE orders SET reference = ?, version = ? WHERE id = ? RETURNING {FIELDS}"
        self._one(self.server.rows(update, body["reference"], body["version"], parts[1]))

    def do_DELETE(self) -> None:
        parts, _ = self._path()
        self._one(self.server.rows(f"DELETE FROM orders WHERE id = ? RETURNING {FIELDS}", parts[1]))

    def _path(self) -> tuple[list[str], dict[str, list[str]]]:
        url = urlsplit(self.path)
        return url.path.strip("/").split("/"), parse_qs(url.query)

    def _body(self) -> Any:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return json.loads(content) if content else {}

    def _one(self, found: list[dict[str, Any]]) -> None:
        if found:
            self._answer(200, found[0])
        else:
            self._answer(404, {"detail": "there is none"})

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        return


if __name__ == "__main__":
    desk = Desk(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(desk.server_port, flush=True)
    desk.serve_forever()
