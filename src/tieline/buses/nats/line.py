"""A line: one connection to one server, and what is under way on it.

A line that is lost stays lost, with everything that was waiting on it; whoever needs the bus next opens another.
So nothing is half alive after an outage: no request, no reader, no task.
"""

import asyncio
import random
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tieline.buses.nats.address import Address
from tieline.errors import AccessRefused, ConfigurationError, LedgerUnavailable, Mistake, TielineError

PATIENCE: Final = 5.0  # seconds for one answer
_CONNECTING: Final = 2.0  # seconds for one server
_AT_ONCE: Final = 128  # questions under way; more wait for their turn
_PARTING: Final = 1.0  # seconds to take leave of a server
_PING: Final = 5  # seconds between looks at a silent server
_OLDEST: Final = (2, 10)
_REFUSED: Final = re.compile(r"authorization|authentication|user authentication", re.I)
_PERMISSION: Final = re.compile(r"permissions violation for \w+ to \"([^\"]+)\"", re.I)


class NobodyListens(Exception):
    """No stream and no service takes what was sent to this subject."""


class Line:
    """An open connection. `lost` says why it is none any more."""

    def __init__(self, shown: str) -> None:
        self.lost = ""
        self._shown = shown
        self._client = Client()
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._said = ""
        self._asked = 0
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._on_loss: list[Callable[[], None]] = []

    @property
    def max_payload(self) -> int:
        """Bytes that one message may have."""
        return self._client.max_payload

    async def open(self, server: str, address: Address, token: str) -> None:
        """Connect.

        Raises:
            AccessRefused: where the server does not know us.
            LedgerUnavailable: where there is none, or it does not answer.
        """
        try:
            async with asyncio.timeout(_CONNECTING):
                await self._client.connect(
                    f"nats://{server}",
                    user=address.user or None,
                    password=address.password or None,
                    token=token or address.token or None,
                    tls=address.tls,
                    tls_handshake_first=address.tls_first,
                    name="tieline",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_PING,
                    max_outstanding_pings=2,
                    error_cb=self._error,
                    closed_cb=self._closed,
                )
            version = self._client.connected_server_version
            if (version.major, version.minor) < _OLDEST:
                what = f"is NATS {version.major}.{version.minor}; streams have what is needed from 2.10 on"
                raise ConfigurationError(Mistake(f"the server at {server}", what, "install a newer nats-server"))
            await self.listen(f"{self._inbox}.*", self._answered)
        except (OSError, nats.errors.Error, TimeoutError) as error:
            await self.close()
            if _REFUSED.search(str(error)):
                raise AccessRefused(f"{self._shown} refuses us: {str(error).removeprefix('nats: ')}") from None
            told = self._said or str(error) or "no answer"
            raise LedgerUnavailable(f"the bus at {self._shown} cannot be reached: {told}") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection; whoever waits on it is told."""
        self._lose("is closed")
        ending = asyncio.create_task(self._client.close())
        await asyncio.wait([ending], timeout=_PARTING)
        if not ending.done() and (there := getattr(self._client, "_transport", None)) is not None:
            # It tries to hand over what a frozen server does not take, and has no other word for giving up.
            there._io_writer.transport.abort()
        with suppress(OSError, nats.errors.Error):  # it was broken already
            await ending

    def when_lost(self, call: Callable[[], None]) -> None:
        """Be told once, in the event loop, when the line is lost."""
        self._on_loss.append(call)

    def check(self) -> None:
        """Raise what the line was lost by, if it is."""
        if self.lost:
            raise LedgerUnavailable(self.lost)

    async def listen(self, subject: str, call: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Have a function called for each message. What may come is bounded by what was asked for."""
        self.check()
        return await self._client.subscribe(subject, cb=call, pending_msgs_limit=-1, pending_bytes_limit=-1)

    async def stop_listening(self, coming: Subscription) -> None:
        """The opposite of `listen`; on a lost line there is nothing left to stop."""
        if not self.lost:
            with suppress(OSError, nats.errors.Error):
                await coming.unsubscribe()

    async def send(self, subject: str, body: bytes, reply: str = "") -> None:
        """Send without waiting for an answer at this place."""
        self.check()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._publish(subject, body, reply)
        except (OSError, nats.errors.Error) as error:  # a time-out, too
            self._lose(f"is lost: {error}")
            self.check()

    async def ask(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> Msg:
        """Send and give the one answer.

        Raises:
            NobodyListens: where nobody takes this subject.
            LedgerUnavailable: where the line is lost or nothing came in time; it may have been done.
            AccessRefused: where we may not send there.
        """
        async with self._turn:
            self.check()
            self._asked += 1
            number = str(self._asked)
            answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
            self._waiting[number] = subject, answer
            try:
                async with asyncio.timeout(PATIENCE):
                    reply = f"{self._inbox}.{number}"
                    await self._publish(subject, body, reply, headers)
                    found = await answer
            except TimeoutError:
                said = f"the bus at {self._shown} has not answered within {PATIENCE:g} s"
                raise LedgerUnavailable(said) from None
            except (OSError, nats.errors.Error) as error:
                self._lose(f"is lost: {error}")
                raise LedgerUnavailable(self.lost) from None
            finally:
                del self._waiting[number]
        if status_of(found) == "503":
            raise NobodyListens(subject)
        return found

    async def _publish(self, subject: str, body: bytes, reply: str, headers: Mapping[str, str] | None = None) -> None:
        """Hand over to the client, which keeps to itself that it was cancelled while it waited for room."""
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        await self._client.publish(subject, body, reply, dict(headers) if headers else None)
        if task.cancelling() > before:
            raise asyncio.CancelledError

    async def _answered(self, message: Msg) -> None:
        _, answer = self._waiting.get(message.subject.rpartition(".")[2], ("", None))
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _error(self, error: Exception) -> None:
        """What goes wrong beside the answers; only a refusal has to be handed on."""
        self._said = str(error)
        found = _PERMISSION.search(str(error))
        for subject, answer in self._waiting.values():
            if found and subject.lower() == found[1].lower() and not answer.done():
                answer.set_exception(AccessRefused(f"{self._shown}: no permission to use {subject}"))

    async def _closed(self) -> None:
        self._lose(f"is lost: {self._client.last_error or 'the server has gone'}")

    def _lose(self, how: str) -> None:
        if self.lost:
            return
        self.lost = f"the connection to the bus at {self._shown} {how}"
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LedgerUnavailable(self.lost))
        for call in self._on_loss:
            call()


def status_of(message: Msg) -> str:
    """The status of a message that is no message but a word of the server's; empty for all others."""
    found: Mapping[str, Any] | None = message.headers
    return str(found.get("Status", "")) if found and not message.data else ""


async def open_line(address: Address, servers: tuple[str, ...], token: str) -> Line:
    """A line to one of the servers, whichever answers first when asked in turn.

    Raises:
        AccessRefused: where those that answer do not know us.
        LedgerUnavailable: where none answers.
    """
    reasons: list[TielineError] = []
    for server in random.sample(servers, len(servers)):
        line = Line(address.shown)
        try:
            await line.open(server, address, token)
        except (AccessRefused, LedgerUnavailable) as error:
            reasons.append(error)
        else:
            return line
    raise next((one for one in reasons if isinstance(one, AccessRefused)), reasons[-1])
