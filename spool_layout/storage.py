"""The one port to the spool's disk: the dozen calls through which anything here touches it.

Rules, each from measurement on NFS 3 and 4.2 or from the model of the protocol:

- A file is read by opening it anew by path, to the end, and closed. ESTALE (a file replaced while it is read,
  version 3) means: open again.
- A name that was once missing may stay missing for a minute, until its directory is opened. So `read` does that, and
  still nobody concludes absence from `read`, only from `list`, or from trying to create or to move.
- A listing is as fresh as the directory's time stamps: see stamps.py.
- rename, link, unlink and mkdir may succeed and yet report an error, when the reply was lost and the call was
  repeated. Each call here looks, after such an error, whether it happened after all.
- What gets a public name is complete: written under a private name, fsynced, then renamed or linked.
- Users' files are opened without following links and without blocking, and only regular files are read.

Nothing in here decides anything. Behind `Disk` tests put a recorder, a fault injector and a simulated disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
RETRIES = 5  # of a call that says ESTALE; a file replaced five times within one read does not happen
PIECE = 1 << 20  # bytes of one read
PRIVATE_PREFIX = ".part-"
T = TypeVar("T")


class Entry(NamedTuple):
    """A name in a directory, with the inode that the listing itself tells."""

    name: str
    inode: int


class Seen(NamedTuple):
    """A file as it was when opened once: what it says, and what the file system says of it."""

    data: bytes
    inode: int
    uid: int
    links: int
    size: int
    changed: float  # st_ctime in seconds: the server's clock, which no user can set
    changed_ns: int
    mode: int
    modified_ns: int = 0

    def is_still(self, info: os.stat_result) -> bool:
        """Whether it is the same file, unchanged, by all that the file system says of it. A move changes its change
        time alone, so that this is not asked for."""
        now = (info.st_mode, info.st_ino, info.st_uid, info.st_nlink, info.st_size, info.st_mtime_ns)
        return now == (self.mode, self.inode, self.uid, self.links, self.size, self.modified_ns)


class Space(NamedTuple):
    """Room on a file system, for us: bytes and inodes, left and in all. Some file systems say 0 inodes in all."""

    free: int
    total: int
    inodes: int
    inodes_total: int


class NotRegular(OSError):
    """A link, FIFO, device, directory or socket stands where a file should."""


class Disk:
    """The real disk. Paths are absolute. Errors are OSError, apart from what each call says."""

    # ---- look

    def list(self, path: str) -> list[Entry]:
        """Names in a directory, dot files too, in no order. Fresh on NFS. A missing one raises FileNotFoundError."""
        with os.scandir(path) as entries:
            return [Entry(entry.name, entry.inode()) for entry in entries]

    def names(self, path: str) -> Iterator[str]:
        """The same names one after the other, for a directory of a million; of what changes meanwhile some may lack."""
        with os.scandir(path) as entries:
            for entry in entries:
                yield entry.name

    def read(self, path: str, start: int = 0) -> bytes | None:
        """What a file of ours says now, from byte `start` on, or None where opening it says that it is missing."""
        return insist(path, lambda: read_once(path, start))

    def inspect(self, path: str, limit: int, known: Seen | None = None) -> Seen:
        """A user's file, opened once without following a link and without waiting for a FIFO's writer.

        limit: bytes; of a larger file the first `limit` + 1 are read, its size tells the rest.
        known: what a file said, up to the same limit; if it still is that file, opened anew, it is not read again.
        Raises NotRegular for anything but a regular file, FileNotFoundError, PermissionError.
        """
        for _ in range(RETRIES - 1):
            try:
                return self._inspect(path, limit, known)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
        return self._inspect(path, limit, known)

    def _inspect(self, path: str, limit: int, known: Seen | None) -> Seen:
        try:
            descriptor = open_to_read(path, os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV):
                raise NotRegular(error.errno, "not a regular file", path) from error
            raise
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise NotRegular(errno.EINVAL, f"not a regular file but {_kind(info.st_mode)}", path)
            if known is not None and known.is_still(info):
                return _seen(info, known.data)
            return _seen(info, _read_all(descriptor, info.st_size, limit + 1))
        finally:
            os.close(descriptor)

    def text(self, path: str, limit: int, is_whole: Callable[[bytes], bool]) -> bytes:
        """What a file says, by an `inspect`; is_whole tells, mostly by a digest, whether some bytes are all of it. What
        is returned need not satisfy it. Raises what `inspect` does."""
        return self.inspect(path, limit).data

    def is_held_for_writing(self, path: str) -> bool:
        """Whether some process of this host has the file open for writing (F_SETLEASE; local disks only).

        Also where that cannot be told now: it is asked again, while a file that is taken too early is taken for good.
        """
        try:
            return self._is_held(path)
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _is_held(self, path: str) -> bool:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        finally:
            os.close(descriptor)
        return False

    def stat(self, path: str) -> os.stat_result | None:
        """What the file system says of a name, links not followed; None where it is missing. May be stale on NFS."""
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None

    def gives_modes(self, directory: str) -> bool:
        """Whether what is made in a directory surely gets the mode and the group that its maker gives it."""
        return False

    def room(self, path: str) -> Space:
        """What the file system under path has left. One call to a file server."""
        info = os.statvfs(path)
        size = info.f_frsize
        return Space(info.f_bavail * size, info.f_blocks * size, info.f_favail, info.f_files)

    # ---- write

    def publish(
        self, path: str, data: bytes, mode: int = 0o644, durable: bool = True, held: Held | None = None
    ) -> None:
        """Put a whole file in place of what is there. A reader sees the old or the new one, never a mix.

        held: keeps the file open for writing until the next one is published: no server of NFS 4 gives delegations of
        it meanwhile, so that no reader of any kind can hold up the next `publish` (see `read_without_delegations`).
        """
        private = _private_name(path)
        try:
            descriptor = _fill(private, data, mode, durable, self._give_mode)
            if held is None:
                os.close(descriptor)
            else:
                held.take(descriptor)  # before the rename: an open file that is replaced leaves a .nfs name
            _replace(private, path)
        except OSError:
            _discard(private)
            raise

    def publish_new(self, path: str, data: bytes, mode: int = 0o644) -> bool:
        """Put a whole file there if the name is free. True: it is ours; False: somebody else's is there.

        link(2) never replaces; its answer is not trusted after an error, the link count is.
        """
        private = _private_name(path)
        try:
            os.close(_fill(private, data, mode, True, self._give_mode))
            won = _link(private, path)
        finally:
            _discard(private)
        self.sync(os.path.dirname(path))
        return won

    def _give_mode(self, descriptor: int, path: str, mode: int) -> bool:
        """Give a new file the mode with which it was made. True: it had it."""
        given = stat.S_IMODE(os.fstat(descriptor).st_mode) == mode
        if not given:  # the umask took something; costs a server a call
            os.fchmod(descriptor, mode)
        return given

    def append(self, path: str, data: bytes, offset: int) -> None:
        """Write `data` at the end of a file of which `offset` bytes are ours and valid, and make it durable.

        One writer for each file. Raises OSError where the file is shorter or longer than offset: then
        somebody else wrote, or an earlier append failed half way.
        """
        descriptor, info = self._open_to_add(path, os.O_WRONLY)
        try:
            if info.st_size != offset:
                raise OSError(errno.EIO, f"has {info.st_size} bytes, expected {offset}", path)
            _write_all(descriptor, data, offset)
            os.fsync(descriptor)
        finally:
            self._close_added(descriptor)

    def add_lines(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Append to a file that only we write and that is a copy of what is durable elsewhere. See `sync_file`."""
        descriptor, info = self._open_to_add(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode)
        try:
            if stat.S_IMODE(info.st_mode) != mode:  # the umask took something; costs a server a call
                os.fchmod(descriptor, mode)
            _write_all(descriptor, data, None)
        finally:
            self._close_added(descriptor)

    def _open_to_add(self, path: str, flags: int, mode: int = 0o644) -> tuple[int, os.stat_result]:
        """A descriptor of the file that stands there, for `append` and `add_lines`, and what the file system says."""
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            return descriptor, os.fstat(descriptor)
        except OSError:
            os.close(descriptor)
            raise

    def _close_added(self, descriptor: int) -> None:
        os.close(descriptor)

    def touch(self, path: str) -> float:
        """Set a file's times to the file server's now, and tell it (seconds since 1970)."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.utime(descriptor)
            return os.fstat(descriptor).st_mtime_ns / 1e9
        finally:
            os.close(descriptor)

    def make_dir(self, path: str, mode: int = 0o755) -> bool:
        """Make a directory with this mode whatever the umask. False: it was there, or a reply was lost."""
        try:
            os.mkdir(path, mode)
            made = True
        except FileExistsError:
            made = False
        if made or _is_as_made(path, mode):
            os.chmod(path, mode)
        return made

    def sync(self, directory: str) -> None:
        """Make the names in a directory durable."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_file(self, path: str) -> None:
        """Make durable what was added to a file of ours (`add_lines`)."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # a reader is given a delegation
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(self, path: str) -> None:
        """Make durable whatever was written to the file system that holds this file, names too.

        For directories that may not be opened by whoever put something there; dear where others write much."""
        import ctypes

        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | without_delegation(path))
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        finally:
            os.close(descriptor)

    # ---- move and remove

    def move(self, source: str, target: str, inode: int | None = None) -> bool:
        """Rename. True: what stood at source stands at target now; False: there was nothing at source.

        Replaces without asking, as rename(2) does: the caller knows that the target is free. inode, where the
        caller knows it, tells our file at the target from another after a lost reply.
        """
        try:
            os.rename(source, target)
        except FileNotFoundError:
            if inode is None:
                return False
            found = self.stat(target)
            return found is not None and found.st_ino == inode
        return True

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is fine."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def remove_dir(self, path: str) -> bool:
        """Remove an empty directory. True: it is gone; False: something is in it."""
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True


class Held:
    """A descriptor that is kept open until another takes its place."""

    def __init__(self) -> None:
        self._descriptor = -1

    def take(self, descriptor: int) -> None:
        """Close the last one, keep this one."""
        last, self._descriptor = self._descriptor, descriptor
        if last >= 0:
            try:
                os.close(last)
            except OSError:
                pass  # the descriptor is gone all the same, and so is, in a moment, the file


_without_delegations: tuple[str, ...] = ()  # beginnings of paths: spools on NFS 4


def read_without_delegations(root: str) -> None:
    """From now on files below root are opened for reading with O_DIRECT. Said by whoever opens a spool on NFS 4.

    A server of NFS 4 gives whoever opens a file for reading a delegation. If that host then dies, freezes or is cut
    off, whoever writes, renames or removes the file hangs until its lease is over: 90 s by a server's default, in
    which nodes are lost and nobody can take over (measured: one look at a node's status.json by a laptop that then
    slept). Linux asks for no delegation where a file is opened with O_DIRECT, which NFS takes at any alignment.
    """
    global _without_delegations
    _without_delegations = tuple({*_without_delegations, root.rstrip("/") + "/", os.path.realpath(root) + "/"})


def without_delegation(path: str) -> int:
    """The flag with which to open this file."""
    return os.O_DIRECT if _without_delegations and path.startswith(_without_delegations) else 0


def open_to_read(path: str, flags: int = 0) -> int:
    """A descriptor for reading a file of a spool; links are not followed. flags: more of them."""
    return os.open(path, READING | without_delegation(path) | flags)


def has_default_acl(directory: str) -> bool:
    """Whether a directory has an access control list for what is made in it; also where that cannot be told."""
    try:
        os.getxattr(directory, "system.posix_acl_default")
    except OSError as error:
        return error.errno not in (errno.ENODATA, errno.EOPNOTSUPP)
    return True


def ask_again(path: str, levels: int = 2) -> bool:
    """Make an NFS client ask the server about a name that it believes to be missing: open its directory.

    levels: how many names of the path's end may be new. False: there is no such directory, or we may not ask so.
    """
    folder = os.path.dirname(path)
    for last in (levels < 2, True):
        try:
            os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            return True
        except FileNotFoundError:
            if last or not ask_again(folder, levels - 1):
                return False
        except (PermissionError, NotADirectoryError):
            return False
    return False


def insist(path: str, look: Callable[[], T]) -> T | None:
    """What `look` finds by opening a file of a spool; again where the file was replaced meanwhile, and where an NFS
    client only believes that it is missing. None: it is."""
    asked_again = False
    for attempt in range(RETRIES):
        try:
            return look()
        except FileNotFoundError:
            if asked_again or not ask_again(path):
                return None
            asked_again = True
        except OSError as error:
            if error.errno != errno.ESTALE or attempt == RETRIES - 1:
                raise
    return None


def read_once(path: str, start: int = 0) -> bytes:
    """What a file of a spool holds from byte `start` on; links are not followed. Raises OSError."""
    descriptor = open_to_read(path)
    try:
        if start:
            os.lseek(descriptor, start, os.SEEK_SET)
        return _read_all(descriptor, os.fstat(descriptor).st_size - start)
    finally:
        os.close(descriptor)


def read_at_once(path: str, limit: int) -> bytes:
    """What one read gives of a file of a spool, without waiting for a FIFO's writer: of a file on a disk of this host
    all that is within `limit` bytes. Raises OSError."""
    descriptor = open_to_read(path, os.O_NONBLOCK | os.O_NOCTTY)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def read_piece(path: str, offset: int, limit: int) -> bytes:
    """At most `limit` bytes of a file of a spool from `offset` on, as many as one call gives; b"" beyond its end."""
    descriptor = open_to_read(path)
    try:
        more = os.fstat(descriptor).st_size - offset  # asking beyond the end may cost a server calls
        return os.pread(descriptor, min(limit, more), offset) if more > 0 else b""
    finally:
        os.close(descriptor)


def length(path: str) -> int:
    """The bytes in a file of a spool, by opening it: a name's own attributes may be old on NFS."""
    descriptor = open_to_read(path)
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


# ---- inside


def _private_name(path: str) -> str:
    return os.path.join(os.path.dirname(path), f"{PRIVATE_PREFIX}{os.urandom(8).hex()}")


def _fill(private: str, data: bytes, mode: int, durable: bool, give_mode: Callable[[int, str, int], object]) -> int:
    """Make a private file that holds data whole; its descriptor.

    Nobody can know its name before, so that O_EXCL would add nothing; it costs a server a SETATTR for each file.
    """
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        give_mode(descriptor, private, mode)
        _write_all(descriptor, data, None)
        if durable:
            os.fsync(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _replace(private: str, path: str) -> None:
    try:
        os.replace(private, path)
    except FileNotFoundError:
        if _exists(private):
            raise
        # the first reply was lost and the repeated call found nothing to move: it happened


def _link(private: str, path: str) -> bool:
    try:
        os.link(private, path, follow_symlinks=False)
    except OSError as error:
        if os.stat(private).st_nlink == 2:
            return True
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def _discard(private: str) -> None:
    """Remove a private file. Where that cannot be, it is taken away a day later (`spoold head` prunes)."""
    try:
        os.unlink(private)
    except OSError:
        pass


def _is_as_made(path: str, mode: int) -> bool:
    """Whether a directory of ours is still as mkdir(2) left it, without its mode: a reply was lost, or we were cut."""
    info = os.lstat(path)
    untouched = info.st_ctime_ns == info.st_mtime_ns and info.st_uid == os.geteuid()
    return stat.S_ISDIR(info.st_mode) and untouched and stat.S_IMODE(info.st_mode) != mode


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _read_all(descriptor: int, size: int, limit: int = -1) -> bytes:
    """To the end, or `limit` bytes, of a file with `size` bytes left. Asks for one byte more than is there: a direct
    read of more costs a server calls for what lies beyond the end, and that byte tells that a file has grown."""
    parts: list[bytes] = []
    done = 0
    while done != limit:
        wanted = min(max(size - done, 0) + 1, PIECE, limit - done if limit >= 0 else PIECE)
        chunk = os.read(descriptor, wanted)
        parts.append(chunk)
        done += len(chunk)
        if not chunk or (len(chunk) < wanted and done >= size):
            break
    return b"".join(parts)


def _write_all(descriptor: int, data: bytes, offset: int | None) -> None:
    """write(2) may take less than it was given (a full disk, a signal): go on until it is all there."""
    view = memoryview(data)
    while view:
        count = os.write(descriptor, view) if offset is None else os.pwrite(descriptor, view, offset)
        view = view[count:]
        if offset is not None:
            offset += count


def _seen(info: os.stat_result, data: bytes) -> Seen:
    return Seen(
        data,
        info.st_ino,
        info.st_uid,
        info.st_nlink,
        info.st_size,
        info.st_ctime_ns / 1e9,
        info.st_ctime_ns,
        info.st_mode,
        info.st_mtime_ns,
    )


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISLNK, "a link"),
    )
    return next((word for test, word in kinds if test(mode)), "something else")
