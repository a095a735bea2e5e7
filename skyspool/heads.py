"""Which heads live, from the files that they renew: heads/NAME.json.

A head lives if its file was renewed within three of its intervals, or within the time after which another would take
over, whichever is longer. Ages are taken by the file system's clock: on a local disk that is this host's own; on a
network file system it is asked by writing a small file in tmp/, and only where that may not be done this host's own
clock has to serve. Of one that leads on a disk of this host the kernel tells sooner that it died (spool_layout.holder).
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from skyspool.clusters import Cluster
from skyspool.say import note
from spool_layout.errors import Damaged
from spool_layout.mounts import is_network, mount_of
from spool_layout.paths import Spool, is_passing
from spool_layout.records import HeadStatus, decode
from spool_layout.storage import Disk

RECORD_BYTES = 64 * 1024
INTERVALS = 3
LEADING = "leading"
SILENT = 2.0  # seconds after which it is asked whether a head that leads here has died


class Head(NamedTuple):
    """A head that lives or lived. seen: when it was last renewed, by the file system's clock."""

    status: HeadStatus
    seen: float
    alive: bool


class Found(list[Head]):
    """Heads that left a file. unclear: why some of these files cannot be read: unknown is not dead (promise P10)."""

    def __init__(self, heads: list[Head], unclear: str = "") -> None:
        super().__init__(heads)
        self.unclear = unclear


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
    """All heads that left a file, the ones that live first, then the ones seen last. now: server_now if known.

    One that led is over when another leads a later epoch: should it live, it will say soon that it stands by."""
    spool = cluster.spool
    read, unclear = _read_all(spool, disk)
    if unclear:
        note(f"note: whether a head is alive cannot be told: {unclear}")
    now = server_now(spool, disk) if read and now is None else now or 0.0
    judged = [Head(s, seen, now - seen < max(INTERVALS * s.interval, cluster.threshold)) for s, seen in read]
    leaders = sorted((h for h in judged if h.status.role == LEADING), key=lambda h: h.status.epoch)
    over = leaders[:-1]
    if leaders and leaders[-1].alive and now - leaders[-1].seen > SILENT and _has_died(spool):
        over = leaders
    judged = [head._replace(alive=False) if head in over else head for head in judged]
    return Found(sorted(judged, key=lambda head: (not head.alive, -head.seen)), unclear)


def _has_died(spool: Spool) -> bool:
    """Whether the head that led last is surely dead."""
    if not mount_of(spool.root).of_one_kernel:
        return False
    from spool_layout.holder import Holder

    return Holder(spool).tells()[1] == Holder.DEAD


def _read_all(spool: Spool, disk: Disk) -> tuple[list[tuple[HeadStatus, float]], str]:
    """What heads say and when they said it; and why some of it cannot be read."""
    found, unclear = [], ""
    try:
        names = [e.name for e in disk.list(spool.heads) if e.name.endswith(".json") and not is_passing(e.name)]
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        return [], f"{spool.heads}: {error.strerror}"
    for name in names:
        path = spool.head(name[: -len(".json")])
        try:
            seen = disk.inspect(path, RECORD_BYTES)
            found.append((decode(seen.data, HeadStatus, path), seen.changed))
        except FileNotFoundError:
            continue  # it has ended since
        except OSError as error:
            unclear = f"{path}: {error.strerror}"
        except Damaged as error:
            unclear = error.message
    return found, unclear


def is_served(found: list[Head]) -> bool:
    """Whether a head is alive: leading, ready to take over, or run by cron; also where that cannot be told."""
    return any(head.alive for head in found) or (isinstance(found, Found) and bool(found.unclear))


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
