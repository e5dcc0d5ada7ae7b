"""Rows to keep, and texts that have broken stores."""

from typing import Any, Final

import msgspec

from tieline.connector import HeldRow
from tieline.ledger import LegRow, ParkedRow, SeenRow, Way
from tieline.message import Message, Reason, Version, pack_message

HOSTILE: Final = {
    "quotes": "O'Brien\"s `shop`; drop table seen; --",
    "nul": "a\0b",
    "only nul": "\0",
    "emoji": "Bäckerei 🥐 ﷽ 👩‍👩‍👧",
    "ten thousand signs": "".join(chr(0x4E00 + 7_919 * n % 20_000) for n in range(10_000)),  # hard to compress
    "half a surrogate pair": "a\ud83e",
    "control characters": "a\tb\nc\rd\x01\x7f",
    "begins like a short form": "\x01abc",
    "copy's own signs": "\\N\\.\\t",
    "placeholders": "%s ? $1 %(a)s {0}",
    "wild cards": "100%_[a-z]*",
    "brackets": '["a", {"b": 1}]',
    "space": " a ",
}
"""Texts by what is hard about them: each is kept and given back as it was."""


def id_of(number: int) -> bytes:
    """A message id."""
    return number.to_bytes(16, "big")


def seen(key: str, record: str = "", counter: int = 1, **more: Any) -> SeenRow:
    """A seen row with something in every field."""
    row = SeenRow(
        key=key,
        record=record or f"record of {key}",
        version=Version(1, counter),
        message_id=id_of(counter),
        record_digest=b"r" * 16,
        entity_digest=b"e" * 16,
        mapping=3,
        origin="erp",
        at=1_700_000_000.25,
    )
    return msgspec.structs.replace(row, **more)


def held(key: str, source: str = "shop.order", counter: int = 1, **more: Any) -> HeldRow:
    """A held row with something in most fields."""
    row = HeldRow(
        key=key,
        source=source,
        version=Version(2, counter, 1),
        message_id=id_of(counter),
        digest=b"d" * 16,
        target_id="4711",
        version_tag='W/"1"',
        step=2,
        sequence=2**40,
        at=1_700_000_000.25,
    )
    return msgspec.structs.replace(row, **more)


def message(key: str, counter: int = 1, edit: int = 0) -> Message:
    """A message of a key."""
    return Message(id_of(counter * 100 + edit), key, Version(1, counter, edit), msgspec.Raw(b'{"a":1}'))


def parked(key: str, counter: int = 1, edit: int = 0, leg: str = "orders→erp", **more: Any) -> ParkedRow:
    """A parked row for version (1, counter, edit) of a key."""
    parked_message = message(key, counter, edit)
    row = ParkedRow(
        leg=leg,
        key=key,
        message_id=parked_message.id,
        version=parked_message.version,
        reason=Reason.RETRY,
        message=pack_message(parked_message),
        error="no such customer",
        parked_at=1_700_000_000.5,
    )
    return msgspec.structs.replace(row, **more)


def leg(name: str = "orders→erp", target: str = "erp", source: str = "shop.order") -> LegRow:
    """A leg on its first way."""
    return LegRow(name, "orders", source, target, "Order", [Way("direct", f"{source}/out", 4)])
