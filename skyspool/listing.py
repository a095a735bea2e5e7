"""Jobs as `queue` shows them: rows of the table, records of `-o json`. Pure: time and user are passed in.

A record has SkyPilot's keys (sky.queue: job_id, job_name, username, user_hash, submitted_at, start_at, end_at,
resources, status, log_path, metadata, links; times in seconds since 1970) and ours: what the job runs on, its exit
codes, the reason of its state, its handle, and the times in ISO 8601. Keys are only ever added.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from skyspool.ages import ago, duration, iso, shorter
from skyspool.jobs import Waiting
from skyspool.tables import Table, cut, one_line
from spool_layout.fit import asked
from spool_layout.paths import Spool, without_ending
from spool_layout.records import WHOLE, Demand, Gpu, Job, Rejection
from spool_layout.replay import State
from spool_layout.states import ENDED, LIVE, Status

HEADINGS = ("ID", "NAME", "USER", "SUBMITTED", "STARTED", "DURATION", "RESOURCES", "STATUS", "LOG")
DAY = 86400.0


class Shown(NamedTuple):
    """What one spool shows: accepted jobs and files not yet accepted, each newest first."""

    jobs: list[Job]
    files: list[Waiting]


# ---- choosing


def select(state: State, files: Iterable[Waiting], uid: int | None, live_only: bool) -> Shown:
    """Jobs and files of one user (None: of all)."""
    jobs = [job for job in state.known() if (uid is None or job.uid == uid) and (job.live or not live_only)]
    mine = [file for file in files if uid is None or file.uid == uid]
    return Shown(jobs[::-1], mine[::-1])


def summary(shown: Shown) -> str:
    """`2 PENDING, 1 RUNNING; 40 SUCCEEDED, 3 FAILED`: what is shown in all, in the order of a job's life."""
    counts = Counter([job.status for job in shown.jobs] + [Status.PENDING] * len(shown.files))
    live, over = ([s for s in Status if counts[s] and s in part] for part in (LIVE, ENDED))
    return "; ".join(", ".join(f"{counts[s]} {s}" for s in part) for part in (live, over) if part)


def held_back(shown: Shown) -> list[str]:
    """One line for each user whose files wait for a limit."""
    told = {file.uid: file.held for file in shown.files if file.held}
    if not told:
        return []
    from spool_layout.users import user_name

    return [f"files of {user_name(uid)} wait in pending/: {reason}" for uid, reason in told.items()]


def lately_rejected(state: State, uid_name: str | None, now: float) -> list[Rejection]:
    """The files rejected in the last day, oldest first. uid_name: of this user's; None: of all."""
    return [r for r in state.rejected if now - r.at < DAY and uid_name in (None, r.user)]


# ---- words


def served(job: Job, gpus: dict[str, Gpu]) -> tuple[Demand, ...]:
    """Which of the alternatives the job runs on; all of them while that is open."""
    if len(job.task.demands) == 1 or not job.allocations:
        return job.task.demands
    held = job.allocations[0].gpus
    name = next((gpus[uuid].name for uuid in held if uuid in gpus), "")
    return (
        tuple(d for d in job.task.demands if d.milli == sum(held.values()) and d.accelerator == name)[:1]
        or job.task.demands
    )


def resources(job: Job, gpus: dict[str, Gpu]) -> str:
    """`2x[H100:4]`, with CPUs and memory where they were asked for; alternatives joined by ` or `."""
    return asked(served(job, gpus), job.task.num_nodes)


def all_gpus(state: State) -> dict[str, Gpu]:
    """UUID -> GPU, of every node."""
    return {slot.gpu.uuid: slot.gpu for node in state.nodes.values() for slot in node.gpus}


def began(job: Job) -> float | None:
    """When run commands began; while the node has not told it yet of a job that runs, when it got its slots."""
    return job.granted if job.start_at is None and job.status is Status.RUNNING else job.start_at


def span(job: Job, now: float) -> float | None:
    """Seconds that run commands have run; None before they began."""
    start = began(job)
    return None if start is None else (job.end_at or now) - start


def log_dir(spool: Spool, job: Job) -> str:
    """Where the job's latest attempt writes."""
    return spool.log_dir(job.id, job.attempt)


# ---- rows


def table(spool: Spool, state: State, shown: Shown, now: float, home: str = "") -> Table:
    """The reference text's columns, and DURATION, RESOURCES and LOG. home: shown as `~` in paths."""
    gpus = all_gpus(state)
    return Table(
        HEADINGS,
        [_row_of_file(f, now) for f in shown.files] + [_row(spool, job, gpus, now, home) for job in shown.jobs],
    )


def _row_of_file(file: Waiting, now: float) -> tuple[str, ...]:
    from spool_layout.users import user_name

    return "-", file.name, user_name(file.uid), ago(file.changed, now), "-", "-", "-", "PENDING", "-"


def _row(spool: Spool, job: Job, gpus: dict[str, Gpu], now: float, home: str) -> tuple[str, ...]:
    seconds = span(job, now)
    place = log_dir(spool, job) if job.attempt else "-"
    if home and place.startswith(home + os.sep):
        place = "~" + place[len(home) :]
    return (
        str(job.id),
        one_line(job.name) or "-",
        job.user,
        ago(job.submitted, now),
        ago(began(job), now),
        "-" if seconds is None else duration(seconds),
        resources(job, gpus),
        status(job),
        place,
    )


def narrowing() -> tuple[Callable[[Table], Table], ...]:
    """What gives way on a narrow terminal, in this order."""
    return (
        lambda t: t.without("LOG"),
        lambda t: t.changed("SUBMITTED", shorter).changed("STARTED", shorter),
        lambda t: t.changed("NAME", lambda name: cut(name, 16)).changed("RESOURCES", lambda words: cut(words, 20)),
        lambda t: t.without("DURATION"),
        lambda t: t.changed("NAME", lambda name: cut(name, 8)),
        lambda t: t.without("USER"),
        lambda t: t.without("SUBMITTED"),
    )


def status(job: Job) -> str:
    """The state; of a job that is being stopped, also what it becomes."""
    return f"{job.status} (stopping)" if job.stop is not None and job.live else str(job.status)


def rejection(refused: Rejection, now: float) -> str:
    """One line about a file that was no task."""
    return f"rejected {ago(refused.at, now)}: {one_line(refused.drop)}: {one_line(refused.reason)}"


# ---- records


class Record(msgspec.Struct):
    """One job or file. Filled by position: by name it takes five times as long, for thousands of them."""

    job_id: int | None
    job_name: str
    username: str
    user_hash: str
    submitted_at: float
    start_at: float | None
    end_at: float | None
    resources: str
    status: str
    log_path: str | None
    metadata: dict[str, str]
    links: dict[str, str]
    handle: str
    attempt: int
    nodes: list[str]
    gpus: list[dict[str, Any]]
    num_nodes: int | None
    exit_codes: list[int]
    pids: list[int]
    reason: str
    stopping: str | None
    duration: float | None
    submitted: str | None
    started: str | None
    ended: str | None


def records(spool: Spool, state: State, shown: Shown, now: float) -> Iterator[Record]:
    """What `-o json` holds of one spool."""
    gpus = all_gpus(state)
    yield from map(_unaccepted, shown.files)
    for job in shown.jobs:
        yield record(spool, job, gpus, now)


def record(spool: Spool, job: Job, gpus: dict[str, Gpu], now: float) -> Record:
    """One job."""
    start, end = began(job), job.end_at
    return Record(
        job.id,
        job.name,
        job.user,
        str(job.uid),
        job.submitted,
        start,
        end,
        resources(job, gpus),
        job.status,
        log_dir(spool, job),
        {},
        {},
        without_ending(job.drop),
        job.attempt,
        [allocation.node for allocation in job.allocations],
        _held(job, gpus),
        job.task.num_nodes,
        job.exit_codes,
        job.pids,
        job.reason,
        job.stop if job.stop is not None and job.live else None,
        span(job, now),
        iso(job.submitted),
        iso(start),
        iso(end),
    )


def _held(job: Job, gpus: dict[str, Gpu]) -> list[dict[str, Any]]:
    return [
        {"node": a.node, "uuid": uuid, "index": gpus[uuid].index if uuid in gpus else None, "share": milli / WHOLE}
        for a in job.allocations
        for uuid, milli in a.gpus.items()
    ]


def _unaccepted(file: Waiting) -> Record:
    from spool_layout.users import user_name

    return Record(
        job_id=None,
        job_name=file.name,
        username=user_name(file.uid),
        user_hash=str(file.uid),
        submitted_at=file.changed,
        start_at=None,
        end_at=None,
        resources="-",
        status=Status.PENDING,
        log_path=None,
        metadata={},
        links={},
        handle=file.handle,
        attempt=0,
        nodes=[],
        gpus=[],
        num_nodes=None,
        exit_codes=[],
        pids=[],
        reason=file.held or "no head has accepted it yet",
        stopping=None,
        duration=None,
        submitted=iso(file.changed),
        started=None,
        ended=None,
    )
