"""Sending what running jobs print to the file server, so that others can read it.

A client of NFS keeps what is written for up to half a minute before it sends it: fine for throughput, not for somebody
who follows a log on another host. A thread of the runner syncs the logs of what runs here, every second; that costs no
call where nothing was written since. A thread, because a server that is away must not keep the runner from anything.

A log is opened as soon as it is there: while it is open here, the end of a job that has printed nothing since does not
wait for a server of NFS 4 that is away (measured: opened a second later, the job's last close hung in its exit, and the
supervisor knew of no end until the server was back).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading

from spool_layout.storage import open_to_read

log = logging.getLogger("spoold.node")

EVERY = 1.0  # seconds


class Flusher:
    """Keeps logs flowing. Nothing happens until `follow` names one."""

    def __init__(self) -> None:
        self._wanted: frozenset[str] = frozenset()
        self._open: dict[str, int] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, paths: frozenset[str]) -> None:
        """The logs of what runs now."""
        if paths == self._wanted:
            return
        self._wanted = paths
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait(EVERY if self._wanted else None)
            self._wake.clear()
            self.flush()

    def flush(self) -> None:
        """One round."""
        wanted = self._wanted
        for path in self._open.keys() - wanted:
            self._forget(path)
        for path in wanted:
            try:
                self._sync(path)
            except OSError:  # not there yet; or the server says so, and whoever writes the log is told the same
                self._forget(path)

    def _sync(self, path: str) -> None:
        if path not in self._open:
            self._open[path] = _opened(path)
        os.fdatasync(self._open[path])

    def _forget(self, path: str) -> None:
        descriptor = self._open.pop(path, -1)
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # the descriptor is gone all the same (close(2))
                os.close(descriptor)


def _opened(path: str) -> int:
    """A log to be synced; of several users' jobs it may be read only, which does as well."""
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except PermissionError:
        return open_to_read(path)
