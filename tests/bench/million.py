"""All of it again on a spool with a million jobs that ended before, beside one without a past: nothing may grow by more
than a tenth. Both are there in the same run, and take turns.

A spool without a past is an empty one, for whatever daemons do; and one of 10,000 jobs where what a client lists or a
head takes up belongs to what is measured: the ledger remembers some of those that ended (`recent`).
"""

from __future__ import annotations

import functools
import itertools
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from spool_layout import settings
from spool_layout.settings import Keep
from spoold.head.prune import EVERY, Pruner
from tests.bench.calls import JOBS, arrival, idleness
from tests.bench.figures import OURS, Figure, contest, say
from tests.bench.filled import Filler
from tests.bench.latency import CHAIN, rested
from tests.bench.ours import Ours
from tests.bench.place import Place
from tests.bench.prompt import FINISHED, PENDING, commands, installed, takes
from tests.bench.restart import restarts, seconds
from tests.bench.throughput import JOBS as BATCH
from tests.bench.throughput import dropped, many
from tests.bench.throughput import rested as batch

STARTS = 10  # in a round
PREPARED, NODES = 10_000, 100  # what waits, and who is full, where heads start: the fewer, the more a past would show
EPOCH = 40_000  # jobs of one that is about to end
GOAL = "≤ 1.1 × without"
RATE = "≥ 0.91 × without"
WITHOUT = "without"
Clusters = dict[str, Ours]


def million(place: Place, rounds: int, finished: int, rest: float) -> list[Figure]:
    """Every figure on both. rest: seconds of idleness, twice."""
    clusters = {OURS: spool(place, "old", finished), WITHOUT: spool(place, "young", 0)}
    try:
        figures = submits(clusters, rounds)
        for cluster in clusters.values():
            cluster.head().node("n1", gpus="H100:1", cpus=2).ready().warm()
        figures += idleness(place, clusters, rest)
        figures += runs(place, clusters, rounds)
        figures += calls(place, clusters, rounds)
        figures += listed(place, clusters, rounds)
        figures += pruned(clusters, rounds)
        figures += begun(clusters, rounds)
    finally:
        for cluster in clusters.values():
            cluster.close()
    for figure in figures:
        figure.name += f"; {finished:,} finished"
        figure.goal = RATE if figure.best == "high" else GOAL
    return figures


def spool(place: Place, name: str, finished: int) -> Ours:
    """A spool with jobs that ended."""
    say(f"  makes a spool with {finished:,} finished jobs")
    cluster = Ours(place.folder(name), max_pending="0", unsatisfiable_after="1d")
    Filler(cluster).finished(finished, logs=True).done()
    return cluster


def beside(clusters: Clusters, rounds: int, title: str, unit: str, run: Callable[[Ours], float]) -> Figure:
    """One figure of both. A unit by the second is a rate."""
    say(f"  {title}")
    turns: dict[str, Callable[[], float]] = {
        name: functools.partial(run, cluster) for name, cluster in clusters.items()
    }
    return Figure(title, unit, "high" if unit.endswith("/s") else "low", contest(rounds, turns))


def submits(clusters: Clusters, rounds: int) -> list[Figure]:
    """Before there is a head, which never sees these files."""

    def submit(cluster: Ours) -> float:
        rate = dropped(cluster)
        for path in Path(cluster.spool.pending).iterdir():
            path.unlink()
        return rate

    return [beside(clusters, rounds, many(BATCH), "jobs/s", submit)]


def runs(place: Place, clusters: Clusters, rounds: int) -> list[Figure]:
    """What jobs wait for."""
    proofs, numbers = place.folder("million"), itertools.count()

    def starts(cluster: Ours) -> float:
        return statistics.median(rested(cluster.delay, proofs / str(next(numbers))) for _ in range(STARTS))

    def gaps(cluster: Ours) -> float:
        return 1000 * cluster.gaps(CHAIN, place.folder(f"million{next(numbers)}"))

    return [
        beside(clusters, rounds, "submit → start, idle", "ms", starts),
        beside(clusters, rounds, "end → start of the next on its GPU", "ms", gaps),
        beside(clusters, rounds, f"{BATCH} jobs of true, 2 slots", "jobs/s", lambda one: BATCH / batch(one, BATCH)),
    ]


def calls(place: Place, clusters: Clusters, rounds: int) -> list[Figure]:
    """What the file system is asked for by a job, on nodes that take a hundred at once."""
    if "strace" in place.fetch().missing:
        return []
    numbers = itertools.count()

    def operations(cluster: Ours) -> float:
        trace = arrival(cluster, place.folder(f"{cluster.folder.name}-strace{next(numbers)}"))
        return 1 + sum(trace.totals().values()) / JOBS  # and the rename that drops it

    for cluster in clusters.values():
        cluster.kill("n1", signal.SIGTERM)
        cluster.node("n1", cpus=JOBS).ready()
        operations(cluster)  # the first time much is made that stays
    return [beside(clusters, rounds, f"file-system operations a job, {JOBS} a tick", "calls", operations)]


def listed(place: Place, clusters: Clusters, rounds: int) -> list[Figure]:
    """What a person waits for, with jobs that wait for GPUs that nobody has."""
    programs = installed(place)
    for name, cluster in clusters.items():
        cluster.close()
        Filler(cluster).finished(FINISHED if name == WITHOUT else 0).pending(PENDING).done()
        cluster.head().ready()
    typed = {cluster: commands(cluster, programs) for cluster in clusters.values()}

    def figure(number: int, title: str) -> Figure:
        return beside(clusters, rounds, title, "ms", lambda cluster: takes(cluster, typed[cluster][number][1]))

    return [figure(number, title) for number, (title, _, _) in enumerate(typed[clusters[OURS]])]


def pruned(clusters: Clusters, rounds: int) -> list[Figure]:
    """What a head does between two ticks, and no job starts, where `keep:` limits logs, of which none is too old."""

    def step(cluster: Ours) -> float:
        said = msgspec.structs.replace(settings.load(cluster.spool, cluster.disk), keep=Keep(logs=30 * EVERY))
        pruner = Pruner(cluster.spool, cluster.disk, said, cluster.state())
        return 1000 * seconds(lambda: pruner.step(time.time() + 2 * EVERY))  # it is due by then

    for cluster in clusters.values():
        cluster.close()
    return [beside(clusters, rounds, "a step of pruning", "ms", step)]


def begun(clusters: Clusters, rounds: int) -> list[Figure]:
    """Heads that start, with nodes that are full and jobs that wait for them; where there is a past, also in the last
    moment before an epoch would have ended, of which a new head reads all."""
    for cluster in clusters.values():
        shutil.rmtree(cluster.spool.node("n1"))  # another one of that name is to come
        Filler(cluster).nodes(NODES).pending(PREPARED - PENDING).done()
    figures = restarts(clusters, rounds, PREPARED, NODES)
    late: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, cluster in clusters.items():
            Filler(cluster).finished(EPOCH if name == OURS else 0).done()
        for name, values in restarts(clusters, 1, PREPARED, NODES)[0].values.items():
            late.setdefault(name, []).extend(values)
    return [*figures, Figure(f"the same at the end of an epoch; {PREPARED:,} pending", "s", "low", late)]
