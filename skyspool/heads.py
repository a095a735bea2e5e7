"""Which heads live, from the files that they renew: heads/NAME.json.

A head lives if its file was renewed within three of its intervals, or within the time after which another would take
over, whichever is longer. Ages are taken by the file system's clock: on a local disk that is this host's own; on a
network file system it is asked by writing a small file in tmp/, and only where that may not be done this host's own
clock has to serve.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from skyspool.clusters import Cluster
from spool_layout.errors import Damaged
from spool_layout.mounts import is_network
from spool_layout.paths import Spool, is_passing
from spool_layout.records import HeadStatus, decode
from spool_layout.storage import Disk

RECORD_BYTES = 64 * 1024
INTERVALS = 3


class Head(NamedTuple):
    """A head that lives or lived. seen: when it was last renewed, by the file system's clock."""

    status: HeadStatus
    seen: float
    alive: bool


def server_now(spool: Spool, disk: Disk) -> float:
    """Seconds since 1970 by the clock that stamps the spool's files."""
    if not is_network(spool.root):
        return time.time()
    path = os.path.join(spool.tmp, f".now-{os.urandom(6).hex()}")
    try:
        disk.publish(path, b"", durable=False)
        try:
            return disk.inspect(path, 0).changed
        finally:
            disk.remove(path)
    except OSError:
        return time.time()


def heads(cluster: Cluster, disk: Disk, now: float | None = None) -> list[Head]:
    """All heads that left a file, the ones that live first, then the ones seen last. now: server_now if known."""
    spool = cluster.spool
    try:
        names = [entry.name for entry in disk.list(spool.heads)]
    except OSError:
        return []
    found = [
        (status, seen)
        for name in names
        if not is_passing(name) and (read := _read(spool, disk, name))
        for status, seen in [read]
    ]
    if not found:
        return []
    now = server_now(spool, disk) if now is None else now
    judged = [Head(s, seen, now - seen < max(INTERVALS * s.interval, cluster.threshold)) for s, seen in found]
    return sorted(judged, key=lambda head: (not head.alive, -head.seen))


def _read(spool: Spool, disk: Disk, name: str) -> tuple[HeadStatus, float] | None:
    if not name.endswith(".json"):
        return None
    path = spool.head(name[: -len(".json")])
    try:
        seen = disk.inspect(path, RECORD_BYTES)
        return decode(seen.data, HeadStatus, path), seen.changed
    except (OSError, Damaged):
        return None


def is_served(found: list[Head]) -> bool:
    """Whether a head is alive: leading, ready to take over, or run by cron."""
    return any(head.alive for head in found)


def gone_since(found: list[Head], last_news: float) -> float | None:
    """When a head was last known to live, or None if never. last_news: `written` of what was read."""
    times = [head.seen for head in found] + ([last_news] if last_news else [])
    return max(times, default=None)


def last_sign(found: list[Head], last_news: float, now: float) -> str:
    """Since when no head is alive. now: by the file system's clock."""
    from skyspool.ages import ago, clock

    since = gone_since(found, last_news)
    return f"the last sign of one was {ago(since, now)} ({clock(since)})" if since else "none has run yet"


def silence(cluster: Cluster, found: list[Head], last_news: float, now: float) -> str:
    """That no head is alive, and since when."""
    return f"no head is alive on {cluster.name}: {last_sign(found, last_news, now)}"
