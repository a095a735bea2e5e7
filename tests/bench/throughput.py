"""How many jobs of `true` a second, end to end, with two slots; and how fast the Python client submits."""

from __future__ import annotations

import time
from collections.abc import Callable

from skyspool import submission
from tests.bench.figures import OURS, Figure, contest
from tests.bench.others import others
from tests.bench.ours import DURABLE, REST, Ours, ours
from tests.bench.place import Place

JOBS = 1000
ONE_BY_ONE = 100
TASK = b"run: 'true'\n...\n"
BATCH_CALL = "drop_many"  # of skyspool.submission: (spool, disk, [(name, text), ...])


def throughput(place: Place, rounds: int, jobs: int = JOBS) -> list[Figure]:
    """Jobs dropped as files, against the same number of `true` by the others."""
    with others(place) as (rivals, missing), ours(place, "throughput") as cluster:
        runs: dict[str, Callable[[], float]] = {OURS: lambda: jobs / rested(cluster, jobs)}
        for rival in rivals:
            runs[rival.name] = rival.turn(lambda rival=rival: jobs / rival.batch(jobs))  # type: ignore[misc]
        values = contest(rounds, runs, missing)
        durability = {OURS: DURABLE, **{rival.name: rival.durability for rival in rivals}}
    goal = "≥ 1.0 × task-spooler, ≥ 0.55 × xargs bash; then 1.5 × and 0.9 ×"
    note = "" if cluster.empty_home else "the jobs' home is not empty: no mount namespace"
    title = f"{jobs} jobs of true, 2 slots"
    return [Figure(title, "jobs/s", "high", values, goal, note, durability, missing)]


def rested(cluster: Ours, jobs: int) -> float:
    """Seconds for a batch; whoever is next finds a head that rests."""
    took = cluster.batch(jobs)
    time.sleep(REST)
    return took


def submitting(place: Place, rounds: int, jobs: int = JOBS) -> list[Figure]:
    """Durable submissions a second by the client's own functions, with no head to disturb them."""
    cluster = Ours(place.folder("submission"))

    def single() -> float:
        began = time.perf_counter()
        for number in range(ONE_BY_ONE):
            submission.drop(cluster.spool, cluster.disk, f"one{number}", TASK)
        return ONE_BY_ONE / (time.perf_counter() - began)

    goal = "≥ 5,000/s on a local disk"
    several = Figure(many(jobs), "jobs/s", "high", {}, goal, durability={OURS: "when it returns"})
    if hasattr(submission, BATCH_CALL):
        several.values = contest(rounds, {OURS: lambda: dropped(cluster, jobs)})
    else:
        several.missing = {OURS: f"not there yet (skyspool.submission.{BATCH_CALL})"}
    one = Figure("submission by the Python client, one by one", "jobs/s", "high", contest(rounds, {OURS: single}))
    return [several, one]


def many(jobs: int) -> str:
    """The title of what `dropped` measures."""
    return f"submission by the Python client, batch of {jobs}"


def dropped(cluster: Ours, jobs: int = JOBS) -> float:
    """Jobs a second that one call submits."""
    texts = [(f"many{number}", TASK) for number in range(jobs)]
    began = time.perf_counter()
    getattr(submission, BATCH_CALL)(cluster.spool, cluster.disk, texts)
    return jobs / (time.perf_counter() - began)
