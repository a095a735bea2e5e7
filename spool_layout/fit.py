"""Whether the known nodes could ever serve what a task asks for, and the words for both. Pure.

The head goes by it, and the client says the same at submission. Nodes that are down count, since they come back.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from spool_layout.records import WHOLE, Demand, Node


class Kind(NamedTuple):
    """What an idle node has. gpus: (accelerator in lower case, how many), sorted."""

    gpus: tuple[tuple[str, int], ...]
    cpus_milli: int
    memory_mb: int


def kind_of(node: Node) -> Kind:
    """A node's kind."""
    gpus = Counter(slot.gpu.name.lower() for slot in node.gpus if slot.present)
    return Kind(tuple(sorted(gpus.items())), node.cpus_milli, node.memory_mb)


def kinds(nodes: Iterable[Node]) -> Counter[Kind]:
    """How many nodes there are of each kind: a thousand nodes are mostly of a few."""
    return Counter(map(kind_of, nodes))


def could_ever(demands: Sequence[Demand], num_nodes: int, there: Mapping[Kind, int]) -> bool:
    """Whether so many nodes, all of them idle, could each serve one of the alternatives. there: `kinds` of them."""
    return any(sum(count for kind, count in there.items() if serves(kind, demand)) >= num_nodes for demand in demands)


def serves(kind: Kind, demand: Demand) -> bool:
    """Whether such a node, idle, has what one rank asks for."""
    if demand.cpus_milli > kind.cpus_milli or demand.memory_mb > kind.memory_mb:
        return False
    name = demand.accelerator.lower()
    return sum(count for gpu, count in kind.gpus if gpu == name) * WHOLE >= demand.milli


# ---- words


def number(milli: int) -> str:
    """Thousandths as people write them: 500 -> 0.5."""
    return f"{milli / WHOLE:g}"


def cpus(milli: int) -> str:
    """`1 CPU`, `0.5 CPUs`."""
    return f"{number(milli)} CPU{'' if milli == WHOLE else 's'}"


def demanded(demand: Demand) -> str:
    """`H100:4`, or `CPU:0.5` where no accelerator is asked for: what is held, where SkyPilot shows 1+."""
    if demand.milli:
        return f"{demand.accelerator}:{number(demand.milli)}"
    return f"CPU:{number(demand.cpus_milli)}"


@functools.lru_cache(1000)  # many jobs ask for the same
def asked(demands: tuple[Demand, ...], num_nodes: int) -> str:
    """`2x[H100:4]`, with CPUs and memory where they were asked for."""
    return f"{num_nodes}x[{' or '.join(dict.fromkeys(in_full(d) for d in demands))}]"


def in_full(demand: Demand) -> str:
    """One alternative, with the CPUs and memory it names."""
    words = [demanded(demand)]
    if demand.milli and demand.cpus_milli != Demand().cpus_milli:
        words.append(cpus(demand.cpus_milli))
    if demand.memory_mb:
        words.append(f"{demand.memory_mb / 1024:g} GiB")
    return ", ".join(words)


def meant(demands: Sequence[Demand], nodes: Iterable[Node]) -> str:
    """`H100`: the accelerator that a slip of the pen may have meant, of those that the nodes have or that are known.

    "" where every name that is asked for is one of these, or nothing is like it.
    """
    from spool_layout import accelerators  # only where something is wrong

    there = {slot.gpu.name for node in nodes for slot in node.gpus}
    found = (accelerators.nearest(demand.accelerator, there) for demand in demands if demand.milli)
    return next(filter(None, found), "")


def existing(nodes: Iterable[Node]) -> str:
    """What there is: `2 nodes with H100:8, 64 CPUs, 512 GiB; 1 node with no GPU, 8 CPUs, 16 GiB`."""
    kinds = Counter(described(node) for node in nodes)
    return "; ".join(f"{count} node{'s' if count > 1 else ''} with {kind}" for kind, count in sorted(kinds.items()))


def described(node: Node) -> str:
    """What one node has."""
    gpus = Counter(slot.gpu.name for slot in node.gpus if slot.present)
    names = [f"{name}:{count}" for name, count in sorted(gpus.items())] or ["no GPU"]
    return ", ".join([*names, cpus(node.cpus_milli), f"{node.memory_mb // 1024} GiB"])
