"""A flow's move to another way, as the ledger keeps it.

It is kept in the commit that changes the flow's ways, and from then on stands above the project file: a worker
that starts with the older word goes on with the move. When the file says the same, the file counts again.
"""

from typing import Final

import msgspec

from tieline.flow import Flow
from tieline.ledger import Stores

WAYS: Final = "ways"
"""The topic on which workers hear that ways have changed."""


class Move(msgspec.Struct, frozen=True):
    """Where a flow goes and where it came from, in words of the project file."""

    flow: str
    to: str
    partitions: int
    was: str
    was_partitions: int
    written: bool = False  # the project file says so too

    def back(self) -> "Move":
        """The move that undoes this one."""
        return Move(
            self.flow, to=self.was, partitions=self.was_partitions, was=self.to, was_partitions=self.partitions
        )


def move_of(stores: Stores, flow: str) -> Move | None:
    """A flow's last move, under way or over."""
    note = stores.notes.get(_note(flow))
    return msgspec.convert(note, Move) if note else None


def keep_move(stores: Stores, move: Move) -> None:
    """Keep a move, in the place of the flow's one before."""
    stores.notes.put(_note(move.flow), msgspec.to_builtins(move))
    stores.notify(WAYS)


def as_moved(stores: Stores, flow: Flow) -> Flow:
    """A flow as the file has it, with the way of a move that the file does not know yet."""
    move = move_of(stores, flow.name)
    if move is None or move.written:
        return flow
    if (flow.via, flow.partitions) == (move.to, move.partitions):
        keep_move(stores, msgspec.structs.replace(move, written=True))
    return msgspec.structs.replace(flow, via=move.to, partitions=move.partitions)


def _note(flow: str) -> str:
    return f"move/{flow}"
