"""A scenario of the core in five lines: nodes, jobs, looks."""

from __future__ import annotations

from spool_layout.events import Accepted, AnyEvent, NodeChanged
from spool_layout.records import Demand, Gpu, Ledger, NodeStatus, Phase, Task, decode, encode
from spool_layout.replay import State
from spoold.core.decide import decide
from spoold.core.invariants import broken
from spoold.core.model import Change, Look, NewFile, Policy, Report, Request


def gpus(node: str, spec: str) -> list[Gpu]:
    """GPUs of `H100:4` with UUIDs that tell node and index: `n1/0`."""
    found: list[Gpu] = []
    for part in filter(None, spec.split(",")):
        name, _, count = part.partition(":")
        found += [Gpu(f"{node}/{len(found)}", len(found), name) for _ in range(int(count or 1))]
    return [Gpu(f"{node}/{i}", i, gpu.name) for i, gpu in enumerate(found)]


def demand(spec: str = "", cpus: float = 0.5, memory: int = 0) -> Demand:
    """`H100:4`, `H100:0.5` or "" for a CPU job."""
    name, _, count = spec.partition(":")
    return Demand(name, int(float(count or 1) * 1000) if name else 0, int(cpus * 1000), memory)


def task(*specs: str, nodes: int = 1, setup: bool = False, restartable: bool = False, **more: float) -> Task:
    """A task with these alternatives."""
    return Task(nodes, tuple(demand(spec, **more) for spec in specs or ("",)), setup=setup, restartable=restartable)


def decide_anew(state: State, look: Look, policy: Policy) -> list[AnyEvent]:
    """What somebody decides who has just read the state."""
    ledger = state.to_ledger("c", "s", (1, 1), 0, 0.0)
    fresh = State.from_ledger(decode(encode(ledger), Ledger, "memory"))
    fresh.requests = set(state.requests)
    return decide(fresh, look, policy)


class Scenario:
    """A state that takes looks; every look is followed by a check of the invariants."""

    def __init__(self, cpus: float = 64, **nodes: str) -> None:
        self.state = State()
        self.now = 1000.0
        self.reports: dict[str, NodeStatus] = {}
        self.heard: dict[str, str] = {}
        self.policy = Policy(uid=0, unsatisfiable_after=600)
        for name, spec in nodes.items():
            self.node(name, spec, cpus=cpus)

    def node(self, name: str, spec: str = "", cpus: float = 64, heard: str = "up", **more: object) -> None:
        """A node reports (for the first time, or again)."""
        self.reports[name] = NodeStatus(
            1,
            name,
            name,
            1,
            1,
            2.0,
            gpus=gpus(name, spec),
            address=f"10.0.0.{name[1:]}",
            cpus_milli=int(cpus * 1000),
            memory_mb=65536,
            **more,
        )  # type: ignore[arg-type]
        self.heard[name] = heard

    def phase(self, node: str, key: str, phase: Phase) -> None:
        """A node reports where an attempt stands."""
        old = self.reports[node]
        self.reports[node] = NodeStatus(
            **{f: getattr(old, f) for f in old.__struct_fields__} | {"attempts": {**old.attempts, key: phase}}
        )

    def look(
        self,
        *,
        after: float = 1.0,
        changes: tuple[Change, ...] = (),
        new: tuple[NewFile, ...] = (),
        requests: tuple[Request, ...] = (),
    ) -> list[object]:
        """One tick: the events it decides on."""
        self.now += after
        reports = tuple(Report(status, self.heard[name]) for name, status in self.reports.items())
        look = Look(self.now, "2026-01-02", new, changes, requests, reports)
        anew = decide_anew(self.state, look, self.policy)
        events = decide(self.state, look, self.policy)
        assert events == anew, "what is known of the last tick spares work, and changes nothing"
        assert broken(self.state) == []
        return list(events)

    def drop(self, *tasks: Task, uid: int = 0) -> list[int]:
        """Drop tasks, look once, and tell the IDs they were given."""
        first = self.state.next_id
        files = tuple(
            NewFile(
                f"new-j{i}.yaml",
                f"j{first + i}.yaml",
                uid,
                f"u{uid}",
                first + i,
                f"d{first + i}",
                self.now + i / 1000,
                task=each,
            )
            for i, each in enumerate(tasks)
        )
        self.look(new=files)
        return list(range(first, self.state.next_id))

    def finish(self, ident: int, code: int = 0) -> list[object]:
        """Every rank of a job ends with this code."""
        job = self.state.jobs[ident]
        for allocation in job.allocations:
            self.phase(allocation.node, job.key, Phase("ended", code=code, pid=7, started_at=1.0, ended_at=self.now))
        return self.look()

    @property
    def running(self) -> list[int]:
        """IDs of jobs that hold slots."""
        return [job.id for job in self.state.jobs.values() if job.allocations]

    def gpus_of(self, ident: int) -> list[dict[str, int]]:
        """What each rank of a job holds."""
        return [a.gpus for a in self.state.jobs[ident].allocations]


__all__ = ["Accepted", "NodeChanged", "Phase", "Scenario", "State", "demand", "gpus", "task"]
