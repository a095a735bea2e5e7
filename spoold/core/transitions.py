"""What follows, for one attempt, from where its ranks stand. Pure.

A rank stands where its node says (records.Phase), or is unknown (None: the node said nothing about it, which says
nothing). Slots are free again only when every rank is gone: nothing of it runs any more (`ended`, `lost`, `never`).

    every rank gone                          -> ended, or back to waiting where nothing was ever started
    a rank failed, others live               -> stopping: the others are ended, and count as 137
    every rank exited, leftovers live        -> stopping, as what the codes say
    setup over on every rank                 -> going: run may begin everywhere
    rank 0 began to run                      -> going, with its start time
    a node was lost, ranks live elsewhere    -> stopping, these first
    a node was lost, the others are gone     -> lost: its slots stay held until the node says that it is gone

Sources: exit codes of a failed gang as in SkyPilot's `sky logs` ("return code list: [1, 137]"); the order of the
last two from the model's rule `ranks_first`.
"""

from __future__ import annotations

from collections.abc import Sequence

from spool_layout import events
from spool_layout.events import AnyEvent
from spool_layout.records import GONE, Job, Phase
from spool_layout.states import Status

KILLED = 137  # 128 + SIGKILL: what a rank counts as that was ended because another one failed


def outcome(job: Job, phases: Sequence[Phase | None], silent: Sequence[bool], now: float, day: str) -> list[AnyEvent]:
    """The events that follow for a job that holds slots. phases, silent: by rank."""
    if all(phase is not None and phase.phase in GONE for phase in phases):
        return [over(job, [p for p in phases if p is not None], now, day)]
    silent = [quiet and (p is None or p.phase not in GONE) for quiet, p in zip(silent, phases, strict=True)]
    if any(silent):
        return lost(job, phases, silent, now, day)
    if job.stop is not None:
        return []
    if cause := end_by(job, phases):
        status, reason = cause
        return [stopping(job, status, reason, phases, now)]
    if all(phase is not None and phase.phase in (*GONE, "exited") for phase in phases):
        return [stopping(job, Status.SUCCEEDED, "", phases, now)]
    return going(job, phases, now)


def over(job: Job, phases: list[Phase], now: float, day: str) -> AnyEvent:
    """The end of an attempt of which nothing is left."""
    if job.stop is None and all(phase.phase == "never" for phase in phases):
        if any(phase.stage == "file" for phase in phases):
            return _ended(job, Status.CANCELLED, first_reason(phases), phases, now, day)
        return again(job, first_reason(phases) or "was not started in time", now)
    status, reason = (job.stop, job.reason) if job.stop is not None else end_by(job, phases) or (Status.SUCCEEDED, "")
    if status is Status.PENDING:
        return again(job, reason, now)
    return _ended(job, status, reason, phases, now, day)


def again(job: Job, reason: str, now: float) -> events.Returned:
    """The attempt is over and the job waits once more; its file stays in running/."""
    return events.Returned(id=job.id, attempt=job.attempt, file=job.file, in_running=True, reason=reason, at=now)


def _ended(job: Job, status: Status, reason: str, phases: Sequence[Phase], now: float, day: str) -> events.Ended:
    times = [phase.ended_at for phase in phases if phase.ended_at is not None]
    first = phases[0]
    return events.Ended(
        id=job.id,
        attempt=job.attempt,
        status=status,
        day=day,
        at=now,
        reason=reason,
        exit_codes=job.exit_codes or codes(phases),
        pids=[phase.pid for phase in phases],
        end_at=max(times, default=now),
        start_at=first.started_at if first.stage == "run" else None,
    )


def failure(phases: Sequence[Phase | None]) -> tuple[Status, str] | None:
    """As what, and why, an attempt fails by the ranks that are over; None: no rank has failed."""
    setup = [_named(rank, p, phases) for rank, p in enumerate(phases) if p and p.stage == "setup" and p.code]
    if setup:
        return Status.FAILED_SETUP, "; ".join(setup)
    failed = [_named(rank, p, phases) for rank, p in enumerate(phases) if p and p.code]
    if failed:
        return Status.FAILED, "; ".join(failed)
    unknown = [_named(rank, p, phases) for rank, p in enumerate(phases) if p and p.phase in ("lost", "never")]
    return (Status.FAILED_DRIVER, "; ".join(unknown)) if unknown else None


def end_by(job: Job, phases: Sequence[Phase | None]) -> tuple[Status, str] | None:
    """As what, and why, an attempt ends by the ranks that are over. PENDING: its node ended it, went down under it (a
    reboot) or could not begin it in time, and the job asked to run again. None: no rank has failed."""
    lost = [_named(r, p, phases) for r, p in enumerate(phases) if p and (p.fenced or p.phase in ("lost", "never"))]
    if lost and job.task.restartable:
        return Status.PENDING, "; ".join(lost)
    return failure(phases)


def _named(rank: int, phase: Phase, phases: Sequence[Phase | None]) -> str:
    who = f"rank {rank}: " if len(phases) > 1 else ""
    if phase.reason:
        return who + phase.reason
    if phase.code:
        return f"{who}{'setup' if phase.stage == 'setup' else 'run'} ended with exit code {phase.code}"
    return f"{who}its outcome is unknown" if phase.phase == "lost" else f"{who}was never started"


def codes(phases: Sequence[Phase | None]) -> list[int]:
    """Exit codes by rank; a rank that was ended from outside, or never ran, counts as 137."""
    return [phase.code if phase is not None and phase.code is not None else KILLED for phase in phases]


def first_reason(phases: Sequence[Phase]) -> str:
    """The first reason that a rank gives."""
    return next((phase.reason for phase in phases if phase.reason), "")


def stopping(job: Job, status: Status, reason: str, phases: Sequence[Phase | None], now: float) -> events.Stopping:
    """What is left of the attempt is to be ended; it then counts as `status`."""
    return events.Stopping(
        id=job.id, attempt=job.attempt, status=status, reason=reason, at=now, exit_codes=codes(phases)
    )


def going(job: Job, phases: Sequence[Phase | None], now: float) -> list[AnyEvent]:
    """Run may begin (setup is over everywhere), or has begun."""
    if not job.go and all(phase is not None and phase.phase == "ready" for phase in phases):
        return [events.Going(id=job.id, attempt=job.attempt, at=now)]
    first = phases[0]
    begun = all(phase is not None and phase.phase in ("running", "exited", "ended") for phase in phases)
    if job.start_at is None and begun and first is not None and first.started_at is not None:
        pids = [phase.pid for phase in phases if phase is not None]
        return [events.Going(id=job.id, attempt=job.attempt, at=now, start_at=first.started_at, pids=pids)]
    return []


def lost(job: Job, phases: Sequence[Phase | None], silent: Sequence[bool], now: float, day: str) -> list[AnyEvent]:
    """A node of the attempt may be given up: its ranks elsewhere are stopped first."""
    nodes = tuple(sorted({a.node for a, quiet in zip(job.allocations, silent, strict=True) if quiet}))
    reason = f"lost contact with node {', '.join(nodes)}"
    if job.stop is None and all(p is not None and p.phase in (*GONE, "exited") for p in phases):
        status, reason = end_by(job, phases) or (Status.SUCCEEDED, "")  # it had reported how it ended
        return [stopping(job, status, reason, phases, now)]
    live = [p for p, quiet in zip(phases, silent, strict=True) if not quiet and (p is None or p.phase not in GONE)]
    if live:
        status = Status.PENDING if job.task.restartable else Status.FAILED
        return [] if job.stop is not None else [stopping(job, status, reason, phases, now)]
    decided = job.stop is not None and job.stop is not Status.PENDING  # cancelled, or failed before
    return [
        events.Lost(
            id=job.id,
            attempt=job.attempt,
            nodes=nodes,
            again=job.task.restartable and not decided,
            reason=job.reason if decided else reason,
            day=day,
            at=now,
            exit_codes=job.exit_codes or codes(phases),
            status=job.stop if decided and job.stop else Status.FAILED,
        )
    ]


def gone_ranks(phases: dict[str, Phase | None]) -> list[str]:
    """Of the nodes that still hold slots of an attempt that was given up, those that reported it gone."""
    return [node for node, phase in phases.items() if phase is not None and phase.phase in GONE]
