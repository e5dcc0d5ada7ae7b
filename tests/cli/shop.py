"""A project made by `tieline new`, and the command line over it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from typer.testing import CliRunner, Result

from tieline.cli import app
from tieline.connector import LegState
from tieline.ledger import LegRow, ParkedRow, Stores, Way
from tieline.ledgers.sqlite import SqliteLedger
from tieline.message import Batch, Message, Reason, Version, pack, pack_message

T = TypeVar("T")

CHANNEL = "direct:shop.order/1"
ORDER = {"number": "1001", "customer": "C-1", "placed_at": "2026-11-02T09:15:00Z",
         "total": {"amount": "129.90", "currency": "EUR"}}  # fmt: skip


@dataclass
class Shop:
    """The scaffolded project in `folder`, with a ledger that tests may write."""

    folder: Path

    def __call__(self, *arguments: str, code: int | None = 0) -> Result:
        """Run a command in this process; `code` is the exit code that is right."""
        result = CliRunner().invoke(app, [*arguments, "--project", str(self.folder)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code is None or result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        """What a command with --json says."""
        return json.loads(self(*arguments, code=code).stdout)

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a process of its own, in the project's folder."""
        return subprocess.run(
            [sys.executable, "-c", "from tieline.cli import main; main()", *arguments],
            cwd=self.folder,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def watching(self, *arguments: str, seconds: float = 6.0) -> subprocess.CompletedProcess[str]:
        """Run a command that does not end, as a process of its own, and stop it with SIGINT."""
        # Whoever runs the tests in the background may have them ignore SIGINT, and children inherit that.
        heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        with subprocess.Popen(
            [sys.executable, "-c", f"{heard}; from tieline.cli import main; main()", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ledger(self, work: Callable[[Stores], T]) -> T:
        """Do something in the project's own ledger."""

        async def do() -> T:
            ledger = SqliteLedger("sqlite:///.tieline/tieline.db", self.folder)
            try:
                return await ledger.transact(work)
            finally:
                await ledger.close()

        return asyncio.run(do())

    def begin(self) -> None:
        """Put a leg into the ledger, as a runner does that starts: level, and with nothing yet."""

        def work(stores: Stores) -> None:
            stores.legs.put(
                LegRow(leg="orders>office", flow="orders", source="shop.order", target="office", entity="Order",
                       ways=[Way(bus="direct", channel=CHANNEL, partitions=1)])
            )  # fmt: skip
            stores.channels.declare(CHANNEL, 1, ["orders>office"])
            stores.legs.move("orders>office", CHANNEL, {0: LegState()})

        self.ledger(work)

    def publish(self, messages: Sequence[Message], sequence: int, to: str = "") -> None:
        """Let the source publish one batch, counted in as a reader does."""
        batch = Batch(source="shop.order", entity="Order", schema=1, sequence=sequence, to=to,
                      time=datetime(2026, 11, 2, 9, 20, tzinfo=UTC), messages=list(messages))  # fmt: skip

        def work(stores: Stores) -> None:
            stores.channels.append(CHANNEL, [(0, sequence, len(messages), pack(batch))])
            if to in {"", "orders>office"}:
                stores.legs.count("orders>office", entered=len(messages))

        self.ledger(work)

    def park(self, *rows: ParkedRow, leg: str = "orders>office") -> None:
        """Park messages that came in."""

        def work(stores: Stores) -> None:
            stores.parked.put(rows)
            stores.legs.count(leg, entered=len(rows))

        self.ledger(work)

    def parked(self) -> list[ParkedRow]:
        """Everything that is parked."""
        return self.ledger(lambda stores: stores.parked.list())


def message(key: str = "1001", counter: int = 1, **changes: Any) -> Message:
    """An order's message; `changes` are of its content."""
    content = ORDER | {"number": key} | changes
    return Message(
        id=f"{key}-{counter}".encode().ljust(16, b"\0"),
        key=key,
        version=Version(1, counter),
        data=msgspec.Raw(msgspec.json.encode(content)),
    )


def parked(
    key: str = "1001", counter: int = 1, reason: Reason = Reason.DEAD, error: str = "", **changes: Any
) -> ParkedRow:
    """An order that waits at the office."""
    sent = message(key, counter, **changes)
    return ParkedRow(
        leg="orders>office",
        key=key,
        message_id=sent.id,
        version=sent.version,
        reason=reason,
        message=pack_message(sent),
        error=error or f"order {key!r} has a total of 0",
        attempt=3,
    )
