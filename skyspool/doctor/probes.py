"""What one host can measure by itself, in a directory of its own on the file system in question.

The probes are raw system calls, since what they ask is what these calls do there. Each looks at one thing, leaves
nothing behind that its directory's removal would not take along, and gives numbers or words; nothing is judged here.
A probe that fails altogether gives the error's words: on a strange file system that is an answer too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from skyspool.doctor.replacing import Reads, replaced

TIMES = 20  # that a call is repeated whose duration is asked
LATEST = 3.0  # seconds that something is waited for which may be seen late
RECORD = b"x" * 512  # about what a commit of the head writes
TICK = 0.01  # seconds: servers stamp files with a clock that may move only 100 times a second

T = TypeVar("T")


class Offset(NamedTuple):
    """How far a clock is ahead of this host's, seconds, and how wrong that may be."""

    seconds: float
    bound: float


class Room(NamedTuple):
    """Free and in all. inodes of 0 in all: the file system has no fixed number."""

    free: int
    total: int
    inodes_free: int
    inodes: int


class Alone(NamedTuple):
    """Everything that one host measured. The texts: what is amiss, "" for nothing."""

    exclusive: str
    links: str
    listing: str
    locks: str
    replaced: Reads | str
    durable: list[float] | str  # seconds of a small write until fsync has returned
    commit: list[float] | str  # seconds of write, fsync, rename, fsync of the directory
    clock: Offset | str
    uid: int
    owner: int | str
    room: Room


def links_are_protected() -> bool:
    """Whether this host's kernel keeps users from making links to others' files; True where it does not tell."""
    try:
        with open("/proc/sys/fs/protected_hardlinks", encoding="ascii") as file:
            return file.read().strip() != "0"
    except OSError:
        return True


def measure(folder: str) -> Alone:
    """All of it; takes a second on a file system that is neither slow nor ill. folder: empty, ours."""
    return Alone(
        exclusive=_tried(exclusive, folder),
        links=_tried(links, folder),
        listing=_tried(listing, folder),
        locks=locks(folder),
        replaced=_tried(replaced, folder),
        durable=_tried(durable, folder),
        commit=_tried(commit, folder),
        clock=_tried(clock, folder),
        uid=os.geteuid(),
        owner=_tried(owner, folder),
        room=room(folder),
    )


def _tried(probe: Callable[[str], T], folder: str) -> T | str:
    """What a probe gives, or the words of the error that it ended with."""
    try:
        return probe(folder)
    except OSError as error:
        return words_of(error)


def words_of(error: OSError) -> str:
    """An error's name and words: `EPERM, operation not permitted`."""
    name = errno.errorcode.get(error.errno or 0, "error")
    return f"{name}, {(error.strerror or str(error)).lower()}"


# ---- names


def exclusive(folder: str) -> str:
    """A name can be made once only, as file and as directory."""
    path, directory = os.path.join(folder, "once"), os.path.join(folder, "once-dir")
    make(path)
    os.mkdir(directory)
    if is_made_again(make, path):
        return "a file was made twice with O_EXCL"
    if is_made_again(os.mkdir, directory):
        return "a directory was made twice"
    return ""


def is_made_again(call: Callable[[str], object], path: str) -> bool:
    """Whether a call that must find the name taken succeeds."""
    try:
        call(path)
    except FileExistsError:
        return False
    return True


def make(path: str, data: bytes = b"") -> None:
    """Make a new file. FileExistsError where the name is taken."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if data:
            os.write(descriptor, data)
    finally:
        os.close(descriptor)


def links(folder: str) -> str:
    """link(2) works, never replaces, and is counted."""
    first, second, other = (os.path.join(folder, name) for name in ("link-1", "link-2", "link-3"))
    make(first, b"first")
    make(other, b"other")
    os.link(first, second)
    if os.stat(first).st_nlink != 2:
        return f"after link(2) a file counts {os.stat(first).st_nlink} links, not 2"
    if is_made_again(lambda path: os.link(other, path), second):
        return "link(2) replaced a file that was there"
    return ""


def listing(folder: str) -> str:
    """A listing by path shows at once what this host itself did."""
    inside = os.path.join(folder, "listed")
    os.mkdir(inside)
    for number in range(TIMES):
        name = os.path.join(inside, str(number))
        make(name)
        if str(number) not in os.listdir(inside):
            return "a file just made is not in the listing"
        os.rename(name, f"{name}.moved")
        if sorted(os.listdir(inside)) != sorted(f"{n}.moved" for n in range(number + 1)):
            return "a file just renamed is not in the listing under its new name alone"
    return ""


# ---- durability, clock, owner, room


def durable(folder: str) -> list[float]:
    """Seconds that each of some small writes takes until fsync has returned."""
    descriptor = os.open(os.path.join(folder, "durable"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write() -> None:
        os.write(descriptor, RECORD)
        os.fsync(descriptor)

    try:
        return [_timed(write) for _ in range(TIMES)]
    finally:
        os.close(descriptor)


def commit(folder: str) -> list[float]:
    """Seconds that it takes to put a small file in place, durably: what submitting costs."""
    from spool_layout.storage import Disk

    disk, path = Disk(), os.path.join(folder, "commit")

    def put() -> None:
        disk.publish(path, RECORD)
        disk.sync(folder)

    return [_timed(put) for _ in range(TIMES)]


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def clock(folder: str) -> Offset:
    """How far the clock that stamps files is ahead of this host's: the best of some tries."""
    descriptor = os.open(os.path.join(folder, "clock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return min((_stamped(descriptor) for _ in range(TIMES // 2)), key=lambda offset: offset.bound)
    finally:
        os.close(descriptor)


def _stamped(descriptor: int) -> Offset:
    before = time.time()
    os.utime(descriptor)  # "now" is what the server says
    stamp = os.fstat(descriptor).st_mtime_ns / 1e9
    after = time.time()
    return Offset(stamp - (before + after) / 2, (after - before) / 2 + TICK)


def owner(folder: str) -> int:
    """The uid that a file of ours belongs to, as the file system tells it."""
    path = os.path.join(folder, "owned")
    make(path, b"x")
    return os.stat(path).st_uid


def room(folder: str) -> Room:
    """What is free for us. Needs no write permission."""
    info = os.statvfs(folder)
    return Room(info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize, info.f_favail, info.f_files)


# ---- kernel locks

BUSY = "busy"
KERNEL_LOCKS: dict[str, Callable[[int, int], None]] = {"flock": fcntl.flock, "fcntl": fcntl.lockf}


def locks(folder: str) -> str:
    """Which kernel locks cannot be had at all; whom they exclude takes two hosts to tell."""
    troubles = []
    for name in KERNEL_LOCKS:
        with locked(folder, name) as trouble:
            troubles += [f"{name}: {trouble}"] if trouble else []
    return "; ".join(troubles)


@contextmanager
def locked(folder: str, name: str) -> Iterator[str]:
    """Hold a kernel lock on a file there, if it can be had at once. Gives "", BUSY where it is held, or an error."""
    descriptor = os.open(os.path.join(folder, f"lock-{name}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _lock(KERNEL_LOCKS[name], descriptor)
    finally:
        os.close(descriptor)


def _lock(call: Callable[[int, int], None], descriptor: int) -> str:
    try:
        call(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return BUSY if error.errno in (errno.EAGAIN, errno.EACCES) else words_of(error)
    return ""


def seconds_until(seen: Callable[[], bool], limit: float = LATEST) -> float | None:
    """Seconds until something is seen, looking every few milliseconds; None: not within the limit."""
    begin = time.monotonic()
    while not seen():
        if time.monotonic() - begin > limit:
            return None
        time.sleep(0.005)
    return time.monotonic() - begin
