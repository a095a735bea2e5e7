"""What a runner takes up when it starts: from its own status.json, and from its local directory.

- Seen version, beat and incarnation come from status.json, and from `renewed`, which says them again on the local disk;
  the larger of both counts, so that neither an old status.json put back nor one that is missing leads backwards.
- It takes the next incarnation where it did not renew within its limit (the first report sees to that), and where its
  predecessor left on purpose, for however long: nobody waits for a node that left to carry out a cancellation, and T
  counts from the leave, while the limit is set anew. What that one had ordered and nobody has begun is marked never to
  be started, for the same reason.
- After a reboot nothing that was begun lives, and the local disk may have lost any part of what was not synced: what
  the former runner may have begun counts as lost, by the spool alone, unless its end was recorded. It had begun nothing
  later than T after its last status.json; what was granted after that never was. Both times are the file server's.
- Where the local directory is another one in the same boot, what still runs is ended first; then whatever was assigned
  counts as lost.
- What counts as lost may have left containers: these are stopped before it is reported. Those that shall always run are
  started again by their engine after a reboot.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from spool_layout.errors import Damaged, SpoolError
from spool_layout.paths import Spool
from spool_layout.records import GONE, Assigned, NodeStatus, Phase, decode
from spool_layout.storage import Disk
from spoold.local import boot_id
from spoold.node import cgroups, containment, progress
from spoold.node.cleaning import stop_containers, with_trouble
from spoold.node.identity import refuse_second
from spoold.node.workplace import Attempt, Workplace

log = logging.getLogger("spoold.node")

STATUS_BYTES = 64 << 20
LATE = 5.0  # seconds beyond T after its last report in which a runner may have begun something, at most
ENDING = 10.0  # seconds in which killed processes must be gone
SWEEPS = 32  # attempts whose containers are looked for at once


class Memory(NamedTuple):
    """What the new runner goes on from."""

    seen: tuple[int, int] = (0, 0)
    beat: int = 0
    incarnation: int = 0
    lapses: int = 0


def recall(spool: Spool, disk: Disk, node: str, place: Workplace) -> Memory:
    """Take up what is known. Damaged: status.json cannot be read."""
    old, written = read_status(spool, disk, node)
    noted = place.noted()
    lost = old is not None and old.memory != place.memory
    if old is not None and lost:
        refuse_second(spool, disk, old, place)
        if old.boot == boot_id():
            end_all(node, place)
        count_as_lost(place, old, read_assigned(spool, disk, node), float("inf"), "the node's local state was lost")
    elif old is not None and old.boot != boot_id():
        last = written + max(old.interval, old.timeout) + LATE
        count_as_lost(place, old, read_assigned(spool, disk, node), last, "its host was rebooted")
    seen = max(old.seen if old else (0, 0), noted["seen"] if noted else (0, 0))
    incarnation = max(old.incarnation if old else 0, noted["incarnation"] if noted else 0)
    left = place.was_left() and place.age() is not None
    if left:
        end_orders(place, seen)
    return Memory(seen, old.beat if old else 0, incarnation + left, place.lapses())


def end_orders(place: Workplace, seen: tuple[int, int]) -> None:
    """What was ordered and nobody has begun never will be."""
    never = Phase("never", reason="the node was stopped when it was to start")
    for attempt in map(place.attempt, place.remembered()):
        if not attempt.has("marker") and attempt.mark("runner"):
            progress.settle(place, attempt.key, never, seen)


def read_status(spool: Spool, disk: Disk, node: str) -> tuple[NodeStatus | None, float]:
    """The node's own status.json and when it was written, by the file server's clock; absence only by a listing."""
    path = spool.status(node)
    try:
        seen = disk.inspect(path, STATUS_BYTES)
    except FileNotFoundError:
        if "status.json" in {entry.name for entry in disk.list(spool.node(node))}:
            raise
        return None, 0.0
    return decode(seen.data, NodeStatus, path), seen.changed


def read_assigned(spool: Spool, disk: Disk, node: str) -> Assigned | None:
    """What is assigned, if that can be told."""
    path = spool.assigned(node)
    data = disk.read(path)
    try:
        return decode(data, Assigned, path) if data is not None else None
    except Damaged as error:
        log.warning("%s", error)
        return None


def count_as_lost(place: Workplace, old: NodeStatus, listed: Assigned | None, last: float, reason: str) -> None:
    """Every attempt that the former runner may have begun is over, its outcome unknown unless it was recorded.

    last: what was granted later than this was never begun here.
    """
    keys = {key for key, phase in old.attempts.items() if phase.phase not in GONE}
    if listed is not None:
        keys |= {key for key, a in listed.attempts.items() if a.granted <= last and a.want == "run"}
    attempts = [place.attempt(key) for key in sorted(keys | set(place.remembered()))]
    attempts = [attempt for attempt in attempts if progress.recorded(attempt) is None]
    for attempt, trouble in zip(attempts, sweep(place, attempts), strict=True):
        if (phase := recorded_end(attempt)) is not None:
            progress.close(attempt, with_trouble(phase, trouble))
        else:
            log.warning("attempt %s counts as lost: %s", attempt.key, reason)
            progress.settle(place, attempt.key, with_trouble(Phase("lost", reason=reason), trouble), old.seen)


def sweep(place: Workplace, attempts: list[Attempt]) -> list[str]:
    """Stop their containers, all at once, since an engine may be slow. What there is to tell of each, or "". Several
    users' are left: whose they are the account cannot look into."""
    if place.shared:
        return ["" for _ in attempts]
    with ThreadPoolExecutor(SWEEPS) as pool:
        return list(pool.map(lambda attempt: stop_containers(attempt, spool_id_of(place), 0), attempts))


def spool_id_of(place: Workplace) -> str:
    """The id of the spool whose node has this directory."""
    return os.path.basename(os.path.dirname(place.path))


def recorded_end(attempt: Attempt) -> Phase | None:
    """How an attempt ended, where its supervisor wrote that down and the outcome is still to be written. OSError: that
    cannot be told now, which is not the same as that it was not written."""
    try:
        phase = progress.stand(attempt)
    except OSError:
        raise
    except Exception:  # what a power loss left of a file says nothing
        return None
    return phase if phase.phase in ("exited", "ended") else None


def end_all(node: str, place: Workplace) -> None:
    """End what an earlier local directory of this node left running: its outcome is unknown anyhow. SpoolError where it
    does not end."""
    end, groups = time.monotonic() + ENDING, cgroups.here().groups(place.path).values()
    while left := {*containment.of_node(spool_id_of(place), node), *containment.of_groups(groups)}:
        log.warning("ends %d processes of this node whose local state is another one", len(left))
        for group in groups:
            group.kill()
        hidden = {process for process in left if not containment.is_supervisor(process.pid)}
        for process in hidden or left:  # who supervises comes last: what is below it can be found as long as it lives
            try:
                containment.signal_process(process, signal.SIGKILL)
            except PermissionError as error:  # of several users' jobs, which the account may not end
                pids = ", ".join(str(p.pid) for p in left)
                raise SpoolError(f"the node's local state was lost, and jobs of it live: {pids}", "end them") from error
        if time.monotonic() > end:
            raise SpoolError(f"processes of this node do not end: {', '.join(str(p.pid) for p in left)}")
        time.sleep(0.05)
    for group in groups:
        group.remove()
