"""The same with a million jobs that ended before: what a person waits for, and what a job waits for."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

from tests.bench.figures import OURS, Figure, contest, say
from tests.bench.filled import Filler
from tests.bench.ours import Ours
from tests.bench.place import Place
from tests.bench.prompt import commands, dead_head, installed, takes

STARTS = 10  # in a round
PENDING = 1_000
GOAL = "≤ 1.1 × without"
WITHOUT = "none finished"


def million(place: Place, rounds: int, finished: int) -> list[Figure]:
    """Two spools side by side, one with a past and one without, in the same rounds."""
    programs = installed(place)
    clusters = {OURS: spool(place, "old", finished), WITHOUT: spool(place, "young", 0)}
    try:
        figures = [dead_head(clusters[OURS], programs, rounds)]
        for cluster in clusters.values():
            cluster.head()
            cluster.node("n1", cpus=2)
            cluster.ready().ended(cluster.add("first.yaml", "run: 'true'\n...\n"), seconds=120)
        figures += beside(clusters, programs, rounds)
        figures += [starts(place, clusters, rounds)]
    finally:
        for cluster in clusters.values():
            cluster.close()
    for figure in figures:
        figure.name += f"; {finished:,} finished"
    return figures


def spool(place: Place, name: str, finished: int) -> Ours:
    """A spool with jobs that ended, and some that wait for a GPU that nobody has."""
    say(f"  makes a spool with {finished:,} finished jobs")
    cluster = Ours(place.folder(name), max_pending="0", unsatisfiable_after="1d")
    Filler(cluster).finished(finished, logs=True).pending(PENDING).done()
    return cluster


def beside(clusters: dict[str, Ours], programs: Path, rounds: int) -> list[Figure]:
    """Each command on both."""
    figures = []
    for old, young in zip(*(commands(cluster, programs) for cluster in clusters.values()), strict=True):
        runs: dict[str, Callable[[], float]] = {
            name: lambda cluster=cluster, words=words: takes(cluster, words)  # type: ignore[misc]
            for (name, cluster), words in zip(clusters.items(), (old[1], young[1]), strict=True)
        }
        figures.append(Figure(old[0], "ms", "low", contest(rounds, runs), GOAL))
    return figures


def starts(place: Place, clusters: dict[str, Ours], rounds: int) -> Figure:
    """Submit to start on both."""
    proofs, numbers = place.folder("million"), itertools.count()

    def median(cluster: Ours) -> float:
        return 1000 * statistics.median(cluster.delay(proofs / str(next(numbers))) for _ in range(STARTS))

    runs: dict[str, Callable[[], float]] = {
        name: lambda cluster=cluster: median(cluster)  # type: ignore[misc]
        for name, cluster in clusters.items()
    }
    return Figure("submit → start, idle", "ms", "low", contest(rounds, runs), GOAL)
