"""why: what a job waits for, in one sentence."""

from __future__ import annotations

import time

import click

from skyspool.clusters import split


@click.command("why")
@click.argument("words", nargs=-1, metavar="[CLUSTER] [ID|NAME|HANDLE]...")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def command(words: tuple[str, ...], output: str) -> None:
    """Tell what a pending job waits for; where none is named, each of mine."""
    from skyspool import heads, jobs
    from skyspool.present import look
    from skyspool.reasons import Reason, why
    from spool_layout.states import Status
    from spool_layout.storage import Disk

    cluster, named = split(words)
    disk = Disk()
    listed = jobs.pending_files(cluster.spool, disk)
    state, now = look(cluster, disk).state, time.time()
    served = heads.is_served(heads.heads(cluster, disk))
    waiting = {entry.name for entry in jobs.unaccepted(cluster.spool, listed, state)}
    found: list[tuple[int | None, Reason]] = []
    for word in named:
        if f"{word}.yaml" in waiting:
            told = "the head has not looked at it yet" if served else "no head is alive to accept it"
            found.append((None, Reason("dropped", f"{word} waits in pending/: {told}")))
            continue
        job = jobs.find(cluster, disk, state, word)
        found.append((job.id, why(state, job, now, served)))
    if not named:
        mine = [job for job in state.jobs.values() if job.uid == jobs.me() and job.status is Status.PENDING]
        found = [(job.id, why(state, job, now, served)) for job in mine]
    if output == "json":
        import json

        click.echo(json.dumps([{"job_id": ident, **reason.data()} for ident, reason in found], indent=2))
        return
    for _, reason in found:
        click.echo(reason.text)
    if not found:
        click.echo("none of your jobs waits", err=True)
