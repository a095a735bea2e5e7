"""What stands in the product's modules in place of os, time, signal, fcntl and the like, while a world runs.

Each call is the current process's, on its own host: paths of the spool go to the host's NFS client, all others to its
own disk. What is not here fails: nothing of this machine is touched by accident.
"""

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import random
import secrets
import signal
import socket
import stat
import time
from typing import Any

from tests.simulation import proc
from tests.simulation.client import Listing
from tests.simulation.local import LocalFile, Node, Stream
from tests.simulation.server import BASE
from tests.simulation.world import Process, World

ROOT = "/spool"
PLENTY = os.statvfs_result((4096, 4096, 1 << 30, 1 << 29, 1 << 29, 1 << 30, 1 << 29, 1 << 29, 0, 255))
KEPT = frozenset(
    {
        "fsencode",
        "fsdecode",
        "fspath",
        "strerror",
        "environ",
        "waitstatus_to_exitcode",
        "sep",
        "PathLike",
        "stat_result",
    }
)


class Calls:
    """The base: who calls."""

    def __init__(self, world: World) -> None:
        self.world = world

    def begin(self) -> Process:
        """A call begins."""
        process = self.world.current
        assert process is not None, "a call from outside"
        if process.fuse or not process.alive:
            process.step()
        return process


class Paths(Calls):
    """os.path."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        for name in ("dirname", "basename", "split", "splitext", "relpath", "normpath", "isabs"):
            setattr(self, name, getattr(posixpath, name))

    def join(self, path: str, *names: str) -> str:
        """posixpath.join, faster for names in a directory."""
        joined = f"{path}/{'/'.join(names)}"
        return posixpath.join(path, *names) if "//" in joined or not path or not names else joined

    def expanduser(self, path: str) -> str:
        """Nobody's home is used."""
        return path

    def abspath(self, path: str) -> str:
        """Paths here are absolute."""
        return posixpath.normpath(path)

    realpath = abspath

    def exists(self, path: str) -> bool:
        """Of the own disk."""
        process = self.begin()
        assert not path.startswith(ROOT)
        return process.host.disk.exists(path)

    lexists = isdir = isfile = exists


class Os(Calls):
    """os."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.path = Paths(world)
        for name in dir(os):
            if name in KEPT or name.startswith(("O_", "SEEK_", "W", "EX_")):
                setattr(self, name, getattr(os, name))

    # ---- the process

    def getpid(self) -> int:
        """Its own."""
        return self.world.current.pid if self.world.current else 1

    def getppid(self) -> int:
        """Its parent's."""
        process = self.begin()
        return process.parent.pid if process.parent is not None else 1

    def getuid(self) -> int:
        """Everybody is one user."""
        return 4242

    geteuid = getgid = getegid = getuid

    def getresuid(self) -> tuple[int, int, int]:
        """No rights to raise."""
        return 4242, 4242, 4242

    def kill(self, pid: int, number: int) -> None:
        """kill(2)."""
        process = self.begin()
        found = process.host.processes.get(pid)
        if found is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        process.host.signal(found, number)

    def urandom(self, count: int) -> bytes:
        """By the seed."""
        process = self.world.current
        return (process.rng if process else self.world.rng).randbytes(count)

    def fork(self) -> int:
        """The parent's side: the child is another of our processes."""
        process = self.begin()
        assert process.on_fork is not None
        return process.on_fork().pid

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        """Of any child, without waiting."""
        process = self.begin()
        assert (pid, options) == (-1, os.WNOHANG)
        for child in process.children:
            if not child.alive:
                process.children.remove(child)
                child.reaped = True
                process.host.processes.pop(child.pid, None)
                return child.pid, child.status
        if not process.children:
            raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
        return 0, 0

    def pidfd_open(self, pid: int) -> int:
        """A handle of a process."""
        process = self.begin()
        found = process.host.processes.get(pid)
        if found is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return self._add(process, Handle(found))

    # ---- descriptors

    def _add(self, process: Process, file: Any) -> int:
        number = 3
        while number in process.files:
            number += 1
        process.files[number] = file
        return number

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """open(2)."""
        process = self.begin()
        assert dir_fd is None
        if path.startswith(ROOT):
            return self._add(process, process.host.client.open(path, flags, mode))
        disk = process.host.disk
        if path.startswith("/proc"):
            return self._add(process, LocalFile(disk, proc.file(process.host, path), path))
        if flags & os.O_CREAT and not disk.exists(path):
            disk.put(path, Node(self.world.now))
        file = LocalFile(disk, disk.find(path), path)
        if flags & os.O_TRUNC:
            file.truncate()
        return self._add(process, file)

    def close(self, fd: int) -> None:
        """close(2)."""
        process = self.begin()
        process.files.pop(fd).close()

    def read(self, fd: int, count: int) -> bytes:
        """read(2)."""
        data: bytes = self.begin().files[fd].read(count)
        return data

    def lseek(self, fd: int, position: int, how: int) -> int:
        """lseek(2), from the beginning."""
        assert how == os.SEEK_SET
        self.begin().files[fd].position = position
        return position

    def write(self, fd: int, data: bytes) -> int:
        """write(2)."""
        process = self.begin()
        file = process.files[fd]
        count: int = file.write(data)
        if isinstance(file, LocalFile) and file.node.fifo:
            process.host.ring(file.path)
        return count

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """pwrite(2)."""
        count: int = self.begin().files[fd].write(data, offset)
        return count

    def ftruncate(self, fd: int, length: int) -> None:
        """ftruncate(2), of a local file, to nothing."""
        assert length == 0
        self.begin().files[fd].truncate()

    def fsync(self, fd: int) -> None:
        """fsync(2)."""
        self.begin().files[fd].sync()

    fdatasync = fsync

    def fstat(self, fd: int) -> os.stat_result:
        """fstat(2)."""
        told: os.stat_result = self.begin().files[fd].stat()
        return told

    def fchmod(self, fd: int, mode: int) -> None:
        """fchmod(2)."""
        self.begin().files[fd].chmod(mode)

    # ---- names

    def _is_ours(self, *paths: str) -> bool:
        return all(path.startswith(ROOT) for path in paths)

    def lstat(self, path: str) -> os.stat_result:
        """lstat(2)."""
        process = self.begin()
        if path.startswith(ROOT):
            return process.host.client.stat(path)
        kind = stat.S_IFDIR | 0o700 if process.host.disk.find(path).children is not None else stat.S_IFREG | 0o600
        return os.stat_result((kind, 1, 1, 1, 4242, 4242, 0, 0, 0, 0))

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        """stat(2): there are no links."""
        return self.lstat(path)

    def statvfs(self, path: str) -> os.statvfs_result:
        """There is room."""
        self.begin()
        return PLENTY

    def scandir(self, where: str | int) -> Listing:
        """scandir(3) of the spool."""
        process = self.begin()
        if isinstance(where, int):
            listing: Listing = process.files[where].scan()
            return listing
        process.host.client.open(where, os.O_RDONLY | os.O_DIRECTORY, 0)
        return process.host.client.scan(where)

    def listdir(self, path: str) -> list[str]:
        """Names in a directory."""
        process = self.begin()
        if path.startswith(ROOT):
            return [entry.name for entry in self.scandir(path)]
        if path.startswith("/proc"):
            return proc.listdir(process.host, path)
        return process.host.disk.listdir(path)

    def utime(self, where: int, ns: tuple[int, int] | None = None) -> None:
        """futimens(3)."""
        self.begin().files[where].utime(None if ns is None else ns[1])

    def chmod(self, path: str, mode: int) -> None:
        """chmod(2)."""
        process = self.begin()
        if path.startswith(ROOT):
            process.host.client.chmod(path, mode)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """mkdir(2)."""
        process = self.begin()
        if path.startswith(ROOT):
            process.host.client.mkdir(path, mode)
        else:
            process.host.disk.mkdir(path)

    def makedirs(self, path: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        """os.makedirs, on the own disk."""
        process = self.begin()
        assert not path.startswith(ROOT), path
        process.host.disk.makedirs(path, exist_ok)

    def mkfifo(self, path: str, mode: int) -> None:
        """mkfifo(3), on the own disk."""
        process = self.begin()
        process.host.disk.put(path, Node(self.world.now, fifo=True))

    def rmdir(self, path: str) -> None:
        """rmdir(2), on the spool."""
        self.begin().host.client.rmdir(path)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        process = self.begin()
        (process.host.client if path.startswith(ROOT) else process.host.disk).unlink(path)

    remove = unlink

    def rename(self, source: str, target: str) -> None:
        """rename(2)."""
        process = self.begin()
        (process.host.client if self._is_ours(source, target) else process.host.disk).rename(source, target)

    replace = rename

    def link(self, source: str, target: str, *, follow_symlinks: bool = True) -> None:
        """link(2)."""
        process = self.begin()
        (process.host.client if self._is_ours(source, target) else process.host.disk).link(source, target)


class Handle:
    """A process, held open."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def close(self) -> None:
        """Nothing is to be done."""

    def abandon(self, share: float) -> None:
        """Nor here."""


class Time(Calls):
    """time."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        for name in dir(time):
            if name in ("strftime", "gmtime", "strptime", "CLOCK_BOOTTIME", "perf_counter", "struct_time"):
                setattr(self, name, getattr(time, name))

    def time(self) -> float:
        """The host's wall clock."""
        return self.world.current.host.wall() if self.world.current else BASE

    def monotonic(self) -> float:
        """The host's."""
        assert self.world.current is not None
        return self.world.current.host.monotonic()

    def thread_time(self) -> float:
        """Nothing that is computed here takes any time."""
        return 0.0

    def clock_gettime(self, which: int) -> float:
        """CLOCK_BOOTTIME."""
        assert which == time.CLOCK_BOOTTIME and self.world.current is not None
        return self.world.current.host.boottime()

    def sleep(self, seconds: float) -> None:
        """By the host's clock."""
        process = self.begin()
        process.sleep(seconds / process.host.rate)


class Signals(Calls):
    """signal."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        for name in dir(signal):
            if name.startswith("SIG"):
                setattr(self, name, getattr(signal, name))

    def signal(self, number: int, handler: Any) -> None:
        """A handler, where it is one."""
        if callable(handler) and self.world.current is not None:
            self.world.current.handlers[number] = handler

    def pidfd_send_signal(self, fd: int, number: int) -> None:
        """To a process that is held open."""
        process = self.begin()
        found = process.files[fd].process
        if not found.alive:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        process.host.signal(found, number)

    def pthread_sigmask(self, how: int, mask: Any) -> None:
        """All that is sent waits until it is asked for."""

    def sigwaitinfo(self, numbers: Any) -> int | None:
        """Wait for one of them."""
        return self.sigtimedwait(numbers, 1e9)

    def sigtimedwait(self, numbers: Any, seconds: float) -> int | None:
        """Wait for one of them, or so long."""
        process = self.begin()
        if not any(number in numbers for number in process.signals):
            process.wait(seconds / process.host.rate)
        found = next((number for number in process.signals if number in numbers), None)
        if found is not None:
            process.signals.remove(found)
        return found


class Fcntl(Calls):
    """fcntl."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        for name in dir(fcntl):
            if name.startswith(("LOCK_", "F_")):
                setattr(self, name, getattr(fcntl, name))

    def flock(self, fd: int, how: int) -> None:
        """flock(2): exclusive ones on a local file; shared ones keep nobody from anything here."""
        process = self.begin()
        if how & fcntl.LOCK_EX:
            process.files[fd].lock()


class Chance(Calls):
    """random and secrets."""

    def __getattr__(self, name: str) -> Any:
        process = self.world.current
        return getattr(process.rng if process is not None else self.world.rng, name)

    def token_hex(self, count: int) -> str:
        """secrets.token_hex."""
        word: str = self.randbytes(count).hex()
        return word


class Sockets(Calls):
    """socket."""

    def gethostname(self) -> str:
        """The host's."""
        return self.world.current.host.name if self.world.current else "outside"


class Trees(Calls):
    """shutil."""

    def rmtree(self, path: str, ignore_errors: bool = False) -> None:
        """Of the own disk."""
        self.begin().host.disk.remove_tree(path)


def open_of(world: World) -> Any:
    """open() of local text files."""

    def opened(path: str, mode: str = "r", encoding: str | None = None, **_: object) -> Stream:
        process = world.current
        assert process is not None and not path.startswith((ROOT, "/etc", "/sys")), path
        process.step()
        if path.startswith("/proc"):
            return Stream.of(proc.file(process.host, path), mode)
        return Stream(process.host.disk, path, mode, encoding)

    return opened


def modules(world: World) -> dict[Any, Any]:
    """Real module -> what stands in for it."""
    import shutil

    chance = Chance(world)
    return {
        os: Os(world),
        time: Time(world),
        signal: Signals(world),
        fcntl: Fcntl(world),
        random: chance,
        secrets: chance,
        socket: Sockets(world),
        shutil: Trees(world),
    }
