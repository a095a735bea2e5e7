"""`spoold recover DIR`: go on with a spool that was restored from a backup, past everything that happened meanwhile.

What is on disk if it is cut, and who goes on; before step 4 is done every daemon refuses, and it is done again:

    1 the lock is held, nodes are listened to      nothing was changed
    2 an epoch is claimed: the next one            a higher epoch than before, not as high as nodes have seen: as before
    3 its events: sealed, then `restored`          as before; done again, `restored` skips as many IDs once more, and
                                                   finds the same jobs or none
    4 an epoch above all that anybody has seen     heads may lead from here on (where only numbers within an epoch went
      is claimed and sealed; as by any head,       back, until assigned.json is written they refuse still): the next one
      files are moved, assigned.json is written    takes over and does the rest, as always
    5 the ledger is written                        readers use the generation before

A node that is away is asked for. Left out by name (--without), its attempts are FAILED as well, and held until it is
back; what it began after the backup, and nobody knows of, runs on and may run a second time: that is what leaving a
node out means.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time

from spool_layout import history, leadership
from spool_layout.errors import SpoolError, Taken
from spool_layout.leadership import HeadLock
from spool_layout.paths import Spool, claim_epoch_of, epoch_of, id_of, is_digits, parse_attempt_key
from spool_layout.records import Assigned, Leader, NodeStatus, Restored
from spool_layout.settings import Settings, load
from spool_layout.storage import Disk
from spoold.core.remnants import REASON, remnants
from spoold.fsck.mending import hold_lock, take_over
from spoold.local import state_dir, version
from spoold.restored import WentBack, note_led, read, refuse

LONGEST_WATCH = 15.0  # seconds that is waited for a sign of life of every node
SPARE = 1000  # epochs and IDs that are skipped beyond the known ones: for jobs that waited, and nodes that are away


class NodesAreSilent(SpoolError):
    """Nodes of which nobody knows what they ran."""


def run_recover(root: str, *, without: tuple[str, ...], force: bool, state: str | None) -> int:
    """`spoold recover ROOT`. The exit code."""
    spool, disk = Spool(root), Disk()
    settings = load(spool, disk)
    kept = state_dir(settings.id, state)
    lock = hold_lock(spool, settings)
    try:
        if not force and not went_back(spool, disk, kept):
            print(f"{spool.root}: nothing tells that it went back in time; nothing was changed", file=sys.stderr)
            return 0
        recover(spool, disk, settings, lock, kept, heard(spool, disk, frozenset(without)))
    finally:
        lock.release()
    return 0


def went_back(spool: Spool, disk: Disk, kept: str) -> bool:
    """Whether somebody remembers a later spool."""
    try:
        refuse(spool, disk, kept)
    except WentBack as error:
        print(error.message, file=sys.stderr)
        return True
    return False


# ---- 1: who was heard


def heard(spool: Spool, disk: Disk, without: frozenset[str]) -> dict[str, NodeStatus]:
    """What the nodes say now: of each that has said since the restore that it remembers more, or whose beat moves.
    NodesAreSilent where there are others that are not left out."""
    first = reports(spool, disk)
    wait = min(LONGEST_WATCH, max((3 * status.interval for status in first.values() if status), default=0.0))
    end = time.monotonic() + wait
    while True:
        now = reports(spool, disk)
        fresh = {n: s for n, s in now.items() if s and (s.went_back or _moved(first.get(n), s)) and n not in without}
        silent = sorted(now.keys() - fresh.keys() - without)
        if not silent:
            return fresh
        if time.monotonic() > end:
            raise NodesAreSilent(
                f"node {', '.join(silent)} has not been heard since the restore: nobody knows what ran there",
                f"start it (spoold node {shlex.quote(spool.root)}), then do this again; or, where it is gone for good: "
                f"spoold recover {shlex.quote(spool.root)} {' '.join(f'--without {node}' for node in silent)}",
            )
        time.sleep(0.2)


def _moved(before: NodeStatus | None, now: NodeStatus) -> bool:
    return before is None or (before.beat, before.incarnation) != (now.beat, now.incarnation)


def reports(spool: Spool, disk: Disk) -> dict[str, NodeStatus | None]:
    """status.json of every node."""
    names = [entry.name for entry in disk.list(spool.nodes)]
    return {name: read(disk, spool.status(name), NodeStatus) for name in names}


# ---- 2 to 5


def recover(
    spool: Spool, disk: Disk, settings: Settings, lock: HeadLock, kept: str, nodes: dict[str, NodeStatus]
) -> None:
    """Steps 2 to 5."""
    above, used = highest_epoch(spool, disk), highest_id(spool, disk)
    event = note_restored(spool, disk, nodes, used)
    if lock.lost:
        raise Taken(f"another head took the lock of {spool.root}", "stop every head, then do this again")
    term = take_over(spool, disk, settings, above + SPARE)
    term.keeper.write()
    note_led(kept, term.epoch)
    print(f"{spool.root} goes on with epoch {term.epoch.number}; the next job gets ID {term.state.next_id}")
    for remnant in event.jobs:
        print(f"job {remnant.id} of {remnant.user or 'somebody'} ({remnant.name or 'no name'}) is FAILED (restored)")


def note_restored(spool: Spool, disk: Disk, nodes: dict[str, NodeStatus], used: int) -> Restored:
    """Commit what the restore means, in the next epoch: low enough that every daemon refuses still."""
    epoch = leadership.take(spool, disk)
    if epoch is None:
        raise Taken(f"another head has just taken over {spool.root}", "stop it, then do this again")
    now = time.time()
    leader = Leader(host=socket.gethostname(), pid=os.getpid(), since=now, version=version())
    state = leadership.seal(epoch, leader, now).state
    over = remnants(state, nodes)
    next_id = max(state.next_id, used + 1) + SPARE
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    event = Restored(next_id=next_id, jobs=over, day=day, reason=REASON, at=now)
    state.apply(event)  # ImpossibleEvent before it is durable
    epoch.append([event])
    return event


def highest_epoch(spool: Spool, disk: Disk) -> int:
    """The highest epoch that anything here mentions."""
    found = [*history.epochs(spool, disk), 0]
    for status in reports(spool, disk).values():
        found += [status.seen[0], status.read[0]] if status else []
    for node in _names(disk, spool.nodes):
        assigned = read(disk, spool.assigned(node), Assigned)
        found += [assigned.version[0]] if assigned else []
    found += [epoch for name in _names(disk, spool.claims) if (epoch := claim_epoch_of(name))]
    for folder in [*_below(disk, spool.done), *_below(disk, spool.archive)]:
        found += [epoch for name in _names(disk, folder) if (epoch := epoch_of(name))]
    return max(found)


def highest_id(spool: Spool, disk: Disk) -> int:
    """The highest ID that a node, a log directory or a file in running/ and done/ mentions."""
    found = [0]
    for status in reports(spool, disk).values():
        found += [parse_attempt_key(key)[0] for key in status.attempts] if status else []
        found += [told.id for told in status.meanwhile] if status else []
    found += [int(name) for name in _names(disk, spool.logs) if is_digits(name) and len(name) < 19]
    for folder in (spool.running, *_below(disk, spool.done)):
        found += [ident for name in _names(disk, folder) if epoch_of(name) is None and (ident := id_of(name))]
    return max(found)


def _names(disk: Disk, folder: str) -> list[str]:
    try:
        return [entry.name for entry in disk.list(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _below(disk: Disk, folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in _names(disk, folder)]
