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

import re
from collections.abc import Iterable, Sequence

from spool_layout.records import WHOLE, Allocation, Demand, Node


class Room:
    """What is free on one node. gpus: accelerator (lower case) -> [(UUID, free thousandths)] in PCI order."""

    __slots__ = ("cpus_milli", "free_milli", "gpus", "memory_mb", "name", "order")

    def __init__(self, node: Node) -> None:
        self.name = node.name
        self.order = natural(node.name)
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
        gpus = self.gpus.get(demand.accelerator.lower(), ())
        if demand.milli < WHOLE:
            fitting = [(free, index) for index, (_, free) in enumerate(gpus) if free >= demand.milli]
            return {gpus[min(fitting)[1]][0]: demand.milli} if fitting else None
        whole = [uuid for uuid, free in gpus if free == WHOLE]
        count = demand.milli // WHOLE
        return dict.fromkeys(whole[:count], WHOLE) if len(whole) >= count else None

    def spare(self, demand: Demand, shares: dict[str, int]) -> tuple[int, int, int, tuple[object, ...]]:
        """How much room there is: the smallest is the tightest fit. Ends with the name, so that no two are equal."""
        shared = 0
        if 0 < demand.milli < WHOLE:
            shared = next(free for uuid, free in self.gpus[demand.accelerator.lower()] if uuid in shares)
        return shared, sum(self.free_milli.values()), self.cpus_milli, self.order

    def take(self, demand: Demand, shares: dict[str, int]) -> Allocation:
        """Grant one rank: what it takes is free no more."""
        self.cpus_milli -= demand.cpus_milli
        self.memory_mb -= demand.memory_mb
        if shares:
            name = demand.accelerator.lower()
            self.gpus[name] = [(uuid, free - shares.get(uuid, 0)) for uuid, free in self.gpus[name]]
            self.free_milli[name] -= sum(shares.values())
        return Allocation(self.name, shares, demand.cpus_milli, demand.memory_mb)


def natural(name: str) -> tuple[object, ...]:
    """A key that sorts n2 before n10. Digits and words alternate, so keys compare without error."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


def place(demands: Sequence[Demand], num_nodes: int, rooms: Iterable[Room]) -> list[Allocation] | None:
    """Grant the first alternative that fits now, all ranks at once; None: none fits. rooms are changed."""
    rooms = list(rooms)
    for demand in demands:
        fitting = [(room, shares) for room in rooms if (shares := room.pick(demand)) is not None]
        if len(fitting) >= num_nodes:
            fitting.sort(key=lambda pair: pair[0].spare(demand, pair[1]))
            chosen = sorted(fitting[:num_nodes], key=lambda pair: pair[0].order)
            return [room.take(demand, shares) for room, shares in chosen]
    return None
