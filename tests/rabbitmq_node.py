"""A RabbitMQ server of the tests' own: a node with private ports, folder and cookie, which a test may stop."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

PROGRAMS: Final = Path("/usr/lib/rabbitmq/bin")  # Debian's; the ones in /usr/sbin change to the service's user
PATIENCE: Final = 120.0  # seconds until a node that does not answer has failed
HOW: Final = "`make services` as root installs Debian's rabbitmq-server; it need not be running"

# An old server may leave the queue of a single node without a leader after a crash (rabbitmq-server issue 10070).
_ELECT: Final = """
[ra:trigger_election(amqqueue:get_pid(Queue))
  || Queue <- rabbit_amqqueue:list(), amqqueue:get_type(Queue) =:= rabbit_quorum_queue].
"""
# Looking often at what is not acknowledged makes the server's own limit show within a test.
_ADVANCED: Final = "[{rabbit, [{channel_tick_interval, 500}]}]."


def installed() -> bool:
    """Whether there is a server to start."""
    return (PROGRAMS / "rabbitmq-server").exists() and shutil.which("epmd") is not None


class Node:
    """A node that listens at one address. `close` ends it and removes all it wrote."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.folder = Path(tempfile.mkdtemp(prefix="tieline-rabbitmq-"))
        self.port, distribution, names = (_free_port() for _ in range(3))
        self.url = f"amqp://guest:guest@{host}:{self.port}/"
        configuration = (
            f"listeners.tcp.1 = {host}:{self.port}\ndisk_free_limit.absolute = 1MB\nloopback_users = none\n"
        )
        (self.folder / "rabbitmq.conf").write_text(configuration)
        (self.folder / "advanced.config").write_text(_ADVANCED)
        (self.folder / "enabled_plugins").write_text("[].")
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text("tieline")
        cookie.chmod(0o600)
        self._environment = os.environ | {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tieline{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "no-environment"),
        }
        self._names = subprocess.Popen(["epmd", "-port", str(names)], env=self._environment)
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, always at the same port; returns when it takes connections."""
        with (self.folder / "out").open("ab") as out:
            command = [str(PROGRAMS / "rabbitmq-server")]
            self._server = subprocess.Popen(
                command, env=self._environment, stdout=out, stderr=out, start_new_session=True
            )
        until = time.monotonic() + PATIENCE
        while not _answers(self.host, self.port):
            assert self._server.poll() is None, (self.folder / "out").read_text()[-4_000:]
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.1)

    def start_again(self) -> None:
        """After a kill: do what an operator does for queues that an old server leaves without a leader."""
        self.start()
        self.control("await_startup")
        self.evaluate(_ELECT)

    def kill(self) -> None:
        """The power goes: nothing is written any more."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None

    def stop(self) -> None:
        """In good order, as an administrator does it."""
        if self._server is not None:
            self.control("stop")
            self._server.wait(PATIENCE)
            self._server = None

    def control(self, *arguments: str) -> str:
        """What rabbitmqctl says of this node."""
        command = [str(PROGRAMS / "rabbitmqctl"), "--quiet", *arguments]
        told = subprocess.run(command, env=self._environment, capture_output=True, check=False, timeout=PATIENCE)
        assert told.returncode == 0, (told.stdout + told.stderr).decode()
        return told.stdout.decode()

    def evaluate(self, expression: str) -> str:
        """What an Erlang expression gives in this node."""
        return self.control("eval", expression)

    def close(self) -> None:
        """End it and remove its files."""
        self.kill()
        self._names.terminate()
        self._names.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
