"""What a channel's exchange and queues are called, and what they are declared with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

_LONGEST: Final = 120  # characters; an exchange's name may have 127
_BESIDE: Final = re.compile(r"[^A-Za-z0-9_.:/+-]")  # what a name may not have, or what has a meaning here
_UNLIMITED: Final = {"x-delivery-limit": -1}  # since version 4 a queue has a limit unless it says so
_FIRST_LIMITED: Final = 4

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one channel's exchange and queues."""

    prefix: str
    channel: str

    @property
    def exchange(self) -> str:
        """Where batches are published; the routing key is the partition's number."""
        return self._name()

    def queue(self, partition: int, subscription: str) -> str:
        """Where a subscription's batches of a partition wait."""
        return self._name(str(partition), subscription)

    def end(self, partition: int) -> str:
        """Where the last position of a partition is kept."""
        return self._name(str(partition))

    @property
    def dropped(self) -> str:
        """Where the server puts what some policy makes it drop."""
        return self._name("dropped")

    def _name(self, *parts: str) -> str:
        whole = "#".join(_escaped(part) for part in (self.prefix, self.channel, *parts))
        if len(whole) <= _LONGEST:
            return whole
        digest = blake2b(whole.encode(), digest_size=16).hexdigest()
        return f"{whole[: _LONGEST - len(digest) - 2]}@@{digest}"


def _escaped(text: str) -> str:
    return _BESIDE.sub(lambda found: "".join(f"@{byte:02x}" for byte in found[0].encode()), text)


def of_a_queue(names: Names, version: str) -> Arguments:
    """What a subscription's queue is declared with: nothing may ever leave it unseen."""
    return {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": names.dropped,
        **_without_limit(version),
    }


def of_an_end(version: str) -> Arguments:
    """What a queue that keeps a last position is declared with: the newest word counts."""
    return {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "drop-head", **_without_limit(version)}


def of_the_dropped(version: str) -> Arguments:
    """What the queue of what was dropped is declared with."""
    return {"x-queue-type": "quorum", **_without_limit(version)}


def _without_limit(version: str) -> Arguments:
    first = version.partition(".")[0]
    return _UNLIMITED if first.isdigit() and int(first) >= _FIRST_LIMITED else {}
