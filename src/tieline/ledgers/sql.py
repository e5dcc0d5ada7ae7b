"""All parts of the ledger over one SQL connection."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from tieline.ledger import Channels, Fence, Held, Inbox, Leases, Legs, Notes, Parked, Seen, Sources, Stores
from tieline.ledgers.dialect import Session
from tieline.ledgers.stores.channels import SqlChannels
from tieline.ledgers.stores.held import SqlHeld
from tieline.ledgers.stores.inbox import SqlInbox
from tieline.ledgers.stores.leases import SqlLeases, TakeOver
from tieline.ledgers.stores.legs import SqlLegs
from tieline.ledgers.stores.notes import SqlNotes
from tieline.ledgers.stores.parked import SqlParked
from tieline.ledgers.stores.seen import SqlSeen
from tieline.ledgers.stores.sources import SqlSources
from tieline.ledgers.texts import Names, Texts

T = TypeVar("T")


class SqlStores:
    """All parts over one connection; see `tieline.ledger.Stores`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names = Names(session)
        self._topics: dict[str, None] = {}
        texts = Texts(session)
        self.sources: Sources = SqlSources(session, self._names)
        self.seen: Seen = SqlSeen(session, self._names, texts)
        self.channels: Channels = SqlChannels(session, self._names)
        self.legs: Legs = SqlLegs(session, self._names)
        self.held: Held = SqlHeld(session, self._names, texts)
        self.parked: Parked = SqlParked(session, self._names, texts)
        self.inbox: Inbox = SqlInbox(session, self._names, texts)
        self._leases = SqlLeases(session)
        self.leases: Leases = self._leases
        self.notes: Notes = SqlNotes(session)

    def now(self) -> float:
        return self._session.now()

    def notify(self, topic: str) -> None:
        self._topics[topic] = None

    def inside(self, work: Callable[[Stores], T], fences: Sequence[Fence]) -> tuple[T, list[str]]:
        """Run `work` in one transaction, and give its result and the topics that it rang."""
        self._topics.clear()
        self._leases.beats.clear()
        self._session.begin()
        try:
            if fences:
                self._leases.check(fences)
            result = work(self)
            topics = list(self._topics)
            self._session.commit(topics)
        except BaseException:
            self._session.rollback()
            self._names.rolled_back()
            raise
        self._names.committed()
        return result, topics

    def take_over(self, wanted: TakeOver) -> None:
        """Take leases before the work that asked for them is run again."""
        self._session.begin(fresh=True)
        try:
            for owner, seconds in wanted.beats.items():
                self._leases.beat(owner, seconds)
            self._leases.take(wanted.names, wanted.owner)
            self._session.commit(())
        except BaseException:
            self._session.rollback()
            raise
