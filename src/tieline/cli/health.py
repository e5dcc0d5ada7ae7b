"""Health, readiness and metrics of a running worker over HTTP, for whoever keeps it running and scales it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

from aiohttp import web

from tieline.errors import ConfigurationError, Mistake, TielineError
from tieline.landscape.backlog import backlog
from tieline.landscape.metrics import CONTENT_TYPE, as_metrics
from tieline.runner import Runner

T = TypeVar("T")

_LOOPBACK: Final = "127.0.0.1"
_FRESH: Final = 3.0  # seconds for which an answer stands: who asks more often costs nothing
_PATIENCE: Final = 10.0  # seconds the ledger has to answer a scrape


def address_of(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``[::1]:PORT`` or ``PORT``, which is at this machine only.

    Raises:
        ConfigurationError: where it is none.
    """
    host, colon, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        what = f"{text!r} is no address to listen at"
        raise ConfigurationError(Mistake("--health", what, "write PORT, or HOST:PORT, such as 0.0.0.0:9180"))
    return (host.strip("[]") if colon and host else _LOOPBACK), int(port)


@asynccontextmanager
async def served(runner: Runner, address: tuple[str, int] | None) -> AsyncIterator[int]:
    """Answer at this address (none: nowhere) as long as this lasts; gives the port.

    Raises:
        ConfigurationError: where the address cannot be had.
    """
    if address is None:
        yield 0
        return
    app = web.Application()
    health = _Health(runner)
    app.add_routes(
        [
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
            web.get("/metrics", health.metrics),
        ]
    )
    server = web.AppRunner(app, access_log=None, handle_signals=False)
    await server.setup()
    host, port = address
    try:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = socket.create_server((host, port), family=family)
        except OSError as error:
            remedy = "free it, or choose another one"
            raise ConfigurationError(
                Mistake("--health", f"cannot listen at {host}:{port}: {error}", remedy)
            ) from None
        await web.SockSite(server, listening).start()
        yield listening.getsockname()[1]
    finally:
        await server.cleanup()


class _Kept(Generic[T]):
    """What a function gave, for a while; who asks meanwhile waits for the one answer that is under way."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self._answer: asyncio.Task[T] | None = None
        self._asked = 0.0

    async def get(self) -> T:
        """The answer, not older than a few seconds."""
        old = time.monotonic() - self._asked > _FRESH
        if self._answer is None or (self._answer.done() and (old or self._answer.exception() is not None)):
            self._asked = time.monotonic()
            self._answer = asyncio.create_task(self._ask())
        return await asyncio.shield(self._answer)


class _Health:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._ready = _Kept(runner.not_ready)
        self._metrics = _Kept(self._scrape)

    async def healthz(self, _: web.Request) -> web.Response:
        """Whether a restart would help: that this is answered shows that the process turns.

        A ledger that cannot be reached is no reason: the worker waits for it, and a new one would wait, too.
        """
        pulse = self._runner.pulse
        if pulse.stuck:
            return _said(503, f"no heartbeat for {pulse.age:.0f} s, and the ledger did not refuse it")
        return _said(200, "ok")

    async def readyz(self, _: web.Request) -> web.Response:
        """Whether this worker does its part now."""
        reasons = await self._ready.get()
        return _said(503, "\n".join(reasons)) if reasons else _said(200, "ok")

    async def metrics(self, _: web.Request) -> web.Response:
        """All legs of the ledger, not only this worker's: ask any one of them, not the sum of all."""
        try:
            text = await asyncio.wait_for(self._metrics.get(), _PATIENCE)
        except TimeoutError:
            return _said(503, f"the ledger did not answer in {_PATIENCE:.0f} s")
        except TielineError as error:
            return _said(503, str(error))
        return web.Response(text=text, headers={"Content-Type": CONTENT_TYPE})

    async def _scrape(self) -> str:
        now = await self._runner.ledger.transact(backlog)
        return await asyncio.to_thread(as_metrics, now)


def _said(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
