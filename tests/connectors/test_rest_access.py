"""How REST is let in: every way, one login for all who wait, and no secret ever said."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.connectors.rest_server import Server, answering, later, never, serving

from tieline.connectors.rest import Resource, Rest, RestConnector
from tieline.errors import AccessRefused, ConfigurationError, Hold, TielineError, Unavailable
from tieline.settings import Secret, SystemSettings

WAYS: dict[str, dict[str, Any]] = {
    "bearer": {"bearer": Secret("t0ken")},
    "basic": {"user": "ann", "password": Secret("pass-w0rd")},
    "header": {"key": Secret("k3y"), "header": "X-Api-Key"},
    "query": {"key": Secret("k3y"), "query": "api_key"},
}
LOGIN = {"login": "/login/", "user": "ann", "password": Secret("pass-w0rd")}


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


def asking(shop: Server, path: str, ask: Callable[[RestConnector], Any], auth: Any, **more: Any) -> Any:
    async def run() -> Any:
        settings = SystemSettings("shop", more.pop("url", shop.url), auth, **{"timeout": 5.0} | more)
        connector = Rest(rows=Resource(path)).open(settings)
        try:
            return await ask(connector)
        finally:
            await connector.close()

    return asyncio.run(run())


async def everything(connector: RestConnector) -> list[Any]:
    return [record async for page in connector.read("rows") for record in page.records]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_lets_us_in(shop: Server, way: str) -> None:
    """Bearer, user and password, a key in a header or in the query."""
    assert asking(shop, f"/guarded/{way}", everything, WAYS[way]) == [{"id": 1}]


@pytest.mark.parametrize("way", WAYS)
def test_refused_credentials_call_the_owner(shop: Server, way: str) -> None:
    """401 is `AccessRefused`, tried once, and says nothing of the credentials even where the server does."""
    wrong = {name: Secret("s3cr3t-value") if isinstance(text, Secret) else text for name, text in WAYS[way].items()}
    with pytest.raises(AccessRefused) as error:
        asking(shop, f"/guarded/{way}", everything, wrong)
    assert len(shop.calls) == 1
    assert "s3cr3t-value" not in "".join(traceback.format_exception(error.value))
    assert "answered 401" in str(error.value)


@pytest.mark.parametrize("form", [False, True])
def test_a_login_keeps_its_session_cookie(shop: Server, form: bool) -> None:
    """User and password are posted once; the cookie, and the CSRF cookie's header, go with each call."""
    auth = {**LOGIN, "form": form}
    assert asking(shop, "/private", everything, auth) == [{"id": 1, "csrf": "csrf-s1"}]
    assert shop.logins == 1


def test_a_session_that_ran_out_is_renewed_once_for_all(shop: Server) -> None:
    """Ten calls refused at the same time log in once, and all of them are answered."""

    async def ten(connector: RestConnector) -> int:
        await everything(connector)
        shop.sessions.clear()
        return len(await asyncio.gather(*(everything(connector) for _ in range(10))))

    assert asking(shop, "/private", ten, LOGIN) == 10
    assert shop.logins == 2


def test_a_refusal_that_comes_late_needs_no_second_login(shop: Server) -> None:
    """A call that was sent before the new login and is refused after it is repeated with that login."""

    async def two(connector: RestConnector) -> int:
        await everything(connector)
        shop.fail("GET", "/api/private", answering(403))
        shop.fail("GET", "/api/private", later(0.3, answering(403)))
        return len(await asyncio.gather(everything(connector), everything(connector)))

    assert asking(shop, "/private", two, LOGIN) == 2
    assert shop.logins == 2


def test_a_refused_login_is_tried_once_for_all(shop: Server) -> None:
    """Ten calls with a wrong password are one attempt: nobody locks the account out."""

    async def ten(connector: RestConnector) -> list[Any]:
        return await asyncio.gather(*(everything(connector) for _ in range(10)), return_exceptions=True)

    errors = asking(shop, "/private", ten, {**LOGIN, "password": Secret("s3cr3t-value")})
    assert {type(error) for error in errors} == {AccessRefused}
    assert shop.logins == 1
    assert "s3cr3t-value" not in str(errors[0])


def test_a_refusal_that_a_new_login_does_not_mend_stays_one(shop: Server) -> None:
    """A call that is refused right after a new login is refused: it is not tried again and again."""
    shop.fail("GET", "/api/private", answering(403), times=99)
    with pytest.raises(AccessRefused):
        asking(shop, "/private", everything, LOGIN)
    assert (shop.logins, shop.count("GET")) == (2, 2)


def test_a_login_that_gets_no_answer_is_an_outage(shop: Server) -> None:
    """A system that is down while we log in is down, and its credentials are not called wrong."""
    shop.fail("POST", "/api/login", never)
    with pytest.raises(Unavailable):
        asking(shop, "/private", everything, LOGIN, timeout=0.3)
    with pytest.raises(Unavailable):
        asking(shop, "/private", everything, LOGIN, url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "auth",
    [
        {"bearer": Secret("s3cr3t"), "user": "x"},
        {"user": "x"},
        {"key": Secret("s3cr3t")},
        {"login": "/login/", "user": "x"},
        {"token": Secret("s3cr3t")},
    ],
)
def test_half_a_way_in_is_a_mistake(auth: Any) -> None:
    """Auth settings that are no way in name the ways there are."""
    with pytest.raises(ConfigurationError, match=r"systems\.shop\.auth") as error:
        Rest(rows=Resource("/x")).open(SystemSettings("shop", "http://127.0.0.1:1", auth))
    assert "s3cr3t" not in str(error.value)


def test_a_redirect_within_the_host_is_followed_for_reads(shop: Server) -> None:
    """A moved list is read where it went, with its query."""
    shop.fill(2)
    shop.fail("GET", "/api/old", answering(301, Location="/api/plain"))
    assert len(asking(shop, "/old", everything, WAYS["bearer"])) == 2


def test_a_redirect_to_another_host_is_not_followed(shop: Server) -> None:
    """Credentials do not travel: not by redirect, whatever its kind."""
    for status in (301, 302, 303, 307, 308):
        with serving(Server()) as other:
            shop.fail("GET", "/api/old", answering(status, Location=f"{other.url}/plain?key=x"))
            with pytest.raises(Hold, match="not followed with credentials") as error:
                asking(shop, "/old", everything, WAYS["bearer"])
            assert other.calls == []
            assert "key=x" not in str(error.value)


def test_redirects_that_never_end_are_left(shop: Server) -> None:
    """A circle of redirects ends with an error."""
    shop.fail("GET", "/api/old", answering(302, Location="/api/old"), times=99)
    with pytest.raises(Hold, match="redirected 5 times"):
        asking(shop, "/old", everything, {})


def test_no_failure_says_a_secret(shop: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, neither the error, its causes nor any log line holds the key."""
    caplog.set_level(logging.DEBUG)
    shop.fill(1)
    faults = [
        answering(500, "echo s3cr3t-k3y"),
        answering(404, {"detail": "s3cr3t-k3y"}),
        never,
        answering(200, b"<x>"),
    ]
    for auth in ({"key": Secret("s3cr3t-k3y"), "query": "api_key"}, {"bearer": Secret("s3cr3t-k3y")}):
        for fault in faults:
            shop.fail("GET", "/api/plain", fault)
            with pytest.raises(TielineError) as error:
                asking(shop, "/plain", everything, auth, timeout=0.3)
            assert "s3cr3t-k3y" not in "".join(traceback.format_exception(error.value))
        with pytest.raises(TielineError) as error:
            asking(shop, "/plain", everything, auth, url="http://127.0.0.1:9")
        assert "s3cr3t-k3y" not in "".join(traceback.format_exception(error.value))
    assert "s3cr3t-k3y" not in caplog.text
