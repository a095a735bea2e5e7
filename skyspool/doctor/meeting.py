"""How two hosts find each other through a directory on the shared file system, and speak.

The first one makes .doctor-WORD/ with a random word and tells what to type on the other; the second one comes to that
directory. What they say to each other are files in talk/, each published whole under a name of its own by the side that
says it, never changed, and looked for by listing. What is tried out stands in work/.

A listing on NFS 3 may hide the second of two changes that fell into one tick of the server's clock, until there is a
third one. So who waits for long gives the directory a new time now and then, which makes the next listing a true one.

Every wait has a limit. A side that waited in vain, or that was interrupted, removes the directory with all that is in
it, and the other one then ends too, since it cannot go on there. Left behind by two hosts that died at once, it is
removed by the next doctor after an hour.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from spool_layout.errors import SpoolError, UsageError
from spool_layout.paths import probe_dir, probe_of
from spool_layout.storage import Disk

STEP = 30.0  # seconds that one side waits for what the other one does next
POLL = 0.002
NUDGE = 0.05  # seconds of waiting in vain after which the directory gets a new time
ARRIVING = 0.1  # seconds between two looks whether the other one has come
LEFT_BEHIND = 3600.0  # seconds after which nobody is taken to be at work in such a directory any more
AGAIN = "run both again"
LETTERS = "0123456789abcdefghijklmnopqrstuv"


class NobodyCame(SpoolError):
    """The other host did not come, or went away."""


class Guest(NamedTuple):
    """Who came. boot: tells this run of this kernel from any other."""

    host: str
    boot: str


def here() -> Guest:
    """This host."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return Guest(socket.gethostname(), file.read().strip())


# ---- directories that are taken away again


@contextmanager
def workroom(disk: Disk, parent: str) -> Iterator[str]:
    """The WORD of a new directory .doctor-WORD/ in parent, which is gone afterwards, whatever happens."""
    word = "".join(secrets.choice(LETTERS) for _ in range(6))
    folder = probe_dir(parent, word)
    try:
        disk.make_dir(folder, 0o700)
        yield word
    finally:
        try:
            clear(disk, folder)
        except BaseException:  # told to end just now, in the middle of this
            clear(disk, folder)
            raise


def clear(disk: Disk, folder: str) -> None:
    """Remove such a directory and all in it, as far as it can be."""
    try:
        for entry in disk.list(folder):
            path = os.path.join(folder, entry.name)
            info = disk.stat(path)
            if info is not None and stat.S_ISDIR(info.st_mode):
                clear(disk, path)
            else:
                disk.remove(path)
        disk.remove_dir(folder)
    except OSError:
        pass  # the other side removes it too, or the next doctor does


def sweep(disk: Disk, parent: str, word: str) -> None:
    """Remove what doctors left behind that were killed. word: of a directory just made, whose time is now."""
    new = disk.stat(probe_dir(parent, word))
    try:
        listed = disk.list(parent)
    except PermissionError:
        return  # a drop box of several users; its head removes what is a day old
    for entry in listed:
        path = os.path.join(parent, entry.name)
        old = disk.stat(path) if probe_of(entry.name) else None
        if new and old and old.st_uid == new.st_uid and old.st_mtime < new.st_mtime - LEFT_BEHIND:
            clear(disk, path)


# ---- speaking


class Meeting:
    """One side of a conversation. side: "a" for who made the directory, "b" for who came. work: for what is tried."""

    def __init__(self, disk: Disk, folder: str, side: str, patience: float) -> None:
        self.disk, self.folder, self.side = disk, folder, side
        self.step = min(STEP, patience)
        self.talk, self.work = os.path.join(folder, "talk"), os.path.join(folder, "work")
        self.other = "b" if side == "a" else "a"

    def say(self, topic: str, data: object = None) -> None:
        """Say something once."""
        path = os.path.join(self.talk, f"{self.side}.{topic}")
        self.disk.publish(path, json.dumps(data).encode(), durable=False)

    def hear(self, topic: str, limit: float | None = None, poll: float = POLL) -> Any:
        """What the other one says of it; waits for it. NobodyCame after `limit` seconds; None: those of a step."""
        limit = self.step if limit is None else limit
        begin = nudged = time.monotonic()
        while not self.has_said(topic):
            now = time.monotonic()
            if now > begin + limit:
                raise NobodyCame(f"the other host did not go on within {limit:g} s ({topic})", AGAIN)
            if now > nudged + NUDGE:
                os.utime(self.talk)
                nudged = now
            time.sleep(poll)
        return json.loads(self._read(topic))

    def has_said(self, topic: str) -> bool:
        """Whether the other one has said something of it yet."""
        try:
            return any(entry.name == f"{self.other}.{topic}" for entry in self.disk.list(self.talk))
        except FileNotFoundError as error:
            raise NobodyCame("the other host gave up", AGAIN) from error

    def _read(self, topic: str) -> bytes:
        path = os.path.join(self.talk, f"{self.other}.{topic}")
        data = self.disk.read(path)
        while data is None:  # listed, and yet said to be missing: an old answer, which a new listing mends
            if not self.has_said(topic):
                raise NobodyCame("the other host gave up", AGAIN)
            data = self.disk.read(path)
        return data

    def swap(self, topic: str, mine: object) -> Any:
        """Say mine, hear theirs."""
        self.say(topic, mine)
        return self.hear(topic)

    def together(self, topic: str) -> None:
        """Go on when the other one is here too: both do so within a few milliseconds."""
        self.swap(topic, None)


def invite(disk: Disk, folder: str, patience: float) -> Meeting:
    """The first side's, in an empty directory of its own."""
    meeting = Meeting(disk, folder, "a", patience)
    disk.make_dir(meeting.talk, 0o700)
    disk.make_dir(meeting.work, 0o700)
    meeting.say("here", here())
    return meeting


def receive(meeting: Meeting, host: str, patience: float) -> Guest:
    """Wait for the other one. host: whom to expect, for the error."""
    try:
        return Guest(*meeting.hear("here", patience, ARRIVING))
    except NobodyCame as error:
        if not os.path.isdir(meeting.talk):
            raise
        raise NobodyCame(f"{host} did not come within {patience:g} s", "try again, with --patience 3000") from error


def join(disk: Disk, parent: str, word: str, patience: float) -> tuple[Meeting, Guest]:
    """The second side's, and who waits there. UsageError where nobody does."""
    meeting = Meeting(disk, probe_dir(parent, word), "b", patience)
    if probe_of(f".doctor-{word}") is None or not _is_open(meeting):
        raise UsageError(
            f"no doctor waits in {parent} under the word {word!r}",
            "type what `skyspool doctor DIR --with HOST` says on the other host, while it waits",
        )
    meeting.say("here", here())
    return meeting, Guest(*meeting.hear("here"))


def explained(meeting: Meeting, error: NobodyCame | OSError) -> SpoolError:
    """An error in a meeting, as it is told: where the directory is gone, the other side has given up."""
    if isinstance(error, NobodyCame):
        return error
    if not os.path.isdir(meeting.talk):
        return NobodyCame("the other host gave up", AGAIN)
    return SpoolError(f"{error.filename or meeting.folder}: {error.strerror}", AGAIN)


def _is_open(meeting: Meeting) -> bool:
    """Whether somebody waits there, and nobody came before us."""
    try:
        return meeting.has_said("here") and all(not e.name.startswith("b.") for e in meeting.disk.list(meeting.talk))
    except NobodyCame:
        return False
