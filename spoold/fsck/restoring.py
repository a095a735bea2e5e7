"""`spoold recover DIR`: go on with a spool that was restored from a backup, past everything that happened meanwhile.

What is on disk if it is cut, and who goes on; before step 3 is done every daemon refuses, and it is done again:

    1 the lock is held, nodes are listened to      nothing was changed
    2 an epoch above all that anybody has seen     an epoch without a first record holds nothing, and hides nothing
      is claimed                                   (restored.py goes by the newest whole one)
    3 its first record: sealed, and in it          heads may lead from here on (where only numbers within an epoch went
      `restored`                                   back, until assigned.json is written they refuse still): the next one
    4 as by any head, files are moved,             takes over and does the rest, as always
      assigned.json is written
    5 the ledger is written                        readers use the generation before

One record, since with either half of it alone the spool would look sound: in the next epoch nodes may have been before,
and jobs that they began would begin again.

A node that is away is asked for. Left out by name (--without), its attempts are FAILED as well, and held until it is
back. What it began after the backup, and nobody knows of, runs on until the node is back; a job that waits by the
backup may run a second time meanwhile: that is what leaving a node out means. When it is back, the head takes in what
it tells (core/remnants.py), and gives it nothing before that.
"""

from __future__ import annotations

import os
import shlex
import sys
import time

from spool_layout import history
from spool_layout.errors import SpoolError, Taken
from spool_layout.events import Restored
from spool_layout.leadership import HeadLock
from spool_layout.paths import Spool, claim_epoch_of, epoch_of, id_of, is_digits, parse_attempt_key
from spool_layout.records import Assigned, NodeStatus
from spool_layout.replay import State
from spool_layout.settings import Settings, load
from spool_layout.storage import Disk
from spoold.account import settle
from spoold.core.remnants import REASON, remnants
from spoold.fsck.mending import hold_lock, take_over
from spoold.local import state_dir
from spoold.restored import WentBack, note_led, read, refuse

LONGEST_WATCH = 15.0  # seconds that is waited for a sign of life of every node
SPARE = 1000  # epochs and IDs that are skipped beyond the known ones: for jobs that waited, and nodes that are away


class NodesAreSilent(SpoolError):
    """Nodes of which nobody knows what they ran."""


def run_recover(root: str, *, without: tuple[str, ...], force: bool, state: str | None) -> int:
    """`spoold recover ROOT`. The exit code."""
    spool, disk = Spool(root), Disk()
    settings = load(spool, disk)
    settle(spool, settings, state)
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
    if lock.lost:
        raise Taken(f"another head took the lock of {spool.root}", "stop every head, then do this again")
    events: list[Restored] = []

    def restored(state: State) -> Restored:
        events.append(what_is_restored(state, nodes, used, above + SPARE + 1))
        return events[0]

    term = take_over(spool, disk, settings, above + SPARE, restored)
    term.keeper.write()
    note_led(kept, term.epoch)
    print(f"{spool.root} goes on with epoch {term.epoch.number}; the next job gets ID {term.state.next_id}")
    for remnant in events[0].jobs:
        print(f"job {remnant.id} of {remnant.user or 'somebody'} ({remnant.name or 'no name'}) is FAILED (restored)")


def what_is_restored(state: State, nodes: dict[str, NodeStatus], used: int, epoch: int) -> Restored:
    """What the restore means. used: the highest ID that is known; epoch: in which the spool goes on, or a lower one
    that nobody has seen."""
    now = time.time()
    return Restored(
        next_id=max(state.next_id, used + 1) + SPARE,
        jobs=remnants(state, nodes),
        day=time.strftime("%Y-%m-%d", time.gmtime(now)),
        reason=REASON,
        at=now,
        left_out=tuple(sorted(state.nodes.keys() - nodes.keys())),
        epoch=epoch,
    )


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
