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
    at: float = 0.0  # when it began, by the ledger's clock
    undoes: bool = False  # it goes back to where another one came from

    def back(self) -> "Move":
        """The move that undoes this one; itself, where it undoes one: it may have been cut off."""
        if self.undoes:
            return self
        return Move(
            self.flow,
            to=self.was,
            partitions=self.was_partitions,
            was=self.to,
            was_partitions=self.partitions,
            undoes=True,
        )


def move_of(stores: Stores, flow: str) -> Move | None:
    """A flow's last move, under way or over."""
    note = stores.notes.get(_note(flow))
    return msgspec.convert(note, Move) if note else None


def keep_move(stores: Stores, move: Move) -> None:
    """Keep a move, in the place of the flow's one before: what was asked for is over."""
    stores.notes.put(_note(move.flow), msgspec.to_builtins(move))
    stores.notes.put(_asked(move.flow), None)
    stores.notify(WAYS)


def say_written(stores: Stores, flow: str) -> None:
    """The project file says so too."""
    if (move := move_of(stores, flow)) is not None:
        keep_move(stores, msgspec.structs.replace(move, written=True))


def ask_move(stores: Stores, move: Move) -> None:
    """Keep that a move is about to be made, while its engine is reached: nothing has changed for the flow."""
    stores.notes.put(_asked(move.flow), msgspec.to_builtins(move))


def asked_move(stores: Stores, flow: str) -> Move | None:
    """A move of which nothing came yet: whoever asked for it may have been cut off."""
    note = stores.notes.get(_asked(flow))
    return msgspec.convert(note, Move) if note else None


def unask_move(stores: Stores, flow: str) -> None:
    """Nothing will come of it."""
    stores.notes.put(_asked(flow), None)


def as_moved(stores: Stores, flow: Flow) -> Flow:
    """A flow as the file has it, with the way of a move that the file does not know yet.

    A worker may have read the file just before the move was written there, or have another file, as on another
    machine: one that is older than the move never counts.
    """
    move = move_of(stores, flow.name)
    if move is None:
        return flow
    says_so = (flow.via, flow.partitions) == (move.to, move.partitions)
    if move.written and (says_so or flow.said_at >= move.at):
        return flow
    if says_so:
        keep_move(stores, msgspec.structs.replace(move, written=True))
    return msgspec.structs.replace(flow, via=move.to, partitions=move.partitions)


def _asked(flow: str) -> str:
    return f"move-asked/{flow}"


def _note(flow: str) -> str:
    return f"move/{flow}"
