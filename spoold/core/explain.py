"""Why a job cannot be served: sentences for people, made where the refusal is decided. Pure."""

from __future__ import annotations

from collections import Counter

from spool_layout.records import WHOLE, Demand, Job
from spool_layout.replay import State


def asked(job: Job) -> str:
    """What a job asks for: `2x[H100:4]`, as the RESOURCES column says it."""
    return f"{job.task.num_nodes}x[{' or '.join(demanded(d) for d in job.task.demands)}]"


def demanded(demand: Demand) -> str:
    """One alternative: `H100:0.5`, or `CPU:1+` where it asks for no accelerator."""
    if not demand.milli:
        return f"CPU:{number(demand.cpus_milli)}+"
    return f"{demand.accelerator}:{number(demand.milli)}"


def number(milli: int) -> str:
    """Thousandths as people write them: 500 -> 0.5, 8000 -> 8."""
    return f"{milli / WHOLE:g}"


def existing(state: State) -> str:
    """What the known nodes have: `2 x (H100:8), 1 x (no GPU)`."""
    kinds: Counter[str] = Counter()
    for node in state.nodes.values():
        gpus = Counter(slot.gpu.name for slot in node.gpus if slot.present)
        text = ", ".join(f"{name}:{count}" for name, count in sorted(gpus.items())) or "no GPU"
        kinds[f"{text}; {number(node.cpus_milli)} CPUs, {node.memory_mb // 1024} GiB"] += 1
    return ", ".join(f"{count} x ({kind})" for kind, count in sorted(kinds.items())) or "no node"


def impossible(job: Job, state: State) -> str:
    """Why no known node could ever serve a job."""
    return f"asks for {asked(job)}, and the nodes are {existing(state)}"
