"""What the events mean that tell of a time which a restored spool has forgotten (replay.py takes in all others).

After an old picture of a spool was put back, only the nodes know what ran since. A Restored tells that of all of them,
a Surfaced of one that came late; spoold/core/remnants.py finds out what they say. IDs that may have been given
meanwhile are skipped, jobs whose end nobody knows are FAILED, and what may run still holds something until it is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool_layout import events
from spool_layout.records import Job, Node, Remnant, Share, Task
from spool_layout.states import Status

if TYPE_CHECKING:
    from spool_layout.replay import State


def restored(state: State, event: events.Restored) -> None:
    """The spool went back, and what ran meanwhile is over."""
    _skip_to(state, max(state.next_id, event.next_id, *(remnant.id + 1 for remnant in event.jobs)))
    for remnant in event.jobs:
        job = state.jobs.get(remnant.id) or _unheard_of(state, remnant, event.at)
        state.release_all(job)
        job.attempt = remnant.attempt
        state.over(event, job, Status.FAILED, event.reason, event.day, event.at)
    for name in sorted({name for remnant in event.jobs for name in remnant.nodes} & state.nodes.keys()):
        _hold_idle(state, state.nodes[name], [remnant for remnant in event.jobs if name in remnant.nodes])
    for name in set(event.left_out) & state.nodes.keys():
        state.nodes[name].awaited = event.epoch


def surfaced(state: State, event: events.Surfaced) -> None:
    """A node runs what no event knows."""
    _skip_to(state, max(state.next_id, *(remnant.id + 1 for remnant in event.jobs)))
    for remnant in event.jobs:
        if remnant.id in event.over:
            job = state.jobs.get(remnant.id) or _unheard_of(state, remnant, event.at)
            job.attempt = max(job.attempt, remnant.attempt)
            state.over(event, job, Status.FAILED, event.reason, event.day, event.at)
    _hold_idle(state, state.nodes[event.node], event.jobs)


def _skip_to(state: State, next_id: int) -> None:
    if next_id > state.next_id:
        state.skipped.append((state.next_id, next_id))
        state.next_id = next_id


def _unheard_of(state: State, remnant: Remnant, at: float) -> Job:
    """A job that only a node tells of."""
    job = Job(
        id=remnant.id,
        name=remnant.name or f"job-{remnant.id}",
        file=f"{remnant.id}.job.yaml",
        drop="",
        uid=remnant.uid,
        user=remnant.user,
        inode=0,
        digest="",
        task=Task(),
        submitted=at,
        accepted=at,
    )
    state.jobs[job.id] = job
    return job


def _hold_idle(state: State, node: Node, remnants: list[Remnant]) -> None:
    """Nobody knows on which GPUs they run: all that is idle on the node is theirs, until they are gone."""
    cpus = node.cpus_milli - sum(share.cpus_milli for share in node.shares.values())
    memory = node.memory_mb - sum(share.memory_mb for share in node.shares.values())
    idle = Share(max(0, cpus) // len(remnants), max(0, memory) // len(remnants))
    for slot in node.gpus:
        part = slot.free // len(remnants)
        for remnant in remnants if part else []:
            slot.holders[f"{remnant.id}.{remnant.attempt}"] = part
    for remnant in remnants:
        node.shares[f"{remnant.id}.{remnant.attempt}"] = idle
        state.held.setdefault((remnant.id, remnant.attempt), set()).add(node.name)
