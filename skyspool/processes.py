"""What still runs of something that lies in one directory of our own: found by that directory, and ended.

Used only for the demo's temporary directory, whose name nobody else has: a process belongs to it if its command line
names the directory or if it stands in it.
"""

from __future__ import annotations

import os
import signal
import time

PATIENCE = 1.0  # nothing here has anything to lose
POLL = 0.05


def of(place: str) -> list[int]:
    """The processes of this user that name the directory in their command line, or stand in it; not ourselves."""
    return [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != os.getpid() and _is_of(pid, place)
    ]


def _is_of(pid: int, place: str) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read()
        stands = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return False
    return bool(line) and (os.fsencode(place) in line or stands == place or stands.startswith(place + os.sep))


def end_all(place: str) -> None:
    """SIGTERM, then SIGKILL, to what is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in of(place):
            try:
                os.kill(pid, number)
            except OSError:
                continue
        end = time.monotonic() + PATIENCE
        while of(place) and time.monotonic() < end:
            time.sleep(POLL)
