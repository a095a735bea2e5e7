"""Who starts now.

`schedule(nodes, queue)` is pure: no clock, no chance. In order of acceptance, and every later job that fits what is
idle starts too (the reference text's job5 overtakes job4). A job that asks for what an earlier one of the same
pass could not get cannot get it either, since a pass only takes: so each distinct shape that does not fit is
looked at once, however many jobs have it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from spool_layout.records import Allocation, Demand, Job, Node
from spool_layout.states import Status
from spoold.core.placement import Room, place

Shape = tuple[int, tuple[Demand, ...]]


class Grant(NamedTuple):
    """Slots for one job, by rank."""

    id: int
    allocations: list[Allocation]


def schedule(nodes: Iterable[Node], queue: Iterable[Job]) -> list[Grant]:
    """The jobs of `queue` that start now, and where. queue: in order of acceptance."""
    rooms = open_rooms(nodes)
    lines = by_shape(queue)
    grants = []
    turns = [(line[0], shape) for shape, line in lines.items()]
    heapq.heapify(turns)
    while turns:
        ident, shape = heapq.heappop(turns)
        allocations = place(shape[1], shape[0], rooms)
        if allocations is None:
            continue  # nothing of this shape fits any more in this pass
        grants.append(Grant(ident, allocations))
        lines[shape].popleft()
        if lines[shape]:
            heapq.heappush(turns, (lines[shape][0], shape))
    return grants


def open_rooms(nodes: Iterable[Node]) -> list[Room]:
    """What is free on the nodes that may get work now."""
    return [Room(node) for node in nodes if node.open]


def by_shape(queue: Iterable[Job]) -> dict[Shape, deque[int]]:
    """IDs of startable jobs by what they ask for, each line in order."""
    lines: dict[Shape, deque[int]] = {}
    for job in queue:
        if job.status is Status.PENDING and not job.problem:
            lines.setdefault((job.task.num_nodes, job.task.demands), deque()).append(job.id)
    return lines
