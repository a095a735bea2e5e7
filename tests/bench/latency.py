"""What a job waits for where nothing keeps it: from its submission to its start, and from one's end to the next."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.figures import OURS, Figure, contest, percentile
from tests.bench.others import Huey as HueyQueue
from tests.bench.others import HyperQueue, Nq, Slurm, Submits, TaskSpooler, others
from tests.bench.ours import DURABLE, ours
from tests.bench.place import Place

STARTS = 100  # in all rounds together
CHAIN = 11  # jobs of a queue, ten gaps


def latency(place: Place, rounds: int, starts: int = STARTS) -> list[Figure]:
    """Submit to start on an idle queue: medians of the rounds, and the p99 of all."""
    proofs, numbers = place.folder("proofs"), itertools.count()
    samples: dict[str, list[float]] = {}

    def series(name: str, delay: Callable[[Path], float]) -> Callable[[], float]:
        def run() -> float:
            times = [rested(delay, proofs / str(next(numbers))) for _ in range(max(1, starts // rounds))]
            samples.setdefault(name, []).extend(times)
            return statistics.median(times)

        return run

    kinds = (TaskSpooler, Nq, HueyQueue, HyperQueue, Slurm)
    with others(place, kinds) as (rivals, missing), ours(place, "latency") as cluster:
        runs = {OURS: series(OURS, cluster.delay)}
        for rival in rivals:
            assert isinstance(rival, Submits)
            runs[rival.name] = rival.turn(series(rival.name, rival.delay))
        values = contest(rounds, runs, missing)
        durability = {OURS: DURABLE, **{rival.name: rival.durability for rival in rivals}}
    note = "ours from the rename; others' with the start of their client, if they have one; huey looks every 2 ms here"
    middle = Figure("submit → start, idle", "ms", "low", values, "median ≤ 10 ms", note, durability, missing)
    worst = {name: [percentile(times, 0.99)] for name, times in samples.items()}
    return [middle, Figure(f"submit → start, p99 of {starts}", "ms", "low", worst, "≤ 25 ms")]


def rested(delay: Callable[[Path], float], proof: Path) -> float:
    """Milliseconds of one start on an idle queue."""
    time.sleep(0.1 + 0.1 * random.random())  # idle, and in no step with anybody's polling
    return 1000 * delay(proof)


def succession(place: Place, rounds: int, chain: int = CHAIN) -> list[Figure]:
    """End of a job to the start of the next on its GPU: median of each round's queue."""
    numbers = itertools.count()
    with (
        others(place, (TaskSpooler, Nq, Slurm)) as (rivals, missing),
        ours(place, "succession", gpus="H100:1") as cluster,
    ):

        def folder() -> Path:
            return place.folder(f"chain{next(numbers)}")

        runs: dict[str, Callable[[], float]] = {OURS: lambda: 1000 * cluster.gaps(chain, folder())}
        for rival in rivals:
            assert isinstance(rival, TaskSpooler | Nq | Slurm)
            runs[rival.name] = lambda rival=rival: 1000 * rival.gaps(chain, folder())  # type: ignore[misc]
        values = contest(rounds, runs, missing)
        durability = {OURS: DURABLE, **{rival.name: rival.durability for rival in rivals}}
    return [
        Figure("end → start of the next on its GPU", "ms", "low", values, "median ≤ 15 ms", "", durability, missing)
    ]
