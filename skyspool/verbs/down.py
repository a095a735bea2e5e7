"""down: end this host's daemons of a spool. Running jobs go on, and are found again by the next `up`, unless --jobs."""

from __future__ import annotations

import shlex
import time

import click

from skyspool import daemons
from skyspool.clusters import Cluster, default, named
from skyspool.present import Watch
from skyspool.say import note
from spool_layout.errors import SpoolError
from spool_layout.storage import Disk

PATIENCE = 90.0  # seconds for cancelled jobs to end
POLL = 0.1


@click.command("down")
@click.argument("directory", required=False, metavar="[DIR]")
@click.option("--jobs", is_flag=True, help="Cancel the jobs that run on this host first.")
def command(directory: str | None, jobs: bool) -> int:
    """End the head and the node on this host. Running jobs are left alone, unless --jobs is given."""
    cluster, disk = named(directory) if directory else default(), Disk()
    found = daemons.running(cluster, disk)
    note(f"Cluster {cluster.name}: {cluster.spool.root}")
    nodes = {status.node for status, _ in daemons.node_statuses(cluster, disk) if status.host == daemons.host()}
    if jobs:
        end_jobs(cluster, disk, nodes, {daemon.what for daemon in found if daemon.kind == "node"})
    left = daemons.stop(found)
    for daemon in found:
        told = "does not end" if daemon in left else "stopped"
        click.echo(f"{daemon.kind.capitalize()} {told} (pid {daemon.pid})")
    if not found:
        click.echo(f"Nothing of {cluster.name} runs on {daemons.host()}.")
    tell_jobs(cluster, disk, nodes)
    return 1 if left else 0


def on_nodes(watch: Watch, nodes: set[str]) -> list[int]:
    """The live jobs that hold something on these nodes."""
    return [job.id for job in watch.refresh().jobs.values() if nodes & {a.node for a in job.allocations}]


def check_ends(cluster: Cluster, disk: Disk, nodes: set[str], running: set[str]) -> None:
    """SpoolError where jobs run under a node of this host that has no runner now: nobody could end their processes."""
    for node in sorted(nodes - running):
        if ids := on_nodes(Watch(cluster, disk), {node}):
            raise SpoolError(
                f"jobs {', '.join(map(str, ids))} run here under node {node}, which is stopped and cannot end them; "
                "nothing was stopped",
                f"spoold node {shlex.quote(cluster.spool.root)} --name {node}      "
                f"# then: skyspool down {cluster.word} --jobs",
            )


def end_jobs(cluster: Cluster, disk: Disk, nodes: set[str], running: set[str]) -> None:
    """Cancel what runs on these nodes, and wait until it is gone. SpoolError where nobody could carry that out."""
    from skyspool import heads, submission
    from skyspool.verbs.cancel import request

    watch = Watch(cluster, disk)
    ids = on_nodes(watch, nodes)
    if not ids:
        return
    if not heads.is_served(heads.heads(cluster, disk)):
        which = ", ".join(map(str, ids))
        raise SpoolError(
            f"jobs {which} run here, and no head is alive to cancel them; nothing was stopped",
            f"skyspool up {cluster.word} && skyspool down {cluster.word} --jobs",
        )
    check_ends(cluster, disk, nodes, running)
    submission.ask(cluster.spool, disk, request(list(ids)))
    click.echo(f"Cancelling jobs {', '.join(map(str, ids))} …", err=True)
    end = time.monotonic() + PATIENCE
    while left := [ident for ident in on_nodes(watch, nodes) if ident in ids]:
        if time.monotonic() > end:
            raise SpoolError(
                f"jobs {', '.join(map(str, left))} have not ended; nothing was stopped",
                f"skyspool status {cluster.word}",
            )
        time.sleep(POLL)


def tell_jobs(cluster: Cluster, disk: Disk, nodes: set[str]) -> None:
    """What goes on running here."""
    left = on_nodes(Watch(cluster, disk), nodes)
    if left:
        which = ", ".join(map(str, left))
        click.echo(f"note: jobs {which} go on running here; the next node of that name finds them again", err=True)
        up = f"skyspool up {cluster.word}"
        click.echo(f"hint: {up}      # or, to end them: {up} && skyspool down {cluster.word} --jobs", err=True)
