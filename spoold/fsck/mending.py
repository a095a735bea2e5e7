"""What `spoold fsck --repair` does: what the next head would, and then what no head does.

Order, each step by itself good, so that it may be cut anywhere and begun anew:

    1 the head's lock; a head that leads keeps it, and nothing is done
    2 missing directories are made, open ones closed
    3 an epoch of its own, taken over as by any head: claims emptied, files moved, assignments written
    4 files that no head moves: to done/ where the spool tells how their job ended, else to rejected/, reason first;
      outcomes and reasons that are told nowhere, from the state
    5 the ledger, as a new generation, which also packs away what is superfluous

Nothing is ever removed or overwritten, and nothing that is damaged is made up.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from spool_layout import leadership
from spool_layout.errors import Taken
from spool_layout.events import Restored
from spool_layout.leadership import HeadLock
from spool_layout.modes import mode_of
from spool_layout.paths import TASK_ENDINGS, Spool, id_of, without_ending
from spool_layout.records import Job, Leader, encode
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.storage import Disk
from spoold.core.hearing import Hearing
from spoold.fsck.facts import gather
from spoold.fsck.judging import ASIDE, CLOSE, DONE, MAKE, TELL, WHY, Finding, judge
from spoold.head.observe import aside_name
from spoold.head.term import Term
from spoold.local import version


def hold_lock(spool: Spool, settings: Settings) -> HeadLock:
    """The head's lock. Taken where a head leads."""
    os.makedirs(spool.locks, exist_ok=True)
    lock = HeadLock(spool, settings)
    end = time.monotonic() + settings.lock_threshold + 2 * settings.lock_heartbeat
    while not (lock.is_free() and lock.acquire()):
        if lock.is_led() or time.monotonic() > end:
            raise Taken(f"a head leads {spool.root}", "stop every head of the spool first, then do this again")
        time.sleep(lock.pause())
    return lock


def take_over(
    spool: Spool,
    disk: Disk,
    settings: Settings,
    above: int = 0,
    restored: Callable[[State], Restored] | None = None,
) -> Term:
    """An epoch of our own, and all that a new head does. Nodes count as they are recorded. restored: as in
    leadership.seal."""
    epoch = leadership.take(spool, disk, above)
    if epoch is None:
        raise Taken(f"another head has just taken over {spool.root}", "stop it, then do this again")
    leader = Leader(host=socket.gethostname(), pid=os.getpid(), since=time.time(), version=version())
    hearing = Hearing(settings.node_timeout, settings.fence_margin)
    return Term(spool, disk, settings, hearing, True, time.time, epoch, leader, restored)


def mend(spool: Spool, disk: Disk, settings: Settings, damaged: bool) -> list[Finding]:
    """Do all that can be done; the faults that were mended. damaged: the history cannot be read, so that only
    directories can be mended."""
    found = [
        finding
        for finding in judge(gather(spool, disk, settings.id, settings.users, settings.max_file))
        if finding.mend
    ]
    mended = [finding for finding in found if _directory(spool, disk, settings.users, finding)]
    if damaged:
        return mended
    term = take_over(spool, disk, settings)
    for finding in judge(gather(spool, disk, settings.id, settings.users, settings.max_file)):
        if finding.mend == ASIDE:
            set_aside(spool, disk, finding)
        elif finding.mend == DONE:
            to_done(spool, disk, finding)
        elif finding.mend == TELL:
            tell(term)
        elif finding.mend == WHY:
            explain(term, finding)
        if finding.mend:
            found.append(finding)
    term.keeper.write()
    return list(dict.fromkeys(found))


def _directory(spool: Spool, disk: Disk, users: str, finding: Finding) -> bool:
    """Make or close a directory, if the finding is of one."""
    path, wanted = os.path.join(spool.root, finding.place), mode_of(finding.place, users)
    if finding.mend == MAKE:
        disk.make_dir(path, wanted)
        disk.sync(os.path.dirname(path))
    elif finding.mend == CLOSE:
        os.chmod(path, wanted if users == "multi" else os.stat(path).st_mode & 0o777 & (wanted | 0o700))
    return finding.mend in (MAKE, CLOSE)


def set_aside(spool: Spool, disk: Disk, finding: Finding) -> None:
    """A file that belongs nowhere, to rejected/: the reason first. One that was cut in between is done to its end."""
    source = os.path.join(spool.root, finding.place)
    reason = f"was found at {finding.place}: {finding.text}\n".encode("utf-8", "replace")
    taken = {entry.name for entry in disk.list(spool.rejected)}
    begun = {
        name for name in taken if _is_alone(name, taken) and disk.read(os.path.join(spool.rejected, name)) == reason
    }
    name = aside_name(os.path.basename(source), taken - begun)
    disk.publish(os.path.join(spool.rejected, f"{without_ending(name)}.error"), reason)
    disk.move(source, os.path.join(spool.rejected, name))


def _is_alone(name: str, taken: set[str]) -> bool:
    """Whether it is the reason of a file that is not there."""
    stem, ending = os.path.splitext(name)
    return ending == ".error" and not {f"{stem}{one}" for one in TASK_ENDINGS} & taken


def to_done(spool: Spool, disk: Disk, finding: Finding) -> None:
    """The file of a job that ended long ago. Where its place is taken, it is set aside."""
    name = os.path.basename(finding.place)
    job = how_ended(spool, disk, id_of(name) or 0)
    target = spool.ended(job.day, name, job.status) if job else ""
    if not job or disk.stat(target) is not None:
        set_aside(spool, disk, finding)
    else:
        disk.move(os.path.join(spool.root, finding.place), target)


def how_ended(spool: Spool, disk: Disk, ident: int) -> Job | None:
    """How a job ended, as done/ tells it."""
    days = gather(spool, disk, "").days.values()
    return next((day.told[ident] for day in days if ident in day.told), None)


def tell(term: Term) -> None:
    """Write down how the jobs ended that no line in done/ tells of."""
    facts = gather(term.spool, term.disk, "")
    for job in term.state.ended.values():
        day = facts.days.get(job.day)
        if day is not None and job.id not in day.told:
            term.disk.add_lines(term.spool.outcomes(job.day, term.epoch.number), encode(job))


def explain(term: Term, finding: Finding) -> None:
    """Write beside a rejected file why it was rejected."""
    name = os.path.basename(finding.place)
    told = [rejection.reason for rejection in term.state.rejected if rejection.file == name]
    reason = (told or ["the reason is not known any more"])[-1].rstrip() + "\n"
    path = os.path.join(term.spool.rejected, f"{without_ending(name)}.error")
    term.disk.publish(path, reason.encode("utf-8", "replace"))
