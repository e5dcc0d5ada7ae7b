"""Tryton by plain JSON-RPC, as docs/systems/tryton.md describes it."""

import base64
import json
import urllib.request
from decimal import Decimal
from typing import Any


class Refused(Exception):
    """The ERP answered with an error: its name and its message."""


class Erp:
    """Tryton over JSON-RPC and nothing else."""

    def __init__(self, url: str, login: str, password: str) -> None:
        self._endpoint = f"{url}/rpc/"
        self._headers = {"Content-Type": "application/json"}
        user, token, *_ = self.call("common.db.login", login, {"password": password}, "en")
        session = base64.b64encode(f"{login}:{user}:{token}".encode()).decode()
        self._headers["Authorization"] = f"Session {session}"
        self.context = self.call("model.res.user.get_preferences", True, {})

    def call(self, method: str, *params: Any) -> Any:
        body = json.dumps({"id": 1, "method": method, "params": params}, default=encoded).encode()
        request = urllib.request.Request(self._endpoint, body, self._headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read(), object_hook=decoded)
        if found.get("error"):
            name, details = found["error"]
            raise Refused(f"{name}: {details[0] if details else ''}")
        return found["result"]

    def do(self, model: str, method: str, *params: Any) -> Any:
        return self.call(f"model.{model}.{method}", *params, self.context)

    def rows(self, model: str, where: list[Any], *fields: str, order: Any = None) -> list[dict[str, Any]]:
        return list(self.do(model, "search_read", where, 0, None, order, list(fields)))

    def one(self, model: str, where: list[Any], *fields: str) -> dict[str, Any]:
        (found,) = self.rows(model, where, *fields)
        return found


def encoded(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"__class__": "Decimal", "decimal": str(value)}
    raise TypeError(type(value))


def decoded(value: dict[str, Any]) -> Any:
    if value.get("__class__") == "Decimal":
        return Decimal(value["decimal"])
    if value.get("__class__") in ("date", "datetime"):
        return tuple(number for name, number in value.items() if name != "__class__")
    return value
