"""What `prune` removes: task files in done/, log directories, rejected files; one's own, old, and of no live job.

Found by listings of the spool's own directories; links are never followed. A day in done/ is as old as its end, a log
directory as its newest file, a rejected file as its last change. Bounded: at most LIMIT files in one call.

Cut anywhere: what is left is found by the next call.
"""

from __future__ import annotations

import calendar
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from skyspool import past
from spool_layout.paths import Spool, is_digits
from spool_layout.replay import State
from spool_layout.storage import Disk

LIMIT = 20_000
DAY = 86400


class Victim(NamedTuple):
    """Something to be removed. size: bytes on disk; 0 of a directory."""

    path: str
    is_dir: bool
    size: int


class Pruned(NamedTuple):
    """What was (or would be) removed. more: LIMIT was reached."""

    files: int
    size: int
    failed: list[str]
    more: bool


def victims(spool: Spool, disk: Disk, state: State, limit: float, uid: int) -> Iterator[Victim]:
    """Everything of this user's that is older than `limit` (seconds since 1970, the file server's clock)."""
    for day in past.days(spool, disk):
        if calendar.timegm(time.strptime(day, "%Y-%m-%d")) + DAY < limit:
            yield from _tree(disk, spool.day(day), uid)
    for entry in disk.list(spool.rejected):
        path = os.path.join(spool.rejected, entry.name)
        info = disk.stat(path)
        if info is not None and info.st_ctime < limit and _is_mine(info, uid) and not stat.S_ISDIR(info.st_mode):
            yield Victim(path, False, info.st_blocks * 512)
    for entry in disk.list(spool.logs):
        if is_digits(entry.name) and int(entry.name) < state.next_id and int(entry.name) not in state.jobs:
            yield from _old_logs(disk, os.path.join(spool.logs, entry.name), limit, uid)


def _old_logs(disk: Disk, folder: str, limit: float, uid: int) -> Iterator[Victim]:
    found = list(_tree(disk, folder, uid))
    times = [info.st_mtime for victim in found if (info := disk.stat(victim.path)) and not victim.is_dir]
    own = disk.stat(folder)
    newest = max(times, default=own.st_mtime if own else limit)
    if newest < limit:
        yield from found


def _is_mine(info: os.stat_result, uid: int) -> bool:
    return info.st_uid == uid


def _tree(disk: Disk, folder: str, uid: int) -> Iterator[Victim]:
    """A directory's own files, below first, then itself."""
    try:
        entries = disk.list(folder)
    except OSError:
        return
    for entry in entries:
        path = os.path.join(folder, entry.name)
        info = disk.stat(path)
        if info is not None and stat.S_ISDIR(info.st_mode):
            yield from _tree(disk, path, uid)
        elif info is not None and _is_mine(info, uid):
            yield Victim(path, False, info.st_blocks * 512)
    yield Victim(folder, True, 0)


def prune(disk: Disk, found: Iterator[Victim], really: bool) -> Pruned:
    """Remove them, or only count."""
    files = size = 0
    failed: list[str] = []
    for victim in found:
        if files >= LIMIT:
            return Pruned(files, size, failed, True)
        if really and not _remove(disk, victim):
            failed += [] if victim.is_dir else [victim.path]
        elif not victim.is_dir:
            files, size = files + 1, size + victim.size
    return Pruned(files, size, failed, False)


def _remove(disk: Disk, victim: Victim) -> bool:
    try:
        if victim.is_dir:
            return disk.remove_dir(victim.path)
        disk.remove(victim.path)
    except OSError:
        return False
    return True
