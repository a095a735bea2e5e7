"""use: name a spool as the one that is meant where none is named."""

from __future__ import annotations

import click


@click.command("use")
@click.argument("directory", metavar="DIR|NAME")
def command(directory: str) -> None:
    """Make the spool in DIR (or the known one called NAME) your default cluster."""
    from skyspool.clusters import configuration, named, remember
    from skyspool.verbs.init import must_be_free

    cluster = named(directory)
    if directory not in configuration().clusters:
        must_be_free(cluster.name, cluster.spool.root)
    remember(cluster.name, cluster.spool.root, default=True)
    click.echo(f"Default cluster: {cluster.name} ({cluster.spool.root})")
