"""One head's term: from the claim of its epoch until a newer one leads or a write fails.

    tick: look -> decide (pure) -> commit (one append, one fsync) -> project

Everything a term remembers can be read from the disk again, so it is simply thrown away when it ends.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from spool_layout import history, leadership
from spool_layout.leadership import Epoch
from spool_layout.paths import FORMAT, Spool, label, without_ending
from spool_layout.records import (
    Accepted,
    AnyEvent,
    Ended,
    Leader,
    NodeStatus,
    Rejected,
    Requested,
    Returned,
    Started,
    decode,
)
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.states import Status
from spool_layout.storage import Disk, Entry, NotRegular
from spoold.core.decide import decide
from spoold.core.hearing import Hearing
from spoold.core.model import Change, Look, NewFile, Policy, Report, Request
from spoold.head.intake import NEW, REQUEST, Intake, Left, Ready, claim_name, summary, user_name
from spoold.head.keeping import Keeper
from spoold.head.project import Projector
from spoold.head.prune import Pruner
from spoold.head.recover import Recovery

log = logging.getLogger("spoold.head")

TAKEN_AT_ONCE = 1000  # new files in one tick: the others wait for the next, so that nobody waits for long
CHECKED_AT_ONCE = 50  # waiting files looked at for edits in place in one tick


class Term:
    """A head that leads. Raises Deposed or OSError out of `tick`: then it is over."""

    def __init__(
        self,
        spool: Spool,
        disk: Disk,
        settings: Settings,
        hearing: Hearing,
        local: bool,
        server_now: Callable[[], float],
        epoch: Epoch,
        leader: Leader,
    ) -> None:
        self.spool, self.disk, self.settings, self.hearing, self.epoch = spool, disk, settings, hearing, epoch
        self.server_now = server_now
        stock = leadership.seal(epoch, leader, time.time())
        self.state: State = stock.state
        self.intake = Intake(spool, disk, settings, local, server_now)
        self.projector = Projector(spool, disk, settings, epoch, self.state)
        self.keeper = Keeper(spool, disk, settings, epoch, self.state)
        self.keeper.note(1)
        self.pruner = Pruner(spool, disk, settings, lambda ident: ident in self.state.jobs)
        self.policy = Policy(uid=os.getuid(), unsatisfiable_after=settings.unsatisfiable_after)
        self.claimed: dict[str, Ready | None] = {}  # in our claim directory, to be read and committed
        self.baseline: dict[int, tuple[int, int]] = {}  # waiting job -> (inode, change time) of what was accepted
        self.missing: dict[str, float] = {}  # waiting file -> since when it is in no listing
        self.again: float | None = None  # seconds until something may be complete
        self.turn = 0
        self.recover()

    # ---- taking over

    def recover(self) -> None:
        """Everything that the heads before may have left half done."""
        recovery = Recovery(self.projector)
        for name in recovery.older():
            while events := recovery.clear(name):
                self.commit(events)
                for event in events:
                    assert isinstance(event, Returned)
                    self._unclaim(name, event)
        self.claimed = dict.fromkeys(recovery.own)
        start, finish, waiting = recovery.misplaced()
        self.project_starts([job.id for job in start])
        self.projector.finish(finish)
        for job in waiting:
            self._clear_waiting(job)
        self.projector.assign(self.state.nodes)

    def _unclaim(self, folder: str, event: Returned) -> None:
        """A file that was changed while an earlier head had claimed it: back to pending/."""
        for entry in self.disk.list(os.path.join(self.spool.claims, folder)):
            if entry.name.startswith(f"{event.id}."):
                self.disk.move(os.path.join(self.spool.claims, folder, entry.name), self.spool.dropped(event.file))

    # ---- one tick

    def tick(self) -> bool:
        """Whether anything happened."""
        look, files = self.look()
        events = decide(self.state, look, self.policy)
        if events:
            self.commit(events)
        self.project(events, look, files)
        return bool(events)

    def commit(self, events: list[AnyEvent], applied: bool = False) -> None:
        """Make events durable. From here on they have happened."""
        self.epoch.append(events)
        self.keeper.note(len(events))
        for event in events:
            log.info("%s", told(event))

    def commit_now(self, event: AnyEvent) -> None:
        """Decide, commit: what a projection found."""
        self.state.apply(event)
        self.commit([event])

    # ---- look

    def look(self) -> tuple[Look, dict[str, NewFile]]:
        """What is new on the spool. Files are claimed here, and read; they are committed in the same tick."""
        self.again = None
        pending = self.disk.list(self.spool.pending)
        changes, fresh = self._waiting(pending)
        reports = self._reports()
        left = self._claim(NEW, self.spool.pending, fresh)
        left += self._claim(REQUEST, self.spool.requests, self.disk.list(self.spool.requests))
        files = self._read_new()
        requests = self._read_requests()
        look = Look(
            now=time.time(),
            day=time.strftime("%Y-%m-%d", time.gmtime()),
            new=tuple(files.values()),
            changes=tuple(changes),
            requests=tuple(requests),
            reports=tuple(reports),
        )
        self._tell_left(left)
        return look, files

    def _waiting(self, pending: list[Entry]) -> tuple[list[Change], list[Entry]]:
        """What became of the files of waiting jobs; and the names that are none of theirs."""
        changes: list[Change] = []
        fresh: list[Entry] = []
        listed: set[str] = set()
        replaced: list[Entry] = []
        for entry in pending:
            ident = self.state.waiting.get(entry.name)
            if ident is None:
                fresh.append(entry)
                continue
            listed.add(entry.name)
            if entry.inode != self.state.jobs[ident].inode:
                replaced.append(entry)
        changes += self._deleted(listed)
        for entry in [*replaced, *self._turn(pending, listed)]:
            self._compare(entry, changes, fresh)
        return changes, fresh

    def _deleted(self, listed: set[str]) -> list[Change]:
        """Waiting files in none of the listings of pending/, our claim directory and running/, in this order."""
        missing = self.state.waiting.keys() - listed
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
            self._look_again(self.settings.settle)
        return gone

    def _turn(self, pending: list[Entry], listed: set[str]) -> list[Entry]:
        """A bounded number of waiting files, in turn: in-place edits leave the inode as it is."""
        waiting = [entry for entry in pending if entry.name in listed]
        if not waiting:
            return []
        start = self.turn % len(waiting)
        self.turn = start + CHECKED_AT_ONCE
        return (waiting[start:] + waiting[:start])[:CHECKED_AT_ONCE]

    def _compare(self, entry: Entry, changes: list[Change], fresh: list[Entry]) -> None:
        job = self.state.jobs[self.state.waiting[entry.name]]
        path = self.spool.dropped(entry.name)
        info = self.disk.stat(path)
        if info is None or self.baseline.get(job.id) == (info.st_ino, info.st_ctime_ns):
            return
        try:
            seen = self.disk.inspect(path, self.settings.max_file)
        except (FileNotFoundError, NotRegular, PermissionError):
            changes.append(Change(job.id, deleted=True))  # no longer a file that its owner gave us
            fresh.append(entry)
            return
        if seen.uid != job.uid:
            changes.append(Change(job.id, deleted=True))
            fresh.append(entry)
            return
        digest = history.digest(seen.data)
        if (digest, seen.inode) != (job.digest, job.inode):
            verdict = self.intake._look_at(path, entry.name)
            if not isinstance(verdict, Ready):
                if isinstance(verdict, float):
                    self._look_again(verdict)
                return
            task, problem = self.intake.judge(seen, entry.name)
            changes.append(
                Change(
                    job.id,
                    inode=seen.inode,
                    digest=digest,
                    name=task.name if task else "",
                    task=summary(task) if task else None,
                    problem=problem,
                )
            )
        self.baseline[job.id] = (seen.inode, seen.changed_ns)

    def _claim(self, kind: str, folder: str, entries: list[Entry]) -> list[Left]:
        """Take complete new files into our claim directory."""
        ready, left, again = self.intake.ready(folder, entries)
        if again is not None:
            self._look_again(again)
        for file in ready[:TAKEN_AT_ONCE]:
            claim = claim_name(kind, file.name, self.claimed)
            if self.disk.move(
                os.path.join(folder, file.name), os.path.join(self.epoch.claims, claim), file.inode or None
            ):
                self.claimed[claim] = file
            else:
                self.epoch.check()
        if len(ready) > TAKEN_AT_ONCE:
            self._look_again(0.0)
        return left

    def _look_again(self, seconds: float) -> None:
        self.again = seconds if self.again is None else min(self.again, seconds)

    def _read_new(self) -> dict[str, NewFile]:
        files: dict[str, NewFile] = {}
        taken: set[str] | None = None
        for claim in [c for c in self.claimed if c.startswith(NEW)]:
            file = self.intake.read_new(self.epoch.claims, claim, self.claimed[claim])
            if file is None:
                self.epoch.check()
                del self.claimed[claim]
                continue
            if file.task is None:
                taken = taken if taken is not None else {e.name for e in self.disk.list(self.spool.rejected)}
                file = file._replace(aside=aside_name(file.drop, taken))
                taken.add(file.aside)
            files[claim] = file
        return files

    def _read_requests(self) -> list[Request]:
        requests = []
        for claim in [c for c in self.claimed if c.startswith(REQUEST)]:
            request = self.intake.read_request(self.epoch.claims, claim)
            if request is not None:
                requests.append(request)
        return requests

    def _reports(self) -> list[Report]:
        reports = []
        for entry in self.disk.list(self.spool.nodes):
            report = self._report(entry.name)
            if report is not None:
                reports.append(report)
        return sorted(reports, key=lambda r: r.status.node)

    def _report(self, node: str) -> Report | None:
        """What a node says. One that cannot be read says nothing, and is not taken for gone."""
        path = self.spool.status(node)
        try:
            seen = self.disk.inspect(path, 64 << 20)
            status = decode(seen.data, NodeStatus, path)
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged or newer record of one node must not stop the others
            log.warning("%s: %s", path, error)
            return None
        if status.format > FORMAT or status.node != node:
            return None
        recorded = self.state.nodes.get(node)
        age = 0.0
        if node not in self.hearing.heard:
            age = self.server_now() - seen.changed
        heard = self.hearing.judge(status, age, time.monotonic(), recorded.state if recorded else "")
        return Report(status, heard)

    def _tell_left(self, left: list[Left]) -> None:
        known = {(r.drop, r.reason) for r in self.state.rejected if not r.file}
        events: list[AnyEvent] = []
        for item in self.intake.news(left):
            if (item.name, item.reason) not in known:
                events.append(
                    Rejected(
                        drop=item.name,
                        file="",
                        uid=os.getuid(),
                        user=user_name(os.getuid()),
                        reason=item.reason,
                        at=time.time(),
                    )
                )
        for event in events:
            self.state.apply(event)
        if events:
            self.commit(events)

    # ---- project

    def project(self, events: list[AnyEvent], look: Look, files: dict[str, NewFile]) -> None:
        """Put the tick's events onto the spool."""
        self._project_new(events, files)
        started = [e.id for e in events if isinstance(e, Started)]
        accepted = {e.id for e in events if isinstance(e, Accepted)}
        self.project_starts([i for i in started if i not in accepted])
        ended = [e for e in events if isinstance(e, Ended)]
        self._project_ended([e.id for e in ended if e.id not in accepted])
        reports = {r.status.node: (r.status.read, r.status.read_incarnation) for r in look.reports}
        self.projector.assign(self.state.nodes, reports)
        self._drop_requests(look)

    def _project_new(self, events: list[AnyEvent], files: dict[str, NewFile]) -> None:
        by_drop = {(f.drop, f.inode): claim for claim, f in files.items() if f.task is not None}
        for event in events:
            if isinstance(event, Accepted):
                claim = by_drop[(event.drop, event.inode)]
                job = self.state.find(event.id)
                assert job is not None
                self.projector.place_new(job, claim)
                self.claimed.pop(claim, None)
                if not job.live:
                    self.projector.finish([job])
        for claim, file in files.items():
            if file.task is None:
                self.projector.reject(claim, file.aside, file.problem)
                self.claimed.pop(claim, None)

    def project_starts(self, idents: list[int]) -> None:
        """Waiting files of jobs that start, to running/. What is found on the way is committed at once."""
        for ident in idents:
            job = self.state.jobs.get(ident)
            if job is None or job.status is Status.PENDING:
                continue
            if job.attempt > 1 and job.file in {e.name for e in self.disk.list(self.spool.running)}:
                continue  # it ran before: its file stayed there
            was = job.file
            event = self.projector.start_waiting(job)
            if event is not None:
                self.commit_now(event)
                if isinstance(event, Returned):
                    self.projector.put_back(event, was)
                elif isinstance(event, Ended):
                    self.projector.finish([self.state.ended[ident]])
                self._look_again(0.0)

    def _project_ended(self, idents: list[int]) -> None:
        jobs = [self.state.ended[i] for i in idents if i in self.state.ended]
        self.projector.finish(jobs)
        for job in jobs:
            self.baseline.pop(job.id, None)
            if not job.in_running:
                self._clear_waiting(job)

    def _clear_waiting(self, job) -> None:  # type: ignore[no-untyped-def]
        stray = self.projector.clear_waiting(job)
        if stray is not None:
            claim = claim_name(NEW, stray, self.claimed)
            self.disk.move(os.path.join(self.epoch.claims, stray), os.path.join(self.epoch.claims, claim))
            self.claimed[claim] = None
            self._look_again(0.0)

    def _drop_requests(self, look: Look) -> None:
        for request in look.requests:
            self.disk.remove(os.path.join(self.epoch.claims, request.claim))
            self.claimed.pop(request.claim, None)


def aside_name(drop: str, taken: set[str]) -> str:
    """A name in rejected/ that no earlier file has: NAME.yaml, NAME.2.yaml …, with nothing unprintable in it."""
    stem = label(drop) if drop.isprintable() and len(os.fsencode(drop)) < 200 else label(drop[:80])
    ending = drop[len(without_ending(drop)) :] or ".yaml"
    number = 1
    while (
        name := f"{stem}{'' if number == 1 else f'.{number}'}{ending}"
    ) in taken or f"{without_ending(name)}.error" in taken:
        number += 1
    return name


def told(event: AnyEvent) -> str:
    """An event as a log line."""
    ident = getattr(event, "id", None)
    words = [type(event).__name__.lower() if ident is None else f"job {ident} {type(event).__name__.lower()}"]
    for field in ("name", "status", "state", "reason", "drop"):
        if value := getattr(event, field, ""):
            words.append(f"{field}={value}")
    if isinstance(event, Requested):
        words.append(f"{event.what} {event.ids}")
    if isinstance(event, Started):
        words.append("on " + ", ".join(a.node for a in event.allocations))
    return " ".join(words)
