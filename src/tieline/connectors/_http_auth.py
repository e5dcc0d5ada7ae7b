"""The ways to be let in over HTTP, as an operator writes them under `auth`.

| auth | sends |
| --- | --- |
| `bearer` | `Authorization: Bearer …` |
| `user`, `password` | `Authorization: Basic …` |
| `key`, `header` | the key in that header |
| `key`, `query` | the key as that query parameter |
| `login`, `user`, `password` | both as JSON (`form = true`: as a form) to that path; keeps the session cookie |
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from yarl import URL

from tieline.connectors._http_errors import Effect, NotLetIn
from tieline.errors import AccessRefused, ConfigurationError, Hold, Mistake
from tieline.settings import Secret, SystemSettings

_WAYS: Final = "bearer · user and password · key and header · key and query · login, user and password"


class Door(Protocol):
    """What a way in may do with the session that it opens: `tieline.connectors._http.Http`."""

    base: URL

    def forget_cookies(self) -> None:
        """Begin as a stranger."""

    def cookie(self, name: str) -> str:
        """A cookie's value, empty where there is none."""

    async def send(
        self,
        method: str,
        place: str | URL,
        effect: Effect,
        *,
        body: Any = None,
        form: bool = False,
        headers: Mapping[str, str] | None = None,
        understood: frozenset[int] = frozenset(),
        called: str = "",
    ) -> Any:
        """One call without any login."""


class Auth(Protocol):
    """What is sent with each call.

    `logs_in` says that it must be fetched first; a call refused by one of `ran_out` needs it again.
    """

    logs_in: bool
    ran_out: frozenset[int]

    @property
    def headers(self) -> Mapping[str, str]:
        """Sent with each call."""

    @property
    def query(self) -> Mapping[str, str]:
        """Sent with each call."""

    async def login(self, http: Door) -> None:
        """Get in, or in again.

        Raises:
            AccessRefused: where the credentials are not taken.
        """


@dataclass(slots=True)
class Sent:
    """Credentials that are known beforehand and go with each call."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    logs_in: bool = False
    ran_out: frozenset[int] = frozenset()

    async def login(self, http: Door) -> None:
        """Nothing to fetch."""


@dataclass(slots=True)
class CookieLogin:
    """A login whose session cookie goes with each call; a CSRF cookie is sent back as its header."""

    path: str
    fields: Mapping[str, str] = field(repr=False)
    form: bool
    csrf_cookie: str
    csrf_header: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    logs_in: bool = True
    ran_out: frozenset[int] = frozenset({401, 403})

    async def login(self, http: Door) -> None:
        """Post the fields; the session keeps the cookies."""
        http.forget_cookies()
        self.headers = {}
        try:
            # A form's login answers with a redirect to the page that comes next.
            understood = frozenset({302, 303})
            await http.send(
                "POST", self.path, Effect.READ, body=dict(self.fields), form=self.form, understood=understood
            )
        except (Hold, NotLetIn) as error:
            raise AccessRefused(f"the login was not taken: {error}") from None
        token = http.cookie(self.csrf_cookie)
        # Django compares the Referer too, for calls over TLS.
        self.headers = {self.csrf_header: token, "Referer": str(http.base)} if token else {}


def auth_of(settings: SystemSettings) -> Auth:
    """The way in that `settings.auth` describes.

    Raises:
        ConfigurationError: where it describes none, or half of one.
    """
    auth = dict(settings.auth)
    given = frozenset(auth)
    if not given:
        return Sent()
    if "login" in given:
        if not {"user", "password"} <= given:
            raise _mistake(settings, "login needs user and password", "add both to auth")
        fields = {
            text(auth.get("user_field", "username")): text(auth["user"]),
            text(auth.get("password_field", "password")): text(auth["password"]),
        }
        return CookieLogin(
            text(auth["login"]),
            fields,
            form=bool(auth.get("form", False)),
            csrf_cookie=text(auth.get("csrf_cookie", "csrftoken")),
            csrf_header=text(auth.get("csrf_header", "X-CSRFToken")),
        )
    if given == {"bearer"}:
        return Sent({"Authorization": f"Bearer {text(auth['bearer'])}"})
    if given == {"user", "password"}:
        pair = f"{text(auth['user'])}:{text(auth['password'])}".encode()
        return Sent({"Authorization": f"Basic {base64.b64encode(pair).decode()}"})
    if given == {"key", "header"}:
        return Sent({text(auth["header"]): text(auth["key"])})
    if given == {"key", "query"}:
        return Sent(query={text(auth["query"]): text(auth["key"])})
    raise _mistake(settings, f"{', '.join(sorted(given))} is no way in", f"give one of: {_WAYS}")


def text(value: Any) -> str:
    """A setting as text, revealed where it is a secret: for the wire only."""
    return value.reveal() if isinstance(value, Secret) else str(value)


def secrets_of(settings: SystemSettings) -> tuple[str, ...]:
    """Every secret text in `settings.auth`, to be blotted out of what a server says."""
    return tuple(value.reveal() for value in settings.auth.values() if isinstance(value, Secret) and value.reveal())


def _mistake(settings: SystemSettings, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(Mistake(f"systems.{settings.name}.auth", what, remedy))
