"""Spools with a past: jobs that ended, jobs that wait, nodes that are full, as the product's own code writes them.

Files are not synced one by one, and a job's story is short (accepted, started, ended); everything else is what a head
would have left there: events, outcomes, task files in their places, logs, a ledger that is vouched for.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from spool_layout import history, leadership, settings
from spool_layout.events import Accepted, AnyEvent, Ended, NodeChanged, Started
from spool_layout.paths import job_file
from spool_layout.records import Allocation, Demand, Gpu, Job, Leader, NodeStatus, Phase, Task, encode
from spool_layout.replay import State
from spool_layout.states import Status
from spoold.head.keeping import Keeper
from spoold.head.loop import VERY_LONG
from spoold.head.observe import day_of
from spoold.head.project import Projector
from tests.e2e.cluster import Cluster

GPUS = 8
SHAPES = tuple(
    Task(demands=(Demand("H100", milli, 1000 * cpus),))
    for milli in (1000, 2000, 4000, 8000, 500)
    for cpus in range(1, 41)
)
TEXT = b"resources: {accelerators: 'H100:1', cpus: 1}\nrun: 'true'\n...\n"
EACH = 1000  # jobs of one append
NODE_CPUS = 512_000


def node_name(number: int) -> str:
    return f"n{number + 1}"


def gpu(node: int, index: int) -> Gpu:
    return Gpu(f"GPU-{node:06}-{index}", index, "H100", 81920)


def changed(node: int, now: float) -> NodeChanged:
    """The event that tells of a node."""
    gpus = [gpu(node, index) for index in range(GPUS)]
    return NodeChanged(
        name=node_name(node), at=now, host="bench", address="10.0.0.1", gpus=gpus, cpus_milli=NODE_CPUS,
        memory_mb=1 << 20, incarnation=1,
    )  # fmt: skip


def accepted(ident: int, task: Task, now: float, inode: int = 0, name: str = "job") -> Accepted:
    """The event that makes a job."""
    drop = f"{name}@{ident:014}.yaml"
    return Accepted(
        id=ident, name=name, file=job_file(ident, drop), drop=drop, uid=os.getuid(), user="bench", inode=inode,
        digest=history.digest(TEXT), task=task, submitted=now, at=now, claim=f"1.bench/new-{ident}-{drop}",
    )  # fmt: skip


def started(ident: int, node: int, index: int, now: float) -> Started:
    """The event that gives a job one GPU."""
    share = Allocation(node_name(node), {gpu(node, index).uuid: 1000}, 1000, 0)
    return Started(id=ident, attempt=1, allocations=[share], at=now)


def ended(ident: int, now: float) -> Ended:
    """The event that ends a job."""
    return Ended(
        id=ident, attempt=1, status=Status.SUCCEEDED, day=day_of(now), at=now, exit_codes=[0], pids=[4711],
        start_at=now, end_at=now,
    )  # fmt: skip


def full_events(nodes: int, pending: int, now: float, first: int = 1) -> list[AnyEvent]:
    """Nodes of which every GPU is held by a job of its own, then jobs of all shapes that wait."""
    events: list[AnyEvent] = [changed(node, now) for node in range(nodes)]
    ident = first
    for node in range(nodes):
        for index in range(GPUS):
            events += [accepted(ident, SHAPES[0], now), started(ident, node, index, now)]
            ident += 1
    events += [accepted(ident + number, SHAPES[number % len(SHAPES)], now) for number in range(pending)]
    return events


def status_of(node: int, jobs: dict[str, Phase], beat: int = 1) -> NodeStatus:
    """What a runner with these attempts says."""
    return NodeStatus(
        format=1, node=node_name(node), host="bench", incarnation=1, beat=beat, interval=2.0, timeout=3600.0,
        address="10.0.0.1", gpus=[gpu(node, index) for index in range(GPUS)], cpus_milli=NODE_CPUS, memory_mb=1 << 20,
        attempts=jobs, seen=(1, 0), read=(1, 0), read_incarnation=1,
    )  # fmt: skip


class Filler:
    """A head that writes a past, in epochs as long as a head's are."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.spool, self.disk = cluster, cluster.spool, cluster.disk
        self._begin()

    def _begin(self) -> None:
        epoch = leadership.take(self.spool, self.disk)
        assert epoch is not None
        self.epoch = epoch
        self.now = time.time()
        stock = leadership.seal(epoch, Leader("bench", os.getpid(), self.now, "bench"), self.now)
        self.state: State = stock.state
        said = settings.load(self.spool, self.disk)
        self.projector = Projector(self.spool, self.disk, said, epoch, self.state, time.time)
        self.keeper = Keeper(self.spool, self.disk, said, epoch, self.state, time.time, self.projector.outcomes)

    def commit(self, events: list[AnyEvent]) -> None:
        """Into the state and the file, some thousand at a time."""
        for start in range(0, len(events), 3 * EACH):
            for event in (part := events[start : start + 3 * EACH]):
                self.state.apply(event)
            self.epoch.append(part)
            self.keeper.note(len(part))

    def finished(self, count: int, logs: bool = False) -> Filler:
        """Jobs that ran and ended."""
        left = count
        while left > 0:
            first, number = self.state.next_id, min(left, EACH)
            events: list[AnyEvent] = []
            for ident in range(first, first + number):
                begin = Started(id=ident, attempt=1, allocations=[Allocation("gone", {}, 1000, 0)], at=self.now)
                events += [accepted(ident, SHAPES[0], self.now), begin, ended(ident, self.now)]
            self.commit(events)
            jobs = [self.state.ended[ident] for ident in range(first, first + number)]
            for job in jobs:
                self._write(self.spool.started(job.file))
                if logs:
                    os.mkdir(self.spool.log_dir(job.id))
                    self._write(os.path.join(self.spool.log_dir(job.id), "run.log"))
            self.projector.finish(jobs)
            left -= number
            if left % (10 * EACH) == 0:
                self.keeper.write()
                if self.epoch.offset >= VERY_LONG:
                    self._begin()
        return self

    def pending(self, count: int) -> Filler:
        """Jobs that wait, with their files."""
        events: list[AnyEvent] = []
        for ident in range(self.state.next_id, self.state.next_id + count):
            event = accepted(ident, SHAPES[ident % len(SHAPES)], self.now)
            inode = self._write(self.spool.dropped(event.file))
            events.append(accepted(ident, event.task, self.now, inode))
        self.commit(events)
        return self

    def nodes(self, count: int) -> Filler:
        """Full nodes, with their jobs' files, assigned.json and status.json."""
        self.commit(full_events(count, 0, self.now, self.state.next_id))
        for job in self.state.jobs.values():
            if job.allocations:
                self._write(self.spool.started(job.file))
        for number in range(count):
            self._node(number)
        return self

    def _node(self, number: int) -> None:
        name = node_name(number)
        os.mkdir(self.spool.node(name))
        wanted = self.projector.desired(name)
        Path(self.spool.assigned(name)).write_bytes(encode(wanted))
        phases = {key: Phase("running", pid=4711, started_at=self.now) for key in wanted.attempts}
        Path(self.spool.status(name)).write_bytes(encode(status_of(number, phases)))

    def done(self) -> Filler:
        """Write the ledger; this head is over, and nothing of it is left to be written to the disk meanwhile."""
        self.keeper.write()
        os.sync()
        return self

    def _write(self, path: str) -> int:
        """A task file; its inode."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, TEXT)
        inode = os.fstat(descriptor).st_ino
        os.close(descriptor)
        return inode


def waiting(state: State) -> list[Job]:
    """The jobs that wait."""
    return [job for job in state.jobs.values() if job.status is Status.PENDING]
