"""Tryton's dialect of JSON-RPC: its login, its calls, and what its errors mean."""

import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from tieline.connectors._http import Http
from tieline.connectors._http_auth import Door, text
from tieline.connectors._http_errors import Effect, NotLetIn
from tieline.connectors._tryton_values import plain, tagged
from tieline.errors import AccessRefused, ConfigurationError, Hold, Mistake, Reject, RetryLater, TielineError
from tieline.settings import SystemSettings

_FORBIDDEN: Final = frozenset({403})


@dataclass(slots=True)
class TrytonLogin:
    """A session of one user, with that user's preferences, which every call carries as its context."""

    path: str
    user: str
    password: str = field(repr=False)
    language: str
    context: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    logs_in: bool = True
    ran_out: frozenset[int] = frozenset({401})

    async def login(self, http: Door) -> None:
        """Open a session and fetch the user's preferences."""
        self.headers = {}
        try:
            opened = await self._ask(http, "common.db.login", self.user, {"password": self.password}, self.language)
        except NotLetIn:
            raise AccessRefused(f"the login of {self.user!r} was not taken → correct user and password") from None
        if not isinstance(opened, list) or len(opened) < 2:
            raise AccessRefused(f"the login of {self.user!r} needs more than a password, which no program can give")
        pair = f"{self.user}:{opened[0]}:{opened[1]}".encode()
        self.headers = {"Authorization": f"Session {base64.b64encode(pair).decode()}"}
        self.context = await self._ask(http, "model.res.user.get_preferences", True, {})

    async def _ask(self, http: Door, method: str, *parameters: Any) -> Any:
        body = {"id": 0, "method": method, "params": parameters}
        reply = await http.send("POST", self.path, Effect.READ, body=body, called=method)
        answer = reply.json()
        return plain(answer["result"]) if isinstance(answer, dict) and "result" in answer else None


def login_of(settings: SystemSettings, path: str) -> TrytonLogin:
    """The login that `settings.auth` describes.

    Raises:
        ConfigurationError: where it gives no user and password.
    """
    auth = settings.auth
    if not {"user", "password"} <= set(auth):
        where = f"systems.{settings.name}.auth"
        raise ConfigurationError(Mistake(where, "this system lets in by user and password", "give both"))
    language = text(settings.options.get("language", "en"))
    return TrytonLogin(path, text(auth["user"]), text(auth["password"]), language)


def failure(call: str, error: Any, effect: Effect) -> TielineError:
    """What an error in an answer means. Tryton has rolled its transaction back: nothing took effect."""
    name, said = _named(error)
    if name in {"UserError", "UserWarning"}:
        if effect is Effect.READ:
            return Hold(f"{call}: {said} → give the user the right to read it, or correct the adapter")
        if name == "UserWarning":
            return Reject(f"{call} needs a person's yes: {said}")
        return Reject(f"{call}: {said}")
    if name == "LoginException":
        return AccessRefused(f"{call} asks for a fresh login: {said}")
    if name == "ConcurrencyException":
        return RetryLater(f"{call}: changed by somebody else at the same time: {said}")
    return RetryLater(f"{call} failed there: {said}; its log has the whole story")


def _named(error: Any) -> tuple[str, str]:
    """The exception's name, and what it says, from `[name, arguments]`."""
    if not isinstance(error, list) or not error:
        return "", str(error)[:500]
    name, arguments = str(error[0]), error[1] if len(error) > 1 else ""
    if name in {"UserError", "UserWarning", "LoginException"} and isinstance(arguments, list):
        texts = arguments[1:3] if name == "UserWarning" else arguments[:2]
        return name, " – ".join(str(part) for part in texts if part)[:500]
    return (name, str(arguments)[:500]) if name == "ConcurrencyException" else ("", name[:500])


@dataclass(frozen=True, slots=True)
class Field:
    """What a model says of one of its fields."""

    kind: str
    relation: str = ""


class Remote:
    """Calls of one system's methods, each with its user's context.

    `answered` is the time of the last answer by the system's own clock.
    """

    def __init__(self, http: Http, login: TrytonLogin, settings: SystemSettings) -> None:
        self.http = http
        self.answered = datetime.now(UTC)
        self._login = login
        self._context: Mapping[str, Any] = settings.options.get("context", {})
        self._numbers = itertools.count(1)
        self._fields: dict[str, dict[str, Field]] = {}

    async def call(self, method: str, *parameters: Any, effect: Effect = Effect.READ, alone: bool = False) -> Any:
        """What a method such as ``model.sale.sale.read`` gives; `alone`: without the user's context.

        Raises:
            TielineError: what its failure means.
        """
        await self.http.ready()
        context = [] if alone else [{**self._login.context, **self._context}]
        # Exactly these three members: with any other, Tryton answers in another form.
        body = {"id": next(self._numbers), "method": method, "params": [*parameters, *context]}
        called = method.removeprefix("model.")
        reply = await self.http.call(
            "POST", self._login.path, effect, body=body, understood=_FORBIDDEN, called=called
        )
        if reply.status in _FORBIDDEN:
            user = self._login.user
            raise AccessRefused(f"{reply.call} is not there, or not for {user!r} → correct the name or the rights")
        if "Date" in reply.headers:
            self.answered = parsedate_to_datetime(reply.headers["Date"])
        answer = reply.json()
        if isinstance(answer, dict) and "result" in answer:
            return plain(answer["result"])
        raise failure(reply.call, answer.get("error") if isinstance(answer, dict) else answer, effect)

    async def fields(self, model: str) -> Mapping[str, Field]:
        """The fields of a model; asked once."""
        if model not in self._fields:
            found = await self.call(f"model.{model}.fields_get", None)
            self._fields[model] = {
                name: Field(str(facts["type"]), str(facts.get("relation") or "")) for name, facts in found.items()
            }
        return self._fields[model]

    async def search_read(
        self,
        model: str,
        domain: Any,
        fields: Any,
        *,
        limit: int | None = None,
        order: Any = None,
    ) -> list[dict[str, Any]]:
        """Rows with these fields and their `id`."""
        found = await self.call(f"model.{model}.search_read", tagged(list(domain)), 0, limit, order, list(fields))
        if not isinstance(found, list):
            raise Hold(f"{model}.search_read gave no list → this is no Tryton of a known series")
        dotted = [name for name in fields if "." in name]
        for row in found if dotted else ():
            # Where the other row is not there, its fields are None instead of missing.
            for name in [name for name in row if name.endswith(".")]:
                del row[name]
            for name in dotted:
                row.setdefault(name, None)
        return found
