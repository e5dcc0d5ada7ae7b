"""Reading what changed: where the next read begins, and how a list is asked for it."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from tieline.connector import Checkpoint, Record
from tieline.connectors._paging import at
from tieline.connectors._rest_resource import Since
from tieline.errors import Hold

_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


class Newest:
    """The newest value of a list's since-field: where the next read begins.

    `bounded` is for a list read in no order: what changes while it is read may be met before a newer
    one, so the next read begins no later than this one began.
    """

    def __init__(self, since: Since, checkpoint: Checkpoint, *, bounded: bool) -> None:
        self._since = since
        self._bounded = bounded
        self._text: str | None = checkpoint
        self._value = None if checkpoint is None else _moment(checkpoint, since.field)

    def query(self, overlap: float) -> dict[str, str]:
        """The parameter to ask with, `overlap` before the checkpoint."""
        if self._text is None or self._value is None:
            return dict(self._since.sort)
        if isinstance(self._value, Decimal):
            begin = f"{(self._value - Decimal(str(overlap))).normalize():f}"
        else:
            earlier = self._value - timedelta(seconds=overlap)
            zone = datetime.fromisoformat(self._text).tzinfo
            begin = (earlier.replace(tzinfo=None) if zone is None else earlier.astimezone(zone)).isoformat()
            begin = begin.replace("+00:00", "Z") if self._text.endswith("Z") else begin
        return {**self._since.sort, self._since.parameter: begin}

    def after(self, records: Sequence[Record], started: datetime) -> Checkpoint:
        """The checkpoint after these records."""
        for record in records:
            raw = at(record, self._since.field)
            if raw is None:
                continue
            value = _moment(str(raw), self._since.field)
            if self._bounded and isinstance(value, Decimal):
                raise Hold(f"{self._since.field} is a number, so the list must be read in its order → declare sort=…")
            if self._bounded and isinstance(value, datetime) and value > started:
                value, raw = started, started.isoformat()
            try:
                newer = self._value is None or value > self._value  # type: ignore[operator]
            except TypeError:
                raise Hold(f"{self._since.field} holds times and numbers mixed → read another field") from None
            if newer:
                self._value, self._text = value, str(raw)
        return self._text


def _moment(text: str, name: str) -> datetime | Decimal:
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Hold(f"{name} holds {text[:80]!r}, no ISO 8601 time and no number → read another field") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
