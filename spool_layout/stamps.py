"""What tells that a directory or a file has changed, without reading it again: its time stamps.

They have steps, and of two changes within one step the second leaves the stamp that the first one left. So a stamp is
believed only where any later change gives another one, and that is told in three ways:

- `Stamp`, on a disk of this host: of a file or directory whose last change is longer ago than a step.
- `Glance`, anywhere: of a directory whose stamp was seen unchanged for longer than a step.
- `SharedDisk`, for directories of ours on a file server: it gives them stamps that no server's clock will give.

This is a part of the port to the spool's disk (storage.py), and nothing in here decides anything either.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from spool_layout.storage import Disk, Entry

SETTLED = 50_000_000  # nanoseconds; steps of the time stamps on a disk of this host have 10 ms at most


class Stamp(NamedTuple):
    """By what a file or directory on a disk of this host is known not to have changed. Not for a file server: what its
    client says of a name may be old."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, info: os.stat_result) -> Stamp:
        """What the file system says now."""
        return cls(info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    def is_settled(self, now: int) -> bool:
        """Whether any change after `now` (nanoseconds since 1970, by this host's clock) gives another stamp: one within
        the same step of the clock as the last change does not, nor where the file system keeps whole seconds."""
        return now - self.changed_ns >= SETTLED and self.changed_ns % 1_000_000_000 != 0


class SharedDisk(Disk):
    """A disk that other hosts change (NFS), for daemons that own the spool's directories: listings that hide nothing.

    A client of NFS 3, and of 4 where the server keeps no change counter, knows a directory's state by its time stamps,
    which have steps of 1 to 10 ms. Of two changes within one step, with a listing in between, the second one stays
    unseen for good (measured on NFS 3: in 22 of 40 bursts of renames). So whoever lists here sets a modification time
    that no server's clock will ever give, before it lists: any later change shows. Where it is still there, nothing
    has changed, and what was listed then is true.
    """

    REMEMBERED = 32  # directories: more than a head looks at again and again

    def __init__(self) -> None:
        self._marks: dict[str, int] = {}  # directory -> the time that we gave it
        self._listed: dict[str, list[Entry]] = {}  # what was listed under that mark

    def list(self, path: str) -> list[Entry]:
        """As Disk.list. Where the directory is not ours to mark, a plain listing."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self._differs(path, descriptor) or path not in self._listed:
                self._listed.pop(path, None)  # the mark is new already: should the listing fail, the old one is not it
                with os.scandir(descriptor) as found:
                    self._listed[path] = [Entry(entry.name, entry.inode()) for entry in found]
            return list(self._listed[path])
        finally:
            os.close(descriptor)

    def _differs(self, path: str, descriptor: int) -> bool:
        mark = self._marks.pop(path, 0)
        differs = not mark or os.fstat(descriptor).st_mtime_ns != mark
        self._marks[path] = _mark(descriptor) if differs else mark
        while len(self._marks) > self.REMEMBERED:
            oldest = next(iter(self._marks))
            del self._marks[oldest]
            self._listed.pop(oldest, None)
        return differs


class Glance:
    """Whether a directory may have changed since somebody acted on it last, by its time stamps, which are left alone;
    or, on a disk of this host, whether a file was put in place of it.

    Several changes within one step of the server's clock have one stamp. So a stamp is believed when it is SETTLED
    seconds old, and what is there is looked at once more then. One call to a server where nothing has changed.
    """

    SETTLED = 1.0  # seconds: a hundred steps of a slow clock

    def __init__(self, path: str, stamp: Callable[[str], object] | None = None) -> None:
        """stamp: what tells the state of what is there, instead of `stamp_of`; of a name, it is another one with each
        file that is put there, so that before it has settled it is not looked at again and again."""
        self.path, self._now, self._of_name = path, stamp or stamp_of, stamp is stamp_of_name
        self._stamp: object = -1
        self._since, self._settled = 0.0, False

    def changed(self) -> bool:
        """Whether to look at what is in it."""
        another = self.note()
        if self._settled:
            return False
        self._settled = time.monotonic() - self._since >= self.SETTLED
        return another or self._settled or not self._of_name

    def note(self) -> bool:
        """Take in the present stamp, whether it is another one: also after a change of one's own, so that it settles
        sooner, and before what is there is looked at for another reason."""
        stamp = self._now(self.path)
        if another := stamp != self._stamp:
            self._stamp, self._since, self._settled = stamp, time.monotonic(), False
        return another


def stamp_of(directory: str) -> int:
    """A directory's time stamp as the server has it now, in nanoseconds, by opening it. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


def stamp_of_name(path: str) -> tuple[int, int] | None:
    """Which file has this name on a disk of this host, and its change time in nanoseconds, by one call; None: none."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return None
    return info.st_ino, info.st_ctime_ns


MARK_BACK = 1_000_000_000  # nanoseconds that a mark is set back: the server's clock will not give that time again


def _mark(directory: int) -> int:
    """Give a directory a modification time of our own; what it is then, to the server's precision. 0: that was
    overtaken by a change, or the directory is not ours to mark."""
    last = os.fstat(directory).st_mtime_ns
    wanted = last - MARK_BACK - int.from_bytes(os.urandom(3))
    try:
        os.utime(directory, ns=(last, wanted))
    except PermissionError:
        return 0
    given = os.fstat(directory).st_mtime_ns
    return given if given <= wanted else 0
