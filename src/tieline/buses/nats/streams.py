"""JetStream's own words: questions about streams, answered or raised as errors of ours."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from tieline.buses.nats.line import Line, NobodyListens
from tieline.errors import ConfigurationError, LedgerUnavailable, Mistake, TielineError

NO_STREAM: Final = 10059
NO_MESSAGE: Final = 10037
WRONG_LAST: Final = (10071, 10164)  # another message came first
EXISTS: Final = 10058  # with another configuration
_NOT_ENABLED: Final = (10039, 10076)
_NO_PEERS: Final = (10005, 10074)
_TOO_LONG: Final = 10054
_FULL: Final = (10002, 10023, 10028, 10047, 10077)  # the stream's limit, the account's, or the disk's
_LONGEST: Final = 150  # characters of a channel in a stream's name, which is a folder's name


class Refused(Exception):
    """JetStream answered with an error that its caller may expect."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


class Stored(msgspec.Struct):
    """A message of a stream as it is asked for by sequence or subject."""

    seq: int
    subject: str = ""
    data: bytes = b""  # base64 in transit, which msgspec undoes
    hdrs: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        """What stands before the body."""
        lines = self.hdrs.decode("utf-8", "replace").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if ":" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}


class State(msgspec.Struct):
    """How far a stream is."""

    last_seq: int
    messages: int = 0


class StreamInfo(msgspec.Struct):
    """A stream as it is, with whatever an operator has added to its configuration."""

    config: dict[str, Any]
    state: State


class _Error(msgspec.Struct):
    code: int = 500
    err_code: int = 0
    description: str = "no reason given"


class _Answer(msgspec.Struct):
    error: _Error | None = None
    message: Stored | None = None
    stream: str = ""
    seq: int = 0
    num_pending: int = 0


_answers: Final = msgspec.json.Decoder(_Answer)
_infos: Final = msgspec.json.Decoder(StreamInfo)


def token_of(channel: str) -> str:
    """A channel's name as a word of a subject and of a stream's name: different for different channels."""
    word = re.sub(rb"[^A-Za-z0-9-]", lambda found: b"_%02X" % found[0][0], channel.encode()).decode()
    if len(word) <= _LONGEST:
        return word
    return f"{word[: _LONGEST - 34]}__{hashlib.blake2b(channel.encode(), digest_size=16).hexdigest()}"


class Stream:
    """A channel's stream, by its names; knows nothing of whether it is there."""

    def __init__(self, prefix: str, channel: str) -> None:
        word = token_of(channel)
        self.channel = channel
        self.name = f"{prefix}_{word}"
        self.register = f"{prefix}.{word}.register"
        self.everything = f"{prefix}.{word}.*"
        self._partitions = f"{prefix}.{word}."

    def partition(self, number: int) -> str:
        """The subject of a partition."""
        return f"{self._partitions}{number}"

    # -- what there is -------------------------------------------------------------------------------

    async def info(self, line: Line) -> StreamInfo | None:
        """The stream as it is; None where there is none."""
        try:
            return _infos.decode((await self._ask(line, f"STREAM.INFO.{self.name}")).data)
        except Refused as refused:
            if refused.code == NO_STREAM:
                return None
            raise self.failure(refused) from None

    async def put(self, line: Line, verb: str, config: Mapping[str, Any]) -> StreamInfo | None:
        """CREATE or UPDATE the stream; None where another one did it meanwhile, or there is none to update."""
        try:
            return _infos.decode((await self._ask(line, f"STREAM.{verb}.{self.name}", config)).data)
        except Refused as refused:
            if refused.code in {EXISTS, NO_STREAM}:
                return None
            raise self.failure(refused) from None

    async def last(self, line: Line, subject: str) -> Stored | None:
        """The last message of a subject."""
        return await self._get(line, {"last_by_subj": subject})

    async def next(self, line: Line, subject: str, after: int) -> Stored | None:
        """The first message of a subject behind a sequence."""
        return await self._get(line, {"seq": after + 1, "next_by_subj": subject})

    async def _get(self, line: Line, which: Mapping[str, Any]) -> Stored | None:
        try:
            answer = await self._ask(line, f"STREAM.MSG.GET.{self.name}", which)
        except Refused as refused:
            if refused.code in {NO_MESSAGE, NO_STREAM}:
                return None
            raise self.failure(refused) from None
        return _answers.decode(answer.data).message

    # -- what changes --------------------------------------------------------------------------------

    async def append(self, line: Line, subject: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Keep one message; gives its sequence once it is as safe as the stream makes it.

        Raises:
            Refused: where the stream does not take it.
            ConfigurationError: where there is no such stream.
        """
        try:
            message = await line.ask(subject, body, {"Nats-Expected-Stream": self.name, **headers})
        except NobodyListens:
            if (there := await self.info(line)) is None or self.everything not in there.config["subjects"]:
                raise self.not_declared() from None
            raise LedgerUnavailable(f"channel {self.channel}: nobody leads its stream {self.name} yet") from None
        answer = _answers.decode(message.data)
        if answer.error is not None:
            raise Refused(answer.error.err_code, answer.error.description)
        return answer.seq

    async def purge(self, line: Line, subject: str, *, upto: int = 0, keep: int = 0) -> None:
        """Drop a subject's messages, up to a sequence or all but the last `keep`."""
        which = {"filter": subject, **({"seq": upto + 1} if upto else {"keep": keep} if keep else {})}
        try:
            await self._ask(line, f"STREAM.PURGE.{self.name}", which)
        except Refused as refused:
            if refused.code != NO_STREAM:
                raise self.failure(refused) from None

    async def consumer(self, line: Line, name: str, config: Mapping[str, Any]) -> int:
        """Make a consumer that the server forgets by itself; gives how many messages wait for it."""
        whole = {"name": name, "ack_policy": "none", "mem_storage": True, "num_replicas": 1, **config}
        body = {"stream_name": self.name, "config": whole}
        try:
            answer = await self._ask(line, f"CONSUMER.CREATE.{self.name}.{name}", body)
        except Refused as refused:
            raise self.not_declared() if refused.code == NO_STREAM else self.failure(refused) from None
        return _answers.decode(answer.data).num_pending

    async def _ask(self, line: Line, what: str, body: Mapping[str, Any] | None = None) -> Msg:
        """Ask JetStream.

        Raises:
            Refused: where the answer is an error of the request.
            LedgerUnavailable: where it is one of the server.
        """
        try:
            message = await line.ask(f"$JS.API.{what}", msgspec.json.encode(body) if body else b"")
        except NobodyListens:
            remedy = "enable JetStream there, and for this account"
            raise ConfigurationError(Mistake("bus", "the NATS server has no JetStream", remedy)) from None
        error = _answers.decode(message.data).error
        if error is None:
            return message
        if error.err_code not in _NOT_ENABLED and error.err_code not in _NO_PEERS and error.code >= 500:
            raise LedgerUnavailable(f"the bus cannot do it now: {error.description}")
        raise Refused(error.err_code, error.description)

    # -- what is said --------------------------------------------------------------------------------

    def not_declared(self) -> ConfigurationError:
        """Nobody made the channel, or somebody deleted it."""
        what = f"is not declared, or its stream {self.name} was deleted"
        return self.mistake(what, "declare it before the first publish; begin the worker again to have it made anew")

    def mistake(self, what: str, remedy: str) -> ConfigurationError:
        """Something that a person has to put right."""
        return ConfigurationError(Mistake(f"channel {self.channel}", what, remedy))

    def failure(self, refused: Refused) -> TielineError:
        """JetStream refuses what it should do."""
        if refused.code in _FULL:
            return LedgerUnavailable(f"channel {self.channel} takes nothing more: {refused}")
        if refused.code in _NOT_ENABLED:
            return self.mistake("cannot be kept: no JetStream for this account", "enable it in the server's settings")
        if refused.code in _NO_PEERS:
            return self.mistake(
                f"cannot have so many replicas: {refused}", "run as many servers in a cluster, or lower ?replicas="
            )
        if refused.code == _TOO_LONG:
            return self.mistake(
                f"has a stream {self.name} with a limit: {refused}", f"nats stream edit {self.name} --max-msg-size=-1"
            )
        return self.mistake(f"is refused by JetStream: {refused}", f"look at the stream {self.name}")
