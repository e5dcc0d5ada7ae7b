"""Runs one command and ends all of it when whoever started it is gone, however that happened.

Run as a script by `children.Child`. The starter holds the other end of standard input: when it closes it,
or dies, or is killed, the command's whole process group is ended here. The command's process id is the only
line on standard output; what the command itself prints goes to standard error, which is its log.
"""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading
from types import FrameType

GRACE = 8.0  # seconds between asking and killing


def main() -> None:
    """`tether.py USER COMMAND…`; USER is `-` for the present one."""
    user, command = sys.argv[1], sys.argv[2:]
    child = subprocess.Popen(  # noqa: S603  the command is the demo's own
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,
        user=None if user == "-" else user,
        group=None if user == "-" else pwd.getpwnam(user).pw_gid,
        extra_groups=None if user == "-" else [],
    )

    def asked(_number: int, _frame: FrameType | None) -> None:
        end(child)

    signal.signal(signal.SIGTERM, asked)
    print(child.pid, flush=True)  # noqa: T201  this is the protocol
    threading.Thread(target=watch, args=(child,), daemon=True).start()
    code = child.wait()
    _signal(child.pid, signal.SIGKILL)  # what the command left behind in its group
    os._exit(code if code >= 0 else 128 - code)


def watch(child: subprocess.Popen[bytes]) -> None:
    """Wait until standard input ends, then end the child."""
    while os.read(sys.stdin.fileno(), 64):
        pass
    end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask the group to stop; kill what has not after `GRACE` seconds."""
    _signal(child.pid, signal.SIGTERM)
    killer = threading.Timer(GRACE, _signal, (child.pid, signal.SIGKILL))
    killer.daemon = True
    killer.start()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    main()
