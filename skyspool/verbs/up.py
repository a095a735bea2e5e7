"""up: a spool, a head and a node on this machine, with one command. Idempotent; on a second host it joins.

Without DIR it is the default cluster's spool, or one that is made in the user's home. A DIR that is named has to be a
spool: one that is mistyped, or whose share is not mounted, looks like an empty directory (promise P11).

What --gpus said is kept for this host (skyspool.offered), so that `down` and `up` change nothing.
"""

from __future__ import annotations

import os
import shlex

import click

from skyspool import daemons, offered
from skyspool.clusters import Cluster, configuration, default, lookup, open_spool, typed
from skyspool.say import hint, note
from spool_layout.errors import NotASpool, UsageError
from spool_layout.storage import Disk

HOME_SPOOLS = ("~/skyspool", "~/skyspool-queue")  # the second where the first is something else, such as our source
HOME_NAME = "local"
AUTO = "auto"


@click.command("up")
@click.argument("directory", required=False, metavar="[DIR]")
@click.option("--gpus", metavar="SPEC", help="What this machine has, in place of what is found: H100:8, none or auto.")
@click.option("--state", metavar="DIR", hidden=True, help="Where this host keeps what it remembers.")
def command(directory: str | None, gpus: str | None, state: str | None) -> None:
    """Start a head and a node in the background; make a spool first if there is none."""
    cluster, disk = spool(directory), Disk()
    there = {daemon.kind for daemon in daemons.running(cluster, disk)}
    before = offered.recall(cluster)
    spec = before if gpus is None else None if gpus == AUTO else gpus
    both = ["--state", state] if state else []
    options = {"head": both, "node": [*both, "--gpus", spec] if spec is not None else both}
    started = [daemons.start(cluster, kind, words) for kind, words in options.items() if kind not in there]
    daemons.await_all(cluster, disk, started)
    if "node" not in there:
        offered.keep(cluster, spec)
        if spec and gpus is None:
            note(f"note: --gpus {spec}, as an earlier `skyspool up` on this host said; --gpus {AUTO}: what is found")
    elif spec != before:
        note("note: the node was running already; --gpus had no effect")
        hint(f"skyspool down{typed(cluster)} && skyspool up{typed(cluster)} --gpus {gpus}")
    if not daemons.await_known(cluster, disk):
        note("note: the head does not know this node yet: another one may just have died, and it waits for its lock")
    tell(cluster, disk, there)


# ---- which spool


def spool(directory: str | None) -> Cluster:
    """The spool that is meant. NotASpool where a directory is named that holds none."""
    if directory is not None:
        return named_spool(os.path.expanduser(directory))
    if os.environ.get("SKYSPOOL_DIR") or configuration().clusters:
        return default()
    return home_spool()


def named_spool(word: str) -> Cluster:
    """The spool in a directory, or of a configured name; added to the configuration where its name is free."""
    from skyspool.verbs import init

    found = lookup(word)
    if found is None:
        root = os.path.abspath(word)
        raise NotASpool(
            f"{root} holds no spool: it is mistyped{near(word)}, its share is not mounted, or none was made there yet",
            f"skyspool init {shlex.quote(root)} && skyspool up {shlex.quote(root)}",
        )
    place = configuration().clusters.get(found.name)
    if place is None:
        init.enter(found.name, found.spool.root)
    same = place is None or os.path.realpath(place) == os.path.realpath(found.spool.root)
    return found._replace(configured=found.configured or same)


def near(word: str) -> str:
    """The configured name that may have been meant, in brackets."""
    from difflib import get_close_matches

    close = get_close_matches(word, configuration().clusters, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def home_spool() -> Cluster:
    """The spool under the user's home; made where there is none."""
    from skyspool.verbs import init

    root = home_root()
    if not os.path.exists(os.path.join(root, "spool.yaml")):
        name = init.make(root, HOME_NAME)
        click.echo(f"Spool {name} made: {root}")
    init.make_directories(root)
    cluster = open_spool(root)
    init.must_be_free(cluster.name, root)
    init.enter(cluster.name, root)
    return cluster._replace(configured=True)


def home_root() -> str:
    """Where it is: the first of HOME_SPOOLS that holds a spool, or nothing but what a cut `up` may have begun."""
    from spool_layout.paths import Spool

    places = [os.path.expanduser(place) for place in HOME_SPOOLS]
    for root in places:
        ours = {os.path.relpath(path, root).split(os.sep)[0] for path in Spool(root).directories}
        try:
            names = {name for name in os.listdir(root) if not name.startswith(".part-")}
        except FileNotFoundError:
            return root
        if "spool.yaml" in names or names <= ours:
            return root
    raise UsageError(f"{' and '.join(places)} are something else", f"skyspool init DIR --name {HOME_NAME}")


# ---- what is told


def tell(cluster: Cluster, disk: Disk, before: set[str]) -> None:
    """What runs now, and where it writes what it does."""
    click.echo(f"Cluster {cluster.name}: {cluster.spool.root}")
    nodes = {status.node: status for status, _ in daemons.node_statuses(cluster, disk)}
    for daemon in daemons.running(cluster, disk):
        words = ["was running" if daemon.kind in before else "started", f"pid {daemon.pid}"]
        status = nodes.get(daemon.what) if daemon.kind == "node" else None
        if status:
            words.append(f"{status.node} ({gpu_words([gpu.name for gpu in status.gpus])})")
        if log := daemons.log_of(daemon.pid):
            words.append(f"log {log}")
        click.echo(f"{daemon.kind.capitalize()}: {', '.join(words)}")
        for line in status.notes if status else ():
            note(f"note: {daemon.what}: {line}")
    hint(f"skyspool exec{typed(cluster)} -- hostname      # then: skyspool queue{typed(cluster)}")


def gpu_words(names: list[str]) -> str:
    """`4 H100`, or `no GPU`."""
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "no GPU"
