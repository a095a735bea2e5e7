"""What `prune` removes: task files in done/, logs, rejected files; one's own, old, and of no live job.

What is old and what is left alone says spool_layout.remains, for the head's own pruning as well. Bounded: at most LIMIT
files in one call.

Cut anywhere: what is left is found by the next call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from spool_layout import remains
from spool_layout.paths import Spool
from spool_layout.remains import Piece
from spool_layout.replay import State
from spool_layout.storage import Disk

LIMIT = 20_000


class Pruned(NamedTuple):
    """What was (or would be) removed. more: LIMIT was reached."""

    files: int
    size: int
    failed: list[str]
    more: bool


def victims(spool: Spool, disk: Disk, state: State, limit: float, uid: int) -> Iterator[Piece]:
    """Everything of this user's that is older than `limit` (seconds since 1970, the file server's clock), and the
    directories that held it."""
    return (piece for piece in _old(spool, disk, state, limit) if piece.is_dir or piece.uid == uid)


def _old(spool: Spool, disk: Disk, state: State, limit: float) -> Iterator[Piece]:
    for folder in remains.old_days(spool, disk, state, limit):
        yield from remains.tree(disk, folder)
    yield from remains.old_files(disk, spool.rejected, limit)
    for found in sorted(remains.logs(spool, disk, state)):  # the oldest first
        if found.newest < limit:
            yield from remains.tree(disk, found.path)


def prune(disk: Disk, found: Iterator[Piece], really: bool) -> Pruned:
    """Remove them, or only count."""
    files = size = 0
    failed: list[str] = []
    for piece in found:
        if files >= LIMIT:
            return Pruned(files, size, failed, True)
        if really and not _remove(disk, piece):
            failed += [] if piece.is_dir else [piece.path]
        elif not piece.is_dir:
            files, size = files + 1, size + piece.size
    return Pruned(files, size, failed, False)


def _remove(disk: Disk, piece: Piece) -> bool:
    try:
        return remains.remove(disk, piece)
    except OSError:
        return False
