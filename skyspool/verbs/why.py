"""why: what a job waits for, in one sentence."""

from __future__ import annotations

import time

import click

from skyspool import heads, jobs
from skyspool.clusters import split
from skyspool.jobs import Waiting
from skyspool.present import Watch, tell_age
from skyspool.reasons import Reason, why
from skyspool.say import show_json, tell
from spool_layout.records import Job
from spool_layout.replay import State
from spool_layout.states import Status
from spool_layout.storage import Disk


@click.command("why")
@click.argument("words", nargs=-1, metavar="[CLUSTER] [ID|NAME|HANDLE]...")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def command(words: tuple[str, ...], output: str) -> None:
    """Tell what a pending job waits for; where none is named, each of mine."""
    cluster, named = split(words)
    disk = Disk()
    meant: list[Job | Waiting]
    if named:
        watch = Watch(cluster, disk)
        meant = [jobs.meant(cluster, disk, watch, word) for word in named]
    else:
        listed = jobs.pending_files(cluster.spool, disk)
        watch = Watch(cluster, disk)
        files = jobs.waiting(cluster.spool, disk, jobs.unaccepted(cluster.spool, listed, watch.state))
        meant = [job for job in watch.state.jobs.values() if job.status is Status.PENDING and job.uid == jobs.me()]
        meant += jobs.held_back(cluster, disk, watch.state, [file for file in files if file.uid == jobs.me()])
    tell_age(cluster, disk, watch.present)
    served = heads.is_served(heads.heads(cluster, disk))
    found = [_reason(watch.state, item, served) for item in meant]
    if output == "json":
        show_json([{"job_id": ident, **reason.data()} for ident, reason in found])
        return
    for _, reason in found:
        tell(reason.text)
    if not found:
        click.echo("none of your jobs waits", err=True)


def _reason(state: State, item: Job | Waiting, served: bool) -> tuple[int | None, Reason]:
    """(ID, why it is where it is)."""
    if isinstance(item, Waiting):
        return None, Reason("dropped", item.waits_for(served))
    return item.id, why(state, item, time.time(), served)
