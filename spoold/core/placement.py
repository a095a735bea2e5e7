"""Where a gang fits: nodes, GPUs of a node, shares of a GPU.

Pure. A `Room` is what is free on one node during a scheduling pass; grants of the pass are taken out of it, so
what one pass grants can never overlap. Rules (design, section 5; SkyPilot and Ray behave alike):

- each rank on a node of its own, all ranks or none;
- a share below one GPU goes to the fullest GPU on which it fits, so that whole GPUs stay whole;
- whole GPUs are taken in PCI order;
- of several nodes the one that is left with the least is taken, so that large nodes stay free for large jobs;
- ranks are numbered by the nodes' names in natural order (n2 before n10), the same way each time.
"""

from __future__ import annotations

import functools
import heapq
import re
from collections.abc import Iterable

from spool_layout.records import WHOLE, Allocation, Demand, Node

_Spare = tuple[int, int, int, tuple[object, ...]]
_Entry = tuple[_Spare, int, "Room", dict[str, int]]  # how tight; how often something was taken; where; what it would be


class Room:
    """What is free on one node. gpus: accelerator (lower case) -> [(UUID, free thousandths)] in PCI order."""

    __slots__ = ("cpus_milli", "free_milli", "gpus", "memory_mb", "name", "order", "taken")

    def __init__(self, node: Node) -> None:
        self.name = node.name
        self.order = natural(node.name)
        self.taken = 0  # how often something was taken of it in this pass
        self.cpus_milli = node.cpus_milli - sum(share.cpus_milli for share in node.shares.values())
        self.memory_mb = node.memory_mb - sum(share.memory_mb for share in node.shares.values())
        self.gpus: dict[str, list[tuple[str, int]]] = {}
        for slot in node.gpus:
            if slot.present:
                self.gpus.setdefault(slot.gpu.name.lower(), []).append((slot.gpu.uuid, slot.free))
        self.free_milli = {name: sum(free for _, free in gpus) for name, gpus in self.gpus.items()}

    def pick(self, demand: Demand) -> dict[str, int] | None:
        """The shares that would serve one rank: UUID -> thousandths; None where it does not fit."""
        if demand.cpus_milli > self.cpus_milli or demand.memory_mb > self.memory_mb:
            return None
        if not demand.milli:
            return {}
        name = demand.accelerator.lower()
        if demand.milli > self.free_milli.get(name, 0):
            return None
        gpus = self.gpus[name]
        if demand.milli < WHOLE:
            fitting = [(free, index) for index, (_, free) in enumerate(gpus) if free >= demand.milli]
            return {gpus[min(fitting)[1]][0]: demand.milli} if fitting else None
        whole = [uuid for uuid, free in gpus if free == WHOLE]
        count = demand.milli // WHOLE
        return dict.fromkeys(whole[:count], WHOLE) if len(whole) >= count else None

    def spare(self, demand: Demand, shares: dict[str, int]) -> _Spare:
        """How much room there is: the smallest is the tightest fit. Ends with the name, so that no two are equal."""
        shared = 0
        if 0 < demand.milli < WHOLE:
            shared = next(free for uuid, free in self.gpus[demand.accelerator.lower()] if uuid in shares)
        return shared, sum(self.free_milli.values()), self.cpus_milli, self.order

    def take(self, demand: Demand, shares: dict[str, int]) -> Allocation:
        """Grant one rank: what it takes is free no more."""
        self.taken += 1
        self.cpus_milli -= demand.cpus_milli
        self.memory_mb -= demand.memory_mb
        if shares:
            name = demand.accelerator.lower()
            self.gpus[name] = [(uuid, free - shares.get(uuid, 0)) for uuid, free in self.gpus[name]]
            self.free_milli[name] -= sum(shares.values())
        return Allocation(self.name, shares, demand.cpus_milli, demand.memory_mb)


@functools.lru_cache(100_000)  # asked for every node in every pass
def natural(name: str) -> tuple[object, ...]:
    """A key that sorts n2 before n10. Digits and words alternate, so keys compare without error."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


class Rooms:
    """What is free on all nodes that may get work. changed: those of which something was taken, in order."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self.all = list(rooms)
        self.changed: list[Room] = []
        self._with_free: dict[str, list[Room]] = {}  # accelerator -> rooms where some of it was free at first
        for room in self.all:
            for name, free in room.free_milli.items():
                if free:
                    self._with_free.setdefault(name, []).append(room)

    def worth_a_look(self, demand: Demand) -> list[Room]:
        """Where a demand might fit; a full cluster has no such room for GPUs."""
        if not demand.milli:
            return self.all
        name = demand.accelerator.lower()
        return [room for room in self._with_free.get(name, []) if room.free_milli[name] >= demand.milli]


class Fits:
    """The rooms in which one alternative fits, the tightest first, from one job that asks for it to the next.

    A room is looked at when the first of them comes, and again when something was taken of it: so a pass that starts
    thousands does not look at every room for each. An entry of what a room was before counts for nothing.
    """

    def __init__(self, demand: Demand, rooms: Rooms) -> None:
        self.demand, self.rooms = demand, rooms
        self._known = len(rooms.changed)  # so many changes are in here
        self._entries = [e for room in rooms.worth_a_look(demand) if (e := self._entry(room)) is not None]
        heapq.heapify(self._entries)

    def _entry(self, room: Room) -> _Entry | None:
        shares = room.pick(self.demand)
        return None if shares is None else (room.spare(self.demand, shares), room.taken, room, shares)

    def _catch_up(self) -> None:
        for room in dict.fromkeys(self.rooms.changed[self._known :]):
            if (entry := self._entry(room)) is not None:
                heapq.heappush(self._entries, entry)
        self._known = len(self.rooms.changed)

    def take(self, count: int) -> list[Allocation] | None:
        """Grant so many ranks, on the tightest rooms, by the order of their names; None: there are not so many."""
        self._catch_up()
        chosen: list[_Entry] = []
        while self._entries and len(chosen) < count:
            entry = heapq.heappop(self._entries)
            if entry[1] == entry[2].taken:
                chosen.append(entry)
        if len(chosen) < count:
            self._entries = chosen
            return None
        chosen.sort(key=lambda entry: entry[2].order)
        self.rooms.changed += [room for _, _, room, _ in chosen]
        return [room.take(self.demand, shares) for _, _, room, shares in chosen]


def place(num_nodes: int, alternatives: Iterable[Fits]) -> list[Allocation] | None:
    """Grant the first alternative that fits now, all ranks at once; None: none fits."""
    return next(filter(None, (fits.take(num_nodes) for fits in alternatives)), None)
