"""What `queue` does: show jobs, newest first. Works with every daemon dead, without a lock, without writing.

The newest scroll off a terminal first, so a table that is higher than the terminal ends with what there is in all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from skyspool.clusters import Cluster, ask_each

if TYPE_CHECKING:
    from skyspool.listing import Record
    from spool_layout.records import Rejection


def show(clusters: tuple[str, ...], skip_finished: bool, all_users: bool, output: str) -> None:
    """Print the jobs of the clusters that are named, or of all. output: "table" or "json"."""
    views = ask_each(clusters, lambda cluster: _View(cluster, skip_finished, all_users))
    if output == "json":
        from skyspool.say import show_lists

        show_lists({view.cluster.name: view.records() for view in views})
        return
    for position, view in enumerate(views):
        if position:
            print()
        view.show()


class _View:
    """One spool as this command line asks for it."""

    def __init__(self, cluster: Cluster, live_only: bool, all_users: bool) -> None:
        from skyspool import jobs, listing
        from skyspool.present import look, tell_age
        from spool_layout.storage import Disk

        disk = Disk()
        listed = jobs.pending_files(cluster.spool, disk)  # before the state: see jobs.unaccepted
        present = look(cluster, disk)
        self.state, self.cluster, self.all_users, self.live_only = present.state, cluster, all_users, live_only
        self.now = time.time()
        self.uid = None if all_users else jobs.me()
        new = jobs.unaccepted(cluster.spool, listed, self.state)
        self.uncounted = max(0, len(new) - jobs.LOOKED_AT)
        files = jobs.waiting(cluster.spool, disk, sorted(new, key=lambda e: e.name)[: jobs.LOOKED_AT])
        shown = listing.select(self.state, files, self.uid, live_only)
        self.shown = shown._replace(files=jobs.held_back(cluster, disk, self.state, shown.files))
        self.limit = "" if os.access(cluster.spool.pending, os.R_OK) else jobs.my_limit(cluster, disk, self.state)
        tell_age(cluster, disk, present)

    def records(self) -> Iterator[Record]:
        """For -o json."""
        from skyspool import listing

        return listing.records(self.cluster.spool, self.state, self.shown, self.now)

    def show(self) -> None:
        """The table, and what there is to say below it."""
        from skyspool import listing, tables
        from skyspool.clusters import typed
        from skyspool.say import hint, tell

        whose = "all users" if self.all_users else "current user"
        tell(f"Job queue of {whose} on cluster {self.cluster.name}")
        spool = self.cluster.spool
        table = listing.table(spool, self.state, self.shown, self.now, os.path.expanduser("~"))
        tables.show(table, listing.narrowing())
        lines = self._below()
        for line in lines:
            tell(line)
        if tables.scrolls(len(table.rows) + len(lines) + 2):
            tell(f"In all: {listing.summary(self.shown)}")
            if not all(job.live for job in self.shown.jobs):
                hint(f"skyspool queue{typed(self.cluster)} -s{' -u' * self.all_users}      # only what waits or runs")

    def _below(self) -> list[str]:
        from skyspool import listing

        spool, lines = self.cluster.spool, listing.held_back(self.shown)
        if self.limit:
            lines.append(f"what you drop now waits in pending/: {self.limit}")
        if self.uncounted:
            lines.append(f"and {self.uncounted} more files in {spool.pending} that no head has accepted yet")
        if (older := self.state.finished - len(self.state.ended)) > 0 and not self.live_only:
            lines.append(f"and {older} jobs of all users that ended before these; their files: {spool.done}")
        return lines + [listing.rejection(r, self.now) for r in self._refused()]

    def _refused(self) -> list[Rejection]:
        from skyspool import listing

        if not self.state.rejected:
            return []
        from spool_layout.users import user_name

        user = None if self.uid is None else user_name(self.uid)
        return listing.lately_rejected(self.state, user, self.now)
