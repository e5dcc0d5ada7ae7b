"""Two hosts on one machine: a network namespace for workers, and the cable between it and everything else.

Cut, the cable takes what is sent and brings nothing, and no end is told: connections are half open. A *deaf* host
is still heard by the others and hears nothing from them. Only root can do this, with Debian's iproute2.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.conftest import missing

HOW = "run as root, with iproute2 (`make services` installs it)"


def ip(*words: str) -> None:
    """Run ``ip``; what it complains of is told."""
    ran = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise OSError(f"ip {' '.join(words)}: {ran.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Cable:
    """`here` is the address of this side, where servers listen; `there` is that of the other host, `name`."""

    name: str
    here: str
    there: str
    end: str

    @property
    def within(self) -> Sequence[str]:
        """What a command is run by on the other host."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Nothing comes through any more, in either direction."""
        ip("link", "set", self.end, "down")

    def mend(self) -> None:
        """The opposite of `cut` and `deafen`."""
        ip("link", "set", self.end, "up")
        subprocess.run(["ip", "route", "del", "blackhole", self.there], capture_output=True, check=False)

    def deafen(self) -> None:
        """What is sent to the other host is lost; what comes from there arrives."""
        ip("route", "add", "blackhole", self.there)


@contextmanager
def two_hosts() -> Iterator[Cable]:
    """Another host, and the cable to it.

    Servers listen at an address that is not the cable's own, which would go with it when it is cut.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        missing("no network can be cut", HOW)
    word, net = secrets.token_hex(3), f"10.{secrets.randbelow(50) + 200}.{secrets.randbelow(250) + 1}"
    name, end, servers = f"tieline-{word}", f"tl{word}a", f"tl{word}s"
    cable = Cable(name, f"{net}.129", f"{net}.2", end)
    made = []
    try:
        try:
            ip("netns", "add", name)
            made.append(("netns", "del", name))
            ip("link", "add", end, "type", "veth", "peer", "name", f"{end}b", "netns", name)
            made.append(("link", "del", end))
            ip("link", "add", servers, "type", "veth", "peer", "name", f"{servers}b")
            made.append(("link", "del", servers))
            ip("addr", "add", f"{cable.here}/32", "dev", servers)
            ip("link", "set", servers, "up")
            ip("addr", "add", f"{net}.1/30", "dev", end)
            ip("link", "set", end, "up")
            for words in (
                ("link", "set", "lo", "up"),
                ("addr", "add", f"{cable.there}/30", "dev", f"{end}b"),
                ("link", "set", f"{end}b", "up"),
                ("route", "add", cable.here, "via", f"{net}.1"),
            ):
                ip("-n", name, *words)
        except OSError as error:
            missing("no network can be cut", str(error))
        yield cable
    finally:
        subprocess.run(["ip", "route", "del", "blackhole", cable.there], capture_output=True, check=False)
        for words in reversed(made):
            ip(*words)
