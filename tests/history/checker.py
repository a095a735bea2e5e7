"""Judges the history of a spool by what was written down: by the heads (events), and by the jobs (proofs and logs).

    assert faults(History(events, proofs, logs)) == []

Rules, each with its own tests in test_checker.py:

- every accepted job ended, once; IDs were given once, in order;
- each attempt was started once by the events, and no process ran that these do not account for;
- each rank of an attempt ran at most once, and of a job that succeeded exactly once, to its last line;
- no two attempts held one share of a GPU at the same time: by the events' order, and by the jobs' own clock;
- epochs never interleave (account.py);
- a log holds the words of its own attempt and of no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.history.account import WHOLE, Account, what_counts
from tests.history.proof import Run, parse


class History(NamedTuple):
    """What is judged. events: epoch -> file. proofs: name -> text. logs: path below logs/ -> text. silent: names of
    jobs that leave no proof, since they run something else than proof.py's script."""

    events: Mapping[int, bytes]
    proofs: Mapping[str, str]
    logs: Mapping[str, str]
    silent: frozenset[str] = frozenset()


def faults(history: History) -> list[str]:
    """Everything that is wrong with a history that is over: nothing waits or runs any more."""
    told, found = what_counts(history.events)
    account = Account()
    account.take(told)
    account.close()
    runs = [parse(name, text) for name, text in sorted(history.proofs.items())]
    return [
        *found,
        *account.faults,
        *ran_twice(runs),
        *unaccounted(runs, account),
        *missing(runs, account, history.silent),
        *overlaps(runs),
        *foreign_words(history.logs, history.proofs),
    ]


def outcomes(history: History) -> Counter[str]:
    """Status -> how many jobs ended so: what the rules do not judge."""
    account = Account()
    account.take(what_counts(history.events)[0])
    return Counter(account.over.values())


def ran_twice(runs: list[Run]) -> list[str]:
    """At most one process for each rank of an attempt."""
    count = Counter((run.job, run.attempt, run.rank) for run in runs)
    return [f"attempt {j}.{a} rank {r} ran {n} times" for (j, a, r), n in count.items() if n > 1]


def unaccounted(runs: list[Run], account: Account) -> list[str]:
    """Every process belongs to a start that the events tell, on that node, with those GPUs."""
    found = []
    for run in runs:
        start = account.attempts.get((run.job, run.attempt))
        ranks = start["allocations"] if start else []
        if run.rank >= len(ranks) or ranks[run.rank]["node"] != run.host:
            found.append(f"{run.name} ran, and no event says so")
        elif not set(run.gpus) <= set(ranks[run.rank].get("gpus", {})):
            found.append(f"{run.name} ran on {run.gpus}, was given {ranks[run.rank].get('gpus', {})}")
    return found


def missing(runs: list[Run], account: Account, silent: frozenset[str] = frozenset()) -> list[str]:
    """A job that succeeded ran in its last attempt, each rank to its end."""
    done = {(run.job, run.attempt, run.rank) for run in runs if run.ended is not None}
    last = dict(sorted(account.attempts))
    return [
        f"job {job} succeeded, but rank {rank} of attempt {last.get(job)} did not run to its end"
        for job, status in account.over.items()
        if status == "SUCCEEDED" and account.accepted.get(job, {}).get("name") not in silent
        for rank in range(len(account.attempts[job, last[job]]["allocations"]) if job in last else 1)
        if (job, last.get(job), rank) not in done
    ]


def overlaps(runs: list[Run]) -> list[str]:
    """No GPU was above one, by the clock of the jobs' hosts. Of a run that did not end only its beginning is known."""
    found = []
    moments = [(run.began, 1, run) for run in runs if run.gpus]
    moments += [
        (run.began if run.ended is None else run.ended, 2 if run.ended is None else 0, run) for _, _, run in moments
    ]
    held: dict[str, dict[str, int]] = {}
    for _, step, run in sorted(moments, key=lambda moment: moment[:2]):
        for gpu in run.gpus:
            holders = held.setdefault(gpu, {})
            if step != 1:
                holders.pop(run.name, None)
                continue
            holders[run.name] = run.milli
            if sum(holders.values()) > WHOLE:
                found.append(f"{gpu} had at once: {', '.join(sorted(holders))}")
    return found


def foreign_words(logs: Mapping[str, str], proofs: Mapping[str, str]) -> list[str]:
    """`began NAME` stands once, in the log of that job and attempt, and only if the proof is there."""
    found, seen = [], Counter[str]()
    for path, text in logs.items():
        for line in text.splitlines():
            word, _, name = line.partition(" ")
            if word != "began":
                continue
            seen[name] += 1
            job, attempt, _ = name.partition("@")[0].split(".")
            folder = Path(path).parent.as_posix()
            if folder != (job if attempt == "1" else f"{job}/attempt-{attempt}"):
                found.append(f"{path} holds the words of {name}")
            if name not in proofs:
                found.append(f"{path} says that {name} began, which has left no proof")
    return found + [f"{name} wrote its first words {count} times" for name, count in seen.items() if count > 1]
