"""What a job waits for: found in the state, as data, and told in one sentence. Pure.

A pending job waits because no set of nodes has room for all its ranks now. What is missing is looked for on each node:
GPUs of the right kind (whole ones, or enough of one), CPUs, memory. The nodes that come nearest are told, with all that
is missing there, and nothing else, and who holds it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from skyspool.ages import ago, lasted
from spool_layout.fit import asked, could_ever, cpus, existing, kind_of, kinds, meant, number, serves
from spool_layout.paths import parse_attempt_key
from spool_layout.records import WHOLE, Demand, Job, Node
from spool_layout.replay import State
from spool_layout.states import Status

NODES_TOLD = 3
KINDS = ("gpu", "cpus", "memory")  # in this order they are told
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

    @property
    def mark(self) -> object:
        """The same for as long as the reason is, though its words tell other durations."""
        return self.kind, [(x.node, x.what, x.free, [holder.id for holder in x.holders]) for x in self.lacks]

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
    if not could_ever(task.demands, task.num_nodes, kinds(nodes)):
        near = meant(task.demands, nodes)
        return Reason(
            "impossible",
            f"job {job.id} asks for {asked(task.demands, task.num_nodes)}, which no known "
            f"nodes could ever serve; there is: {existing(nodes)}{f'; did you mean {near}?' if near else ''}",
        )
    found = [
        (demand, [lacking(state, n, demand) for n in nodes if serves(kind_of(n), demand)]) for demand in task.demands
    ]
    if any(there.count([]) >= task.num_nodes for _, there in found):
        return Reason("fits", f"job {job.id} fits: it starts at the head's next look{_unserved(served)}")
    demand, there = min(found, key=lambda pair: _distance(pair[1], task.num_nodes))
    missing = sorted(filter(None, there), key=lambda lacks: (_far(lacks), lacks[0].node))
    sentence = _sentence(job, demand, missing, now) + _unserved(served)
    return Reason("full", sentence, tuple(lack for lacks in missing for lack in lacks))


def _unserved(served: bool) -> str:
    return "" if served else " (and for a head: none is alive)"


def _distance(there: list[list[Lack]], count: int) -> float:
    """How far from fitting an alternative is: what the nearest nodes lack."""
    parts = sorted(map(_far, there))
    return sum(parts[:count]) if len(parts) >= count else float("inf")


def _far(lacks: list[Lack]) -> float:
    """How far from fitting a node is: what it lacks, as a part of what is wanted."""
    return sum((lack.wanted - lack.free) / max(1, lack.wanted) for lack in lacks)


# ---- one node


def lacking(state: State, node: Node, demand: Demand) -> list[Lack]:
    """All that a node lacks to serve one rank now."""
    if not node.open:
        return [Lack(node.name, "state", 1, 0, ())]
    lacks = []
    if demand.milli and (free := free_gpus(node, demand)) < demand.milli:
        lacks.append(Lack(node.name, "gpu", demand.milli, free, _gpu_holders(state, node, demand)))
    for what, field in (("cpus", "cpus_milli"), ("memory", "memory_mb")):
        wanted: int = getattr(demand, field)
        free = getattr(node, field) - sum(getattr(share, field) for share in node.shares.values())
        if free < wanted:
            lacks.append(Lack(node.name, what, wanted, free, _share_holders(state, node, field)))
    return lacks


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


def wanted(demand: Demand, count: int, what: set[str]) -> str:
    """`4 H100 on one node`, `4 CPUs beside 1 H100 on each of 2 nodes`: what is waited for, of what is asked for."""
    amounts = {"gpu": demand.milli, "cpus": demand.cpus_milli, "memory": demand.memory_mb}
    words = {kind: _amount(amount, kind, demand.accelerator) for kind, amount in amounts.items()}
    waited = [words[kind] for kind in KINDS if kind in what]
    beside = f" beside {words['gpu']}" if demand.milli and "gpu" not in what else ""
    return f"{' and '.join(waited)}{beside} {'on one node' if count == 1 else f'on each of {count} nodes'}"


def _sentence(job: Job, demand: Demand, missing: list[list[Lack]], now: float) -> str:
    what = {lack.what for lacks in missing for lack in lacks} - {"state"} or _all_asked(demand)
    kind = demand.accelerator if what != {"gpu"} else ""  # to be named where it is not alone
    told = "; ".join(_lack_words(lack, kind, now) for lacks in missing[:NODES_TOLD] for lack in lacks)
    more = f"; and {len(missing) - NODES_TOLD} more nodes" if len(missing) > NODES_TOLD else ""
    also = " (or another of its alternatives)" if len(job.task.demands) > 1 else ""
    return f"job {job.id} waits for {wanted(demand, job.task.num_nodes, what)}{also}: {told}{more}"


def _all_asked(demand: Demand) -> set[str]:
    """What a job waits for that only waits for a node."""
    return {"gpu" if demand.milli else "cpus"} | ({"memory"} if demand.memory_mb else set())


def _lack_words(lack: Lack, kind: str, now: float) -> str:
    """One thing that one node lacks, and who holds it. kind: the accelerator where it must be named."""
    if lack.what == "state":
        return f"{lack.node} is not up"
    told = [_holder_words(holder, lack.what, kind, now) for holder in lack.holders[:HOLDERS_TOLD]]
    if rest := lack.holders[HOLDERS_TOLD:]:
        told.append(f"{len(rest)} more jobs hold {_amount(sum(holder.amount for holder in rest), lack.what, kind)}")
    return f"{lack.node} has {_amount(lack.free, lack.what, kind)} free" + (f"; {', '.join(told)}" if told else "")


def _amount(amount: int, what: str, kind: str) -> str:
    """`2 H100`, `1 CPU`, `4 GiB of memory`."""
    if what == "memory":
        return f"{amount / 1024:g} GiB of memory"
    return cpus(amount) if what == "cpus" else f"{number(amount)} {kind}".rstrip()


def _holder_words(holder: Holder, what: str, kind: str, now: float) -> str:
    amount = _amount(holder.amount, what, kind)
    if holder.since is None:
        return f"job {holder.id}, which was given up there, holds {amount} until the node tells that it is gone"
    return f"job {holder.id} holds {amount} ({holder.status} for {lasted(holder.since, now)})"
