"""The decision of a tick: state and one look in, events out.

Pure. The events are applied to the state as they are made, so that each decision sees the ones before it; the
caller throws the state away if it cannot commit them. The steps, in this order, since each may free or take what
the next one needs:

    nodes      what they are, whether they are heard
    ranks      what came of the attempts: begun, failed, over, lost (transitions.py); those that surface (remnants.py)
    files      waiting files that were deleted or edited; new files accepted or rejected
    requests   cancel
    starts     slots for whoever fits (scheduler.py), and what could never fit
"""

from __future__ import annotations

import msgspec

from spool_layout import events
from spool_layout.events import AnyEvent
from spool_layout.fit import asked, could_ever, existing, kinds
from spool_layout.lines import Shape
from spool_layout.paths import encodable, job_file, label
from spool_layout.records import Gpu, Job, Node, NodeStatus, Phase
from spool_layout.replay import State
from spool_layout.states import Status
from spoold.core.model import Change, Look, NewFile, Policy, Report, Request, Silent
from spoold.core.remnants import REASON, over_by, strays
from spoold.core.scheduler import schedule
from spoold.core.transitions import gone_ranks, outcome


class Decision:
    """The events of one tick, applied to the state as they come."""

    def __init__(self, state: State, look: Look, policy: Policy) -> None:
        self.state, self.look, self.policy = state, look, policy
        self.events: list[AnyEvent] = []

    def add(self, event: AnyEvent) -> None:
        """Decide one event."""
        self.state.apply(event)
        self.events.append(event)


def decide(state: State, look: Look, policy: Policy) -> list[AnyEvent]:
    """All that follows from one look. The state is changed to what it will be when the events are committed."""
    tick = Decision(state, look, policy)
    reports = {report.status.node: report for report in look.reports}
    same = unchanged(state, look)
    news = [report for report in look.reports if report.status.node not in same]
    for report in news:
        hear(tick, report)
    for silent in look.silent:
        miss(tick, silent)
    judge_ranks(tick, reports, same)
    for report in news:
        take_in(tick, report.status)
    for change in look.changes:
        take_change(tick, change)
    for file in look.new:
        take_file(tick, file)
    for request in look.requests:
        take_request(tick, request)
    start(tick)
    return tick.events


# ---- nodes ----------------------------------------------------------------------------------------------


def unchanged(state: State, look: Look) -> set[str]:
    """The nodes of which nothing has to be decided, since nothing was in the last tick and all is as it was: they say
    the same, are heard as they were, and since that tick began no event has changed anything of them or of a job there.

    Whatever is decided of a node or of a job there is such an event. The time has no part in it but in how a node is
    heard. What rests on more than this is not settled (`_look_again`)."""
    before, state.lines.settled = state.lines.settled, {}
    same = set[str]()
    for status, heard in look.reports:
        name, turn = status.node, state.turn(status.node)
        known = before.get(name)
        if known is not None and known[0] is status and known[1] == heard and known[2] == turn:
            same.add(name)
        state.lines.settled[name] = status, heard, turn
    return same


def _look_again(tick: Decision, node: str) -> None:
    tick.state.lines.settled.pop(node, None)


def hear(tick: Decision, report: Report) -> None:
    """Note what a node is and how it is heard, if that is news."""
    node = tick.state.nodes.get(report.status.node)
    event = described(report, tick.look.now)
    if node is not None and report.status.seen[0] < node.awaited:
        event = msgspec.structs.replace(event, awaited=node.awaited)
    known = None if node is None else _known(node, event.at)
    if event == known:
        return  # so no GPU of it is offered by another node: that is looked for among all of them
    _look_again(tick, event.name)  # other nodes come and go
    if twice := offered_elsewhere(tick.state, event):
        event = msgspec.structs.replace(event, gpus=[gpu for gpu in event.gpus if gpu.uuid not in twice])
    if event != known:
        tick.add(event)


def _known(node: Node, at: float) -> events.NodeChanged:
    """The event that would note what is known of a node."""
    event = described(Report(_as_status(node), node.state), at)
    return msgspec.structs.replace(event, awaited=node.awaited)


def described(report: Report, at: float) -> events.NodeChanged:
    """A node's report as the event that would note it."""
    s = report.status
    return events.NodeChanged(
        name=s.node,
        at=at,
        host=s.host,
        address=s.address,
        gpus=_by_index(s.gpus),
        cpus_milli=s.cpus_milli,
        memory_mb=s.memory_mb,
        incarnation=s.incarnation,
        state=report.heard,
        left=s.left,
    )


def offered_elsewhere(state: State, event: events.NodeChanged) -> set[str]:
    """GPUs that another node offers already (two nodes on one machine): they stay with the first one (promise P3)."""
    mine = {gpu.uuid for gpu in event.gpus}
    others = (node for node in state.nodes.values() if node.name != event.name)
    return {slot.gpu.uuid for node in others for slot in node.gpus if slot.gpu.uuid in mine}


def miss(tick: Decision, silent: Silent) -> None:
    """A node that says nothing: how it is heard, if that is news; and forget it when its directory was removed."""
    node = tick.state.nodes.get(silent.node)
    if node is None:
        return
    holds = node.shares or any(slot.holders for slot in node.gpus)
    if not silent.listed and silent.heard == "down" and not holds:
        tick.add(events.NodeChanged(name=node.name, at=tick.look.now, state="removed"))
    elif node.state != silent.heard:
        tick.add(msgspec.structs.replace(_known(node, tick.look.now), state=silent.heard))


def _by_index(gpus: list[Gpu]) -> list[Gpu]:
    return sorted(gpus, key=lambda gpu: (gpu.index, gpu.uuid))


def _as_status(node: Node) -> NodeStatus:
    return NodeStatus(
        format=0,
        node=node.name,
        host=node.host,
        incarnation=node.incarnation,
        beat=0,
        interval=0,
        address=node.address,
        gpus=[slot.gpu for slot in node.gpus if slot.present],
        cpus_milli=node.cpus_milli,
        memory_mb=node.memory_mb,
        left=node.left,
    )


# ---- ranks ----------------------------------------------------------------------------------------------


def judge_ranks(tick: Decision, reports: dict[str, Report], same: set[str]) -> None:
    """What came of every attempt that holds slots. same: nodes of which nothing has changed."""
    for job in [tick.state.jobs[ident] for ident in sorted(tick.state.lines.holding)]:
        if same.issuperset([a.node for a in job.allocations]):
            continue
        phases = [_phase(reports, a.node, job.key) for a in job.allocations]
        silent = [_is_silent(tick, reports, a.node, job) for a in job.allocations]
        for event in outcome(job, phases, silent, tick.look.now, tick.look.day):
            tick.add(event)
    for (ident, attempt), nodes in list(tick.state.held.items()):
        phases_by_node = {node: _phase(reports, node, f"{ident}.{attempt}") for node in sorted(nodes)}
        for node in gone_ranks(phases_by_node):
            tick.add(events.Gone(id=ident, attempt=attempt, node=node, at=tick.look.now))


def take_in(tick: Decision, status: NodeStatus) -> None:
    """Attempts that surface on a node: nothing that they may use is given out, and they are stopped."""
    if status.node in tick.look.ahead or tick.state.nodes[status.node].awaited:
        _look_again(tick, status.node)
    found = strays(tick.state, status) if status.node not in tick.look.ahead else []
    if found:
        over, now = over_by(tick.state, found), tick.look.now
        tick.add(events.Surfaced(node=status.node, jobs=found, over=over, day=tick.look.day, reason=REASON, at=now))


def _phase(reports: dict[str, Report], node: str, key: str) -> Phase | None:
    report = reports.get(node)
    return report.status.attempts.get(key) if report else None


def _is_silent(tick: Decision, reports: dict[str, Report], node: str, job: Job) -> bool:
    """Whether a job may be given up on a node. One that was stopped on purpose is waited for, its jobs go on; but
    nobody waits for it to end a job for good. (Its supervisors keep no time: a job that is to run again waits.)"""
    report = reports.get(node)
    known = tick.state.nodes.get(node)
    if report is None and known is None:
        return True
    heard, left = (report.heard, report.status.left) if report else (known.state, known.left) if known else ("", False)
    return heard == "down" and (not left or job.stop not in (None, Status.PENDING))


# ---- files ----------------------------------------------------------------------------------------------


def take_change(tick: Decision, change: Change) -> None:
    """A waiting file was deleted or edited by its owner."""
    job = tick.state.jobs.get(change.id)
    if job is None or job.status is not Status.PENDING:
        return
    if change.deleted:
        tick.add(ended(tick, job, Status.CANCELLED, "its file was deleted"))
    elif (change.digest, change.inode, change.problem) != (job.digest, job.inode, job.problem):
        tick.add(
            events.Edited(
                id=job.id,
                name=change.name or job.name,
                inode=change.inode,
                digest=change.digest,
                task=change.task or job.task,
                problem=change.problem,
                at=tick.look.now,
            )
        )


def take_file(tick: Decision, file: NewFile) -> None:
    """A new file becomes a job, or is rejected with its reason."""
    if file.task is None:
        tick.add(
            events.Rejected(
                drop=file.drop,
                file=file.aside,
                uid=file.uid,
                user=file.user,
                reason=file.problem,
                at=tick.look.now,
                claim=encodable(file.claim),
            )
        )
        return
    ident = tick.state.next_id
    tick.add(
        events.Accepted(
            id=ident,
            name=file.name or label(file.drop),
            file=job_file(ident, file.drop),
            drop=file.drop,
            uid=file.uid,
            user=file.user,
            inode=file.inode,
            digest=file.digest,
            task=file.task,
            submitted=file.submitted,
            at=tick.look.now,
            claim=file.claim,
        )
    )


# ---- requests -------------------------------------------------------------------------------------------


def take_request(tick: Decision, request: Request) -> None:
    """Carry out a request, once: one whose key is known was carried out before a crash."""
    if request.key in tick.state.requests:
        return
    jobs = [] if request.problem else asked_for(tick, request)
    anybodys = request.uid in {0, tick.policy.uid, *tick.policy.admins}
    allowed = [job for job in jobs if anybodys or job.uid == request.uid]
    reason = request.problem
    if len(allowed) < len(jobs):
        reason = f"not {request.user}'s: " + ", ".join(str(j.id) for j in jobs if j not in allowed)
    for job in allowed:  # first: of a torn append any prefix counts, and a request that is known is never redone
        cancel(tick, job, request.user)
    tick.add(
        events.Requested(
            key=request.key,
            what=request.what or "unknown",
            user=request.user,
            ids=[job.id for job in allowed],
            at=tick.look.now,
            reason=reason,
        )
    )


def asked_for(tick: Decision, request: Request) -> list[Job]:
    """The live jobs that a request means, now."""
    live = list(tick.state.jobs.values())
    if request.everything:
        return [job for job in live if request.everything == "all" or job.uid == request.uid]
    wanted = set(request.targets)
    bare = {word.removesuffix(".yaml").removesuffix(".yml") for word in wanted if isinstance(word, str)}
    return [
        job
        for job in live
        if job.id in wanted or job.name in bare or job.drop.removesuffix(".yaml").removesuffix(".yml") in bare
    ]


def cancel(tick: Decision, job: Job, by: str) -> None:
    """A waiting job is over at once; a started one when its processes are gone."""
    if job.status is Status.PENDING:
        tick.add(ended(tick, job, Status.CANCELLED, f"cancelled by {by}"))
    elif job.stop is not Status.CANCELLED:
        tick.add(
            events.Stopping(
                id=job.id, attempt=job.attempt, status=Status.CANCELLED, reason=f"cancelled by {by}", at=tick.look.now
            )
        )


def ended(tick: Decision, job: Job, status: Status, reason: str) -> events.Ended:
    """The end of a job that waits."""
    return events.Ended(
        id=job.id, attempt=job.attempt, status=status, reason=reason, day=tick.look.day, at=tick.look.now
    )


# ---- starts ---------------------------------------------------------------------------------------------


def start(tick: Decision) -> None:
    """Slots for whoever fits; a note for whoever never could; an end for who waited too long for that."""
    state, now = tick.state, tick.look.now
    if state.lines.passed < state.lines.happened:  # else whoever did not fit then does not fit now
        for grant in schedule(state.nodes.values(), state.lines.waiting):
            job = state.jobs[grant.id]
            tick.add(events.Started(id=job.id, attempt=job.attempt + 1, allocations=grant.allocations, at=now))
    doubtful, impossible_now = state.lines.unsatisfiable, set[int]()
    if state.nodes:
        for shape in impossible_shapes(state):
            impossible_now.update(state.lines.waiting[shape])
    for ident in sorted(impossible_now | doubtful):
        judge_waiting(tick, state.jobs[ident], ident not in impossible_now)
    state.lines.passed = state.lines.happened


def impossible_shapes(state: State) -> list[Shape]:
    """What jobs wait for that no known node could ever serve: each is asked for once for as long as the nodes are what
    they are."""
    possible = state.lines.possible
    unknown = [shape for shape in state.lines.waiting if shape not in possible]
    if unknown:
        there = kinds(state.nodes.values())
        possible.update((shape, could_ever(shape[1], shape[0], there)) for shape in unknown)
    return [shape for shape in state.lines.waiting if not possible[shape]]


def judge_waiting(tick: Decision, job: Job, possible: bool) -> None:
    """Note since when no known node could serve a job; end it when that has been so for too long."""
    now = tick.look.now
    if possible:
        if job.unsatisfiable_since is not None:
            tick.add(events.Waiting(id=job.id, since=None, reason="", at=now))
    elif job.unsatisfiable_since is None:
        tick.add(events.Waiting(id=job.id, since=now, reason=impossible(tick, job), at=now))
    elif now - job.unsatisfiable_since >= tick.policy.unsatisfiable_after:
        tick.add(ended(tick, job, Status.FAILED, impossible(tick, job)))


def impossible(tick: Decision, job: Job) -> str:
    """Why no known node could ever serve a job."""
    there = existing(tick.state.nodes.values()) or "no node"
    return f"asks for {asked(job.task.demands, job.task.num_nodes)}, and there is: {there}"
