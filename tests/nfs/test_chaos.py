"""Many jobs while heads, runners and whole machines are killed, frozen and cut off at random; the history is judged.

1,000 jobs on 4.2 with default options, 100 on each other variant. What makes the test hard is asserted: the lead
changes hands. Jobs come, start and end all the while.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.history.checker import faults, outcomes
from tests.nfs.bench import Bench
from tests.nfs.site import QUICK, Site, running

# A node that is away for long costs its jobs: here nobody is away for so long.
SETTINGS = {**QUICK, "node_timeout": "40s", "fence_margin": "5s"}
VARIANTS = [
    pytest.param("4.2", "", 1000, 14, marks=pytest.mark.xdist_group("chaos-1000")),
    pytest.param("3", "", 100, 6, marks=pytest.mark.xdist_group("chaos-3")),
    pytest.param("4.2", "actimeo=0", 100, 5, marks=pytest.mark.xdist_group("chaos-actimeo")),
    pytest.param("3", "noac", 100, 4, marks=pytest.mark.xdist_group("chaos-noac")),
    pytest.param("3", "nolock", 100, 4, marks=pytest.mark.xdist_group("chaos-nolock")),
]
LONGEST = 7.0  # seconds that somebody is stopped or cut off; beyond the lock's threshold
BETWEEN = 6.0  # seconds between two harms, at most
GPUS = "H100:8"
HEADS, NODES = ("a", "b"), ("c", "d")
USERS = ("c", "d")  # whoever sits at a machine that is killed has no more to submit


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("version", "options", "jobs", "harms"), VARIANTS)
def test_every_job_runs_once_whatever_is_killed_frozen_or_cut_off(
    version: str, options: str, jobs: int, harms: int
) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    bench_of = Bench.up(clients=(*HEADS, *NODES), version=version, options=options)
    with bench_of as bench, running(bench, "chaos", **SETTINGS) as site:
        site.head("a").head("b").node("c", GPUS, 64).node("d", GPUS, 64).is_ready(*NODES)
        writers = [site.write(m, "whole", f"{m}{n}-", jobs // 4, seed + n, jobs / 15) for n, m in enumerate(2 * USERS)]
        began = time.monotonic()
        for number in range(harms):
            time.sleep(chance.random() * BETWEEN)
            HARMS[number % len(HARMS)](site, chance)
        assert [writer.wait(120) for writer in writers] == [0] * 4, [writer.err for writer in writers]
        over = site.over(jobs, 60 + 0.5 * jobs)
        print(f"{jobs} jobs in {time.monotonic() - began:.0f} s, {site.leader()[1]} epochs, {dict(over)}")
        history = site.history()
        assert faults(history) == []
        assert outcomes(history) == {"SUCCEEDED": jobs}
        assert site.leader()[1] > harms // 4
        assert "Traceback" not in site.story()


# ---- harms


def kill_leader(site: Site, chance: random.Random) -> None:
    """kill -9 of the leading head's process; another one is started a moment later."""
    machine = site.leader()[0]
    site.kill(f"head-{machine}")
    time.sleep(chance.choice([0.0, 1.0]))
    site.head(machine)


def kill_machine(site: Site, chance: random.Random) -> None:
    """The leader's machine loses its power, and boots a moment later."""
    machine = site.leader()[0]
    with site.bench.off(machine):
        del site.daemons[f"head-{machine}"]
        time.sleep(chance.random() * LONGEST)
    site.head(machine)


def kill_runner(site: Site, chance: random.Random) -> None:
    """kill -9 of a runner."""
    machine = chance.choice(NODES)
    site.kill(f"node-{machine}")
    time.sleep(chance.choice([0.0, 1.0]))
    site.node(machine, GPUS, 64)


def stop_one(site: Site, chance: random.Random) -> None:
    """SIGSTOP of the leading head or of a runner, then SIGCONT."""
    key = chance.choice([f"head-{site.leader()[0]}", f"node-{chance.choice(NODES)}"])
    site.daemons[key].signal(signal.SIGSTOP)
    time.sleep(chance.random() * LONGEST)
    site.daemons[key].signal(signal.SIGCONT)


def freeze_machine(site: Site, chance: random.Random) -> None:
    """The leader's machine, or a node's, is frozen for a while."""
    with site.bench.frozen(chance.choice([site.leader()[0], *NODES])):
        time.sleep(chance.random() * LONGEST)


def cut_machine(site: Site, chance: random.Random) -> None:
    """The leader's machine, or a node's, cannot reach the server for a while."""
    with site.bench.cut_off(chance.choice([site.leader()[0], *NODES])):
        time.sleep(chance.random() * LONGEST)


HARMS: list[Callable[[Site, random.Random], None]] = [
    kill_leader,
    cut_machine,
    kill_runner,
    freeze_machine,
    kill_machine,
    stop_one,
]
