"""One head's term: from the claim of its epoch until a newer one leads or a write fails.

    tick: look -> decide (pure) -> commit (one append, one fsync) -> project

Everything a term remembers can be read from the disk again, so it is simply thrown away when it ends.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from spool_layout import leadership
from spool_layout.events import (
    Accepted,
    AnyEvent,
    Ended,
    Lost,
    Rejected,
    Requested,
    Restored,
    Returned,
    Started,
    Surfaced,
)
from spool_layout.history import Stock
from spool_layout.leadership import Epoch
from spool_layout.paths import Spool
from spool_layout.records import Leader, NodeStatus
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.states import Status
from spool_layout.storage import Disk
from spool_layout.users import user_name
from spoold.core.decide import decide
from spoold.core.hearing import Hearing
from spoold.core.model import Look, Policy, Request
from spoold.head.claims import NEW, dropped_name
from spoold.head.intake import Intake, Left
from spoold.head.keeping import Keeper
from spoold.head.listen import Listener
from spoold.head.observe import Observer, aside_name
from spoold.head.project import Projector
from spoold.head.prune import Pruner
from spoold.head.recover import Recovery
from spoold.restored import PAUSE, WentBack, node_knows_more

log = logging.getLogger("spoold.head")

CLEARED_AT_ONCE = 500  # files of jobs that were cancelled while they waited, in one tick


class Term:
    """A head that leads. Raises Deposed or OSError out of `tick`: then it is over."""

    def __init__(
        self,
        spool: Spool,
        disk: Disk,
        settings: Settings,
        hearing: Hearing,
        local: bool,
        clock: Callable[[], float],
        epoch: Epoch,
        leader: Leader,
        restored: Callable[[State], Restored] | None = None,
        known: Stock | None = None,
        later: float = 0.0,
    ) -> None:
        self.spool, self.disk, self.epoch, self.clock = spool, disk, epoch, clock
        stock = leadership.seal(epoch, leader, clock(), restored, known)
        self.state: State = stock.state
        intake = Intake(spool, disk, settings, local, clock)
        listener = Listener(spool, disk, hearing, clock, sparing=not local)
        self.observer = Observer(spool, disk, settings, epoch, self.state, intake, listener)
        self.claims = self.observer.claims
        self.projector = Projector(spool, disk, settings, epoch, self.state, clock, later)
        self.keeper = Keeper(spool, disk, settings, epoch, self.state, clock, self.projector.outcomes)
        self.keeper.note(1)
        self.pruner = Pruner(spool, disk, settings, self.state)
        self.ahead_since = float("inf")  # since when a node is ahead of us (monotonic clock)
        self.policy = Policy(os.getuid(), intake.users.admins, settings.unsatisfiable_after)
        self.recover(stock)

    @property
    def again(self) -> float | None:
        """Seconds until the next look is due; None: when something happens."""
        times = [seconds for seconds in (self.observer.again, self.projector.due()) if seconds is not None]
        return min(times, default=None)

    # ---- taking over

    def recover(self, stock: Stock) -> None:
        """Everything that the heads before may have left half done."""
        recovery = Recovery(self.projector, self.claims)
        for name in recovery.older():
            recovery.clear(name)
        start, finish, waiting = recovery.misplaced()
        self.project_starts([job.id for job in start], taking_over=True)
        self.projector.assign(self.state.nodes)
        late = [self.state.ended[ident] for ident in stock.ended if ident in self.state.ended]
        self.projector.finish(list({job.id: job for job in [*finish, *late]}.values()))
        self.clear_waiting([job.id for job in waiting])

    # ---- one tick

    def tick(self, nodes_only: bool = False) -> bool:
        """Whether anything happened. nodes_only: nothing is looked for but what the nodes say."""
        look, left = self.observer.look(nodes_only)
        look = self.check_time(look)
        events = decide(self.state, look, self.policy)
        if look.new or look.requests:
            self.disk.sync(self.epoch.claims)  # a power loss must not put back what is accepted, or done, now
        if look.changes:
            self.disk.sync(self.spool.pending)  # nor take away what an owner made of a waiting file
        if events:
            self.commit(events)
        self.project(events, look)
        self.tell_left(left)
        return bool(events)

    def check_time(self, look: Look) -> Look:
        """WentBack where a node has seen a later epoch for a while, and none is listed (restored.py). The look, with
        the nodes that have."""
        ahead = [report.status for report in look.reports if report.status.seen[0] > self.epoch.number]
        if not ahead:
            self.ahead_since = float("inf")
            return look
        self.epoch.check()
        self.ahead_since = min(self.ahead_since, time.monotonic())
        if time.monotonic() - self.ahead_since >= PAUSE:
            raise WentBack(self.spool, node_knows_more(ahead[0], None, self.epoch.number, None))
        self.observer.look_again(PAUSE)
        return look._replace(ahead=frozenset(status.node for status in ahead))

    def commit(self, events: list[AnyEvent]) -> None:
        """Make events durable. From here on they have happened."""
        self.epoch.append(events)
        self.keeper.note(len(events))
        for event in events:
            log.info("%s", told(event))

    def commit_now(self, event: AnyEvent) -> None:
        """Decide, commit: what a projection found."""
        self.state.apply(event)
        self.commit([event])

    def tell_left(self, left: list[Left]) -> None:
        """Note what was left alone, once: a new head does not say again what an earlier one said."""
        known = {(rejection.drop, rejection.reason) for rejection in self.state.rejected if not rejection.file}
        me, now = os.getuid(), self.clock()
        events: list[AnyEvent] = [
            Rejected(drop=item.name, file="", uid=me, user=user_name(me), reason=item.reason, at=now)
            for item in left
            if tuple(item) not in known
        ]
        for event in events:
            self.state.apply(event)
        if events:
            self.commit(events)

    # ---- project

    def project(self, events: list[AnyEvent], look: Look) -> None:
        """Put the tick's events onto the spool. The order is the protocol's (project.py)."""
        self._project_new(events, look)
        accepted = {event.id for event in events if isinstance(event, Accepted)}
        self.project_starts([e.id for e in events if isinstance(e, Started) and e.id not in accepted])
        self.projector.assign(self.state.nodes, {r.status.node: read_by(r.status) for r in look.reports})
        over = [e.id for e in events if isinstance(e, Ended | Lost) and e.id not in accepted]
        self._project_ended(over + [ident for e in events if isinstance(e, Surfaced) for ident in e.over])
        reasons = {event.key: event.reason for event in events if isinstance(event, Requested)}
        for request in look.requests:
            self._dispose(request, reasons.get(request.key, ""))

    def _dispose(self, request: Request, reason: str) -> None:
        """A request that was carried out is removed; one that was refused its owner finds in rejected/, with why."""
        if reason:
            taken = {entry.name for entry in self.disk.list(self.spool.rejected)}
            aside = aside_name(dropped_name(request.claim), taken)
            self.projector.reject(self.claims.full(request.claim), aside, reason)
        else:
            self.disk.remove(self.claims.path(request.claim))
        self.claims.drop(request.claim)

    def _project_new(self, events: list[AnyEvent], look: Look) -> None:
        for event in events:
            if isinstance(event, Accepted):
                job = self.state.find(event.id)
                assert job is not None
                if not job.live:
                    self.projector.finish([job])
                self.projector.place_new(job, event.claim)
                self.claims.drop(os.path.basename(event.claim))
        for file in look.new:
            if file.task is None:
                self.projector.reject(file.claim, file.aside, file.problem)
                self.claims.drop(os.path.basename(file.claim))

    def project_starts(self, idents: list[int], taking_over: bool = False) -> None:
        """Waiting files of jobs that start, to running/. What is found on the way is committed at once.

        taking_over: a file that is nowhere may have been removed from running/, which changes nothing: the attempt is
        handed to its nodes, which tell what came of it. What stands under its name instead is a job of its own.
        """
        jobs = [job for i in idents if (job := self.state.jobs.get(i)) and job.status is not Status.PENDING]
        in_place: set[str] = set()
        if any(job.attempt > 1 for job in jobs):  # of one that ran before, the file stayed in running/
            in_place = {entry.name for entry in self.disk.list(self.spool.running)}
        for job in jobs:
            if job.file in in_place:
                continue
            was, event = job.file, self.projector.start_waiting(job)
            if event is None:
                continue
            if taking_over:
                if isinstance(event, Returned):
                    self.claims.take(NEW, self.claims.path(was), was)
                continue
            if isinstance(event, Returned):  # under its former name nobody would know it
                self.disk.sync(self.epoch.claims)
            self.commit_now(event)
            if isinstance(event, Returned):
                self.projector.put_back(event, was)
            else:
                self.projector.finish([self.state.ended[job.id]])
            self.observer.look_again(0.0)

    def _project_ended(self, idents: list[int]) -> None:
        jobs = [self.state.ended[i] for i in idents if i in self.state.ended]
        self.projector.finish(jobs)
        for job in jobs:
            self.observer.baseline.pop(job.id, None)
        self.clear_waiting([job.id for job in jobs if not job.in_running])

    def clear_waiting(self, idents: list[int]) -> None:
        """The files of jobs that ended while they waited: to done/; one that is not what was accepted is a new file.

        So many at a time; the others wait in pending/, where the observer passes them over.
        """
        leaving = self.observer.leaving
        leaving |= {self.state.ended[ident].file: ident for ident in idents if ident in self.state.ended}
        if not leaving:
            return
        listed = {entry.name for entry in self.disk.list(self.spool.pending)}
        for file, ident in list(leaving.items())[:CLEARED_AT_ONCE]:
            del leaving[file]
            stray = self.projector.clear_waiting(self.state.ended[ident]) if file in listed else None
            if stray is not None:
                self.claims.take(NEW, self.claims.path(stray), stray)
                self.observer.look_again(0.0)
        if leaving:
            self.observer.look_again(0.0)


def read_by(status: NodeStatus) -> tuple[tuple[int, int], int]:
    """Which assigned.json a node read last: (version, incarnation)."""
    return status.read, status.read_incarnation


def told(event: AnyEvent) -> str:
    """An event as a log line."""
    ident = getattr(event, "id", None)
    words = [type(event).__name__.lower() if ident is None else f"job {ident} {type(event).__name__.lower()}"]
    for field in ("name", "status", "state", "reason", "drop"):
        if value := getattr(event, field, ""):
            words.append(f"{field}={legible(str(value))}")
    if isinstance(event, Requested):
        words.append(f"{event.what} {event.ids}")
    if isinstance(event, Started):
        words.append("on " + ", ".join(a.node for a in event.allocations))
    return " ".join(words)


def legible(text: str) -> str:
    """A user's text in one line of the log: no line breaks, no escapes."""
    return "".join(c if c.isprintable() else "?" for c in text.replace("\n", "; "))
