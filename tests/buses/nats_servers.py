"""NATS servers on loopback for tests: started, killed and started again at the same port."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = shutil.which(
    "nats-server", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now."""
    open_ = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in open_]
    for one in open_:
        one.close()
    return ports


@dataclass(slots=True)
class Server:
    """One server; `more` is what its configuration says besides."""

    folder: Path
    port: int
    more: str = ""
    name: str = "one"
    host: str = "127.0.0.1"
    monitored: int = 0
    _child: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"nats://{self.host}:{self.port}"

    def tells(self, what: str) -> dict[str, Any]:
        """What it says of itself on its monitoring port; nothing while it is down."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.monitored}/{what}", timeout=2) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:
            return {}

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        config = self.folder / f"{self.name}.conf"
        store, log = self.folder / self.name, self.folder / f"{self.name}.log"
        monitored = f'http: "{self.host}:{self.monitored}"\n' if self.monitored else ""
        text = f'listen: "{self.host}:{self.port}"\nserver_name: {self.name}\nlog_file: "{log}"\n'
        text += f"{monitored}{self.more}\n"
        config.write_text(text if "jetstream" in self.more else f'{text}jetstream {{ store_dir: "{store}" }}\n')
        assert PROGRAM is not None
        self._child = subprocess.Popen([PROGRAM, "-c", str(config)], stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                with socket.create_connection((self.host, self.port), 1) as there:
                    assert there.recv(4) == b"INFO"
                    return
            except OSError:
                assert self._child.poll() is None, log.read_text()
                time.sleep(0.01)
        raise AssertionError(f"{self.name} does not listen")

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        """End it at once, and wait until it is gone."""
        if self._child is not None:
            self._child.send_signal(by)
            if by is signal.SIGSTOP:
                os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WNOWAIT)
            if by in {signal.SIGKILL, signal.SIGTERM}:
                self._child.wait(20)
                self._child = None


@dataclass(slots=True)
class Cluster:
    """Three servers that keep streams together."""

    folder: Path
    servers: Sequence[Server] = ()

    def start(self) -> None:
        """Start all three, and wait until they know each other."""
        ports, routes, monitored = free_ports(3), free_ports(3), free_ports(3)
        known = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.servers = [
            Server(
                self.folder,
                port,
                f'cluster {{ name: three, listen: "127.0.0.1:{route}", routes: [{known}] }}',
                name=f"node-{number}",
                monitored=seen,
            )
            for number, (port, route, seen) in enumerate(zip(ports, routes, monitored, strict=True))
        ]
        for server in self.servers:
            server.start()

    @property
    def url(self) -> str:
        """Where they are."""
        return "nats://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def named(self, name: str) -> Server:
        """The server that calls itself so."""
        return next(server for server in self.servers if server.name == name)

    def kill(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.kill()
