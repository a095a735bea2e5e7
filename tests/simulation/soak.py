"""`python -m tests.simulation.soak SECONDS [SEED]`: run after run with random seeds (or from a given one on).

A run that fails is made smaller and told; the exit code is then 1. Two processes, one for each core of CI.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

from tests.simulation.plan import make
from tests.simulation.shrinking import Shrinker, run, story

PROCESSES = 2
MOST = 3  # failures of one process that are made smaller; more are only counted


def soak(seconds: float, seed: int | None) -> int:
    """Failures."""
    end, runs, failures, days = time.monotonic() + seconds, 0, 0, 0.0
    seeds = random.SystemRandom()
    while time.monotonic() < end:
        plan = make(seeds.randrange(1 << 40) if seed is None else seed + runs)
        outcome = run(plan)
        runs, days = runs + 1, days + plan.days
        if outcome.faults:
            failures += 1
            print(f"seed {plan.seed} fails: {outcome.faults[0]}", flush=True)
            if failures <= MOST:
                print(story(Shrinker(outcome).smallest()), flush=True)
    print(f"{runs} runs, {days:g} cluster-days, {failures} failures", flush=True)
    return failures


def main(words: list[str]) -> int:
    """Share the work among processes. The exit code."""
    seconds, seed = float(words[0]), int(words[1]) if len(words) > 1 else None
    if os.environ.get("SOAK_ALONE"):
        return int(soak(seconds, seed) > 0)
    command = [sys.executable, "-m", "tests.simulation.soak", *words]
    environ = {**os.environ, "SOAK_ALONE": "1"}
    others = [subprocess.Popen(command, env=environ) for _ in range(PROCESSES if seed is None else 1)]
    codes = [process.wait() for process in others]
    return int(any(codes))  # one that a signal ended has failed as well


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
