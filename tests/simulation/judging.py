"""The verdict on a run that came to rest: by the books (tests/history), the invariants, fsck, and what users saw."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from spool_layout import history
from spool_layout.errors import Damaged
from spool_layout.events import Accepted, Requested, decode_events
from spool_layout.storage import Disk
from spoold.core.invariants import broken
from spoold.fsck.facts import gather
from spoold.fsck.judging import judge as fsck
from tests.history.checker import History, faults

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

TORN = "has a line that is no record"  # in done/: a host died while its head wrote; told again by the next one


def is_quiet(cluster: Cluster) -> bool:
    """Whether nothing waits, runs, or is held."""
    spool, disk = cluster.spool, Disk()
    try:
        state = history.read_present(spool, disk).state
    except (OSError, Damaged):
        return False
    boxes = [folder for folder in (spool.pending, spool.requests) if disk.list(folder)]
    return not (state.jobs or state.held or boxes)


def epochs(cluster: Cluster) -> int:
    """How many heads led."""
    return len(event_files(cluster))


def event_files(cluster: Cluster) -> dict[int, bytes]:
    """Every epoch's file, as the server holds it."""
    found = {}
    for path, folder in cluster.server.dirs.items():
        if path.startswith(cluster.spool.events):
            for name, inode in (folder.entries or {}).items():
                if name.endswith(".jsonl"):
                    found[int(name.partition(".")[0])] = inode.data
    return found


def judge(cluster: Cluster, peace: float) -> None:
    """Tell the world what is wrong."""
    fault = cluster.world.fault
    spool, disk = cluster.spool, Disk()
    state = history.read_present(spool, disk).state
    if state.jobs or state.held:
        left = [f"{job.id} {job.status} {job.reason} {job.allocations}" for job in state.jobs.values()]
        fault(f"after {peace / 3600:.0f} h of peace there are jobs {left} and slots held by {dict(state.held)}")
        return
    for folder in (spool.pending, spool.requests, spool.running):
        names = [entry.name for entry in disk.list(folder)]
        if folder != spool.running:  # an empty file is nothing (spool(5)): who was to write it died before
            names = [name for name in names if disk.read(f"{folder}/{name}")]
        if names:
            fault(f"{folder} still holds {names}")
    for sentence in broken(state):
        fault(f"invariant: {sentence}")
    for finding in fsck(gather(spool, disk, "s0123456789abcdef")):
        if finding.fault and finding.text != TORN:
            fault(f"fsck: {finding.place}: {finding.text}")
    _books(cluster)
    _users(cluster)
    for run in cluster.watch.live:
        if run.lives:
            fault(f"{run} lives on, and nobody knows of it")


def _books(cluster: Cluster) -> None:
    files = event_files(cluster)
    for sentence in faults(History(files, cluster.watch.proofs, {})):
        cluster.world.fault(f"books: {sentence}")


def _users(cluster: Cluster) -> None:
    """Each text became as many jobs as it had to."""
    files = event_files(cluster)
    events = [event for data in files.values() for event in decode_events(data)[0]]
    accepted = Counter(event.digest for event in events if isinstance(event, Accepted))
    # what a deposed head wrote beyond its seal never happened, and was accepted again: the books count what counts
    counted = Counter(
        {digest: len({e.id for e in events if isinstance(e, Accepted) and e.digest == digest}) for digest in accepted}
    )
    users = cluster.users
    for digest in {*counted, *users.due}:
        least, most = users.due[digest], users.due[digest] + users.maybe[digest]
        if not least <= counted[digest] <= most:
            text = users.texts.get(digest, b"?").decode()
            cluster.world.fault(f"{text!r} became {counted[digest]} jobs, should be {least} to {most}")
    carried = sum(isinstance(event, Requested) for event in events)
    if carried < users.requests:
        cluster.world.fault(f"{users.requests} requests were made, {carried} were carried out")
