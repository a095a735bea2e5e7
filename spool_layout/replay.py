"""What the events mean: the state of a spool as a fold over them.

`State.apply` is the only thing that ever changes a state, for the head that just committed an event, for a
head that starts, and for a client that reads; so all of them agree. It does no I/O and reads no clock.

An event that cannot follow what came before (a start of a job that is not there, a second end) means that the
files were damaged or written by something else: ImpossibleEvent tells it with the job as it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from spool_layout import events
from spool_layout.errors import Damaged
from spool_layout.events import AnyEvent
from spool_layout.paths import parse_attempt_key
from spool_layout.records import (
    Allocation,
    Gpu,
    GpuSlot,
    Held,
    Job,
    Leader,
    Ledger,
    Node,
    Rejection,
    Share,
)
from spool_layout.states import ENDED, Status, may_follow

if TYPE_CHECKING:
    from spool_layout.lines import Lines

REJECTED_KEPT = 1000


class ImpossibleEvent(Damaged):
    """An event that does not fit the state before it."""

    def __init__(self, event: AnyEvent, job: Job | None) -> None:
        told = "no such job lives" if job is None else f"the job: {job}"
        super().__init__(
            f"the event files hold something impossible: {event}; {told}",
            "nothing was changed; look at events/ and keep a copy of it",
        )


class State:
    """A spool's state. jobs: live ones by ID, in order of ID; ended: the last ones, oldest first."""

    def __init__(self) -> None:
        self.next_id = 1
        self.finished = 0
        self.leader = Leader()
        self.jobs: dict[int, Job] = {}
        self.ended: dict[int, Job] = {}
        self.nodes: dict[str, Node] = {}
        self.held: dict[tuple[int, int], set[str]] = {}
        self.waiting: dict[str, int] = {}  # name in pending/ -> ID of the job that waits under it
        self.rejected: list[Rejection] = []
        self.requests: set[str] = set()  # EPOCH.TOKEN/request-N-NAME of what was carried out; see `trim`
        self.rejects: dict[str, tuple[str, str]] = {}  # EPOCH.TOKEN/new-N-NAME -> name in rejected/, reason; see `trim`
        self.skipped: list[tuple[int, int]] = []  # IDs [from, to) that a restore skipped
        self.claims: dict[str, int] = {}  # EPOCH.TOKEN/new-N-NAME -> ID of the job accepted from there; see `trim`
        self._lines: Lines | None = None  # made where they are asked for: a client does not
        self._made = 0  # how often they were

    # ---- from and to the ledger

    @classmethod
    def from_ledger(cls, ledger: Ledger) -> State:
        """The state that a ledger describes. The ledger's records become the state's own."""
        state = cls()
        state.next_id, state.finished, state.leader = ledger.next_id, ledger.finished, ledger.leader
        state.jobs = {job.id: job for job in ledger.jobs}
        state.ended = {job.id: job for job in ledger.ended}
        state.nodes = dict(ledger.nodes)
        state.held = {(h.id, h.attempt): set(h.nodes) for h in ledger.held}
        state.waiting = {job.file: job.id for job in ledger.jobs if waits_in_pending(job)}
        state.rejected, state.skipped = list(ledger.rejected), list(ledger.skipped)
        return state

    def to_ledger(self, cluster: str, spool: str, version: tuple[int, int], offset: int, now: float) -> Ledger:
        """The ledger of this state, true up to `offset` of events/EPOCH.jsonl. version: (epoch, seq)."""
        from spool_layout.paths import FORMAT

        return Ledger(
            format=FORMAT,
            cluster=cluster,
            spool=spool,
            epoch=version[0],
            seq=version[1],
            offset=offset,
            written=now,
            leader=self.leader,
            next_id=self.next_id,
            nodes=self.nodes,
            jobs=list(self.jobs.values()),
            ended=list(self.ended.values()),
            rejected=self.rejected,
            held=[Held(i, a, tuple(sorted(nodes))) for (i, a), nodes in self.held.items()],
            finished=self.finished,
            skipped=self.skipped,
        )

    def trim(self, recent: int, unsettled: Iterable[int] = ()) -> None:
        """Forget ended jobs beyond the last `recent`, but none whose file has yet to be put in its place (`unsettled`);
        and from where jobs were accepted and requests carried out. Called when everything else is projected: nothing
        of these is left in a claim directory.
        """
        self.claims.clear()
        self.rejects.clear()
        self.requests.clear()
        keep = set(unsettled)
        for ident in list(self.ended)[: max(0, len(self.ended) - recent)]:
            if ident not in keep:
                del self.ended[ident]

    # ---- look

    def find(self, ident: int) -> Job | None:
        """A live or lately ended job."""
        return self.jobs.get(ident) or self.ended.get(ident)

    def was_never_given(self, ident: int) -> bool:
        """Whether no event can know a job of this ID: the time in which it was given is forgotten."""
        return ident >= self.next_id or any(first <= ident < end for first, end in self.skipped)

    @property
    def lines(self) -> Lines:
        """Which jobs wait for what. Made when they are asked for first, and kept from then on."""
        if self._lines is None:
            from spool_layout.lines import Lines

            self._lines = Lines(self.jobs.values())
            self._made += 1
        return self._lines

    def turn(self, node: str) -> tuple[int, int]:
        """Tells whether an event has changed anything of a node, or of a job that holds something there, since this was
        asked last: then it is another one."""
        turns = self.lines.turns
        return self._made, turns.get(node, 0)

    def moment(self) -> tuple[int, int]:
        """Tells whether there was any event since this was asked last: then it is another one."""
        happened = self.lines.happened
        return self._made, happened

    def known(self) -> list[Job]:
        """All jobs that the state knows, by ID."""
        return [job for _, job in sorted({**self.ended, **self.jobs}.items())]

    # ---- change

    def apply(self, event: AnyEvent) -> None:
        """Take in one committed event."""
        before = self._concerned(event) if self._lines is not None else []
        _APPLY[type(event)](self, event)
        if self._lines is None:
            return
        self._lines.touch({*before, *self._concerned(event)})
        if isinstance(event, events.Sealed | events.Restored | events.Surfaced):  # of many jobs, and seldom
            self._lines = None
        elif isinstance(event, events.NodeChanged):
            self._lines.possible.clear()
        elif (ident := getattr(event, "id", None)) is not None:
            self._lines.note(ident, self.jobs.get(ident))

    def _concerned(self, event: AnyEvent) -> list[str]:
        """The nodes of an event: of its job, all on which it holds something (before the event as well as after it);
        and where a node changed, also those of the jobs there, since they are told where their peers are."""
        if isinstance(event, events.NodeChanged):
            shares = self.nodes[event.name].shares if event.name in self.nodes else {}
            return [event.name, *(name for key in shares for name in self._nodes_of(parse_attempt_key(key)[0]))]
        named = [event.node] if isinstance(event, events.Gone) else []
        return named + self._nodes_of(getattr(event, "id", None))

    def _nodes_of(self, ident: int | None) -> list[str]:
        job = self.jobs.get(ident) if ident is not None else None
        return [allocation.node for allocation in job.allocations] if job is not None else []

    def _job(self, event: Any) -> Job:
        job = self.jobs.get(event.id)
        if job is None:
            raise ImpossibleEvent(event, self.ended.get(event.id))
        return job

    def _become(self, event: Any, job: Job, status: Status) -> None:
        if job.status != status and not may_follow(job.status, status):
            raise ImpossibleEvent(event, job)
        job.status = status

    def _sealed(self, event: events.Sealed) -> None:
        self.leader = event.leader
        if event.restored is not None:
            self._restored(event.restored)

    def _accepted(self, event: events.Accepted) -> None:
        if event.id < self.next_id:
            raise ImpossibleEvent(event, self.find(event.id))
        self.jobs[event.id] = Job(
            id=event.id,
            name=event.name,
            file=event.file,
            drop=event.drop,
            uid=event.uid,
            user=event.user,
            inode=event.inode,
            digest=event.digest,
            task=event.task,
            submitted=event.submitted,
            accepted=event.at,
        )
        self.waiting[event.file] = event.id
        self.next_id = event.id + 1
        if event.claim:
            self.claims[event.claim] = event.id

    def _edited(self, event: events.Edited) -> None:
        job = self._job(event)
        job.name, job.inode, job.digest, job.task = event.name, event.inode, event.digest, event.task
        job.unsatisfiable_since, job.reason, job.problem = None, event.problem, event.problem

    def _started(self, event: events.Started) -> None:
        job = self._job(event)
        if job.status is not Status.PENDING or event.attempt <= job.attempt:
            raise ImpossibleEvent(event, job)
        self._become(event, job, Status.SETTING_UP if job.task.setup else Status.RUNNING)
        job.attempt, job.allocations, job.granted = event.attempt, event.allocations, event.at
        job.start_at = job.end_at = job.stop = job.unsatisfiable_since = None
        job.exit_codes, job.pids, job.reason, job.go, job.in_running = [], [], "", not job.task.setup, True
        self.waiting.pop(job.file, None)
        for allocation in event.allocations:
            self._hold(event, job.key, allocation)

    def _hold(self, event: AnyEvent, key: str, allocation: Allocation) -> None:
        node = self.nodes.get(allocation.node)
        slots = {slot.gpu.uuid: slot for slot in node.gpus} if node else {}
        for uuid, milli in allocation.gpus.items():
            if uuid not in slots or slots[uuid].free < milli:
                raise ImpossibleEvent(event, None)
            slots[uuid].holders[key] = milli
        if node:
            node.shares[key] = Share(allocation.cpus_milli, allocation.memory_mb)

    def _release(self, key: str, node: Node) -> None:
        node.shares.pop(key, None)
        for slot in node.gpus:
            slot.holders.pop(key, None)
        node.gpus = [slot for slot in node.gpus if slot.present or slot.holders]

    def release_all(self, job: Job, but: Iterable[str] = ()) -> None:
        """A job holds nothing any more, on any node `but` these."""
        kept = set(but)
        for name in {a.node for a in job.allocations} - kept:
            if name in self.nodes:
                self._release(job.key, self.nodes[name])

    def _returned(self, event: events.Returned) -> None:
        job = self._job(event)
        self.release_all(job)
        self._wait_again(event, job)
        job.file, job.in_running, job.reason = event.file, event.in_running, event.reason
        if not event.in_running:
            self.waiting[job.file] = job.id
            job.problem = event.reason

    def _wait_again(self, event: AnyEvent, job: Job) -> None:
        self._become(event, job, Status.PENDING)
        job.allocations, job.granted, job.start_at, job.stop, job.go = [], None, None, None, False

    def _going(self, event: events.Going) -> None:
        job = self._job(event)
        job.go = True
        if event.start_at is not None:
            job.start_at, job.pids = event.start_at, event.pids
        self._become(event, job, Status.RUNNING)

    def _stopping(self, event: events.Stopping) -> None:
        job = self._job(event)
        job.stop, job.reason, job.exit_codes = event.status, event.reason, event.exit_codes

    def _lost(self, event: events.Lost) -> None:
        job = self._job(event)
        self.release_all(job, event.nodes)
        self.held.setdefault((event.id, event.attempt), set()).update(event.nodes)
        if event.again:
            self._wait_again(event, job)
            job.in_running, job.restarts, job.reason = True, job.restarts + 1, event.reason
        else:
            job.exit_codes = event.exit_codes
            self.over(event, job, event.status, event.reason, event.day, event.at)

    def _gone(self, event: events.Gone) -> None:
        nodes = self.held.get((event.id, event.attempt), set())
        if event.node in nodes and event.node in self.nodes:
            self._release(f"{event.id}.{event.attempt}", self.nodes[event.node])
        nodes.discard(event.node)
        if not nodes:
            self.held.pop((event.id, event.attempt), None)

    def _ended(self, event: events.Ended) -> None:
        job = self._job(event)
        if job.status is not Status.PENDING:
            self.release_all(job)
        job.exit_codes = event.exit_codes
        job.pids = event.pids or job.pids
        job.start_at = event.start_at if event.start_at is not None else job.start_at
        self.over(event, job, event.status, event.reason, event.day, event.end_at or event.at)

    def over(self, event: AnyEvent, job: Job, status: Status, reason: str, day: str, end: float) -> None:
        """A live job has ended. Raises ImpossibleEvent where it cannot have ended so."""
        if status not in ENDED:
            raise ImpossibleEvent(event, job)
        self._become(event, job, status)
        job.reason, job.day, job.end_at, job.stop = reason, day, end, None
        self.waiting.pop(job.file, None)
        del self.jobs[job.id]
        self.ended[job.id] = job
        self.finished += 1

    def _waiting(self, event: events.Waiting) -> None:
        job = self._job(event)
        job.unsatisfiable_since, job.reason = event.since, event.reason

    def _rejected(self, event: events.Rejected) -> None:
        self.rejected.append(Rejection(event.drop, event.file, event.user, event.reason, event.at))
        if len(self.rejected) > REJECTED_KEPT:  # the oldest of whoever has most: nobody's reasons push out another's
            most = Counter(rejection.user for rejection in self.rejected).most_common(1)[0][0]
            del self.rejected[next(n for n, rejection in enumerate(self.rejected) if rejection.user == most)]
        if event.claim:
            self.rejects[event.claim] = event.file, event.reason

    def _requested(self, event: events.Requested) -> None:
        self.requests.add(event.key)

    def _node(self, event: events.NodeChanged) -> None:
        if event.state == "removed":
            self.nodes.pop(event.name, None)
            return
        node = self.nodes.setdefault(event.name, Node(name=event.name))
        if node.state != event.state or not node.since:
            node.since = event.at
        node.host, node.address, node.incarnation = event.host, event.address, event.incarnation
        node.cpus_milli, node.memory_mb = event.cpus_milli, event.memory_mb
        node.state, node.left, node.awaited = event.state, event.left, event.awaited
        node.gpus = merged(node.gpus, event.gpus)

    def _restored(self, event: events.Restored) -> None:
        from spool_layout import remnants  # a reader mostly meets no such event

        remnants.restored(self, event)

    def _surfaced(self, event: events.Surfaced) -> None:
        from spool_layout import remnants

        remnants.surfaced(self, event)

    def _vouched(self, event: events.Vouched) -> None:
        """Nothing changes: readers look for it in the file."""


def merged(slots: list[GpuSlot], gpus: list[Gpu]) -> list[GpuSlot]:
    """A node's slots after it reported `gpus`: holders stay; what is held but no longer reported stays too."""
    holders = {slot.gpu.uuid: slot.holders for slot in slots}
    there = [GpuSlot(gpu, holders.get(gpu.uuid, {})) for gpu in sorted(gpus, key=lambda g: g.index)]
    reported = {gpu.uuid for gpu in gpus}
    gone = [GpuSlot(s.gpu, s.holders, present=False) for s in slots if s.holders and s.gpu.uuid not in reported]
    return there + gone


def waits_in_pending(job: Job) -> bool:
    """Whether the job's file stands in pending/ under job.file."""
    return job.status is Status.PENDING and not job.in_running


_APPLY: dict[type, Callable[[State, Any], None]] = {
    events.Sealed: State._sealed,
    events.Accepted: State._accepted,
    events.Edited: State._edited,
    events.Started: State._started,
    events.Returned: State._returned,
    events.Going: State._going,
    events.Stopping: State._stopping,
    events.Lost: State._lost,
    events.Gone: State._gone,
    events.Ended: State._ended,
    events.Waiting: State._waiting,
    events.Rejected: State._rejected,
    events.Requested: State._requested,
    events.NodeChanged: State._node,
    events.Vouched: State._vouched,
    events.Restored: State._restored,
    events.Surfaced: State._surfaced,
}
