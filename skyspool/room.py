"""What room a spool takes, and what its file system has left.

Counting means walking over every file, which may be a hundred thousand on a slow share: it stops after a time, and
what it says then is "at least".
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from spool_layout.paths import Spool
from spool_layout.storage import Disk

SECONDS = 2.0


class Room(NamedTuple):
    """Bytes and files. whole: everything was counted."""

    taken: int
    logs: int
    files: int
    whole: bool
    free: int
    total: int


def measure(spool: Spool, disk: Disk, seconds: float = SECONDS) -> Room:
    """Count for at most `seconds` seconds. What may not be read counts nothing."""
    end = time.monotonic() + seconds
    logs, files_of_logs, whole = _walk([spool.logs], "", end)
    rest, files, also = _walk([spool.root], spool.logs, end)
    space = disk.room(spool.root)
    return Room(logs + rest, logs, files + files_of_logs, whole and also, space.free, space.total)


def _walk(folders: list[str], but: str, end: float) -> tuple[int, int, bool]:
    """(bytes on disk, files, whether everything was counted)."""
    size = files = 0
    while folders:
        folder = folders.pop()
        if time.monotonic() > end:
            return size, files, False
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders += [entry.path] if entry.path != but else []
                    else:
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        files += 1
        except OSError:
            continue
    return size, files, True


def amount(count: int) -> str:
    """Bytes as people read them: `12.3 MiB`."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
