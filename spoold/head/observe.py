"""One look at the spool: what users dropped, changed, deleted and asked for, and what the nodes say.

Files are only looked at while they stand in pending/ and requests/ (intake.py says which are complete); then they are
claimed, and read in the claim directory, in turn where several users drop them (dropbox.py) and as far as each user's
limits go (allowance.py). What was claimed is committed in the same tick.

One bad file never stops the look for the others: a file that cannot be read or moved is left where it is, told once,
and tried again at the next look.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from spool_layout import history, reserve
from spool_layout.leadership import Epoch
from spool_layout.paths import Spool, label, without_ending
from spool_layout.records import Job
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.stamps import Stamp
from spool_layout.storage import Disk, Entry, NotRegular, Seen
from spoold.core.model import Change, Look, NewFile, Request
from spoold.head.allowance import HeldBack, Pending, PerMinute
from spoold.head.claims import NEW, REQUEST, Claims, Ready
from spoold.head.dropbox import DropBox
from spoold.head.intake import Intake, Left, Unfinished, summary
from spoold.head.listen import SELDOM, Listener

log = logging.getLogger("spoold.head")

TAKEN_AT_ONCE = 1000  # new files in one tick: the others wait for the next, so that nobody waits for long
READ_FOR = 0.5  # seconds that taking new files may take in one tick; one more is always read
REQUESTS_AT_ONCE = 100  # in one tick: each is compared with every live job
HELD_BACK = 1.0  # seconds until the next look while files wait for a limit, at least
CHECKED_AT_ONCE = 50  # waiting files looked at for edits in place in one tick
CHECKED_SOON, SOON = 8, 0.25  # in one that comes so many seconds after such a one, or sooner
T = TypeVar("T")
Sorted = tuple[list[Entry], list[Entry], list[Entry]]


class Observer:
    """What one term remembers between two looks: nothing that a restart could not do without."""

    def __init__(
        self, spool: Spool, disk: Disk, settings: Settings, epoch: Epoch, state: State, intake: Intake, nodes: Listener
    ) -> None:
        self.spool, self.disk, self.settings, self.epoch, self.state = spool, disk, settings, epoch, state
        self.intake, self.nodes = intake, nodes
        self.claims = Claims(disk, epoch)
        self.baseline: dict[int, tuple[int, int]] = {}  # waiting job -> (inode, change time) of what was accepted
        self.missing: dict[str, float] = {}  # waiting file -> since when it is in no listing
        self.leaving: dict[str, int] = {}  # files in pending/ of jobs that ended -> ID; on their way to done/
        self.again: float | None = None  # seconds until something may be complete
        self.files_due = float("inf")  # when that is so for what stands in the drop boxes (monotonic clock)
        self.boxes_hold = True  # whether anything stood in the drop boxes when they were looked into last
        self._listed: tuple[list[Entry], Stamp | None, float] = [], None, 0.0  # what pending/ was; at (monotonic clock)
        self._sorted: tuple[list[Entry], tuple[int, int], Sorted] | None = None  # of that listing, at that moment
        self._left: list[Left] = []
        self._backlog = False  # whether claimed files are left to be read in the next tick
        self._turn, self._turned = 0, float("-inf")
        self._asked = -SELDOM
        self._full = False
        self._new = DropBox(NEW, spool.pending, self.claims, intake)
        self._requests = DropBox(REQUEST, spool.requests, self.claims, intake)
        self._pending, self._asking = Pending(settings.max_pending), PerMinute(settings.max_requests)
        self._waiting_files = HeldBack("files of %s wait in pending/: as many jobs as one user may have are pending")
        self._waiting_requests = HeldBack("requests of %s wait: as many as one user may make in a minute were made")

    def look(self, nodes_only: bool = False) -> tuple[Look, list[Left]]:
        """What is new, and the names that were left alone and not told yet. nodes_only: nothing is looked for in
        pending/ and requests/, nor for nodes that came, which was done just now, or is to be told of."""
        self.again, self._left = None, []
        began = time.monotonic()
        pending = [] if nodes_only else self._listing()
        if not nodes_only:
            self.boxes_hold = bool(pending)
        changes, fresh = ([], []) if nodes_only else self._waiting(pending)
        reports, silent = self.nodes.hear(self.state, everybody=bool(fresh), known_only=nodes_only)
        if self.nodes.expects:
            self.look_again(self.settings.poll)
        if nodes_only:
            requests, new = self._left_requests(), self._put_aside(self._left_over())
        else:
            requests = self._take_requests() if fresh or self._requests_are_due() else self._left_requests()
            new = self._take_new(fresh, began)
        if not nodes_only:
            self.files_due = float("inf") if self.again is None else time.monotonic() + self.again
        elif self.files_due < float("inf"):
            self.look_again(max(0.0, self.files_due - time.monotonic()))
        self._left += self._new.left + self._requests.left
        now = self.intake.clock()
        look = Look(
            now=now,
            day=day_of(now),
            new=tuple(new),
            changes=tuple(changes),
            requests=tuple(requests),
            reports=tuple(reports),
            silent=tuple(silent),
        )
        return look, self.intake.news(self._left)

    def look_again(self, seconds: float) -> None:
        """The next look shall come within so long."""
        self.again = seconds if self.again is None else min(self.again, seconds)

    def _has_room(self) -> bool:
        """Whether new jobs may be accepted; while the spool is full their files wait, and those that run can end."""
        lacks = reserve.lack(self.disk.room(self.spool.pending))
        if bool(lacks) != self._full:
            self._full = bool(lacks)
            log.warning("%s", f"accepts nothing new: the spool is full: {lacks}" if lacks else "there is room again")
        if lacks:
            self.look_again(self.settings.settle)
        return not lacks

    def _requests_are_due(self) -> bool:
        """While no job lives there is little to ask for."""
        now = time.monotonic()
        if self.nodes.sparing and not self.state.jobs and now - self._asked < SELDOM:
            return False
        self._asked = now
        return True

    # ---- files of waiting jobs

    def _listing(self) -> list[Entry]:
        """What stands in pending/. On a disk of this host it is listed anew where its stamp is another one, or may hide
        something, and now and then: a hundred thousand names take a tenth of a second."""
        if self.nodes.sparing:
            return self.disk.list(self.spool.pending)
        began, info = time.time_ns(), self.disk.stat(self.spool.pending)
        now, stamp = time.monotonic(), Stamp.of(info) if info is not None else None
        listed, known, at = self._listed
        if stamp is None or stamp != known or now - at >= SELDOM:
            del listed
            self._listed, self._sorted = ([], None, 0.0), None  # first: two of them are much memory
            listed = self.disk.list(self.spool.pending)
            self._listed = listed, stamp if stamp is not None and stamp.is_settled(began) else None, now
        return listed

    def _waiting(self, pending: list[Entry]) -> tuple[list[Change], list[Entry]]:
        """What became of the files of waiting jobs; and the names that are none of theirs."""
        theirs, replaced, fresh = self._sort(pending)
        changes = self._deleted(theirs)
        end = time.monotonic() + READ_FOR
        for entry in self._in_turns(dict.fromkeys([*replaced, *self._next_turn(theirs)])):
            change = self._compare(entry)
            if change is not None:
                changes.append(change)
                fresh += [entry] if change.deleted else []
            if time.monotonic() > end:  # what is left is found again: a job that starts meanwhile is compared then
                self.look_again(0.0)
                break
        return changes, fresh

    def _sort(self, pending: list[Entry]) -> Sorted:
        """The files of waiting jobs, those among them that are not the ones that were accepted, and the other names."""
        moment = self.state.moment()
        if self._sorted and self._sorted[0] is pending and self._sorted[1] == moment and not self.leaving:
            known = self._sorted[2]
            return known[0], known[1], list(known[2])
        fresh: list[Entry] = []
        theirs: list[Entry] = []
        replaced: list[Entry] = []
        waiting, jobs, leaving = self.state.waiting, self.state.jobs, self.leaving
        for entry in pending:  # a hundred thousand may wait
            name, inode = entry
            if name in leaving:
                continue
            ident = waiting.get(name)
            if ident is None:
                fresh.append(entry)
                continue
            theirs.append(entry)
            if inode != jobs[ident].inode:
                replaced.append(entry)
        if pending is self._listed[0] and not self.leaving:
            self._sorted = pending, moment, (theirs, replaced, list(fresh))
        return theirs, replaced, fresh

    def _in_turns(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Files of waiting jobs, one of each owner, then the next of each."""
        by_owner: dict[int, list[Entry]] = {}
        for entry in entries:
            by_owner.setdefault(self._job(entry).uid, []).append(entry)
        rounds = itertools.zip_longest(*by_owner.values())
        return (entry for entry in itertools.chain.from_iterable(rounds) if entry is not None)

    def _job(self, entry: Entry) -> Job:
        return self.state.jobs[self.state.waiting[entry.name]]

    def _deleted(self, theirs: list[Entry]) -> list[Change]:
        """Waiting files in none of the listings of pending/, our claim directory and running/, in this order.

        theirs: those that the first one has."""
        missing = set[str]()
        if len(theirs) < len(self.state.waiting):
            missing = self.state.waiting.keys() - {entry.name for entry in theirs}
        if missing or self.missing:
            missing = self._missing_for_long(missing)
        if not missing:
            return []
        missing = missing - {e.name for e in self.disk.list(self.epoch.claims)}
        missing = missing - {e.name for e in self.disk.list(self.spool.running)}
        return [Change(self.state.waiting[name], deleted=True) for name in sorted(missing)]

    def _missing_for_long(self, missing: set[str]) -> set[str]:
        """Those that have been missing for the settle time: an editor may put a file anew where it took it away."""
        now = time.monotonic()
        self.missing = {name: self.missing.get(name, now) for name in missing}
        gone = {name for name, since in self.missing.items() if now - since >= self.settings.settle}
        if len(gone) < len(missing):
            self.look_again(self.settings.settle)
        return gone

    def _next_turn(self, theirs: list[Entry]) -> list[Entry]:
        """A bounded number of waiting files, in turn: edits in place leave the inode as it is."""
        if not theirs:
            return []
        start, soon = self._turn % len(theirs), time.monotonic() - self._turned < SOON
        count = CHECKED_SOON if soon else CHECKED_AT_ONCE
        if soon and len(theirs) > count:
            self.look_again(SOON)
        elif not soon:
            self._turned = time.monotonic()
        self._turn = start + count
        return [*theirs[start : start + count], *theirs[: min(start, max(0, start + count - len(theirs)))]]

    def _compare(self, entry: Entry) -> Change | None:
        """Whether a waiting file is still what was accepted. deleted: what stands there now is none of the job's."""
        job, path = self._job(entry), self.spool.dropped(entry.name)
        info = self.disk.stat(path)
        if info is None or self.baseline.get(job.id) == (info.st_ino, info.st_ctime_ns):
            return None
        try:
            seen = self.disk.inspect(path, self.settings.max_file)
        except NotRegular:
            return Change(job.id, deleted=True)
        except PermissionError:
            self.baseline[job.id] = info.st_ino, info.st_ctime_ns
            problem = "its file cannot be read by the head"  # unreadable is not deleted (promise P10)
            return Change(job.id, inode=job.inode, digest=job.digest, name=job.name, problem=problem)
        except OSError:
            return None  # gone since the listing, or not to be read just now: the next look tells
        if seen.uid != job.uid:
            return Change(job.id, deleted=True)
        return self._judged(entry, path, seen)

    def _judged(self, entry: Entry, path: str, seen: Seen) -> Change | None:
        """The change that a file's present text makes; None for none, or where it is not complete yet."""
        job, digest = self._job(entry), history.digest(seen.data)
        change = None
        if (digest, seen.inode) != (job.digest, job.inode) or job.problem:
            verdict = self.intake.look_at(path, entry.name)
            if not isinstance(verdict, Ready):
                if isinstance(verdict, float):
                    self.look_again(verdict)
                return None
            task, problem = self.intake.judge(seen, entry.name, accepted=seen.inode == job.inode)
            known = summary(task) if task else None
            change = Change(job.id, False, seen.inode, digest, task.name if task else "", known, problem)
        self.baseline[job.id] = seen.inode, seen.changed_ns
        return change

    # ---- new files and requests

    def _take_new(self, fresh: list[Entry], began: float) -> list[NewFile]:
        """New files in the order in which they shall be accepted. began: when this look did."""
        files = self._left_over()
        self._new.listed(fresh)
        if fresh and not self._backlog and self._has_room():  # what was claimed is read and committed first
            self._pending.count(self.state)
            taken = self._take_fresh()
            if self._new.all_taken:  # else users take turns
                taken.sort(key=lambda file: (file.submitted, file.drop))
            files += taken
        if not self._backlog:
            self._tell_held_back(time.monotonic() - began)
        return self._put_aside(files)

    def _take_fresh(self) -> list[NewFile]:
        files: list[NewFile] = []
        for claim in self._new.take(self._pending.may, TAKEN_AT_ONCE, READ_FOR):
            if (file := self._read(claim, self.intake.read_new)) is not None:
                files.append(file)
                if file.task is not None:
                    self._pending.note(file.uid)
        if (again := self._new.again(self._pending.may)) is not None:
            self.look_again(again)
        return files

    def _tell_held_back(self, took: float) -> None:
        """While files wait for a limit the head looks now and then whether there is room; a tenth of its time."""
        held_back = self._new.arrivals.held_back(self._pending.may)
        self._waiting_files.are(held_back)
        if held_back:
            self.look_again(max(HELD_BACK, 10 * took))

    def _left_over(self) -> list[NewFile]:
        """What was claimed and not committed, read for a while: by a head before, or it could not be read."""
        files: list[NewFile] = []
        end, self._backlog = time.monotonic() + READ_FOR, False
        for claim in self.claims.of_kind(NEW):
            self._backlog = time.monotonic() > end
            if self._backlog:
                self.look_again(0.0)
                break
            if (file := self._read(claim, self.intake.read_new)) is not None:
                files.append(file)
        return files

    def _put_aside(self, files: list[NewFile]) -> list[NewFile]:
        """What is no task gets a name in rejected/."""
        if all(file.task is not None for file in files):
            return files
        taken = {entry.name for entry in self.disk.list(self.spool.rejected)}
        numbers: dict[str, int] = {}
        named = []
        for file in files:
            if file.task is None:
                file = file._replace(aside=aside_name(file.drop, taken, numbers))
                taken |= {file.aside, f"{without_ending(file.aside)}.error"}
            named.append(file)
        return named

    def _take_requests(self) -> list[Request]:
        found = self._left_requests()
        asked = self.disk.list(self.spool.requests)
        self.boxes_hold = self.boxes_hold or bool(asked)
        self._requests.listed(asked)
        for claim in self._requests.take(self._asking.may, REQUESTS_AT_ONCE, READ_FOR):
            if (request := self._read(claim, self.intake.read_request)) is not None:
                found.append(request)
                self._asking.note(request.uid)
        held_back = self._requests.arrivals.held_back(self._asking.may)
        self._waiting_requests.are(held_back)
        for again in (self._requests.again(self._asking.may), self._asking.again(held_back)):
            if again is not None:
                self.look_again(again)
        return found

    def _left_requests(self) -> list[Request]:
        found = [self._read(claim, self.intake.read_request) for claim in self.claims.of_kind(REQUEST)]
        return [request for request in found if request is not None]

    def _read(self, claim: str, read: Callable[[Claims, str], T]) -> T | None:
        """A claimed file; None: it is gone, or cannot be read just now (told once, tried again)."""
        try:
            return read(self.claims, claim)
        except FileNotFoundError:
            self.epoch.check()
            self.claims.drop(claim)
        except Unfinished:
            self.look_again(self.settings.settle)
        except OSError as error:
            self._left.append(Left(f"claims/{self.claims.full(claim)}", f"cannot be read: {error.strerror}"))
            self.look_again(self.settings.settle)
        return None


def day_of(now: float) -> str:
    """The UTC day of a time, YYYY-MM-DD."""
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def aside_name(drop: str, taken: set[str], numbers: dict[str, int] | None = None) -> str:
    """A name in rejected/ that no earlier file has: NAME.yaml, NAME.2.yaml …, with nothing unprintable in it.

    numbers: the last one of each name, kept from call to call where thousands may have one name.
    """
    stem = label(drop) if drop.isprintable() and len(os.fsencode(drop)) < 200 else label(drop[:80])
    ending = drop[len(without_ending(drop)) :] or ".yaml"
    number = numbers.get(stem, 0) if numbers is not None else 0
    while True:
        number += 1
        name = f"{stem}{'' if number == 1 else f'.{number}'}{ending}"
        if not {name, f"{without_ending(name)}.error"} & taken:
            break
    if numbers is not None:
        numbers[stem] = number
    return name
