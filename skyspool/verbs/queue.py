"""queue: show jobs, newest first. Works with every daemon dead, without a lock, without writing."""

from __future__ import annotations

import os
import time

import click

from skyspool.clusters import Cluster, chosen


@click.command("queue")
@click.argument("clusters", nargs=-1, metavar="[CLUSTER]...")
@click.option("-s", "--skip-finished", is_flag=True, help="Only jobs that wait or run.")
@click.option("-u", "--all-users", is_flag=True, help="Everybody's jobs, not only mine.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print.")
def command(clusters: tuple[str, ...], skip_finished: bool, all_users: bool, output: str) -> None:
    """Show the jobs of the CLUSTERs; of all that are configured where none is named."""
    views = [_View(cluster, skip_finished, all_users) for cluster in chosen(clusters)]
    if output == "json":
        import json

        click.echo(json.dumps({view.cluster.name: view.records() for view in views}, indent=2))
    else:
        for position, view in enumerate(views):
            click.echo("\n" * bool(position), nl=False)
            view.show()


class _View:
    """One spool as this command line asks for it."""

    def __init__(self, cluster: Cluster, live_only: bool, all_users: bool) -> None:
        from skyspool import jobs, listing
        from skyspool.present import look, tell_age
        from spool_layout.storage import Disk

        disk = Disk()
        listed = jobs.pending_files(cluster.spool, disk)  # before the state: see jobs.unaccepted
        self.present = look(cluster, disk)
        self.state, self.cluster, self.all_users = self.present.state, cluster, all_users
        self.now = time.time()
        self.uid = None if all_users else jobs.me()
        new = [] if live_only else jobs.unaccepted(cluster.spool, listed, self.state)
        self.uncounted = max(0, len(new) - jobs.LOOKED_AT)
        files = jobs.waiting(cluster.spool, disk, sorted(new, key=lambda e: e.name)[: jobs.LOOKED_AT])
        self.shown = listing.select(self.state, files, self.uid, live_only)
        tell_age(cluster, disk, self.present)

    def records(self) -> list[dict[str, object]]:
        """For -o json."""
        from skyspool import listing

        return listing.records(self.cluster.spool, self.state, self.shown, self.now)

    def show(self) -> None:
        """The table, and what there is to say below it."""
        from skyspool import listing, tables

        whose = "all users" if self.all_users else "current user"
        click.echo(f"Job queue of {whose} on cluster {self.cluster.name}")
        spool = self.cluster.spool
        table = listing.table(spool, self.state, self.shown, self.now, os.path.expanduser("~"))
        tables.show(table, listing.narrowing())
        if self.uncounted:
            click.echo(f"and {self.uncounted} more files in {spool.pending} that no head has accepted yet")
        user = None if self.uid is None else listing.user_name(self.uid)
        for refused in listing.lately_rejected(self.state, user, self.now):
            click.echo(listing.rejection(spool, refused, self.now))
