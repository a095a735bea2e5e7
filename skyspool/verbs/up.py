"""up: a spool, a head and a node on this machine, with one command. Idempotent; on a second host it joins."""

from __future__ import annotations

import os

import click

from skyspool import daemons
from skyspool.clusters import Cluster, configuration, default, lookup, open_spool
from skyspool.say import hint, note
from spool_layout.storage import Disk

HOME_SPOOL = "~/skyspool"
HOME_NAME = "local"


@click.command("up")
@click.argument("directory", required=False, metavar="[DIR]")
@click.option("--gpus", metavar="SPEC", help="What this machine has, in place of what is found: H100:8.")
@click.option("--state", metavar="DIR", hidden=True, help="Where this host keeps what it remembers.")
def command(directory: str | None, gpus: str | None, state: str | None) -> None:
    """Start a head and a node in the background; make a spool first if there is none."""
    cluster, disk = spool(directory), Disk()
    there = {daemon.kind: daemon for daemon in daemons.running(cluster, disk)}
    both = ["--state", state] if state else []
    options = {"head": both, "node": [*both, "--gpus", gpus] if gpus else both}
    started = [daemons.start(cluster, kind, words) for kind, words in options.items() if kind not in there]
    daemons.await_all(cluster, disk, started)
    if gpus and "node" in there:
        note("note: the node was running already; --gpus had no effect")
        hint(f"skyspool down && skyspool up --gpus {gpus}")
    if not daemons.await_known(cluster, disk):
        note("note: the head does not know this node yet: another one may just have died, and it waits for its lock")
    tell(cluster, disk, set(there))


def spool(directory: str | None) -> Cluster:
    """The spool that is meant; made where there is none."""
    from skyspool.verbs import init

    if directory is not None and (found := lookup(directory)):
        if not found.configured and found.name not in configuration().clusters:
            init.enter(found.name, found.spool.root)
        return found
    if directory is None and (os.environ.get("SKYSPOOL_DIR") or configuration().clusters):
        return default()
    root = os.path.abspath(os.path.expanduser(directory or HOME_SPOOL))
    fresh = not os.path.exists(os.path.join(root, "spool.yaml"))
    if fresh:
        name = init.make(root, None if directory else HOME_NAME)
        click.echo(f"Spool {name} made: {root}")
    init.make_directories(root)
    cluster = open_spool(root)
    init.must_be_free(cluster.name, root)
    init.enter(cluster.name, root)
    return cluster


def tell(cluster: Cluster, disk: Disk, before: set[str]) -> None:
    """What runs now, and where it writes what it does."""
    click.echo(f"Cluster {cluster.name}: {cluster.spool.root}")
    gpus = {
        status.node: gpu_words([gpu.name for gpu in status.gpus]) for status, _ in daemons.node_statuses(cluster, disk)
    }
    for daemon in daemons.running(cluster, disk):
        what = f"{daemon.what} ({gpus.get(daemon.what)})" if daemon.kind == "node" else ""
        told = "was running" if daemon.kind in before else "started"
        click.echo(
            f"{daemon.kind.capitalize()}: {told}, pid {daemon.pid}{', ' + what if what else ''}, "
            f"log {daemons.log_file(cluster, daemon.kind)}"
        )
    hint("skyspool exec -- hostname      # then: skyspool queue")


def gpu_words(names: list[str]) -> str:
    """`4 H100`, or `no GPU`."""
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "no GPU"
