"""Jobs that ended so long ago that the ledger forgot them: done/DAY/EPOCH.jsonl, one line of JSON a job.

A line may stand there twice (it is written again after a crash): the last one counts. Days are looked through from
the newest backwards, so that what ended lately is found soon.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from spool_layout.errors import Damaged
from spool_layout.paths import Spool, epoch_of, is_day
from spool_layout.records import Job, decode
from spool_layout.storage import Disk


def days(spool: Spool, disk: Disk) -> list[str]:
    """The days on which jobs ended, newest first."""
    try:
        return sorted((entry.name for entry in disk.list(spool.done) if is_day(entry.name)), reverse=True)
    except FileNotFoundError:
        return []


def outcomes(spool: Spool, disk: Disk, day: str, needle: bytes = b"") -> list[Job]:
    """The jobs that ended on a day, by ID. needle: only lines that hold these bytes are read."""
    found: dict[int, Job] = {}
    for line in _lines(spool, disk, day):
        if needle in line:
            try:
                job = decode(line, Job, spool.day(day))
            except Damaged:  # the last line of a head that was killed while it wrote; the events have it
                continue
            found[job.id] = job
    return sorted(found.values(), key=lambda job: job.id)


def _lines(spool: Spool, disk: Disk, day: str) -> Iterator[bytes]:
    epochs = [epoch for entry in disk.list(spool.day(day)) if (epoch := epoch_of(entry.name))]
    for epoch in sorted(epochs):
        yield from (disk.read(spool.outcomes(day, epoch)) or b"").splitlines()


def _search(spool: Spool, disk: Disk, needle: bytes, fits: Callable[[Job], bool]) -> Job | None:
    for day in days(spool, disk):
        try:
            found = [job for job in outcomes(spool, disk, day, needle) if fits(job)]
        except FileNotFoundError:  # pruned while we looked
            continue
        if found:
            return found[-1]
    return None


def find(spool: Spool, disk: Disk, ident: int) -> Job | None:
    """The job with this ID, if it ended and its record is still kept."""
    return _search(spool, disk, b'"id":%d,' % ident, lambda job: job.id == ident)


def find_drop(spool: Spool, disk: Disk, file: str) -> Job | None:
    """The job that was dropped under this file name."""
    return _search(spool, disk, os.fsencode(file), lambda job: job.drop == file)


def find_name(spool: Spool, disk: Disk, name: str) -> Job | None:
    """The newest job of this name."""
    return _search(spool, disk, b"", lambda job: job.name == name)
