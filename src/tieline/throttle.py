"""When a call to a system may begin: the limits that an operator set for it."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Throttle(Protocol):
    """Lets calls to one system begin within its limits, whoever makes them.

    A connector whose system has limits gets one when it is opened, and makes each of its calls inside it.
    """

    def call(self) -> AbstractAsyncContextManager[None]:
        """Entered when one more call may begin; the call is open until this is left.

        Raises:
            LedgerUnavailable: where workers share the limits, and nobody can say what the others do.
        """
