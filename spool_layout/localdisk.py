"""The port to a disk of this host: what `Disk` promises, for daemons, by fewer calls of the kernel.

What this kernel says of a name here is true at that moment. So:

- A file that only we make longer is kept open from one time to the next. Each time its name is asked for first: what is
  written goes to the file that stands there, or nowhere.
- A directory is not listed again while its stamp says that nothing came or went (`Stamp`); now and then it is anyway.
- Where a new file had its mode of itself, those that follow it in that directory have, for a while.
- A small text is read by open, read and close, where whoever wants it knows by a digest that it is whole.

Only where surely no other kernel has the disk mounted (`Mount.of_one_kernel`). What is remembered here a restart does
without; cut anywhere, there is on the disk what `Disk` would have left.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple

from spool_layout.stamps import Stamp
from spool_layout.storage import Disk, Entry, has_default_acl, read_at_once

ANEW = 10.0  # seconds after which a directory is listed anyway: whatever a stamp may hide shows then
FEW = 1000  # names in a listing that is remembered
KEPT = 4  # files that are kept open: an epoch's events, a day's outcomes, and those before them
TEXT = 64 << 10  # bytes of a text that is read at once


class _Listed(NamedTuple):
    """A directory as it was listed at a time of the monotonic clock."""

    stamp: Stamp
    at: float
    entries: list[Entry]


class _Kept(NamedTuple):
    """A file that is open, by which no other one can have its inode."""

    descriptor: int
    device: int
    inode: int


class LocalDisk(Disk):
    """For one process."""

    def __init__(self) -> None:
        self._listed: dict[str, _Listed] = {}
        self._kept: dict[str, _Kept] = {}  # by path; the one that was used last comes last
        self._given: dict[tuple[str, int], float] = {}  # directory and mode -> when a new file had it of itself

    def __del__(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """Close what is kept open."""
        while self._kept:
            os.close(self._kept.popitem()[1].descriptor)

    def list(self, path: str) -> list[Entry]:
        """As Disk.list."""
        began, now, info = time.time_ns(), time.monotonic(), self.stat(path)
        known, stamp = self._listed.pop(path, None), None
        if info is not None and stat.S_ISDIR(info.st_mode):  # of a link, the stamp is not that of what it leads to
            stamp = Stamp.of(info)
        if known is None or known.stamp != stamp or now - known.at >= ANEW:
            entries = super().list(path)
            if stamp is None or not stamp.is_settled(began) or len(entries) > FEW:
                return entries
            known = _Listed(stamp, now, entries)
        self._listed[path] = known
        return [*known.entries]

    def text(self, path: str, limit: int, is_whole: Callable[[bytes], bool]) -> bytes:
        """As Disk.text: mostly one read tells. What it does not tell, an inspection does."""
        try:
            data = read_at_once(path, min(TEXT, limit + 1))
        except OSError:
            data = b""
        return data if is_whole(data) else super().text(path, limit, is_whole)

    def _give_mode(self, descriptor: int, path: str, mode: int) -> bool:
        kind, now = (os.path.dirname(path), mode), time.monotonic()
        if now - self._given.get(kind, float("-inf")) < ANEW:
            return True
        given = super()._give_mode(descriptor, path, mode)
        self._given.pop(kind, None)
        if given:
            self._given[kind] = now
        return given

    def gives_modes(self, directory: str) -> bool:
        """As Disk.gives_modes: it passes on neither its group (set-group-ID) nor an access control list."""
        info = self.stat(directory)
        if info is None or not stat.S_ISDIR(info.st_mode) or info.st_mode & stat.S_ISGID:
            return False
        return not has_default_acl(directory)

    def _open_to_add(self, path: str, flags: int, mode: int = 0o644) -> tuple[int, os.stat_result]:
        kept = self._kept.pop(path, None)
        if kept is not None:
            info = self.stat(path)
            if info is not None and (info.st_dev, info.st_ino) == (kept.device, kept.inode):
                self._kept[path] = kept
                return kept.descriptor, info
            os.close(kept.descriptor)
        descriptor, info = super()._open_to_add(path, flags, mode)
        self._kept[path] = _Kept(descriptor, info.st_dev, info.st_ino)
        while len(self._kept) > KEPT:
            os.close(self._kept.pop(next(iter(self._kept))).descriptor)
        return descriptor, info

    def _close_added(self, descriptor: int) -> None:
        """It is kept."""
