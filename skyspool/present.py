"""What a reading verb shows: the spool's state, how old the news are, and what came since.

`look` reads the state without a lock, without writing and without a head. `Watch` goes on from there: while the same
head leads it reads only what was appended to the events file; when another leads it reads everything anew.
"""

from __future__ import annotations

from skyspool.ages import ago
from skyspool.clusters import Cluster
from skyspool.heads import heads, is_served, server_now, silence
from skyspool.say import note
from spool_layout import history
from spool_layout.errors import SpoolError
from spool_layout.events import decode_events
from spool_layout.history import Present, read_present
from spool_layout.replay import State
from spool_layout.storage import Disk


class Unreadable(SpoolError):
    """What the spool holds may not, or cannot, be read here."""

    exit_code = 77
    fault = "admin"


def look(cluster: Cluster, disk: Disk) -> Present:
    """The state that the disk tells now. Unreadable where its files may not be read."""
    try:
        return read_present(cluster.spool, disk)
    except FileNotFoundError as error:
        import shlex

        raise Unreadable(
            f"{error.filename} is missing: the spool is not whole, or its share is not mounted",
            f"skyspool init {shlex.quote(cluster.spool.root)}      # makes what is missing",
        ) from error
    except PermissionError as error:
        raise Unreadable(f"{error.filename}: {error.strerror}") from error


def tell_age(cluster: Cluster, disk: Disk, present: Present) -> None:
    """One line on stderr where the news may be old: no head is alive, or one is just taking over."""
    now = server_now(cluster.spool, disk)
    found = heads(cluster, disk, now)
    if not is_served(found):
        note(f"note: {silence(cluster, found, present.written, now)}; nothing starts until one runs")
    elif present.taking_over:
        note(f"note: a head is just taking over {cluster.name}; this is from {ago(present.written, now)}")


class Watch:
    """A state that follows the events. refresh() is cheap while one head leads."""

    def __init__(self, cluster: Cluster, disk: Disk) -> None:
        self.cluster, self.disk = cluster, disk
        self._load()

    def _load(self) -> None:
        self.present = present = look(self.cluster, self.disk)
        self.state: State = present.state
        self.epoch, self.offset = present.epoch, present.offset

    def refresh(self) -> State:
        """The state as the disk tells it now."""
        spool = self.cluster.spool
        listed = history.epochs(spool, self.disk)
        if not listed or listed[-1] != self.epoch or self.offset == 0:
            self._load()
            return self.state
        data = self.disk.read(spool.events_of(self.epoch), self.offset)
        events, length = decode_events(data or b"")
        for event in events:
            self.state.apply(event)
        self.offset += length
        return self.state
