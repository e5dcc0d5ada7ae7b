"""One HTTP session per system: its limits, timeouts, credentials, and JSON that keeps money exact."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final, Literal, TypeVar

import aiohttp
import msgspec
from yarl import URL

from tieline.connector import before_call
from tieline.connectors._http_auth import Auth, auth_of, secrets_of, text
from tieline.connectors._http_errors import Effect, NotLetIn, refused, retry_after, unanswered
from tieline.errors import (
    AccessRefused,
    ConfigurationError,
    Hold,
    Mistake,
    Reject,
    Throttled,
    TielineError,
    Unavailable,
)
from tieline.local_throttle import LocalThrottle
from tieline.settings import SystemSettings
from tieline.throttle import Throttle

T = TypeVar("T")

MAX_BODY: Final = 64_000_000
_HOPS: Final = 5
_REPEATS_CALL: Final = frozenset({307, 308})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_decoder: Final = msgspec.json.Decoder(float_hook=Decimal)


def _as_text(value: object) -> str:
    """A key of another entity, as a mapping hands it on, is text."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot stand in JSON")


_encoders: Final = {
    "text": msgspec.json.Encoder(decimal_format="string", enc_hook=_as_text),
    "number": msgspec.json.Encoder(decimal_format="number", enc_hook=_as_text),
}

Decimals = Literal["text", "number"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer, or one whose status the caller said it understands."""

    call: str
    url: URL
    status: int
    headers: Mapping[str, str]
    body: bytes
    effect: Effect

    def json(self) -> Any:
        """The body, every number with a decimal point as a Decimal; None for an empty answer to a write.

        Raises:
            Unavailable: where a read, or a write that can be repeated, is answered with something else.
            InDoubt: where a write that cannot be repeated is.
        """
        if not self.body and self.effect is not Effect.READ:
            return None
        try:
            return _decoder.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError) as error:
            raise unanswered(self.call, self._instead(error), self.effect, sent=True) from None

    def _instead(self, error: Exception) -> str:
        if not self.body:
            return "an empty body instead of JSON"
        if self.body.lstrip()[:1] == b"<":
            return "an HTML or XML page instead of JSON (a login or maintenance page, or a wrong url?)"
        kind = self.headers.get("Content-Type", "no content type")
        return f"no valid JSON ({kind}, {len(self.body)} bytes): {error}"


class Http:
    """Calls to one system, connecting lazily.

    `headers` go with each call. `options` of the system's settings: `headers` do too; `max_body` is
    the most bytes an answer may have; `rebase = true` takes links that the server writes under another
    scheme or host (behind a proxy) as links into its own url, instead of refusing them.
    """

    def __init__(
        self,
        settings: SystemSettings,
        *,
        auth: Auth | None = None,
        decimals: Decimals = "text",
        headers: Mapping[str, str] | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        where = f"systems.{settings.name}"
        self.base = _base(settings.url, where)
        self.limits = settings.limits
        self._name = settings.name
        self._timeout = settings.timeout
        self._max_body = int(settings.options.get("max_body", MAX_BODY))
        self._rebase = bool(settings.options.get("rebase", False))
        self._auth = auth if auth is not None else auth_of(settings)
        self._secrets = secrets_of(settings)
        self._headers = {"Accept": "application/json", "User-Agent": "tieline", **(headers or {})}
        self._headers |= {name: text(value) for name, value in settings.options.get("headers", {}).items()}
        self._encoder = _encoders[decimals]
        self._throttle = throttle or LocalThrottle(settings.limits)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._logins = 0
        self._logging_in: asyncio.Task[None] | None = None
        self._quiet_until = 0.0

    def url(self, place: str) -> URL:
        """The address of a path under the system's url, or of a link that the system gave.

        Raises:
            Hold: where a link leads to another host: credentials do not follow it.
        """
        if "://" not in place[:10] and not place.startswith("//"):
            return URL(str(self.base) + "/" + place.lstrip("/")) if place else self.base
        link = URL(place)
        if link.origin() == self.base.origin():
            return link
        if self._rebase:
            return link.with_scheme(self.base.scheme).with_host(self.base.host or "").with_port(self.base.port)
        raise Hold(
            f"{self._name} links to {link.origin()}, which is not its own url → set the system's url to that "
            "address, or options.rebase = true where a proxy stands in between"
        )

    async def call(
        self,
        method: str,
        place: str | URL,
        effect: Effect,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        understood: frozenset[int] = frozenset(),
        about: Mapping[str, Any] | None = None,
        called: str = "",
    ) -> Reply:
        """Make a call as the one whose credentials we have, logging in (again) where it needs that.

        `understood` are statuses other than 2xx that the caller reads itself; `about` is the record
        that is sent, for the value of a field that the system complains of; `called` is what errors
        call it, instead of its method and path.

        Raises:
            TielineError: what the failure means, by the table in `_http_errors`.
        """
        await self.ready()
        logins = self._logins
        for again in (True, False):
            try:
                return await self.send(
                    method,
                    place,
                    effect,
                    query=query,
                    body=body,
                    headers=headers,
                    understood=understood,
                    about=about,
                    called=called,
                )
            except NotLetIn as error:
                if not again or error.status not in self._auth.ran_out:
                    raise AccessRefused(str(error)) from None
                # What was refused was not done.
                await self._let_in(logins)
        raise AssertionError

    async def ready(self) -> None:
        """Log in, where that is needed and has not been done."""
        if self._auth.logs_in and not self._logins:
            await self._let_in(0)

    async def send(
        self,
        method: str,
        place: str | URL,
        effect: Effect,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        form: bool = False,
        headers: Mapping[str, str] | None = None,
        understood: frozenset[int] = frozenset(),
        about: Mapping[str, Any] | None = None,
        called: str = "",
    ) -> Reply:
        """One call within the system's limits, without any login; redirects only within its own host."""
        url = self.url(place) if isinstance(place, str) else place
        if query:
            url = url.update_query(query)
        data, kind = self._encode(body, form)
        for _ in range(_HOPS):
            reply = await self._once(method, url, effect, data, {**kind, **(headers or {})}, called)
            status = reply.status
            if status in _MOVED and "Location" in reply.headers:
                target = url.join(URL(reply.headers["Location"]))
                follows = effect is Effect.READ and method == "GET"
                if (follows or status in _REPEATS_CALL) and target.origin() == self.base.origin():
                    url = target
                    continue
                if status == HTTPStatus.SEE_OTHER and effect is not Effect.READ:
                    return Reply(reply.call, url, HTTPStatus.NO_CONTENT, reply.headers, b"", effect)
            if status // 100 == 2 or status in understood:
                return reply
            raise self._blotted(refused(reply.call, status, reply.headers, reply.body, effect, about))
        raise Hold(f"{reply.call} was redirected {_HOPS} times → set the system's url to where it leads")

    async def close(self) -> None:
        """Let go of the connections."""
        self._closed = True
        if self._logging_in is not None:
            self._logging_in.cancel()
        if self._session is not None:
            await self._session.close()

    def forget_cookies(self) -> None:
        """Drop all cookies, before a new login."""
        self._opened().cookie_jar.clear()

    def cookie(self, name: str) -> str:
        """A cookie's value, or nothing."""
        return next((cookie.value for cookie in self._opened().cookie_jar if cookie.key == name), "")

    async def _let_in(self, seen: int) -> None:
        """Log in, once for all who wait; `seen` is the number of logins when the caller was refused."""
        if self._logins != seen:
            return
        if self._logging_in is None:
            self._logging_in = asyncio.ensure_future(self._log_in())
            self._logging_in.add_done_callback(self._logged_in)
        await asyncio.shield(self._logging_in)

    async def _log_in(self) -> None:
        await self._auth.login(self)
        self._logins += 1

    def _logged_in(self, task: asyncio.Task[None]) -> None:
        self._logging_in = None
        if not task.cancelled():
            task.exception()  # seen by those who wait; if none is left, nobody needs a warning

    async def _once(
        self, method: str, url: URL, effect: Effect, data: bytes | None, headers: dict[str, str], called: str
    ) -> Reply:
        call = f"{self._name}: {called or f'{method} {url.path}'}"
        progress = SimpleNamespace(sent=False)
        if self._auth.query:
            url = url.update_query(self._auth.query)
        async with self._throttle.call():
            left = self._quiet_until - time.monotonic()
            if left > 0:
                raise Throttled(f"{call} was not sent: the system asked to be left alone", after=left)
            if effect is not Effect.READ:
                await before_call()
            try:
                async with self._opened().request(
                    method,
                    url,
                    data=data,
                    headers={**self._auth.headers, **headers},
                    allow_redirects=False,
                    trace_request_ctx=progress,
                ) as response:
                    progress.sent = True
                    body = await self._body(response)
                    reply = Reply(call, url, response.status, response.headers, body, effect)
            except _TooMuch:
                if effect is Effect.READ:
                    remedy = "read smaller pages, or raise options.max_body"
                    raise Hold(f"{call} answered more than {self._max_body} bytes → {remedy}") from None
                raise unanswered(call, f"it is longer than {self._max_body} bytes", effect, sent=True) from None
            except TimeoutError:
                raise unanswered(call, f"no answer in {self._timeout:g} s", effect, sent=progress.sent) from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # The library's own text may hold the address with a key in it.
                raise unanswered(call, _cut(error), effect, sent=progress.sent) from None
        if reply.status == 429 or (reply.status == 503 and "Retry-After" in reply.headers):
            self._quiet_until = time.monotonic() + retry_after(reply.headers)
        return reply

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        if length is not None and length <= self._max_body and "Content-Encoding" not in response.headers:
            return await response.read()
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > self._max_body:
                response.close()
                raise _TooMuch
            pieces.append(piece)
        return b"".join(pieces)

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Unavailable(f"{self._name}: the connection is closed")
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_mark_sent)
            keeps_cookies = self._auth.logs_in
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                # Hosts may be addresses; all calls go to one origin.
                cookie_jar=aiohttp.CookieJar(unsafe=True) if keeps_cookies else aiohttp.DummyCookieJar(),
                trace_configs=[trace],
                headers=self._headers,
            )
        return self._session

    def _encode(self, body: Any, form: bool) -> tuple[bytes | None, dict[str, str]]:
        if body is None:
            return None, {}
        if form:
            encoded = URL.build(query=body).raw_query_string.encode()
            return encoded, {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            return self._encoder.encode(body), {"Content-Type": "application/json"}
        except (TypeError, ValueError) as error:
            raise Reject(f"cannot be written as JSON: {error}; give it another form in the sink") from None

    def _blotted(self, error: TielineError) -> TielineError:
        """The error without any secret that the server may have said back."""
        if any(secret in str(error) for secret in self._secrets):
            said = str(error.args[0])
            for secret in self._secrets:
                said = said.replace(secret, "••••")
            error.args = (said, *error.args[1:])
        return error


class _TooMuch(Exception):
    """An answer is longer than this system may send."""


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, in order; the first failure cancels the rest and is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _mark_sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.sent = True


def _cut(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect ({error.os_error.strerror or type(error.os_error).__name__})"
    return {
        "ServerDisconnectedError": "the server closed the connection",
        "ClientPayloadError": "the body ended half-way",
        "ClientOSError": "the connection was cut",
        "ConnectionResetError": "the connection was cut",
    }.get(type(error).__name__, f"the connection failed ({type(error).__name__})")


def _base(url: str, where: str) -> URL:
    try:
        base = URL(url.rstrip("/"))
    except ValueError:
        base = URL()
    if base.scheme not in {"http", "https"} or not base.host:
        raise ConfigurationError(
            Mistake(f"{where}.url", f"{url[:80]!r} is no http address", "write http(s)://host/path")
        )
    if base.user is not None or base.password is not None:
        raise ConfigurationError(
            Mistake(f"{where}.url", "holds credentials", "put them under auth, as ${env:…} references")
        )
    if base.query_string or base.fragment:
        raise ConfigurationError(Mistake(f"{where}.url", "has a query or fragment", "give it up to its path only"))
    return base
