"""logs: what a job printed, while it prints it or afterwards. Ends with SkyPilot's codes.

0 succeeded (and --no-follow of a job that is not over), 100 failed, 101 not over, 102 no such job, 103 cancelled.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import NamedTuple

import click

from skyspool import jobs
from skyspool.clusters import Cluster, split
from skyspool.heads import heads, is_served
from skyspool.jobs import Waiting
from skyspool.logfiles import Reader
from skyspool.present import Watch, tell_age
from skyspool.say import note
from skyspool.tables import one_line
from spool_layout.errors import SpoolError, UsageError
from spool_layout.records import Job
from spool_layout.states import EXIT_CODES, Status
from spool_layout.storage import Disk

COPIES = "~/sky_logs"  # where SkyPilot's own --sync-down puts them


@click.command("logs")
@click.argument("words", nargs=-1, metavar="[CLUSTER] [ID|NAME|HANDLE]...")
@click.option("--follow/--no-follow", default=True, help="Go on until the job is over.  [default: follow]")
@click.option(
    "--tail", metavar="N", type=click.IntRange(min=0), help="Begin with each rank's last N lines; 0: with the first."
)
@click.option("--status", is_flag=True, help="Tell the job's state only.")
@click.option("-s", "--sync-down", is_flag=True, help=f"Copy the logs to {COPIES}.")
@click.option("--raw", is_flag=True, help="Pass on every byte, also to a terminal.")
def command(words: tuple[str, ...], follow: bool, tail: int | None, status: bool, sync_down: bool, raw: bool) -> int:
    """Show what a job printed; where none is named, the latest one."""
    cluster, named = split(words)
    if status and sync_down:
        raise UsageError("--status and --sync-down exclude each other")
    disk = Disk()
    watch = Watch(cluster, disk)
    if sync_down:
        return copy(cluster, disk, several(cluster, disk, watch, named))
    found = meant(cluster, disk, watch, named)
    if isinstance(found, Waiting):
        return show_waiting(cluster, disk, watch, found, Wish(status, follow, tail, raw))
    return show(cluster, disk, watch, found, Wish(status, follow, tail, raw))


class NotYours(SpoolError):
    """Somebody else's output."""

    fault = "user"


class Wish(NamedTuple):
    """What of one job is to be shown, and how."""

    status: bool
    follow: bool
    tail: int | None
    raw: bool


def meant(cluster: Cluster, disk: Disk, watch: Watch, named: tuple[str, ...]) -> Job | Waiting:
    """The one job that is named, or the latest. UsageError for several; NoSuchJob."""
    if not named:
        return jobs.newest(cluster, disk, watch)
    found = jobs.meant(cluster, disk, watch, named[0])  # of several words the first may be a mistyped cluster
    if len(named) > 1:
        words = " ".join(named)
        raise UsageError("several jobs can only be had with --sync-down", f"skyspool logs {cluster.word} {words} -s")
    return found


def show(cluster: Cluster, disk: Disk, watch: Watch, job: Job, wish: Wish) -> int:
    """A job's state, its output to its end, or its output as far as it is; the code says how it stands. NotYours."""
    with reading(job):
        return _show(cluster, disk, watch, job, wish)


@contextmanager
def reading(job: Job) -> Iterator[None]:
    """Around what reads a job's output. NotYours."""
    try:
        yield
    except PermissionError as error:
        raise NotYours(f"job {job.id} is {job.user}'s, who alone may read what it prints: {error.filename}") from error


def _show(cluster: Cluster, disk: Disk, watch: Watch, job: Job, wish: Wish) -> int:
    if wish.follow and not wish.status:
        from skyspool import following

        return following.follow(cluster, disk, watch, job, wish.tail, wish.raw)
    if job.live:
        tell_age(cluster, disk, watch.present)
    if wish.status:
        click.echo(f"Job {job.id}: {job.status}")
        return EXIT_CODES[job.status]
    from skyspool import streaming

    return streaming.show(cluster, disk, watch.state, job, wish.tail or 0, wish.raw)


def show_waiting(cluster: Cluster, disk: Disk, watch: Watch, file: Waiting, wish: Wish) -> int:
    """The same of a file that no head has accepted yet: it has printed nothing, and can be waited for."""
    tell_age(cluster, disk, watch.present)
    if wish.status:
        click.echo(f"Job {one_line(file.handle)}: {Status.PENDING}")
        return EXIT_CODES[Status.PENDING]
    note(f"note: {file.waits_for(is_served(heads(cluster, disk)))}")
    if not wish.follow:
        return 0
    from skyspool.accepting import follow_dropped
    from skyspool.submission import Dropped

    return follow_dropped(cluster, disk, Dropped(file.file, file.changed, file.inode), wish.tail, wish.raw)


# ---- copies


def several(cluster: Cluster, disk: Disk, watch: Watch, named: tuple[str, ...]) -> list[Job]:
    """The jobs that the words mean; `*`, `?` and `[…]` stand for IDs and names that fit. NoSuchJob."""
    if not named:
        return [jobs.latest(cluster, watch.state)]
    found: dict[int, Job] = {}
    for word in named:
        if any(sign in word for sign in "*?["):
            fitting = [j for j in watch.state.known() if fnmatchcase(str(j.id), word) or fnmatchcase(j.name, word)]
        else:
            fitting = [jobs.find(cluster, disk, watch.state, word)]
        if not fitting:
            raise jobs.missing(cluster, watch.state, word)
        found.update({job.id: job for job in fitting})
    return list(found.values())


def copy(cluster: Cluster, disk: Disk, found: list[Job]) -> int:
    """--sync-down: one directory a job, one file a rank. NotYours."""
    for job in found:
        with reading(job):
            logs = _logs(disk, cluster.spool.log_dir(job.id, job.attempt))
        if logs is None:
            note(f"note: job {job.id} has no logs (yet)")
            continue
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in job.name) or "job"
        target = os.path.join(os.path.expanduser(COPIES), cluster.name, f"{job.id}-{name}")
        os.makedirs(target, exist_ok=True)
        for path in logs:
            _copy(job, path, os.path.join(target, os.path.basename(path)))
        click.echo(f"Job {job.id} logs: {target}")
    return 0


def _logs(disk: Disk, folder: str) -> list[str] | None:
    """The logs in a directory, no links; None where it is not there."""
    try:
        paths = [os.path.join(folder, entry.name) for entry in disk.list(folder) if entry.name.endswith(".log")]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [path for path in paths if (info := disk.stat(path)) is not None and stat.S_ISREG(info.st_mode)]


def _copy(job: Job, source: str, target: str) -> None:
    """One file, as far as it is written now. NotYours."""
    reader = Reader(source)
    with reading(job):
        piece = reader.new()  # before the target is touched
    with open(target, "wb") as file:
        while piece:
            file.write(piece)
            piece = reader.new()
