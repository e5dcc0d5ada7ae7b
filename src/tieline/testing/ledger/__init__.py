"""The suite that proves a ledger. A test file of a keeper is about this::

    import pytest
    from tieline.testing.ledger import LedgerSuite
    from ours import OurLedger

    class TestOurLedger(LedgerSuite):
        keeper = OurLedger  # opens a ledger at an address

        @pytest.fixture
        def url(self, tmp_path):
            return f"ours:///{tmp_path}"  # the address of an empty store

`shared = False` says that the store belongs to one process, such as one in memory.
"""

from tieline.testing.ledger.channels import ChannelsKept
from tieline.testing.ledger.leases import LeasesKept
from tieline.testing.ledger.parked import ParkedKept, StirringKept
from tieline.testing.ledger.processes import Processes
from tieline.testing.ledger.rest import HeldKept, InboxKept, LegsKept, NotesKept, SourcesKept
from tieline.testing.ledger.seen import SeenKept
from tieline.testing.ledger.transactions import Transactions
from tieline.testing.ledger.waiting import Waiting

__all__ = ["LedgerSuite"]


class LedgerSuite(
    Transactions,
    LeasesKept,
    SeenKept,
    ChannelsKept,
    LegsKept,
    SourcesKept,
    HeldKept,
    ParkedKept,
    StirringKept,
    InboxKept,
    NotesKept,
    Waiting,
    Processes,
):
    """Every promise of `tieline.ledger`, a test each."""
