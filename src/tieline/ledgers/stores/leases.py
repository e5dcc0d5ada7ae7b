"""Who may do what."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tieline.errors import Fenced
from tieline.ledger import Fence
from tieline.ledgers.dialect import Merge, Session
from tieline.ledgers.texts import beginning as such

_FLOOR: Final = ""  # whose token every other lease begins with
_FORGOTTEN_AFTER: Final = 86_400.0  # seconds after which a dead worker's row is dropped


class TakeOver(Exception):
    """Leases are free, but who takes them here would see the ledger as it was before their last holder's end."""

    def __init__(self, names: Sequence[str], owner: str, beats: Mapping[str, float]) -> None:
        super().__init__(names, owner)
        self.names = names
        self.owner = owner
        self.beats = beats


class SqlLeases:
    """Who may do what. The token grows with each new holder, so an old one is known by its token."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.beats: dict[str, float] = {}  # of this transaction

    def beat(self, owner: str, seconds: float) -> None:
        self.beats[owner] = seconds
        now = self._session.now()
        self._session.merge(Merge("worker", "owner expires", "text float8", key="owner"), [(owner, now + seconds)])
        self._session.run("delete from worker where expires < ?", now - _FORGOTTEN_AFTER)

    def acquire(self, names: Sequence[str], owner: str) -> dict[str, int]:
        wanted = sorted(set(names))
        there = dict.fromkeys(wanted, ("", 0)) | self._found(wanted)
        own = {name: token for name, (holder, token) in there.items() if holder == owner}
        free = self._free({name: holder for name, (holder, _) in there.items() if name not in own})
        if not free:
            return own
        if self._session.looks_back:
            raise TakeOver(free, owner, dict(self.beats))
        return own | self.take(free, owner)

    def take(self, names: Sequence[str], owner: str) -> dict[str, int]:
        """Take what is still free, once the transactions behind their fences have ended."""
        session = self._session
        floor = sum(token for (token,) in session.rows("select token from lease where name = ?", _FLOOR))
        insert = "insert into lease (name, owner, token) values (?, '', ?) on conflict (name) do nothing"
        session.many(insert, [(name, floor) for name in names])
        there = self._found(names, session.lock)
        free = self._free({name: holder for name, (holder, _) in there.items()})
        tokens = {name: there[name][1] + 1 for name in free}
        update = "update lease set owner = ?, token = ? where name = ?"
        session.many(update, [(owner, token, name) for name, token in tokens.items()])
        return tokens

    def _free(self, holders: Mapping[str, str]) -> list[str]:
        alive = self.alive()
        return [name for name, holder in holders.items() if holder not in alive]

    def release(self, names: Sequence[str], owner: str) -> None:
        update = "update lease set owner = '' where name = ? and owner = ?"
        self._session.many(update, [(name, owner) for name in sorted(set(names))])

    def begin_at(self, token: int) -> None:
        session = self._session
        session.run("insert into lease (name, owner, token) values (?, '', 0) on conflict (name) do nothing", _FLOOR)
        session.run("update lease set owner = '', token = case when token < ? then ? else token end", token, token)

    def holders(self, beginning: str = "") -> dict[str, str]:
        which, values = such("name", beginning)
        query = (
            "select name, lease.owner from lease join worker on worker.owner = lease.owner"
            f" where expires > ? and {which}"
        )
        return dict(self._session.rows(query, self._session.now(), *values))

    def alive(self) -> dict[str, float]:
        query = "select owner, expires from worker where expires > ?"
        return dict(self._session.rows(query, self._session.now()))

    def check(self, fences: Iterable[Fence]) -> None:
        """Raise Fenced where a lease has passed on; the others stay ours until the commit."""
        tokens = {fence.name: fence.token for fence in fences}
        found = self._found(sorted(tokens), self._session.share)
        for name, token in tokens.items():
            holder, current = found.get(name, ("", 0))
            if not holder or current != token:
                now_with = f"{holder!r} with token {current}" if holder else "nobody"
                raise Fenced(f"lease {name!r}, token {token}, has passed on: it is now with {now_with}")

    def _found(self, names: Sequence[str], lock: str = "") -> dict[str, tuple[str, int]]:
        session = self._session
        query = f"select name, owner, token from lease where name {session.among} order by name{lock}"
        return {name: (owner, token) for name, owner, token in session.rows(query, session.listed(names))}
