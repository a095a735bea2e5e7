"""What is left of jobs that are over, and how old it is: for those who remove it, the head and `skyspool prune`.

A day in done/ is as old as its end, a log directory as the newest file in it, a rejected file as its last change. Left
alone is what belongs to a job that waits or runs, and to an attempt that was given up while a node of it was lost: it
may run there still, and write to its log. Only names that a listing of the spool's own directories gave are told, links
are never followed.
"""

from __future__ import annotations

import calendar
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from spool_layout.paths import Spool, id_of, is_day, is_digits
from spool_layout.replay import State
from spool_layout.storage import Disk

DAY = 86400.0  # seconds


class Piece(NamedTuple):
    """A file, or a directory. size: bytes on disk, 0 of a directory; changed: st_ctime, by the file server's clock;
    written: st_mtime, which its owner may set."""

    path: str
    is_dir: bool
    uid: int
    size: int
    changed: float
    written: float


class Logs(NamedTuple):
    """The log directory of a job that is over. newest: when its newest file was written; size: bytes on disk."""

    newest: float
    size: int
    path: str


def is_spared(state: State, ident: int) -> bool:
    """Whether something of a job waits, runs, or may run on a node that is lost."""
    return ident in state.jobs or any(held == ident for held, _ in state.held)


def old_days(spool: Spool, disk: Disk, state: State, limit: float) -> Iterator[str]:
    """Directories in done/ of days that ended before `limit` (seconds since 1970) and have no file that is spared."""
    for name in sorted(entry.name for entry in disk.list(spool.done) if is_day(entry.name)):
        end, folder = _end_of(name), spool.day(name)
        if end is not None and end < limit and not any(is_spared(state, ident) for ident in _ids(disk, folder)):
            yield folder


def _end_of(day: str) -> float | None:
    try:
        return calendar.timegm(time.strptime(day, "%Y-%m-%d")) + DAY
    except ValueError:
        return None


def _ids(disk: Disk, folder: str) -> list[int]:
    return [ident for entry in disk.list(folder) if (ident := id_of(entry.name)) is not None]


def old_files(disk: Disk, folder: str, limit: float, prefix: str = "") -> Iterator[Piece]:
    """Files in a directory, not below it, that have not changed since `limit`. prefix: of their names."""
    for entry in disk.list(folder):
        if entry.name.startswith(prefix):
            piece = look(disk, os.path.join(folder, entry.name))
            if piece is not None and piece.changed < limit and not piece.is_dir:
                yield piece


def logs(spool: Spool, disk: Disk, state: State) -> Iterator[Logs]:
    """The log directories of jobs that are over, in no order. There may be a million: each is looked at when asked
    for, as is the state."""
    for name in disk.names(spool.logs):
        ident = int(name) if is_digits(name) and len(name) < 19 else state.next_id
        if ident < state.next_id and not is_spared(state, ident):
            yield _measure(disk, spool.log_dir(ident))


def _measure(disk: Disk, folder: str) -> Logs:
    pieces = list(tree(disk, folder))
    times = [piece.written for piece in pieces if not piece.is_dir] or [piece.written for piece in pieces[-1:]]
    return Logs(max(times, default=0.0), sum(piece.size for piece in pieces), folder)


def tree(disk: Disk, folder: str) -> Iterator[Piece]:
    """Everything below a directory, then itself."""
    try:
        entries = disk.list(folder)
    except OSError:
        return
    for entry in entries:
        piece = look(disk, os.path.join(folder, entry.name))
        if piece is not None and piece.is_dir:
            yield from tree(disk, piece.path)
        elif piece is not None:
            yield piece
    if (own := look(disk, folder)) is not None:
        yield own


def look(disk: Disk, path: str) -> Piece | None:
    """What stands there; None: nothing any more."""
    info = disk.stat(path)
    if info is None:
        return None
    is_dir = stat.S_ISDIR(info.st_mode)
    return Piece(path, is_dir, info.st_uid, 0 if is_dir else info.st_blocks * 512, info.st_ctime, info.st_mtime)


def remove(disk: Disk, piece: Piece) -> bool:
    """Remove a file, or a directory that is empty by now. False: it is not. OSError."""
    if piece.is_dir:
        return disk.remove_dir(piece.path)
    disk.remove(piece.path)
    return True
