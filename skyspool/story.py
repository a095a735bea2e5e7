"""The reference text's story, played with real processes: which commands, which task, and what must be seen.

A cluster has four H100s. A first job holds them all; four more are submitted meanwhile. Then:

    the first ends; job2 and job3 start with one GPU each
    job4 wants all four and waits; job5 wants two and overtakes it
    when all the GPUs are free again, job4 starts
"""

from __future__ import annotations

from typing import NamedTuple

from spool_layout.records import Job
from spool_layout.replay import State
from spool_layout.states import Status

CLUSTER = "lm-cluster"
NODE = "gpu-node"
GPUS = "H100:4"

# How long each job trains is told by its number of GPUs, so that the commands can be those of the text.
_TASK = """\
name: huggingface

resources:
  accelerators: H100:4

setup: |
  echo "installing (not really)"

run: |
  case $SKYPILOT_NUM_GPUS_PER_NODE in 4) epochs=5 ;; 2) epochs=6 ;; *) epochs=4 ;; esac
  for epoch in $(seq $epochs); do
    echo "epoch $epoch of $epochs on GPUs $CUDA_VISIBLE_DEVICES"
    sleep PACE
  done
"""

COMMANDS = (
    f"launch -c {CLUSTER} dnn.yaml -d",
    f"exec {CLUSTER} dnn.yaml -d -n job2 --gpus=H100:1",
    f"exec {CLUSTER} dnn.yaml -d -n job3 --gpus=H100:1",
    f"exec {CLUSTER} dnn.yaml -d -n job4 --gpus=H100:4",
    f"exec {CLUSTER} dnn.yaml -d -n job5 --gpus=H100:2",
)
COUNT = len(COMMANDS)


def task(pace: float) -> str:
    """The text's task file. pace: seconds of one epoch."""
    return _TASK.replace("PACE", f"{pace:g}")


class Beat(NamedTuple):
    """Something that happened, as a sentence; told once."""

    what: str
    happened: bool


def beats(state: State) -> list[Beat]:
    """What of the story can be seen by now."""
    jobs = {job.id: job for job in state.known()}
    status = {ident: jobs[ident].status if ident in jobs else None for ident in range(1, COUNT + 1)}
    started = {ident for ident in status if ident in jobs and jobs[ident].granted is not None}
    return [
        Beat(
            "Job 1 holds all 4 GPUs; the others wait.",
            status[1] is Status.RUNNING and all(s is Status.PENDING for i, s in status.items() if i > 1),
        ),
        Beat("Job 1 is over: job2 and job3 start with one GPU each.", {2, 3} <= started),
        Beat(
            "Job4 wants 4 GPUs and waits; job5 wants 2 and overtakes it.", 5 in started and status[4] is Status.PENDING
        ),
        Beat("When all 4 GPUs are free again, job4 starts.", 4 in started),
    ]


def is_over(state: State) -> bool:
    """Whether all five have ended."""
    return len(state.ended) >= COUNT and not state.jobs


def objections(state: State) -> list[str]:
    """Where what happened differs from what the text tells; nothing: it went as told."""
    jobs = {job.id: job for job in state.known()}
    wrong = [
        f"job {ident} is {job.status}: {job.reason}"
        for ident, job in jobs.items()
        if job.status is not Status.SUCCEEDED
    ]
    if wrong or set(jobs) != set(range(1, COUNT + 1)):
        return wrong or [f"there are jobs {sorted(jobs)}"]
    wrong += [
        f"job {ident} started before job 1 ended"
        for ident in range(2, COUNT + 1)
        if _start(jobs[ident]) < _end(jobs[1])
    ]
    if _start(jobs[5]) >= _start(jobs[4]):
        wrong.append("job5 did not overtake job4")
    wrong += [f"job4 started before job{ident} ended" for ident in (2, 3, 5) if _start(jobs[4]) < _end(jobs[ident])]
    return wrong


def _start(job: Job) -> float:
    return job.granted or 0.0


def _end(job: Job) -> float:
    """When its slots were free; the node's and the head's clock are one here, up to what rounding takes."""
    return (job.end_at or 0.0) - 0.01
