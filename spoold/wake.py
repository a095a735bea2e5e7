"""Sleeping until something may have changed.

A wake-up is only a hint to look; what a listing or a file says is the truth, and whoever sleeps here looks again
after a while anyway. On a file system that tells of changes the hints come from watchdog's inotify layer. Its
observers are not used: they hold back everything behind an unmatched "moved from" for half a second, and a head
moves files out of pending/ all the time; the polling observer stops for good when its directory is briefly gone.
Nor is its thread: who sleeps is told by the kernel itself, without a switch to a thread and from there to another.
Elsewhere (NFS tells a host only of its own changes) whoever sleeps looks again after a short while (`Pace`).
"""

from __future__ import annotations

import errno
import os
import random
import select
import time
from typing import Final

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

# A file is there, whole or linked or moved in, or is gone. Moves out are left out: a head makes them itself.
ARRIVALS: Final = Mask(
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
)

# A file was put in place, whole, as all are in a node's directory. What is written before, under a private name, then
# wakes nobody.
REPLACED: Final = Mask(InotifyConstants.IN_MOVED_TO)

DESCRIPTOR: Final = "_inotify_fd"  # where watchdog 7.0 keeps it: it has no public name


class Waker:
    """One sleeper and all that may wake it. Not for several threads, save `ring`."""

    def __init__(self, native: bool, ignored: frozenset[bytes] = frozenset()) -> None:
        """native: whether the watched file system tells of changes made by others. ignored: names that wake nobody."""
        self._ignored = ignored
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._inotify: InotifyFD | None = None
        self._told = -1  # what the kernel tells of changes through; -1: watchdog's thread reads it
        self._stirred = False  # whether it told of something that wakes us
        self._watched: dict[WatchDescriptor, str] = {}
        self._directories: set[str] = set()  # the same: a head asks for a thousand nodes' after each tick
        self.news: set[str] = set()  # watched directories in which something came or went, until the sleeper clears it
        self.native = native
        self.rang = False  # whether the last wait was ended by the disk, or by `ring`
        self._heard: dict[int, bytes] = {}

    def watch(self, directory: str, mask: Mask = ARRIVALS) -> None:
        """Wake when something arrives in a directory; one that is not there wakes nobody. Where watches cannot be had,
        `native` becomes False."""
        if not self.native or directory in self._directories:
            return
        try:
            if self._inotify is None:
                self._listen_to(InotifyFD())
            assert self._inotify
            descriptor = self._inotify.add_callback(os.fsencode(directory), mask, self, CallbackId(id(self)))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                self.native = False  # out of watches or instances (fs.inotify.*): look often instead
            return
        self._watched[descriptor] = directory
        self._directories.add(directory)
        self.news.add(directory)  # of what happened before nothing was told

    def _listen_to(self, inotify: InotifyFD) -> None:
        """Have it read here; by its own thread, where watchdog keeps what that takes elsewhere than in 7.0."""
        self._inotify = inotify
        self._told = getattr(inotify, DESCRIPTOR, -1)
        if self._told < 0:
            inotify.start()
        else:
            inotify._is_reading = False  # nobody waits in it, so that `stop` gives its descriptors back
            self._poll.register(self._told, select.POLLIN)

    def listen(self, descriptor: int) -> None:
        """Wake when a descriptor (a FIFO, opened non-blocking) can be read; what is in it `heard` tells."""
        self._poll.register(descriptor, select.POLLIN)

    def heard(self, descriptor: int) -> bytes:
        """What came through a descriptor since this was asked last."""
        return self._heard.pop(descriptor, b"")

    def ring(self) -> None:
        """Wake the sleeper, from any thread or signal handler."""
        try:
            os.write(self._write, b"!")
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already

    def wait(self, seconds: float) -> bool:
        """Sleep at most so long. True: something may have changed."""
        end, woken = time.monotonic() + seconds, False
        self.rang = False
        while not woken and (ready := self._poll.poll(max(0, int(1000 * (end - time.monotonic()) + 0.999)))):
            for descriptor, _ in ready:
                woken = self._take(descriptor) or woken
        return woken

    def _take(self, descriptor: int) -> bool:
        """Take in what a descriptor says; whether that wakes us."""
        if descriptor == self._told:
            self._stirred = False
            assert self._inotify
            for event in self._inotify.read_events():
                self._inotify.handle_event(event)
            self.rang = self.rang or self._stirred
            return self._stirred
        said = _drained(descriptor)
        if descriptor == self._read:
            self.rang = True
        else:
            self._heard[descriptor] = self._heard.get(descriptor, b"") + said
        return True

    def close(self) -> None:
        """Give back watches, thread and descriptors."""
        if self._inotify is not None:
            self._inotify.stop()
            if self._told < 0:
                self._inotify.join(5)
        os.close(self._read)
        os.close(self._write)

    # ---- watchdog's WatchCallback

    def on_event(self, event: InotifyEvent) -> None:
        """Something arrived. Private files (dots) wake nobody."""
        if not event.name.startswith(b".") and event.name not in self._ignored:
            if (directory := self._watched.get(event.wd)) is not None:
                self.news.add(directory)
            self._stir()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """A watched directory is gone, or its file system: whoever sleeps finds out by looking."""
        if (directory := self._watched.pop(wd, None)) is not None:
            self._directories.discard(directory)
            self.news.add(directory)
        self._stir()

    def on_queue_overflow(self) -> None:
        """Wake-ups were lost: look everywhere."""
        self.news |= self._directories
        self._stir()

    def _stir(self) -> None:
        self._stirred = True
        if self._told < 0:  # called by another thread
            self.ring()


class Pace:
    """Seconds between two looks where nothing tells of changes: short while things happen, longer and longer when not.

    Several hosts that look at the same file server should not do so in step, hence the jitter; it only shortens.
    """

    GROWTH: Final = 1.25  # from 0.25 s to 2 s within seven seconds: what belongs together comes within that
    JITTER: Final = 0.1

    def __init__(self, shortest: float, longest: float) -> None:
        """shortest, longest: seconds."""
        self.shortest, self.longest = shortest, max(shortest, longest)
        self.seconds = shortest

    def step(self, news: bool) -> float:
        """Seconds until the next look, after one that found something new, or did not."""
        self.seconds = self.shortest if news else min(self.seconds * self.GROWTH, self.longest)
        return self.seconds * (1 - self.JITTER * random.random())


def _drained(descriptor: int) -> bytes:
    parts = []
    try:
        while len(part := os.read(descriptor, 4096)) == 4096:
            parts.append(part)
        parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)
