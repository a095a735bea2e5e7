"""queue: show jobs, newest first (queueing.py). What is typed most of it is read without this: see shortcut.py."""

from __future__ import annotations

import click


@click.command("queue")
@click.argument("clusters", nargs=-1, metavar="[CLUSTER]...")
@click.option("-s", "--skip-finished", is_flag=True, help="Only jobs that wait or run.")
@click.option("-u", "--all-users", is_flag=True, help="Everybody's jobs, not only mine.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print.")
def command(clusters: tuple[str, ...], skip_finished: bool, all_users: bool, output: str) -> None:
    """Show the jobs of the CLUSTERs; of all that are configured where none is named."""
    from skyspool.queueing import show

    show(clusters, skip_finished, all_users, output)
