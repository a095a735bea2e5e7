"""logs: what a job printed, while it prints it or afterwards. Ends with SkyPilot's codes.

0 succeeded (and --no-follow of a job that is not over), 100 failed, 101 not over, 102 no such job, 103 cancelled.
"""

from __future__ import annotations

import os
import shutil

import click

from skyspool import jobs
from skyspool.clusters import Cluster, split
from skyspool.present import Watch
from skyspool.say import note
from spool_layout.errors import UsageError
from spool_layout.records import Job
from spool_layout.states import EXIT_CODES
from spool_layout.storage import Disk

LINES = 1000  # of a followed job's log, where --tail says nothing
COPIES = "~/sky_logs"  # where SkyPilot's own --sync-down puts them


@click.command("logs")
@click.argument("words", nargs=-1, metavar="[CLUSTER] [ID|NAME|HANDLE]...")
@click.option("--follow/--no-follow", default=True, help="Go on until the job is over.  [default: follow]")
@click.option("--tail", type=click.IntRange(min=0), help="Begin with the last N lines of each rank; 0: with the first.")
@click.option("--status", is_flag=True, help="Tell the job's state only.")
@click.option("-s", "--sync-down", is_flag=True, help=f"Copy the logs to {COPIES}.")
@click.option("--raw", is_flag=True, help="Pass on every byte, also to a terminal.")
def command(words: tuple[str, ...], follow: bool, tail: int | None, status: bool, sync_down: bool, raw: bool) -> int:
    """Show what a job printed; where none is named, the latest one."""
    cluster, named = split(words)
    if status and sync_down:
        raise UsageError("--status and --sync-down exclude each other")
    if len(named) > 1 and not sync_down:
        raise UsageError("several jobs can only be had with --sync-down")
    disk = Disk()
    watch = Watch(cluster, disk)
    found = [jobs.find(cluster, disk, watch.state, word) for word in named] or [jobs.latest(cluster, watch.state)]
    if sync_down:
        return copy(cluster, found)
    if status:
        return tell_status(found[0])
    return stream(cluster, disk, watch, found[0], follow, tail, raw)


def tell_status(job: Job) -> int:
    """`Job N: STATUS`; the code says the same."""
    click.echo(f"Job {job.id}: {job.status}")
    return EXIT_CODES[job.status]


def stream(cluster: Cluster, disk: Disk, watch: Watch, job: Job, follow: bool, tail: int | None, raw: bool) -> int:
    """The job's output, to its end or as far as it is."""
    from skyspool import streaming

    if not follow:
        return streaming.show(cluster, disk, watch.state, job, tail or 0, raw)
    if tail is None and job.attempt:
        note(f"note: at most the last {LINES} lines of each rank are shown; --tail 0 shows all")
    return streaming.follow(cluster, disk, watch, job, LINES if tail is None else tail, raw)


def copy(cluster: Cluster, found: list[Job]) -> int:
    """--sync-down: one directory a job, one file a rank."""
    for job in found:
        source = cluster.spool.log_dir(job.id, job.attempt)
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in job.name) or "job"
        target = os.path.join(os.path.expanduser(COPIES), cluster.name, f"{job.id}-{name}")
        if not os.path.isdir(source):
            note(f"note: job {job.id} has no logs (yet)")
            continue
        os.makedirs(target, exist_ok=True)
        for entry in os.scandir(source):
            if entry.name.endswith(".log") and entry.is_file(follow_symlinks=False):
                shutil.copyfile(entry.path, os.path.join(target, entry.name), follow_symlinks=False)
        click.echo(f"Job {job.id} logs: {target}")
    return 0
