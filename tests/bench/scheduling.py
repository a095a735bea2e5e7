"""What deciding costs, in process and without a disk: 100,000 jobs that wait, 1,000 nodes of eight GPUs that are full.

pass   who of those that wait can start: nobody, and that has to be found out
quiet  a tick in which every node says what it said before
tick   a tick in which 100 jobs end and 100 others start (with fewer nodes: one on each)
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

from spool_layout.records import Phase
from spool_layout.replay import State
from spoold.core.decide import decide
from spoold.core.model import Look, Policy, Report
from spoold.core.scheduler import schedule
from tests.bench.figures import OURS, Figure, say, short
from tests.bench.filled import full_events, node_name, status_of

PENDING, NODES, STARTS = 100_000, 1_000, 100
BAR = 40  # characters of the longest one
GROWING = [(1_000, 1_000), (10_000, 1_000), (100_000, 1_000), (10_000, 10), (10_000, 100)]  # pending, nodes


class Hall:
    """A state in memory and what its nodes say."""

    def __init__(self, pending: int, nodes: int) -> None:
        self.state, self.nodes, self.now, self.turn = State(), nodes, time.time(), 0
        for event in full_events(nodes, pending, self.now):
            self.state.apply(event)
        self.starts = min(STARTS, nodes)

    def look(self, over: frozenset[str] = frozenset()) -> Look:
        """Every node reports; the attempts `over` have ended."""
        self.now += 1
        reports = []
        for number in range(self.nodes):
            shares = self.state.nodes[node_name(number)].shares
            phases = {key: self._phase(key in over) for key in shares}
            reports.append(Report(status_of(number, phases), "up"))
        return Look(self.now, "2026-01-01", reports=tuple(reports))

    def _phase(self, over: bool) -> Phase:
        if over:
            return Phase("ended", code=0, pid=4711, started_at=self.now - 1, ended_at=self.now)
        return Phase("running", pid=4711, started_at=self.now)

    def some(self) -> frozenset[str]:
        """Attempts that run, one a node, of nodes in turn."""
        turns = range(self.turn, self.turn + self.starts)
        self.turn += self.starts
        return frozenset(next(iter(self.state.nodes[node_name(turn % self.nodes)].shares)) for turn in turns)

    def scheduling(self) -> float:
        """Milliseconds of a pass that starts nobody."""
        return timed(lambda: schedule(self.state.nodes.values(), self.state.lines.waiting))

    def quiet(self) -> float:
        """Milliseconds of a tick in which nothing happens."""
        look = self.look()
        return timed(lambda: decide(self.state, look, Policy()))

    def tick(self) -> float:
        """Milliseconds of a tick that starts 100."""
        look, before = self.look(self.some()), self.state.finished
        took = timed(lambda: decide(self.state, look, Policy()))
        assert self.state.finished - before == self.starts
        return took


def timed(call: Callable[[], object]) -> float:
    """Milliseconds, with nothing to collect from before."""
    gc.collect()
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def scheduler(rounds: int, pending: int = PENDING, nodes: int = NODES) -> list[Figure]:
    """One pass, a quiet tick and a busy one, at full size."""
    hall = Hall(pending, nodes)
    hall.quiet()  # notes that these jobs run
    hall.tick()
    size = f"{pending:,} pending, {nodes:,} nodes"

    def figure(name: str, run: Callable[[], float], goal: str = "") -> Figure:
        values = [run() for _ in range(rounds)]
        say(f"  {name}: {short(min(values))} ms")
        return Figure(f"{name}; {size}", "ms", "low", {OURS: values}, goal)

    return [
        figure("one scheduling pass", hall.scheduling, "≤ 50 ms"),
        figure("a quiet tick's decision", hall.quiet),
        figure(f"decision of a tick that starts {hall.starts}", hall.tick, "≤ 150 ms with its disk"),
    ]


def growth(rounds: int) -> list[Figure]:
    """The same with fewer jobs and fewer nodes."""
    series: dict[str, list[Figure]] = {}
    for pending, nodes in GROWING:
        hall = Hall(pending, nodes)
        hall.quiet()
        hall.tick()
        size = f"{pending:,} pending, {nodes:,} nodes"
        for name, run in (("quiet", hall.quiet), ("busy", hall.tick)):
            values = [run() for _ in range(rounds)]
            say(f"  {size}, {name}: {short(min(values))} ms")
            title = f"tick, {name}: {size}" if name == "quiet" else f"tick, starts {hall.starts}: {size}"
            series.setdefault(name, []).append(Figure(title, "ms", "low", {OURS: values}, "linear or better"))
    for figures in series.values():
        plot(figures)
    return [figure for figures in series.values() for figure in figures]


def plot(figures: list[Figure]) -> None:
    """Bars below the figures of one series, each as long as its median beside the largest one."""
    middles = [statistics.median(figure.values[OURS]) for figure in figures]
    for figure, middle in zip(figures, middles, strict=True):
        figure.note = "#" * max(1, round(BAR * middle / max(middles)))
