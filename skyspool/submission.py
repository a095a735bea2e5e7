"""Dropping a task file into the spool, and learning what became of it.

The file is written in tmp/, made durable, renamed into pending/ as LABEL@TOKEN.yaml, and then the directory is made
durable: when `drop` returns, the job outlives a power loss (promise P1). NotDurable: it is there, and may not. TOKEN is
the time in microseconds and three random letters, in base 32, so that names sort in order of submission; LABEL@TOKEN is
the handle by which the job can be named before it has an ID. Nothing here needs a head.

`drop_many` does each of these steps for all its files before the next step, so that two calls make all of them durable.

Cut before the rename: a file is left in tmp/, which nobody looks at. Cut after it: the job is submitted.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from spool_layout import history, reserve
from spool_layout.errors import Full, SpoolError
from spool_layout.events import Accepted, Rejected, decode_event
from spool_layout.mounts import is_network
from spool_layout.paths import Spool, drop_name, without_ending
from spool_layout.storage import Disk

ALPHABET = "0123456789abcdefghijklmnopqrstuv"  # base32hex: sorts as the numbers do
TIME_LETTERS, CHANCE_LETTERS = 11, 3
ID_PATIENCE = 1.0  # seconds to wait for an ID where a head is alive that is told of changes
POLL = 0.02
MAKE_ROOM = "skyspool prune --older 30d --dry-run      # what could be removed"


class Dropped(NamedTuple):
    """A file that was dropped. changed: when, by the file system's clock; inode: 0 where it is not known."""

    file: str
    changed: float
    inode: int = 0

    @property
    def handle(self) -> str:
        """LABEL@TOKEN."""
        return without_ending(self.file)


class Refused(SpoolError):
    """The head set the file aside."""

    fault = "user"


class NotDurable(SpoolError):
    """It stands where it should, or may, and may not outlive a power loss. To do it again could do it twice."""

    exit_code = 3


class PartlyDropped(NotDurable):
    """Of many files the first ones were submitted. dropped: those."""

    def __init__(self, message: str, hint: str, dropped: list[Dropped]) -> None:
        super().__init__(message, hint)
        self.dropped = dropped


def token(now: float | None = None) -> str:
    """14 letters that sort by time: microseconds since 1970, then chance."""
    return _token(time.time_ns() // 1000 if now is None else int(now * 1e6))


def _token(microseconds: int) -> str:
    letters = [ALPHABET[(microseconds >> 5 * place) & 31] for place in reversed(range(TIME_LETTERS))]
    return "".join(letters) + "".join(ALPHABET[byte & 31] for byte in os.urandom(CHANCE_LETTERS))


def drop(spool: Spool, disk: Disk, name: str, text: bytes) -> Dropped:
    """Submit a task file's text. name: any label. Full; SpoolError where the spool may not be written to."""
    _check_room(spool, disk)
    return _put(spool, disk, drop_name(name, token()), spool.pending, text)


def drop_many(spool: Spool, disk: Disk, tasks: Sequence[tuple[str, bytes]]) -> list[Dropped]:
    """Submit the texts of many task files, (name, text) each, in this order.

    Full, SpoolError: none was submitted. PartlyDropped: only the first ones were. NotDurable: all were, or may have
    been, and may not outlive a power loss.
    """
    _check_room(spool, disk)
    now, mode = time.time_ns() // 1000, mode_of_files(disk, spool)
    files = [drop_name(name, _token(now + number)) for number, (name, _) in enumerate(tasks)]
    try:
        for file, (_, text) in zip(files, tasks, strict=True):
            disk.publish(os.path.join(spool.tmp, file), text, mode=mode, durable=False)
        disk.sync_all(spool.settings)
    except OSError as error:
        _take_back(spool, disk, files)
        raise _nothing(spool, spool.pending, error) from error
    dropped: list[Dropped] = []
    for file in files:
        try:
            dropped.append(_move(spool, disk, file, spool.pending))
        except SpoolError as error:
            _take_back(spool, disk, files[len(dropped) + 1 :])
            if not dropped:
                raise
            with suppress(OSError):
                make_durable(spool, disk, spool.pending)
            message = f"only {len(dropped)} of {len(files)} files were submitted: {error.message}"
            raise PartlyDropped(message, "skyspool queue", dropped) from error
    _settle(spool, disk, spool.pending, f"{len(files)} files were")
    return dropped


def _check_room(spool: Spool, disk: Disk) -> None:
    if lacks := reserve.lack(disk.room(spool.pending)):
        raise Full(f"nothing was submitted: {spool.root} is full: {lacks}", MAKE_ROOM)


def _take_back(spool: Spool, disk: Disk, files: list[str]) -> None:
    """Remove from tmp/ what will not be submitted; what stays there nobody looks at."""
    for file in files:
        with suppress(OSError):
            disk.remove(os.path.join(spool.tmp, file))


def ask(spool: Spool, disk: Disk, text: bytes) -> Dropped:
    """Drop a request, as durably as a task."""
    return _put(spool, disk, f"{token()}.yaml", spool.requests, text)


def _put(spool: Spool, disk: Disk, file: str, folder: str, text: bytes) -> Dropped:
    try:
        disk.publish(os.path.join(spool.tmp, file), text, mode=mode_of_files(disk, spool))
    except OSError as error:
        raise _nothing(spool, folder, error) from error
    dropped = _move(spool, disk, file, folder)
    _settle(spool, disk, folder, f"{os.path.join(folder, file)} was")
    return dropped


def _move(spool: Spool, disk: Disk, file: str, folder: str) -> Dropped:
    """From tmp/ into a drop box. NotDurable: it may be there. SpoolError: it is not."""
    private, written = os.path.join(spool.tmp, file), None
    moving = False
    try:
        written = disk.stat(private)
        moving = True
        if not disk.move(private, os.path.join(folder, file), written.st_ino if written else None):
            raise SpoolError(
                f"{private} was gone before it could be moved to {folder}; it may have been submitted", "skyspool queue"
            )
    except OSError as error:
        if moving and _may_have_left(disk, private):
            raise NotDurable(
                f"{os.path.join(folder, file)} may have been submitted: {error.strerror}",
                "skyspool queue      # before you submit it a second time",
            ) from error
        raise _nothing(spool, folder, error) from error
    return Dropped(file, written.st_ctime, written.st_ino) if written else Dropped(file, 0.0)


def _nothing(spool: Spool, folder: str, error: OSError) -> SpoolError:
    """Why nothing was submitted."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Full(f"nothing was submitted: {spool.root}: {error.strerror}", MAKE_ROOM)
    return SpoolError(
        f"nothing was submitted: {error.filename or spool.root}: {error.strerror}", f"ls -ld {spool.tmp} {folder}"
    )


def _settle(spool: Spool, disk: Disk, folder: str, what: str) -> None:
    """Make durable what was moved into a drop box. NotDurable. what: "… was"."""
    try:
        make_durable(spool, disk, folder)
    except OSError as error:
        raise NotDurable(
            f"{what} submitted, but could not be made durable: {error.strerror}",
            "skyspool queue      # do not submit it a second time",
        ) from error


def _may_have_left(disk: Disk, private: str) -> bool:
    """Whether a file is no longer in tmp/, though moving it said that it failed; also where that cannot be told."""
    folder, file = os.path.split(private)
    try:
        return file not in {entry.name for entry in disk.list(folder)}
    except PermissionError:
        return disk.stat(private) is None
    except OSError:
        return True


def mode_of_files(disk: Disk, spool: Spool) -> int:
    """What others may do with our files: nothing; but where drop boxes give their own group to what is dropped, that of
    the head's account may read."""
    box = disk.stat(spool.tmp)
    return 0o640 if box is not None and box.st_mode & stat.S_ISGID else 0o600


def make_durable(spool: Spool, disk: Disk, folder: str) -> None:
    """The names in a drop box. One that may not be listed cannot be synced by itself; a file server has done it when
    it says that a file was moved."""
    try:
        disk.sync(folder)
    except PermissionError:
        if not is_network(spool.root):
            disk.sync_all(spool.settings)


# ---- what became of it


class Mark(NamedTuple):
    """A place in the events files, before which a drop cannot be told of."""

    epoch: int
    offset: int


def mark(spool: Spool, disk: Disk) -> Mark:
    """The end of what has happened: to be taken before dropping."""
    try:
        newest = history.epochs(spool, disk)[-1:]
        seen = disk.stat(spool.events_of(newest[0])) if newest else None
    except OSError:
        return Mark(0, 0)
    return Mark(newest[0], seen.st_size) if seen else Mark(0, 0)


def id_patience(spool: Spool, idle_poll: float) -> float:
    """Seconds to wait for an ID where a head is alive: longer where it has to look by itself, each `idle_poll` s."""
    return ID_PATIENCE + (idle_poll if is_network(spool.root) else 0.0)


def await_id(spool: Spool, disk: Disk, file: str, since: Mark, patience: float) -> int | None:
    """The ID of what was dropped as `file`; None: not known within `patience` seconds. Refused: it was set aside."""
    end = time.monotonic() + patience
    pause = POLL
    while True:
        if (ident := _look_for(spool, disk, file, since)) is not None:
            return ident
        if time.monotonic() >= end:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


def _look_for(spool: Spool, disk: Disk, file: str, since: Mark) -> int | None:
    """What the newest events file says of a drop. Its name holds a random token: only its own lines hold it."""
    try:
        newest = history.epochs(spool, disk)[-1:]
        start = since.offset if newest == [since.epoch] else 0
        data = (disk.read(spool.events_of(newest[0]), start) if newest else None) or b""
    except OSError:
        return None
    needle = without_ending(file).rpartition("@")[2].encode()
    at = data.find(needle)
    while at >= 0:
        start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1
        event = decode_event(data[start:end]) if end else None
        if isinstance(event, Accepted) and event.drop == file:
            return event.id
        if isinstance(event, Rejected) and event.drop == file:
            raise Refused(f"the head refused it: {event.reason}", f"ls {spool.rejected}")
        at = data.find(needle, end) if end else -1
    return None
