"""A channel's register: its subscriptions and how far each is done, kept in the channel's own stream.

It is one message, replaced by compare-and-set, so that workers that finish at the same time lose no word of each
other, and a stream that is copied or restored has its register with it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tieline.buses.nats.line import Line
from tieline.buses.nats.streams import WRONG_LAST, Refused, Stream, StreamInfo
from tieline.errors import LedgerUnavailable

_MOST_TRIES: Final = 50
_MICROSECONDS: Final = 1_000_000
_KEPT: Final[dict[str, Any]] = {
    "retention": "limits",
    "storage": "file",
    "discard": "new",
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
}
"""What keeps a stream from dropping what is unread; `nats stream edit` has other words for some."""


class Register(msgspec.Struct, frozen=True):
    """`done` by subscription and partition; `trimmed` is what all are done with; `beginning` is before all positions.

    A forgotten channel has no subscriptions, and keeps the rest.
    """

    channel: str
    partitions: int
    beginning: int
    done: dict[str, dict[int, int]]
    trimmed: dict[int, int]

    def finished(self, subscription: str, positions: dict[int, int]) -> "Register":
        """With this subscription further, where it is."""
        own = self.done[subscription]
        further = {p: max(at, positions.get(p, 0)) for p, at in own.items()}
        done = {**self.done, subscription: further}
        trimmed = {p: max(at, min(one[p] for one in done.values())) for p, at in self.trimmed.items()}
        return msgspec.structs.replace(self, done=done, trimmed=trimmed)


_decoder: Final = msgspec.json.Decoder(Register)


async def read(line: Line, stream: Stream) -> tuple[Register | None, int]:
    """The register and its place; None where the channel was never declared."""
    kept = await stream.last(line, stream.register)
    if kept is None:
        return None, 0
    try:
        return _decoder.decode(kept.data), kept.seq
    except msgspec.DecodeError as error:
        raise stream.mistake(
            f"has a register that no Tieline wrote: {error}", f"see who writes to {stream.register}"
        ) from None


async def change(line: Line, stream: Stream, to: Callable[[Register], Register]) -> tuple[Register, Register] | None:
    """Change the register, from what it was to what it is; None where there is none.

    What it says to be needless goes first: a stream that is full has no room for a register before.
    """
    for _ in range(_MOST_TRIES):
        before, place = await read(line, stream)
        if before is None:
            return None
        after = to(before)
        needless = [(p, at) for p, at in after.trimmed.items() if at > before.trimmed[p]]
        await asyncio.gather(*(stream.purge(line, stream.partition(p), upto=at) for p, at in needless))
        if after == before or await _write(line, stream, after, place):
            return before, after
    raise LedgerUnavailable(f"channel {stream.channel}: too many workers write its register at once")


async def _write(line: Line, stream: Stream, register: Register, place: int) -> bool:
    """Whether nobody else wrote it since it was read at its place."""
    headers = {"Nats-Expected-Last-Subject-Sequence": str(place)}
    try:
        await stream.append(line, stream.register, msgspec.json.encode(register), headers)
    except Refused as refused:
        if refused.code not in WRONG_LAST:
            raise stream.failure(refused) from None
        await asyncio.sleep(random.uniform(0.001, 0.02))  # noqa: S311
        return False
    await stream.purge(line, stream.register, keep=1)
    return True


async def declare(
    line: Line, stream: Stream, partitions: int, subscriptions: Sequence[str], replicas: int
) -> tuple[Register, StreamInfo]:
    """Make the stream and its register where they are not there, and add subscriptions from now on.

    Raises:
        ConfigurationError: where the channel has other partitions, or its stream would drop what is unread.
    """
    there = await stream.info(line) or await _make(line, stream, replicas)
    _check(stream, there, replicas)
    for _ in range(_MOST_TRIES):
        before, place = await read(line, stream)
        if stream.everything not in there.config["subjects"]:
            there = await stream.put(line, "UPDATE", {**there.config, "subjects": [stream.everything]}) or there
        if before is None:
            # In a stream whose messages somebody purged, positions go on, and what was taken from it before is known.
            nought = dict.fromkeys(range(partitions), 0)
            before = Register(stream.channel, partitions, there.state.last_seq, {}, nought)
        if before.done and before.partitions != partitions:
            what = f"exists with {before.partitions} partitions and is declared with {partitions}"
            remedy = f"declare it with {before.partitions}: the place of a key follows from the number"
            raise stream.mistake(what, remedy)
        after = await _subscribed(line, stream, before, partitions, subscriptions)
        if (place and after == before) or await _write(line, stream, after, place):
            return after, there
    raise LedgerUnavailable(f"channel {stream.channel}: too many workers declare it at once")


async def _subscribed(
    line: Line, stream: Stream, register: Register, partitions: int, subscriptions: Sequence[str]
) -> Register:
    new = [one for one in subscriptions if one not in register.done]
    if not new:
        return register
    trimmed = {p: register.trimmed.get(p, 0) for p in range(partitions)}
    register = msgspec.structs.replace(register, partitions=partitions, trimmed=trimmed)
    ends = await ends_of(line, stream, register)
    return msgspec.structs.replace(register, done={**register.done, **dict.fromkeys(new, ends)})


async def ends_of(line: Line, stream: Stream, register: Register) -> dict[int, int]:
    """The last position of each partition; a batch that is there in part has none yet."""
    lasts = await asyncio.gather(*(stream.last(line, stream.partition(p)) for p in range(register.partitions)))
    ends = {p: last_whole(last.headers, last.seq) if last else 0 for p, last in enumerate(lasts)}
    return {p: max(end, register.trimmed.get(p, 0)) for p, end in ends.items()}


def last_whole(headers: Mapping[str, str], sequence: int) -> int:
    """The last position of a partition that ends with this message."""
    piece, _, pieces = headers.get(PIECE, "").partition("/")
    return sequence if piece == pieces else number_in(headers, WHOLE_BEFORE, sequence)


def number_in(headers: Mapping[str, str], name: str, otherwise: int) -> int:
    """A number that stands before a body, where one stands there: anybody may have published it."""
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else otherwise


PIECE: Final = "Tieline-Piece"
"""Which piece of how many, from 1, where a batch is in several."""
WHOLE_BEFORE: Final = "Tieline-Whole-Before"
"""In a piece: the position of the last whole batch of its partition before it."""
COUNT: Final = "Tieline-Count"
"""How many messages are whole with this one."""


async def _make(line: Line, stream: Stream, replicas: int) -> StreamInfo:
    """A stream made anew has sequences above those of one that was deleted: so its positions are known as others."""
    config = {
        **_KEPT,
        "name": stream.name,
        "description": f"Tieline: {stream.channel}",
        "subjects": [stream.everything],
        "num_replicas": replicas or 1,
        "first_seq": int(time.time() * _MICROSECONDS),
    }
    made = await stream.put(line, "CREATE", config) or await stream.info(line)
    if made is None:
        raise LedgerUnavailable(f"channel {stream.channel}: its stream comes and goes")
    return made


def _check(stream: Stream, there: StreamInfo, replicas: int) -> None:
    """See that the stream is as it was made, in what matters.

    Raises:
        ConfigurationError: naming the stream, the setting and what it should be.
    """
    config = there.config
    wrong = [f"{name} = {config.get(name)}" for name, value in _KEPT.items() if config.get(name, value) != value]
    if wrong:
        should = ", ".join(f"{name} = {_KEPT[name.partition(' ')[0]]}" for name in wrong)
        what = f"has a stream {stream.name} that was changed and may drop what is unread: {', '.join(wrong)}"
        raise stream.mistake(what, f"set {should}, with nats stream edit")
    if not set(config["subjects"]) & {stream.everything, stream.register}:
        what = f"has a stream {stream.name} that no longer takes {stream.everything}"
        raise stream.mistake(what, f"nats stream edit {stream.name} --subjects='{stream.everything}'")
    if replicas and config["num_replicas"] != replicas:
        what = f"has a stream {stream.name} with {config['num_replicas']} replicas, and the address says {replicas}"
        raise stream.mistake(what, f"nats stream edit {stream.name} --replicas={replicas}, or correct the address")


async def forget(line: Line, stream: Stream, subscription: str) -> None:
    """Drop a subscription; with the last one the stream takes nothing more, and keeps its sequence and register."""

    def without(register: Register) -> Register:
        left = {name: at for name, at in register.done.items() if name != subscription}
        return msgspec.structs.replace(register, done=left)

    changed = await change(line, stream, without)
    if changed is None or changed[0] == changed[1] or changed[1].done:
        return
    register = changed[1]
    ends = await ends_of(line, stream, register)
    there = await stream.info(line)
    if there is not None:
        await stream.put(line, "UPDATE", {**there.config, "subjects": [stream.register]})
    await change(line, stream, lambda now: now if now.done else msgspec.structs.replace(now, trimmed=ends))


async def check_position(line: Line, stream: Stream, after: int) -> None:
    """See that a position was given by this stream.

    Raises:
        ConfigurationError: where there is none, or another one: it was deleted, emptied, or put back from a back-up.
    """
    (register, _), there = await asyncio.gather(read(line, stream), stream.info(line))
    if register is None or there is None:
        raise stream.not_declared()
    if 0 < after < register.beginning or after > there.state.last_seq:
        what = f"is not what it was: its stream {stream.name} was deleted, emptied or put back from a back-up"
        remedy = "what stood in it is gone; `tieline recover` reads the sources again"
        raise stream.mistake(what, remedy)
