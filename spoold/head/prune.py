"""Removing what `keep:` in spool.yaml no longer wants (done/ days, logs, rejected files), and what crashes left behind.

Once a day, some at a time. Nothing of a live job is ever touched. A log directory belongs to the job whose ID it bears;
it is as old as its newest file. Only names that a listing of the spool's own directories gave are removed, links are
never followed, and what cannot be removed (a job's owner made it so) is left and told.

Crashes leave private files (`.part-…`) beside the file that was to be replaced, and signs of life of heads that were
killed; they go when they are a day old, whatever `keep:` says.

Cut anywhere: the rest is found by the next round.
"""

from __future__ import annotations

import calendar
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator

from spool_layout.paths import Spool, is_digits
from spool_layout.settings import Settings
from spool_layout.storage import PRIVATE_PREFIX, Disk

log = logging.getLogger("spoold.head")

EVERY = 86400.0  # seconds between rounds
LEFTOVER = 86400.0  # seconds after which what a crash left is removed
AT_ONCE = 200  # files removed in one tick


class Pruner:
    """One head's rounds. is_live: whether an ID belongs to a job that waits or runs."""

    def __init__(self, spool: Spool, disk: Disk, settings: Settings, is_live: Callable[[int], bool]) -> None:
        self.spool, self.disk, self.keep, self.is_live = spool, disk, settings.keep, is_live
        self._mark = os.path.join(spool.locks, "pruned")
        self._round: Iterator[str] | None = None
        self._next = 0.0

    def step(self, now: float) -> bool:
        """Remove some of what is too old. now: the file server's clock. Whether there is more to do at once."""
        if self._round is None:
            if now < self._next or not self._is_due(now):
                return False
            self._round = self.victims(now)
        for _ in range(AT_ONCE):
            path = next(self._round, None)
            if path is None:
                self._round = None
                self.disk.publish(self._mark, b"", durable=False)
                return False
            self._remove(path)
        return True

    def _is_due(self, now: float) -> bool:
        """Whether the last round, by whichever head, ended a day ago."""
        self._next = now + EVERY / 24
        mark = self.disk.stat(self._mark)
        return mark is None or now - mark.st_mtime >= EVERY

    def victims(self, now: float) -> Iterator[str]:
        """Paths to be removed: files first, then the directories that held them."""
        yield from self._leftovers(now - LEFTOVER)
        if self.keep.done is not None:
            yield from self._days(now - self.keep.done)
        if self.keep.rejected is not None:
            yield from self._older(self.spool.rejected, now - self.keep.rejected)
        if self.keep.logs is not None or self.keep.logs_size is not None:
            yield from self._logs(now)

    def _leftovers(self, limit: float) -> Iterator[str]:
        """What writers that were killed left behind."""
        spool = self.spool
        nodes = [spool.node(entry.name) for entry in self.disk.list(spool.nodes)]
        for folder in (spool.root, spool.tmp, spool.heads, spool.events, spool.generations, spool.rejected, *nodes):
            passing = folder in (spool.tmp, spool.heads)
            try:
                yield from self._older(folder, limit, "" if passing else PRIVATE_PREFIX)
            except OSError as error:
                log.warning("%s is not pruned: %s", folder, error.strerror)

    def _days(self, limit: float) -> Iterator[str]:
        for entry in sorted(self.disk.list(self.spool.done)):
            try:
                end_of_day = calendar.timegm(time.strptime(entry.name, "%Y-%m-%d")) + 86400
            except ValueError:
                continue
            if end_of_day < limit:
                yield from self._tree(self.spool.day(entry.name))

    def _older(self, folder: str, limit: float, prefix: str = "") -> Iterator[str]:
        """Files in a directory, not below it, that have not changed since `limit`. prefix: of their names."""
        for entry in self.disk.list(folder):
            if not entry.name.startswith(prefix):
                continue
            path = os.path.join(folder, entry.name)
            info = self.disk.stat(path)
            if info is not None and info.st_ctime < limit and not stat.S_ISDIR(info.st_mode):
                yield path

    def _logs(self, now: float) -> Iterator[str]:
        """Log directories of jobs that are over: too old ones, then the oldest until the rest is small enough."""
        found = []
        for entry in self.disk.list(self.spool.logs):
            if is_digits(entry.name) and not self.is_live(int(entry.name)):
                found.append((*self._measure(os.path.join(self.spool.logs, entry.name)), entry.name))
        total = sum(size for _, size, _ in found)
        for newest, size, name in sorted(found):
            too_old = self.keep.logs is not None and newest < now - self.keep.logs
            too_much = self.keep.logs_size is not None and total > self.keep.logs_size
            if too_old or too_much:
                total -= size
                yield from self._tree(os.path.join(self.spool.logs, name))

    def _measure(self, folder: str) -> tuple[float, int]:
        """(time of the newest change, bytes) of what is in a directory."""
        newest, size = 0.0, 0
        for path in self._tree(folder):
            info = self.disk.stat(path)
            if info is not None:
                newest = max(newest, info.st_mtime if not stat.S_ISDIR(info.st_mode) else 0.0)
                size += info.st_blocks * 512
        if not newest and (info := self.disk.stat(folder)) is not None:
            newest = info.st_mtime
        return newest, size

    def _tree(self, folder: str) -> Iterator[str]:
        """Everything below a directory, then itself. Links are listed, not followed."""
        try:
            entries = self.disk.list(folder)
        except OSError:
            return
        for entry in entries:
            path = os.path.join(folder, entry.name)
            info = self.disk.stat(path)
            if info is not None and stat.S_ISDIR(info.st_mode):
                yield from self._tree(path)
            elif info is not None:
                yield path
        yield folder

    def _remove(self, path: str) -> None:
        try:
            info = self.disk.stat(path)
            if info is not None and stat.S_ISDIR(info.st_mode):
                self.disk.remove_dir(path)
            else:
                self.disk.remove(path)
        except OSError as error:
            log.warning("%s is not pruned: %s", path, error.strerror)
