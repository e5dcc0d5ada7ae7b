"""What a source's reader is asked for, kept as notes: backfills of a leg, and single keys again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tieline.ledger import Stores


@dataclass(frozen=True, slots=True)
class Request:
    """`backfill` wants every current value for one leg; `resend` wants one key's.

    `force` writes what the target holds already; with `begin` the leg's stream begins at the end of
    its backfill. `not_before` is by the ledger's clock.
    """

    kind: Literal["backfill", "resend"]
    source: str
    leg: str
    key: str = ""
    force: bool = False
    begin: bool = False
    not_before: float = 0.0
    why: str = ""
    number: int = 0  # grows while it is asked again before it is answered

    @property
    def note(self) -> str:
        """The name it is kept under."""
        return f"request/{self.source}/{self.kind}/{self.leg}/{self.key}"


def ask(stores: Stores, requests: Iterable[Request]) -> None:
    """Keep requests and wake their readers."""
    for request in requests:
        before = stores.notes.get(request.note) or {}
        stores.notes.put(
            request.note,
            {
                "number": before.get("number", 0) + 1,
                "kind": request.kind,
                "source": request.source,
                "leg": request.leg,
                "key": request.key,
                "force": request.force,
                "begin": request.begin,
                "not_before": request.not_before,
                "why": request.why,
            },
        )
        stores.notify(source_topic(request.source))


def over_their_legs(stores: Stores, target: str, requests: Iterable[Request]) -> list[Request]:
    """The requests once for each leg that brings what their source gives to the target."""
    legs = [(row.source, row.leg) for row in stores.legs.all() if row.target == target]
    return [replace(request, leg=leg) for request in requests for source, leg in legs if source == request.source]


def requests_for(stores: Stores, source: str) -> list[Request]:
    """What is asked of this source and due."""
    now = stores.now()
    found = [Request(**value) for value in stores.notes.starting(f"request/{source}/").values() if value]
    return [request for request in found if request.not_before <= now]


def settle(stores: Stores, requests: Sequence[Request]) -> None:
    """These are answered, unless they were asked anew meanwhile."""
    for request in requests:
        value = stores.notes.get(request.note)
        if value and Request(**value) == request:
            stores.notes.put(request.note, None)


def source_topic(source: str) -> str:
    """What is notified when a source should be read now."""
    return f"source:{source}"
