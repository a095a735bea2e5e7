"""init: make a spool. Idempotent: on a spool that is there it makes what is missing and says so."""

from __future__ import annotations

import os
import shlex

import click

PRIVATE = ("tmp", "pending", "requests", "claims")  # hold task files, with their secrets


@click.command("init")
@click.argument("directory", metavar="DIR")
@click.option("--name", metavar="NAME", help="What to call the spool; the directory's own name where none is given.")
def command(directory: str, name: str | None) -> None:
    """Make a spool in DIR, and add it to your configuration."""
    from skyspool.clusters import configuration, open_spool

    root = os.path.abspath(os.path.expanduser(directory))
    fresh = not os.path.exists(os.path.join(root, "spool.yaml"))
    name = make(root, name) if fresh else keep(root, name)
    make_directories(root)
    open_spool(root)
    enter(name, root)
    click.echo(f"Spool {name} made: {root}" if fresh else f"Spool {name} was there, nothing in it was changed: {root}")
    if configuration().default == name:
        click.echo(f"It is your default cluster ({name}).", err=True)
    if fresh:
        click.echo(
            f"hint: spoold head {shlex.quote(root)}      # on one host\n"
            f" and: spoold node {shlex.quote(root)}      # on each host with GPUs",
            err=True,
        )


def make(root: str, name: str | None) -> str:
    """Put spool.yaml there; the spool's name: the directory's where none is given. UsageError where that is none."""
    from skyspool.clusters import good_name
    from spool_layout import mounts, settings
    from spool_layout.errors import UsageError
    from spool_layout.paths import Spool, is_cluster_name
    from spool_layout.storage import Disk

    if name is None and not is_cluster_name(os.path.basename(root)):
        raise UsageError(
            f"{os.path.basename(root)!r} is no name for a spool: give it one",
            f"skyspool init {shlex.quote(root)} --name NAME",
        )
    chosen = good_name(os.path.basename(root) if name is None else name)
    must_be_free(chosen, root)
    make_directories(root)
    text = settings.first_text(chosen, mounts.is_network(root))
    Disk().publish_new(Spool(root).settings, text.encode())
    return chosen


def keep(root: str, name: str | None) -> str:
    """The name of the spool that is there, or the one by which the user wants to call it."""
    from skyspool.clusters import good_name, open_spool

    chosen = good_name(name) if name is not None else open_spool(root).name
    must_be_free(chosen, root)
    return chosen


def make_directories(root: str) -> None:
    """All directories of a spool that are missing."""
    from spool_layout.paths import Spool
    from spool_layout.storage import Disk

    spool, disk = Spool(root), Disk()
    os.makedirs(os.path.dirname(spool.root), exist_ok=True)
    for path in spool.directories:
        disk.make_dir(path, 0o700 if os.path.relpath(path, spool.root) in PRIVATE else 0o755)
    disk.sync(spool.root)


def must_be_free(name: str, root: str) -> None:
    """UsageError where the configuration knows another spool by this name."""
    from skyspool.clusters import configuration
    from spool_layout.errors import UsageError

    place = configuration().clusters.get(name)
    if place is not None and os.path.realpath(place) != os.path.realpath(root):
        raise UsageError(f"{name!r} is already the name of {place}", f"skyspool init {shlex.quote(root)} --name OTHER")


def enter(name: str, root: str) -> None:
    """Add the spool to the user's configuration; the first one becomes the default."""
    from skyspool.clusters import configuration, remember

    config = configuration()
    if config.clusters.get(name) != root or not config.default:
        remember(name, root, default=not config.default)
