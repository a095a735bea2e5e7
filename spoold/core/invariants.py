"""What is true of every state, whatever happened: asked at the end of tests and by people in doubt."""

from __future__ import annotations

from collections.abc import Iterator

from spool_layout.fit import could_ever, kinds
from spool_layout.lines import Lines
from spool_layout.records import WHOLE, Job, Node
from spool_layout.replay import State, waits_in_pending
from spool_layout.states import Status
from spoold.core.scheduler import schedule


def broken(state: State) -> list[str]:
    """Sentences about what must not be; [] for a sound state."""
    of_nodes = [*_slots(state), *_offered_twice(state), *_shares(state), *_held(state)]
    return [*of_nodes, *_jobs(state), *_names(state), *_lines(state)]


def _slots(state: State) -> Iterator[str]:
    for node in state.nodes.values():
        for slot in node.gpus:
            total = sum(slot.holders.values())
            if total > WHOLE:
                yield f"P3: {node.name} GPU {slot.gpu.index} is held {total} thousandths: {slot.holders}"
            if any(milli <= 0 for milli in slot.holders.values()):
                yield f"{node.name} GPU {slot.gpu.index} has an empty holder: {slot.holders}"
            for key in slot.holders:
                yield from _holder(state, node, key)


def _holder(state: State, node: Node, key: str) -> Iterator[str]:
    ident, attempt = (int(part) for part in key.split("."))
    job = state.jobs.get(ident)
    holds = job is not None and job.attempt == attempt and any(a.node == node.name for a in job.allocations)
    if not holds and node.name not in state.held.get((ident, attempt), ()):
        yield f"{node.name} is held by attempt {key}, which has no claim to it"


def _offered_twice(state: State) -> Iterator[str]:
    first: dict[str, str] = {}
    for node in state.nodes.values():
        for slot in node.gpus:
            if first.setdefault(slot.gpu.uuid, node.name) != node.name:
                yield f"P3: GPU {slot.gpu.uuid} is a slot of {first[slot.gpu.uuid]} and of {node.name}"


def _shares(state: State) -> Iterator[str]:
    for node in state.nodes.values():
        for key in node.shares:
            yield from _holder(state, node, key)


def _held(state: State) -> Iterator[str]:
    """What was given up is held until it is gone."""
    for (ident, attempt), nodes in state.held.items():
        for name in sorted(nodes):
            if name not in state.nodes or f"{ident}.{attempt}" not in state.nodes[name].shares:
                yield f"attempt {ident}.{attempt} was given up on {name}, and holds nothing there"


def _jobs(state: State) -> Iterator[str]:
    if list(state.jobs) != sorted(state.jobs):
        yield f"P9: the live jobs are not in order of acceptance: {list(state.jobs)}"
    for job in state.known():
        if job.id >= state.next_id:
            yield f"job {job.id} is known, and the next one gets ID {state.next_id}"
    for job in state.jobs.values():
        if not job.live:
            yield f"P2: job {job.id} is {job.status}, and among the live ones"
        if (job.status is Status.PENDING) == bool(job.allocations):
            yield f"P2: job {job.id} is {job.status} with allocations {job.allocations}"
        yield from _granted(state, job)
    for ident in state.jobs.keys() & state.ended.keys():
        yield f"P2: job {ident} is live and ended"


def _granted(state: State, job: Job) -> Iterator[str]:
    for allocation in job.allocations:
        node = state.nodes.get(allocation.node)
        if node is None or job.key not in node.shares:
            yield f"P3: job {job.id} was granted a share of {allocation.node}, which says otherwise"
        slots = {slot.gpu.uuid: slot for slot in node.gpus} if node else {}
        for uuid, milli in allocation.gpus.items():
            if uuid not in slots or slots[uuid].holders.get(job.key) != milli:
                yield f"P3: job {job.id} was granted {milli} of {uuid}, the slot says otherwise"


def _names(state: State) -> Iterator[str]:
    expected = {job.file: job.id for job in state.jobs.values() if waits_in_pending(job)}
    if expected != state.waiting:
        yield f"the names in pending/ are {state.waiting}, the jobs say {expected}"


def _lines(state: State) -> Iterator[str]:
    """What is kept from event to event is what follows from the jobs, and from the nodes."""
    there, known = kinds(state.nodes.values()), state.lines.possible
    fresh = Lines(state.jobs.values())
    fresh.possible = {shape: could_ever(shape[1], shape[0], there) for shape in known}
    fresh.turns, fresh.settled, fresh.happened = state.lines.turns, state.lines.settled, state.lines.happened
    fresh.passed = state.lines.passed
    if vars(state.lines) != vars(fresh):
        yield f"jobs stand in the wrong lines: {vars(state.lines)}"
    if state.lines.passed == state.lines.happened and (grants := schedule(state.nodes.values(), state.lines.waiting)):
        yield f"who starts is taken for found out, and these could start: {grants}"
