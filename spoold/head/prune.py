"""Removing what `keep:` in spool.yaml no longer wants (done/ days, logs, rejected files), and what crashes left behind.

Once a day, some at a time. What is old and what is left alone says spool_layout.remains, for `skyspool prune` as well.
What cannot be removed (a job's owner made it so) is left and told.

Crashes leave private files (`.part-…`) beside the file that was to be replaced, and signs of life of heads that were
killed; they go when they are a day old, whatever `keep:` says.

Cut anywhere: the rest is found by the next round.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
from collections.abc import Iterator

from spool_layout import remains
from spool_layout.paths import Spool
from spool_layout.remains import Logs, Piece
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.storage import PRIVATE_PREFIX, Disk

log = logging.getLogger("spoold.head")

EVERY = 86400.0  # seconds between rounds
LEFTOVER = 86400.0  # seconds after which what a crash left is removed
AT_ONCE = 100  # logs looked at and files removed in one tick: 15 ms on a disk of this host, in which no job starts


class Pruner:
    """One head's rounds. state: what the head knows, which changes while a round is under way."""

    def __init__(self, spool: Spool, disk: Disk, settings: Settings, state: State) -> None:
        self.spool, self.disk, self.keep, self.state = spool, disk, settings.keep, state
        self.shared = settings.users == "multi"
        self._mark = os.path.join(spool.locks, "pruned")
        self._round: Iterator[Piece | None] | None = None
        self._next = 0.0

    def step(self, now: float, patient: bool = False) -> bool:
        """Remove some of what is too old. now: the file server's clock. patient: only what is removed counts, since the
        next one would look at all that stays again. Whether there is more to do at once."""
        if self._round is None:
            if now < self._next or not self._is_due(now):
                return False
            self._round = self.victims(now)
        count = 0
        for piece in self._round:
            if piece is not None:
                self._remove(piece)
            count += piece is not None or not patient
            if count == AT_ONCE:
                return True
        self._round = None
        self.disk.publish(self._mark, b"", durable=False)
        return False

    def _is_due(self, now: float) -> bool:
        """Whether the last round, by whichever head, ended a day ago."""
        self._next = now + EVERY / 24
        mark = self.disk.stat(self._mark)
        return mark is None or now - mark.st_mtime >= EVERY

    def victims(self, now: float) -> Iterator[Piece | None]:
        """What is to be removed: files first, then the directories that held them; None for each log that stays."""
        yield from self._leftovers(now - LEFTOVER)
        if self.keep.done is not None:
            for folder in remains.old_days(self.spool, self.disk, self.state, now - self.keep.done):
                yield from remains.tree(self.disk, folder)
        if self.keep.rejected is not None:
            yield from remains.old_files(self.disk, self.spool.rejected, now - self.keep.rejected)
        if self.keep.logs is not None or self.keep.logs_size is not None:
            for found in self._unwanted(now):
                yield from remains.tree(self.disk, found.path) if found else (None,)

    def _leftovers(self, limit: float) -> Iterator[Piece]:
        """What writers that were killed left behind."""
        spool = self.spool
        nodes = [spool.node(entry.name) for entry in self.disk.list(spool.nodes)]
        boxes = [spool.tmp, *([spool.new_logs] if self.shared else [])]
        for folder in (spool.root, *boxes, spool.heads, spool.events, spool.generations, spool.rejected, *nodes):
            passing = folder in (*boxes, spool.heads)
            try:
                yield from remains.old_files(self.disk, folder, limit, "" if passing else PRIVATE_PREFIX)
            except OSError as error:
                log.warning("%s is not pruned: %s", folder, error.strerror)

    def _unwanted(self, now: float) -> Iterator[Logs | None]:
        """Of the logs of jobs that are over: too old ones, then the oldest until the rest is small enough; None for
        each that was looked at."""
        oldest = -math.inf if self.keep.logs is None else now - self.keep.logs
        most = math.inf if self.keep.logs_size is None else self.keep.logs_size
        total, rest = 0, list[Logs]()
        for logs in remains.logs(self.spool, self.disk, self.state):
            if logs.newest < oldest:
                yield logs
                continue
            total += logs.size
            rest += [logs] if most < math.inf else []
            yield None
        if total > most:
            heapq.heapify(rest)
        while total > most:
            logs = heapq.heappop(rest)
            total -= logs.size
            yield logs

    def _remove(self, piece: Piece) -> None:
        try:
            remains.remove(self.disk, piece)
        except OSError as error:
            log.warning("%s is not pruned: %s", piece.path, error.strerror)
