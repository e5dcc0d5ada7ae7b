"""Who may do what."""

from collections.abc import Iterable, Sequence
from typing import Final

from tieline.errors import Fenced
from tieline.ledger import Fence
from tieline.ledgers.dialect import Merge, Session

_FORGOTTEN_AFTER: Final = 86_400.0  # seconds after which a dead worker's row is dropped


class SqlLeases:
    """Who may do what. The token grows with each new holder, so an old one is known by its token."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def beat(self, owner: str, seconds: float) -> None:
        now = self._session.now()
        self._session.merge(Merge("worker", "owner expires", "text float8", key="owner"), [(owner, now + seconds)])
        self._session.run("delete from worker where expires < ?", now - _FORGOTTEN_AFTER)

    def acquire(self, names: Sequence[str], owner: str) -> dict[str, int]:
        session = self._session
        wanted = sorted(set(names))
        rows = self._locked(wanted, session.lock)
        missing = [name for name in wanted if name not in rows]
        if missing:
            insert = "insert into lease (name, owner, token) values (?, '', 0) on conflict (name) do nothing"
            session.many(insert, [(name,) for name in missing])
            rows |= self._locked(missing, session.lock)
        alive = {name for (name,) in session.rows("select owner from worker where expires > ?", session.now())}
        tokens = {}
        taken = []
        for name, (holder, token) in rows.items():
            if holder == owner:
                tokens[name] = token
            elif holder not in alive:
                tokens[name] = token + 1
                taken.append((owner, token + 1, name))
        session.many("update lease set owner = ?, token = ? where name = ?", taken)
        return tokens

    def release(self, names: Sequence[str], owner: str) -> None:
        update = "update lease set owner = '' where name = ? and owner = ?"
        self._session.many(update, [(name, owner) for name in sorted(set(names))])

    def holders(self) -> dict[str, str]:
        query = "select name, lease.owner from lease join worker on worker.owner = lease.owner where expires > ?"
        return dict(self._session.rows(query, self._session.now()))

    def check(self, fences: Iterable[Fence]) -> None:
        """Raise Fenced where a lease has passed on; the others stay ours until the commit."""
        tokens = {fence.name: fence.token for fence in fences}
        found = self._locked(sorted(tokens), self._session.share)
        for name, token in tokens.items():
            holder, current = found.get(name, ("", 0))
            if not holder or current != token:
                now_with = f"{holder!r} with token {current}" if holder else "nobody"
                raise Fenced(f"lease {name!r}, token {token}, has passed on: it is now with {now_with}")

    def _locked(self, names: Sequence[str], lock: str) -> dict[str, tuple[str, int]]:
        session = self._session
        query = f"select name, owner, token from lease where name {session.among} order by name{lock}"
        return {name: (owner, token) for name, owner, token in session.rows(query, session.listed(names))}
