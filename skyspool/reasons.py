"""What a job waits for: found in the state, as data, and told in one sentence. Pure.

A pending job waits because no set of nodes has room for all its ranks now. What is missing is looked for on each node:
GPUs of the right kind (whole ones, or enough of one), CPUs, memory. The nodes that come nearest are told, with who
holds what is missing there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from skyspool.ages import ago, lasted
from spool_layout.fit import asked, could_ever, existing, number, serves
from spool_layout.paths import parse_attempt_key
from spool_layout.records import WHOLE, Demand, Job, Node
from spool_layout.replay import State
from spool_layout.states import Status

NODES_TOLD = 3
HOLDERS_TOLD = 4  # of one node


class Holder(NamedTuple):
    """A job that holds what is missing. amount: thousandths of GPUs or CPUs, or MiB."""

    id: int
    amount: int
    status: str
    since: float | None


class Lack(NamedTuple):
    """What one node lacks. what: "gpu", "cpus", "memory" or "state"."""

    node: str
    what: str
    wanted: int
    free: int
    holders: tuple[Holder, ...]


class Reason(NamedTuple):
    """Why a job is where it is. kind: "over", "runs", "stops", "edited", "impossible", "no node", "fits", "full"."""

    kind: str
    text: str
    lacks: tuple[Lack, ...] = ()

    def data(self) -> dict[str, Any]:
        """For -o json."""
        lacks = [{**lack._asdict(), "holders": [h._asdict() for h in lack.holders]} for lack in self.lacks]
        return {"kind": self.kind, "reason": self.text, "lacks": lacks}


def why(state: State, job: Job, now: float, served: bool) -> Reason:
    """Why a job is where it is. served: whether a head is alive; now: for "10 mins ago"."""
    if not job.live:
        told = f": {job.reason}" if job.reason else ""
        return Reason("over", f"job {job.id} waits for nothing: it ended {ago(job.end_at, now)} ({job.status}{told})")
    if job.status is not Status.PENDING:
        return _started(job, now)
    if job.problem:
        return Reason("edited", f"job {job.id} waits until its file is a task again: {job.problem}")
    return _waits(state, job, now, served)


def _started(job: Job, now: float) -> Reason:
    where = ", ".join(dict.fromkeys(a.node for a in job.allocations))
    if job.stop is not None:
        return Reason(
            "stops",
            f"job {job.id} waits for its processes on {where} to be gone, then it is {job.stop}"
            f"{f' ({job.reason})' if job.reason else ''}",
        )
    span = lasted(job.start_at or job.granted, now)
    return Reason("runs", f"job {job.id} waits for nothing: it has been {job.status} on {where} for {span}")


def _waits(state: State, job: Job, now: float, served: bool) -> Reason:
    nodes, task = list(state.nodes.values()), job.task
    if not nodes:
        return Reason("no node", f"job {job.id} waits for a node: none is known yet{_unserved(served)}")
    if not could_ever(task.demands, task.num_nodes, nodes):
        return Reason(
            "impossible",
            f"job {job.id} asks for {asked(task.demands, task.num_nodes)}, which no known "
            f"nodes could ever serve; there is: {existing(nodes)}",
        )
    found = [(demand, [lack(state, node, demand) for node in nodes if serves(node, demand)]) for demand in task.demands]
    if any(lacks.count(None) >= task.num_nodes for _, lacks in found):
        return Reason("fits", f"job {job.id} fits: it starts at the head's next look{_unserved(served)}")
    demand, lacks = min(found, key=lambda pair: _distance(pair[1], task.num_nodes))
    missing = sorted((x for x in lacks if x is not None), key=lambda x: (x.wanted - x.free, x.node))
    return Reason("full", _sentence(job, demand, missing, now) + _unserved(served), tuple(missing))


def _unserved(served: bool) -> str:
    return "" if served else " (and for a head: none is alive)"


def _distance(lacks: list[Lack | None], count: int) -> float:
    """How far from fitting an alternative is: what the nearest nodes lack, as a part of what is wanted."""
    parts = sorted((x.wanted - x.free) / max(1, x.wanted) if x else 0.0 for x in lacks)
    return sum(parts[:count]) if len(parts) >= count else float("inf")


# ---- one node


def lack(state: State, node: Node, demand: Demand) -> Lack | None:
    """What a node lacks to serve one rank now; None: nothing."""
    if node.state != "up" or node.left:
        return Lack(node.name, "state", 1, 0, ())
    if demand.milli and (free := free_gpus(node, demand)) < demand.milli:
        return Lack(node.name, "gpu", demand.milli, free, _gpu_holders(state, node, demand))
    free = node.cpus_milli - sum(share.cpus_milli for share in node.shares.values())
    if free < demand.cpus_milli:
        return Lack(node.name, "cpus", demand.cpus_milli, free, _share_holders(state, node, "cpus_milli"))
    free = node.memory_mb - sum(share.memory_mb for share in node.shares.values())
    if free < demand.memory_mb:
        return Lack(node.name, "memory", demand.memory_mb, free, _share_holders(state, node, "memory_mb"))
    return None


def free_gpus(node: Node, demand: Demand) -> int:
    """Thousandths of a demand's accelerator that one rank could get: whole GPUs, or the largest free share."""
    kind = demand.accelerator.lower()
    free = [slot.free for slot in node.gpus if slot.present and slot.gpu.name.lower() == kind]
    if demand.milli < WHOLE:
        return max(free, default=0)
    return sum(share for share in free if share == WHOLE)


def _gpu_holders(state: State, node: Node, demand: Demand) -> tuple[Holder, ...]:
    held: dict[str, int] = {}
    for slot in node.gpus:
        if slot.gpu.name.lower() == demand.accelerator.lower():
            for key, milli in slot.holders.items():
                held[key] = held.get(key, 0) + milli
    return _holders(state, held)


def _share_holders(state: State, node: Node, field: str) -> tuple[Holder, ...]:
    return _holders(state, {key: amount for key, share in node.shares.items() if (amount := getattr(share, field))})


def _holders(state: State, held: dict[str, int]) -> tuple[Holder, ...]:
    found = []
    for key, amount in sorted(held.items(), key=lambda item: -item[1]):
        ident, attempt = parse_attempt_key(key)
        job = state.find(ident)
        current = job is not None and job.live and job.attempt == attempt
        found.append(
            Holder(
                ident,
                amount,
                str(job.status) if job and current else "given up",
                job.start_at or job.granted if job and current else None,
            )
        )
    return tuple(found)


# ---- words


def wanted(demand: Demand, count: int) -> str:
    """`4 H100 on one node`, `half`: what is waited for."""
    where = "on one node" if count == 1 else f"on each of {count} nodes"
    if not demand.milli:
        return f"{number(demand.cpus_milli)} CPUs {where}" + (
            f" with {demand.memory_mb / 1024:g} GiB" if demand.memory_mb else ""
        )
    return f"{number(demand.milli)} {demand.accelerator} {where}"


def _sentence(job: Job, demand: Demand, missing: list[Lack], now: float) -> str:
    told = "; ".join(_node_words(lack, demand, now) for lack in missing[:NODES_TOLD])
    more = f"; and {len(missing) - NODES_TOLD} more nodes" if len(missing) > NODES_TOLD else ""
    also = " (or another of its alternatives)" if len(job.task.demands) > 1 else ""
    return f"job {job.id} waits for {wanted(demand, job.task.num_nodes)}{also}: {told}{more}"


def _node_words(lack: Lack, demand: Demand, now: float) -> str:
    if lack.what == "state":
        return f"{lack.node} is not up"
    told = [_holder_words(holder, lack.what, now) for holder in lack.holders[:HOLDERS_TOLD]]
    if rest := lack.holders[HOLDERS_TOLD:]:
        told.append(f"{len(rest)} more jobs hold {_amount(sum(holder.amount for holder in rest), lack.what)}")
    return f"{lack.node} has {_amount(lack.free, lack.what)} free" + (f"; {', '.join(told)}" if told else "")


def _amount(amount: int, what: str) -> str:
    if what == "memory":
        return f"{amount / 1024:g} GiB of memory"
    return number(amount) + (" CPUs" if what == "cpus" else "")


def _holder_words(holder: Holder, what: str, now: float) -> str:
    amount = _amount(holder.amount, what)
    if holder.since is None:
        return f"job {holder.id}, which was given up there, holds {amount} until the node tells that it is gone"
    return f"job {holder.id} holds {amount} ({holder.status} for {lasted(holder.since, now)})"
