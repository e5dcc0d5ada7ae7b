"""A connection that comes back by itself, and what its failures mean for who asked."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)

from tieline.errors import AccessRefused, ConfigurationError, LedgerUnavailable, Mistake, TielineError
from tieline.settings import without_password

_PATIENCE: Final = 30.0  # seconds for an answer
_TO_CONNECT: Final = 10.0  # seconds
_HEARTBEAT: Final = "10"  # seconds; a worker that stands still is let go of after about twice that
_PREFIX: Final = "tieline"

logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # whatever it would say is raised, and said once


class Gone(ConfigurationError):
    """A queue or exchange is not there."""


class NotAsDeclared(ConfigurationError):
    """A queue or exchange is there, and is another one than is declared."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, and what the names of a landscape's queues begin with there."""

    url: str
    prefix: str = _PREFIX

    @classmethod
    def of(cls, url: str) -> Self:
        """Read an address; `prefix` is ours, other options are aiormq's.

        Raises:
            ConfigurationError: where it has no host or an impossible port.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host:
            what, remedy = "the address of a RabbitMQ server names its host", "write amqp://user:password@host/vhost"
            raise ConfigurationError(Mistake("bus", what, remedy))
        options = dict(parse_qsl(parts.query))
        prefix = options.pop("prefix", "") or _PREFIX
        query = urlencode({"heartbeat": _HEARTBEAT, "name": "tieline", **options})
        return cls(urlunsplit(parts._replace(scheme=parts.scheme.lower(), query=query)), prefix)

    def __str__(self) -> str:
        return without_password(self.url).partition("?")[0]


class Link:
    """One connection, made when it is needed and made again when it was lost."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: AbstractConnection | None = None
        self._connecting = asyncio.Lock()

    @property
    def version(self) -> str:
        """The server's; empty before it was reached."""
        known = getattr(self._connection, "server_properties", {}).get("version", "")
        return known if isinstance(known, str) else ""

    async def open(self, *, confirms: bool = False) -> AbstractChannel:
        """A new channel of the connection.

        Raises:
            LedgerUnavailable: where the server cannot be reached.
            AccessRefused: where it refuses user, password or virtual host.
        """
        async with self._connecting:
            connection = self._connection
            if connection is None or connection.is_closed:
                connection = self._connection = await self._connect()
        with self.answering("its connection"):
            async with asyncio.timeout(_PATIENCE):
                return await connection.channel(publisher_confirms=confirms)

    @asynccontextmanager
    async def asking(self, what: str) -> AsyncIterator[AbstractChannel]:
        """A channel for some questions about `what`; it ends with them."""
        channel = await self.open()
        try:
            with self.answering(what):
                async with asyncio.timeout(_PATIENCE):
                    yield channel
        finally:
            await shut(channel)

    async def is_blocked(self) -> bool:
        """Whether the server takes nothing from this connection, because it is short of memory or disk."""
        connection = self._connection
        if connection is None or connection.is_closed:
            return False
        try:
            async with asyncio.timeout(0.001):
                await connection.ready()
        except TimeoutError:
            return True
        return False

    @contextmanager
    def answering(self, what: str) -> Iterator[None]:
        """Name a failure to do something with `what` by what happens next."""
        try:
            yield
        except TielineError:
            raise
        except ChannelNotFoundEntity as error:
            remedy = "start `tieline run` again, which declares it, and send what is missing with `tieline backfill`"
            raise Gone(Mistake(what, f"is not there at {self._address} ({_said(error)})", remedy)) from None
        except ChannelPreconditionFailed as error:
            remedy = "let its queues run empty and delete them on the server; they are declared anew"
            raise NotAsDeclared(
                Mistake(what, f"is declared otherwise on the server: {_said(error)}", remedy)
            ) from None
        except ChannelAccessRefused as error:
            raise AccessRefused(f"{self._address}: {_said(error)}") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self._lost("the connection was closed") from None  # aiormq ends what waits for an answer so
        except Exception as error:
            if type(error) is not Exception and not isinstance(error, AMQPError | OSError | RuntimeError):
                raise
            raise self._lost(_said(error)) from error

    async def close(self) -> None:
        """Let go of the connection, and with it of whatever is unacknowledged."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.close()

    async def _connect(self) -> AbstractConnection:
        try:
            async with asyncio.timeout(_TO_CONNECT):
                connection: AbstractConnection = await aiormq.connect(self._address.url)
        except ProbableAuthenticationError:
            raise AccessRefused(f"{self._address} refuses this user and password") from None
        except InvalidFrameError:
            vhost = urlsplit(self._address.url).path.lstrip("/") or "/"
            raise AccessRefused(f"{self._address} has no virtual host {vhost!r} for this user") from None
        except (AMQPError, OSError, RuntimeError) as error:
            raise self._lost(_said(error)) from error
        return connection

    def _lost(self, why: str) -> LedgerUnavailable:
        return LedgerUnavailable(f"{self._address} does not answer: {why or 'no answer in time'}")


async def shut(channel: AbstractChannel) -> None:
    """Close a channel, whatever state it is in."""
    with suppress(Exception):
        async with asyncio.timeout(_PATIENCE):
            await channel.close()


def _said(error: Exception) -> str:
    """The server's own words, without a client's frame around them."""
    return str(error).strip()
