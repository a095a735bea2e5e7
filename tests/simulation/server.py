"""A file server: directories, inodes, times by its own clock in coarse steps. Each call is one atomic operation.

It loses nothing that it acknowledged. Inode numbers of removed files are given again, as on most file systems, so a
number alone names no file for ever; `Inode` as an object does, as an NFS file handle with its generation does.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

BASE = 1_790_000_000.0  # seconds since 1970 when a run begins, by a clock that is right


class Inode:
    """A file or a directory. Times in nanoseconds."""

    __slots__ = ("_of", "_told", "ctime", "data", "entries", "mode", "mtime", "nlink", "number", "uid")

    def __init__(self, number: int, mode: int, uid: int, now: int) -> None:
        self.number, self.mode, self.uid, self.nlink = number, mode, uid, 1
        self.data = b""
        self.entries: dict[str, Inode] | None = {} if stat.S_ISDIR(mode) else None
        self.mtime = self.ctime = now
        self._of: tuple[int, ...] = ()

    def stat(self) -> os.stat_result:
        """What stat(2) tells: the same object as before where nothing has changed, since most look again and again."""
        of = (self.mode, self.nlink, len(self.data), self.mtime, self.ctime)
        if of != self._of:
            self._of, self._told = of, self._stat()
        return self._told

    def _stat(self) -> os.stat_result:
        size = len(self.data)
        m, c = self.mtime / 1e9, self.ctime / 1e9
        first = (self.mode, self.number, 7, self.nlink, self.uid, self.uid, size, int(m), int(m), int(c))
        return os.stat_result(
            (*first, m, m, c, self.mtime, self.mtime, self.ctime, 4096, (size + 511) // 512, 0)  # type: ignore[arg-type]
        )


class Server:
    """The export. clock: true seconds of the run. step: of its time stamps, nanoseconds."""

    def __init__(self, root: str, clock: Callable[[], float], skew: float, step: int) -> None:
        self.root, self.clock, self.skew, self.tick = root, clock, skew, step
        self.boots = 0
        self.down_until = 0.0
        self._numbers = 100
        self._spare: list[int] = []
        self.top = Inode(2, stat.S_IFDIR | 0o755, 0, self.now())
        self.dirs: dict[str, Inode] = {root: self.top}

    def now(self) -> int:
        """Its clock, in its steps."""
        return int((BASE + self.clock() + self.skew) * 1e9) // self.tick * self.tick

    # ---- finding

    def folder(self, path: str) -> Inode:
        """The directory at a path."""
        found = self.dirs.get(path)
        if found is None:
            raise self._missing(path)
        return found

    def _missing(self, path: str) -> OSError:
        parent = os.path.dirname(path)
        holder = self.dirs.get(parent)
        is_file = holder is not None and path.rpartition("/")[2] in (holder.entries or {})
        number = errno.ENOTDIR if is_file else errno.ENOENT
        return OSError(number, os.strerror(number), path)

    def lookup(self, path: str) -> Inode:
        """What stands at a path."""
        if path in self.dirs:
            return self.dirs[path]
        parent, _, name = path.rpartition("/")
        entries = self.folder(parent).entries
        assert entries is not None
        found = entries.get(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _place(self, path: str) -> tuple[Inode, dict[str, Inode], str]:
        parent, _, name = path.rpartition("/")
        folder = self.folder(parent)
        assert folder.entries is not None
        return folder, folder.entries, name

    # ---- changing

    def _touch(self, folder: Inode) -> None:
        folder.mtime = folder.ctime = self.now()

    def _number(self) -> int:
        if self._spare:
            return self._spare.pop()
        self._numbers += 1
        return self._numbers

    def _drop(self, inode: Inode) -> None:
        inode.nlink -= 1
        inode.ctime = self.now()
        if not inode.nlink:
            self._spare.append(inode.number)

    def create(self, path: str, mode: int, uid: int) -> Inode:
        """A new file; FileExistsError."""
        folder, entries, name = self._place(path)
        if name in entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        entries[name] = inode = Inode(self._number(), stat.S_IFREG | mode, uid, self.now())
        self._touch(folder)
        return inode

    def mkdir(self, path: str, mode: int, uid: int) -> None:
        """A new directory; FileExistsError."""
        folder, entries, name = self._place(path)
        if name in entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        entries[name] = self.dirs[path] = Inode(self._number(), stat.S_IFDIR | mode, uid, self.now())
        self._touch(folder)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        folder, entries, name = self._place(path)
        if (found := entries.get(name)) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if found.entries:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        del entries[name], self.dirs[path]
        self._drop(found)
        self._touch(folder)

    def unlink(self, path: str) -> None:
        """Remove a name of a file."""
        folder, entries, name = self._place(path)
        if (found := entries.get(name)) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        del entries[name]
        self._drop(found)
        self._touch(folder)

    def rename(self, source: str, target: str) -> None:
        """Rename a file; one that stands at the target is gone."""
        folder, entries, name = self._place(source)
        into, others, other = self._place(target)
        if (found := entries.get(name)) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        if (victim := others.get(other)) is found:
            return
        if victim is not None:
            self._drop(victim)
        del entries[name]
        others[other] = found
        found.ctime = self.now()
        self._touch(folder)
        self._touch(into)

    def link(self, source: str, target: str) -> None:
        """A second name of a file; FileExistsError."""
        found = self.lookup(source)
        into, others, name = self._place(target)
        if name in others:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        others[name] = found
        found.nlink += 1
        found.ctime = self.now()
        self._touch(into)

    def write(self, inode: Inode, data: bytes, offset: int) -> None:
        """Bytes of a file."""
        if not inode.nlink:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        old = inode.data
        if offset == len(old):
            inode.data = old + data
        else:
            inode.data = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]
        inode.mtime = inode.ctime = self.now()

    def set_times(self, inode: Inode, modified: int | None) -> None:
        """utime(2): to its own now, or to a given time."""
        inode.ctime = self.now()
        inode.mtime = inode.ctime if modified is None else modified // self.tick * self.tick

    def chmod(self, inode: Inode, mode: int) -> None:
        """Change the mode."""
        inode.mode = stat.S_IFMT(inode.mode) | mode
        inode.ctime = self.now()
