"""Who starts now.

`schedule(nodes, lines)` is pure: no clock, no chance. In order of acceptance, and every later job that fits what is
idle starts too (the reference text's job5 overtakes job4). A job that asks for what an earlier one of the same
pass could not get cannot get it either, since a pass only takes: so each distinct shape that does not fit is
looked at once, however many jobs have it (spool_layout/lines.py keeps them by shape).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from spool_layout.lines import Shape
from spool_layout.records import Allocation, Node
from spoold.core.placement import Fits, Room, Rooms, place


class Grant(NamedTuple):
    """Slots for one job, by rank."""

    id: int
    allocations: list[Allocation]


def schedule(nodes: Iterable[Node], lines: Mapping[Shape, Sequence[int]]) -> list[Grant]:
    """The jobs that start now, and where. lines: IDs of those that could, by what they ask for, in order."""
    if not lines:
        return []
    rooms = Rooms(Room(node) for node in nodes if node.open)
    fits: dict[Shape, list[Fits]] = {}
    grants = []
    turns = [(line[0], 0, shape) for shape, line in lines.items()]
    heapq.heapify(turns)
    while turns:
        ident, at, shape = heapq.heappop(turns)
        if shape not in fits:
            fits[shape] = [Fits(demand, rooms) for demand in shape[1]]
        allocations = place(shape[0], fits[shape])
        if allocations is None:
            continue  # nothing of this shape fits any more in this pass
        grants.append(Grant(ident, allocations))
        if at + 1 < len(lines[shape]):
            heapq.heappush(turns, (lines[shape][at + 1], at + 1, shape))
    return grants
