"""That a head lives: heads/NAME.json, renewed while it does; and, by its change time, the file server's clock.

Only people and clients go by these files; who leads is decided elsewhere (leadership.py). A head that cron drives has
one file a host and leaves it, since it lives from one run to the next.
"""

from __future__ import annotations

import logging
import os
import socket
import time

from spool_layout.paths import FORMAT, Spool
from spool_layout.records import HeadStatus, encode
from spool_layout.storage import Disk

log = logging.getLogger("spoold.head")

CRON = 60.0  # seconds between two runs of `--once`, at most
STANDBY = 15.0  # seconds between two signs of a head that stands by: nothing waits for them


class Presence:
    """The sign of life of one head process. beat: seconds between two renewals while it leads."""

    def __init__(self, spool: Spool, disk: Disk, beat: float, version: str, *, once: bool) -> None:
        self.disk, self.version = disk, version
        self.host, self.role, self.epoch = socket.gethostname(), "", 0
        self.since = 0.0  # when it took that role, by the file server's clock
        self.path = spool.head(f"{self.host}-{'cron' if once else os.getpid()}")
        self.intervals = {"leading": beat, "standby": max(beat, STANDBY), "once": CRON}
        self._renewed: float | None = None
        self._offset = time.time() - time.monotonic()  # of the file server's clock to our monotonic one, seconds

    def say(self, role: str, epoch: int = 0) -> None:
        """Write the file anew when the role changed, else renew it when that is due."""
        now = time.monotonic()
        if (role, epoch) != (self.role, self.epoch):
            since = self.since if role == self.role else None  # a new epoch is no new role
            self._write(role, epoch, since)
            if self._renewed is None:  # only the file's change time tells what the server's clock says
                self._touch()
                self._write(role, epoch, since)
            self.role, self.epoch = role, epoch
        elif self.due() > 0:
            return
        self._touch()
        self._renewed = now

    def _write(self, role: str, epoch: int, since: float | None) -> None:
        self.since = self.clock() if since is None else since
        status = HeadStatus(
            format=FORMAT,
            host=self.host,
            pid=os.getpid(),
            role=role,
            epoch=epoch,
            since=self.since,
            interval=self.intervals[role],
            version=self.version,
        )
        self.disk.publish(self.path, encode(status), durable=False)

    def _touch(self) -> None:
        self._offset = self.disk.touch(self.path) - time.monotonic()

    def due(self) -> float:
        """Seconds until the next renewal is due."""
        return (self._renewed or 0.0) + self.intervals[self.role] - time.monotonic()

    def clock(self) -> float:
        """Seconds since 1970 by the file server's clock, from the last renewal on: the same for all heads, whatever
        their hosts' clocks say, and whoever sets them."""
        return time.monotonic() + self._offset

    def leave(self) -> None:
        """Take the sign away."""
        try:
            self.disk.remove(self.path)
        except OSError as error:
            log.warning("%s: %s", self.path, error)
