"""A file on its way from pending/ to a job: waiting until a head has accepted it, and seeing that it never will be.

A head moves the file into its own claim directory, commits what it is, and moves it on. So a file is gone, taken back
by its owner, only when it is neither in pending/, nor in a claim directory, nor known to the events, looked for in this
order. A head that takes over moves files between claim directories: they are looked for twice.
"""

from __future__ import annotations

import os
import time

from skyspool.clusters import Cluster
from skyspool.following import follow, left_alone
from skyspool.present import Watch
from skyspool.say import note
from skyspool.streaming import must_be_read
from skyspool.submission import Dropped, Refused
from spool_layout.paths import is_handle
from spool_layout.records import Job
from spool_layout.states import EXIT_CODES, Status
from spool_layout.storage import Disk

PAUSE = 0.3  # seconds between two looks
BETWEEN = 0.05  # seconds between the two looks for a file that seems to be gone


def follow_dropped(cluster: Cluster, disk: Disk, dropped: Dropped, tail: int | None = 0, raw: bool = False) -> int:
    """Follow what was submitted, from the moment that it is accepted. 103 where it was taken back before that."""
    watch = Watch(cluster, disk)
    try:
        while (job := became(watch, dropped)) is None:
            if is_gone(cluster, disk, watch, dropped):
                note(f"{dropped.handle} was taken back before a head accepted it.")
                return EXIT_CODES[Status.CANCELLED]
            time.sleep(PAUSE)
            must_be_read()
            watch.refresh()
    except KeyboardInterrupt:
        return left_alone(cluster, dropped.handle)
    note(f"Job submitted, ID: {job.id}")
    return follow(cluster, disk, watch, job, tail, raw)


def became(watch: Watch, dropped: Dropped) -> Job | None:
    """The job that the file became, if it did. Refused: it was set aside."""
    for refused in watch.state.rejected:
        if refused.drop == dropped.file and refused.at >= dropped.changed:
            raise Refused(f"the head refused it: {refused.reason}", f"ls {watch.cluster.spool.rejected}")
    fitting = (job for job in reversed(watch.state.known()) if job.drop == dropped.file)
    return next((job for job in fitting if is_handle(dropped.handle) or job.inode == dropped.inode), None)


def is_gone(cluster: Cluster, disk: Disk, watch: Watch, dropped: Dropped) -> bool:
    """Whether the file became nothing: somebody removed it from pending/."""
    for _ in range(2):
        if _stands(disk, cluster.spool.pending, dropped.file) or _is_claimed(cluster, disk, dropped.file):
            return False
        watch.refresh()
        if became(watch, dropped) is not None:
            return False
        time.sleep(BETWEEN)
    return True


def _stands(disk: Disk, folder: str, file: str) -> bool:
    """Whether the file is in a drop box, which perhaps may not be listed."""
    try:
        return any(entry.name == file for entry in disk.list(folder))
    except PermissionError:
        return disk.stat(os.path.join(folder, file)) is not None
    except OSError:
        return True


def _is_claimed(cluster: Cluster, disk: Disk, file: str) -> bool:
    claims = cluster.spool.claims
    try:
        names = [entry.name for entry in disk.list(claims)]
    except OSError:
        return True
    return any(_holds(disk, os.path.join(claims, name), f"-{file}") for name in names)


def _holds(disk: Disk, folder: str, ending: str) -> bool:
    """Whether a directory holds a name that ends so; True where it may not be looked into: then nobody knows."""
    try:
        return any(entry.name.endswith(ending) for entry in disk.list(folder))
    except FileNotFoundError:
        return False
    except OSError:
        return True
