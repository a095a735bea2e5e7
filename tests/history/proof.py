"""What jobs record themselves: that they ran, when, and on which GPUs. One file for each process that runs.

The name of a file is ID.ATTEMPT.RANK@HOST-PID-CHANCE, so an attempt that runs twice leaves two files: no clock and no
lock is needed to see that. The times in it are of the host's clock; they are compared only if all hosts have the same.
"""

from __future__ import annotations

from typing import NamedTuple


def script(folder: str, share: float, work: str = ":") -> str:
    """bash for a task's `run`: records to a directory that it begins, does some work, records that it ends.

    It starts no process of its own: on a slow machine each costs more than the rest.
    """
    return (
        f'me="$SKYSPOOL_ATTEMPT.$SKYPILOT_NODE_RANK@$HOSTNAME-$$-$RANDOM"\n'
        f'echo "+ $EPOCHREALTIME {share} $SKYSPOOL_GPU_UUIDS" >"{folder}/$me"\n'
        f'echo "began $me"\n'
        f"{work}\n"
        f'echo "- $EPOCHREALTIME" >>"{folder}/$me"\n'
        f'echo "ended $me"\n'
    )


class Run(NamedTuple):
    """One process that ran as a rank of an attempt. ended: None where it did not come to its last line."""

    name: str
    job: int
    attempt: int
    rank: int
    host: str
    began: float
    ended: float | None
    milli: int
    gpus: tuple[str, ...]


def parse(name: str, text: str) -> Run:
    """A proof file. One that is empty, since its host died with it, proves only that it began: at no known time."""
    key, _, who = name.partition("@")
    job, attempt, rank = (int(part) for part in key.split("."))
    lines = [line.split() for line in text.splitlines()]
    plus = next((words for words in lines if words[0] == "+"), None)
    ended = next((float(words[1]) for words in lines if words[0] == "-"), None)
    host = who.rsplit("-", 2)[0]
    if plus is None:
        return Run(name, job, attempt, rank, host, 0.0, None, 0, ())
    gpus = tuple(gpu for gpu in "".join(plus[3:]).split(",") if gpu)
    return Run(name, job, attempt, rank, host, float(plus[1]), ended, int(min(float(plus[2]), 1) * 1000), gpus)
