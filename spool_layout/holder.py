"""Whether the holder of the heads' lock is dead, where one kernel sees both: locks/holder.json, and a lock on a record.

filelock's lock changes hands when its holder's record was not renewed for a while, for nobody else can tell a holder
that is dead from one that is slow. On a disk of this host the kernel can. So a holder there opens its record, locks it
(flock), and then leaves a note that names the record: the kernel drops the flock when the process is gone, however it
ended and in whatever container, and never while it is merely stopped. Whoever waits believes that the holder is dead
when it gets that flock, and the note says

- this boot, and the same device under locks/: then both ask the same table of locks; or
- another boot of this machine.

All else is unknown, and is waited for: no note (a holder over NFS leaves none), one that cannot be read, or one that
names another record. A note is never removed, since one that names no present record says nothing. Cut between lock
and note: unknown. Cut between the end of a hold and the end of its flock: the record is gone by then.

The same descriptor renews the record, with two calls where filelock takes 57: its content is what others go by.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import threading
from typing import Final

from spool_layout.errors import Damaged
from spool_layout.paths import FORMAT, Spool
from spool_layout.records import HolderNote, decode, encode
from spool_layout.storage import Disk, open_to_read

_RECORD: Final = re.compile(r"[0-9a-f]{32}\Z")


def boot() -> str:
    """What tells this boot of the host from any other; "" where it is not told."""
    return _said("/proc/sys/kernel/random/boot_id")


@functools.cache
def machine() -> str:
    """What tells this machine from others: machine-id(5), and the host's name, since clones share the first."""
    import hashlib
    import socket

    said = _said("/etc/machine-id")
    return hashlib.sha256(f"skyspool {said} {socket.gethostname()}".encode()).hexdigest()[:32] if said else ""


def _said(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


class Holder:
    """Who holds the lock of the heads, by the kernel of this host. For a spool on a disk of this host alone."""

    DEAD, LIVES, UNKNOWN = "dead", "lives", "unknown"

    def __init__(self, spool: Spool) -> None:
        self._spool, self._disk = spool, Disk()
        self._descriptor = -1
        self._closing: Final = threading.Lock()  # filelock's thread renews: never what another file has become

    # ---- of the holder

    def keep(self, record: str) -> None:
        """We hold the lock, by this record, and everybody here is to know when we are gone. Raises OSError."""
        self.let_go()
        path = self._spool.lock_record(record)
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note = HolderNote(FORMAT, record, boot(), machine(), os.stat(self._spool.locks).st_dev)
            self._disk.publish(self._spool.holder, encode(note), durable=False)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def renew(self, data: bytes) -> bool:
        """Write the record anew. False: it was removed, so another head has the lock. Raises OSError."""
        with self._closing:
            if self._descriptor < 0 or not os.fstat(self._descriptor).st_nlink:
                return False
            os.pwrite(self._descriptor, data, 0)
            return True

    def let_go(self) -> None:
        """The record is gone, or given up: others need not think that it lives."""
        with self._closing:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    # ---- of who waits

    def tells(self) -> tuple[str, str]:
        """The record that the note names, and DEAD, LIVES or UNKNOWN: what is known of the process that left it."""
        try:
            data = self._disk.read(self._spool.holder)
            note = decode(data, HolderNote, self._spool.holder) if data else None
        except (OSError, Damaged):
            note = None
        if note is None or not note.boot or not _RECORD.match(note.record):
            return "", self.UNKNOWN
        return note.record, self._judged(note)

    def _judged(self, note: HolderNote) -> str:
        now = boot()
        here = note.boot == now
        try:
            if not now or not (self._is_of_this_disk(note) if here else note.machine and note.machine == machine()):
                return self.UNKNOWN
            if self._is_free(note.record):
                return self.DEAD
            return self.LIVES if here else self.UNKNOWN
        except FileNotFoundError:  # given back; or a power loss took the record and left the lock, held by it
            return self.UNKNOWN if here else self.DEAD
        except OSError:
            return self.UNKNOWN

    def _is_of_this_disk(self, note: HolderNote) -> bool:
        return note.device == os.stat(self._spool.locks).st_dev

    def _is_free(self, record: str) -> bool:
        """Whether no process has the flock of a record."""
        descriptor = open_to_read(self._spool.lock_record(record))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask do not see each other
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
