"""Which jobs stand where: the lines of those that wait for slots, those that hold some, those that none could serve.

Kept beside a State, so that a tick of a head costs what has changed and not what waits: a hundred thousand jobs that
ask for two hundred different things are two hundred lines.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from spool_layout.records import Demand, Job, NodeStatus
from spool_layout.states import Status

Shape = tuple[int, tuple[Demand, ...]]  # nodes, and the alternatives for each of them


class Lines:
    """waiting: shape -> IDs of jobs that could start, in order; holding: jobs with allocations; unsatisfiable: those
    that no known node could serve when that was asked last. possible: shape -> whether the known nodes could ever
    serve it, as far as somebody found that out since these nodes are known.

    happened: how many events there were. turns: node -> how many of these may have changed something of it, or of a job
    that holds something there. settled: node -> what it said, how it was heard and its turn when that was judged last
    (core/decide.py). passed: how many events there were when all had been started that fit."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.waiting: dict[Shape, list[int]] = {}
        self.holding: set[int] = set()
        self.unsatisfiable: set[int] = set()
        self.possible: dict[Shape, bool] = {}
        self.turns: dict[str, int] = {}
        self.settled: dict[str, tuple[NodeStatus, str, tuple[int, int]]] = {}
        self.happened, self.passed = 0, -1
        self._shapes: dict[int, Shape] = {}  # job that waits -> the line that it stands in
        for job in jobs:
            self.note(job.id, job)

    def note(self, ident: int, job: Job | None) -> None:
        """Take in that something of a job may have changed; None: it lives no more."""
        shape = shape_of(job) if job is not None else None
        before = self._shapes.get(ident)
        if shape != before:
            self._leave(ident, before)
            self._join(ident, shape)
        _keep(self.holding, ident, job is not None and bool(job.allocations))
        _keep(self.unsatisfiable, ident, shape is not None and job is not None and job.unsatisfiable_since is not None)

    def touch(self, nodes: Iterable[str]) -> None:
        """Take in that there was an event, which may have changed these nodes."""
        self.happened += 1
        for node in nodes:
            self.turns[node] = self.turns.get(node, 0) + 1

    def _leave(self, ident: int, shape: Shape | None) -> None:
        if shape is not None:
            line = self.waiting[shape]
            del line[bisect_left(line, ident)]
            if not line:
                del self.waiting[shape]
            del self._shapes[ident]

    def _join(self, ident: int, shape: Shape | None) -> None:
        if shape is not None:
            insort(self.waiting.setdefault(shape, []), ident)
            self._shapes[ident] = shape


def shape_of(job: Job) -> Shape | None:
    """What a job that could start asks for; None: it runs, or its file has a problem."""
    if job.status is not Status.PENDING or job.problem:
        return None
    return job.task.num_nodes, job.task.demands


def _keep(found: set[int], ident: int, is_one: bool) -> None:
    if is_one:
        found.add(ident)
    else:
        found.discard(ident)
