"""What ran while a restored spool was not looking. Pure: from the state and the nodes' reports to one event.

Nodes are the only witnesses. A node that was heard since the restore either remembers nothing newer than the spool, or
tells what it began since (`meanwhile`). So of an attempt that holds slots by the events:

    a heard node reports it as well       it goes on; what came of it is judged as always
    a heard node remembers a later spool,
    and not this attempt                  it ran to an end that nobody knows: FAILED
    a node is left out                    it may have ended, or have been run again: FAILED, and held there until the
                                          node is back and has reported it gone

and an attempt that only a node tells of is FAILED; what still runs of it is stopped. Whatever else waits by the events
did not run: no heard node began it.

A node that was left out, or that joined after the backup, may come back with attempts that no event knows (`strays`).
They hold what is idle there until they are gone, and are stopped. Their job is FAILED if it waits, so that it does not
run beside them, or if its ID was given in the time that is forgotten; if it runs elsewhere by now, or has ended, that
stays so. Until such a node has read what is assigned now, and so has told all, it gets no work (Node.awaited), so that
no slot is given out that a stray uses.
"""

from __future__ import annotations

from collections.abc import Iterable

from spool_layout.paths import parse_attempt_key
from spool_layout.records import GONE, Job, NodeStatus, Remnant
from spool_layout.replay import State
from spool_layout.states import Status

REASON = "restored: the spool was taken back from a backup, and what came of this job is not known; run it again"


def remnants(state: State, heard: dict[str, NodeStatus]) -> list[Remnant]:
    """The attempts that are over by the restore, by ID; of a job the last one. heard: reports that are of now."""
    found: dict[int, Remnant] = {}
    for job in state.jobs.values():
        if job.allocations and not all(_goes_on(job, heard.get(a.node)) for a in job.allocations):
            nodes = tuple(sorted({a.node for a in job.allocations}))
            found[job.id] = Remnant(job.id, job.attempt, nodes, job.name, job.user, job.uid)
    for status in heard.values():
        for told in _told_by(status):
            if _is_news(state, told):
                found[told.id] = _merged(found.get(told.id), told)
    return [found[ident] for ident in sorted(found)]


def _goes_on(job: Job, status: NodeStatus | None) -> bool:
    return status is not None and (job.key in status.attempts or not status.went_back)


def _told_by(status: NodeStatus) -> Iterable[Remnant]:
    """What a node began since, and what else it runs; with the node, where something of it is left."""
    named = {(told.id, told.attempt): told for told in status.meanwhile}
    for key in status.attempts:
        named.setdefault(parse_attempt_key(key), Remnant(*parse_attempt_key(key)))
    for (ident, attempt), told in named.items():
        phase = status.attempts.get(f"{ident}.{attempt}")
        nodes = (status.node,) if phase is not None and phase.phase not in GONE else ()
        yield Remnant(ident, attempt, nodes, told.name, told.user, told.uid)


def _is_news(state: State, told: Remnant) -> bool:
    """Whether the events do not know an attempt: its job neither, or only an earlier attempt of it, or, of a job that
    they have forgotten as ended, that something still runs."""
    job = state.find(told.id)
    if job is None:
        return told.id >= state.next_id or bool(told.nodes)
    return job.live and told.attempt > job.attempt


def _merged(known: Remnant | None, told: Remnant) -> Remnant:
    if known is None or known.attempt > told.attempt:
        return known or told
    nodes = tuple(sorted({*known.nodes, *told.nodes})) if known.attempt == told.attempt else told.nodes
    return Remnant(
        told.id, told.attempt, nodes, told.name or known.name, told.user or known.user, told.uid or known.uid
    )


def strays(state: State, status: NodeStatus) -> list[Remnant]:
    """The attempts that run on a node and have no claim to anything there, by ID. Those of a job that no event can know
    wait until the node is not awaited any more: then it tells whose they are."""
    node = state.nodes[status.node]
    return [
        told
        for told in sorted(_told_by(status), key=lambda told: (told.id, told.attempt))
        if told.nodes
        and f"{told.id}.{told.attempt}" not in node.shares
        and not (node.awaited and state.was_never_given(told.id))
    ]


def over_by(state: State, strays: list[Remnant]) -> list[int]:
    """The jobs that are FAILED since attempts of theirs surfaced. One that the events know as over (an old report
    that was read once more) fails nobody."""
    waiting = {ident: job for ident, job in state.jobs.items() if job.status is Status.PENDING}
    waits = {s.id for s in strays if s.id in waiting and s.attempt > waiting[s.id].attempt}
    unknown = {stray.id for stray in strays if state.find(stray.id) is None and state.was_never_given(stray.id)}
    return sorted(waits | unknown)
