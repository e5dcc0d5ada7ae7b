"""Texts as the tables hold them: names as integers, hostile texts in a short form that can be indexed."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from tieline.ledgers.dialect import Row, Session

Text = TypeVar("Text", str, str | None)

_LONGEST: Final = 500  # characters: an index entry of PostgreSQL takes 2,700 bytes
_ODD: Final = "\x01"  # begins each short form, and no text that is stored as it is


class Names:
    """Interned names of sources, channels, legs, targets and entities, cached once they are committed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._fresh: list[str] = []

    def id(self, name: str) -> int:
        """The number of a name, given now if it has none."""
        known = self._ids.get(name)
        return self.ids([name])[name] if known is None else known

    def known(self, name: str) -> int:
        """The number of a name, 0 if it has none: for looking up without writing."""
        known = self._ids.get(name)
        if known is None:
            self._load([name])
            known = self._ids.get(name, 0)
        return known

    def all_known(self, names: Iterable[str]) -> list[int]:
        """The numbers of those names that have one."""
        wanted = list(names)
        if missing := [name for name in wanted if name not in self._ids]:
            self._load(missing)
        return [self._ids[name] for name in wanted if name in self._ids]

    def ids(self, names: Iterable[str]) -> dict[str, int]:
        """The numbers of names, given now where they have none."""
        wanted = sorted(set(names))
        missing = [name for name in wanted if name not in self._ids]
        if missing:
            self._load(missing)
            missing = [name for name in missing if name not in self._ids]
        if missing:
            insert = "insert into name (name) values (?) on conflict (name) do nothing"
            self._session.many(insert, [(name,) for name in missing])
            self._load(missing)
        return {name: self._ids[name] for name in wanted}

    def name(self, number: int) -> str:
        """The name behind a number."""
        if number not in self._names:
            self._keep(self._session.rows("select id, name from name"))
        return self._names[number]

    def _load(self, names: list[str]) -> None:
        session = self._session
        found = session.rows(f"select id, name from name where name {session.among}", session.listed(names))
        self._keep(found)

    def _keep(self, rows: list[Row]) -> None:
        for number, name in rows:
            if name not in self._ids:
                self._ids[name] = number
                self._names[number] = name
                self._fresh.append(name)

    def committed(self) -> None:
        """What was given in this transaction stands."""
        self._fresh.clear()

    def rolled_back(self) -> None:
        """What was given in this transaction does not stand."""
        for name in self._fresh:
            del self._names[self._ids.pop(name)]
        self._fresh.clear()


def beginning(column: str, prefix: str) -> tuple[str, tuple[str, ...]]:
    """A condition for texts of an index that begin so, which the index answers, and its values.

    The prefix is one of ours: its last sign is followed by another one.
    """
    if not prefix:
        return "1 = 1", ()
    return f"{column} >= ? and {column} < ?", (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))


class Texts:
    """Keys and record ids come from outside: any text, of any length, is kept and given back as it was."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def stored(self, texts: Sequence[Text]) -> Sequence[Text]:
        """The texts as a table may hold them; whole ones are kept aside where they differ."""
        short = self.sought(texts)
        if short is not texts:
            odd = {s: _bytes(t) for s, t in zip(short, texts, strict=True) if s and t and s is not t}
            insert = "insert into odd_text (short, whole) values (?, ?) on conflict (short) do nothing"
            self._session.many(insert, sorted(odd.items()))
        return short

    def sought(self, texts: Sequence[Text]) -> Sequence[Text]:
        """The texts as a table would hold them, for looking up; the very same list where all are plain."""
        if _plain("\n".join(filter(None, texts))) and max(map(len, filter(None, texts)), default=0) <= _LONGEST:
            return texts
        return [text if not text or (_plain(text) and len(text) <= _LONGEST) else _short(text) for text in texts]

    def whole(self, rows: list[Row], *places: int) -> list[Row]:
        """The rows with whole texts at these places."""
        odd = {row[p] for p in places for row in rows if row[p] and row[p][0] == _ODD}
        if not odd:
            return rows
        session = self._session
        query = f"select short, whole from odd_text where short {session.among}"
        found = {short: _text(data) for short, data in session.rows(query, session.listed(sorted(odd)))}
        return [tuple(found.get(v, v) if i in places else v for i, v in enumerate(row)) for row in rows]


def shown(text: str) -> str:
    """A text for people, without what a store cannot hold."""
    return text if _plain(text) else text.replace("\0", "␀").encode("utf-8", "replace").decode()


def _plain(text: str) -> bool:
    if "\0" in text or _ODD in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _short(text: str) -> str:
    readable = "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:60])
    return f"{_ODD}{hashlib.blake2b(_bytes(text), digest_size=16).hexdigest()} {readable}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return bytes(data).decode("utf-8", "surrogatepass")
