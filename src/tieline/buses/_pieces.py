"""A batch as engine messages: engines limit how long a message may be, and a batch may be longer.

What fits goes as it is. What does not is cut into pieces that carry the number of their publishing, so that
pieces of two publishers never mix, and it is there when its last piece is. A piece of a publishing that was
cut off is never joined: its batch is published again, whole, by whoever comes next.
"""

import os
import struct
from typing import Final

_HEAD: Final = struct.Struct(">c16sHH")  # a mark, the publishing, this piece's number from 0, how many there are
_MARK: Final = b"\0"  # no batch begins with it: batches are JSON


def cut(data: bytes, most: int) -> list[bytes]:
    """A batch as bodies of at most `most` bytes, to be published in this order."""
    if len(data) <= most:
        return [data]
    room = most - _HEAD.size
    starts = range(0, len(data), room)
    publishing = os.urandom(16)
    return [
        _HEAD.pack(_MARK, publishing, number, len(starts)) + data[start : start + room]
        for number, start in enumerate(starts)
    ]


class Joiner:
    """Puts the pieces of one partition together again, in the order in which the engine has them."""

    def __init__(self) -> None:
        self._begun: dict[bytes, list[bytes]] = {}

    def misses(self, body: bytes) -> int:
        """How many pieces before this one, at least, are to be read first; 0 where none is missing."""
        if not body.startswith(_MARK):
            return 0
        _, publishing, number, _ = _HEAD.unpack_from(body)
        return number if number and publishing not in self._begun else 0

    def add(self, body: bytes) -> bytes | None:
        """The batch that is whole with this body; its place is this body's. None while pieces are missing."""
        if not body.startswith(_MARK):
            return body
        _, publishing, number, count = _HEAD.unpack_from(body)
        if number == 0:
            self._begun[publishing] = []
        pieces = self._begun.get(publishing)
        if pieces is None or len(pieces) != number:
            return None  # its beginning was before the place that is read from
        pieces.append(body[_HEAD.size :])
        if len(pieces) < count:
            return None
        del self._begun[publishing]
        return b"".join(pieces)
