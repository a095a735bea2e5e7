"""Many jobs while heads, runners and whole machines are killed, frozen and cut off at random; the history is judged.

1,000 jobs on 4.2 with default options, 100 on each other variant. Each meets every kind of harm, to whoever leads and,
side by side with that, to nodes and the server (see `every`). What makes the test hard is asserted: all of it was done,
and the lead changed hands. Jobs come, start and end all the while.

What is done to whom, in which order, after how long and for how long follows from a seed alone, which is told where the
test fails; CHAOS_SEED=N has it done again.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.history.account import what_counts
from tests.history.checker import History, faults, outcomes
from tests.history.proof import parse
from tests.nfs.bench import SERVER, Bench
from tests.nfs.site import QUICK, Site, running
from tests.nfs.writers import NEVER

# A node that is away for long costs its jobs: here nobody is away for so long, but for one whose machine is killed.
SETTINGS = {**QUICK, "node_timeout": "40s", "fence_margin": "5s"}
# Version and options of the mount, jobs, rounds of harms, and seconds from one to the next at most.
VARIANTS = [
    pytest.param("4.2", "", 1000, 2, 6.0, marks=pytest.mark.xdist_group("chaos-1000")),
    pytest.param("3", "", 100, 1, 1.0, marks=pytest.mark.xdist_group("chaos-3")),
    pytest.param("4.2", "actimeo=0", 100, 1, 1.0, marks=pytest.mark.xdist_group("chaos-actimeo")),
    pytest.param("3", "noac", 100, 1, 1.0, marks=pytest.mark.xdist_group("chaos-3")),
    pytest.param("3", "nolock", 100, 1, 1.0, marks=pytest.mark.xdist_group("chaos-3")),
]
# Seconds that one is stopped, cut off or without power, at most; a head: beyond the lock's threshold.
LONGEST = {"head": 6.0, "node": 3.0, "server": 1.0}
BOOT = 90.0  # seconds that a machine may take to boot
GPUS = "H100:8"
HEADS, NODES = ("a", "b"), ("c", "d")
LEADER = ""  # whoever leads when it is done
LOST = "the node's local state was lost"  # why a job fails whose node's machine was killed: /tmp is gone with it
# A node asks them for what its lost jobs may have left; of these, which have no daemon here, each answer takes seconds.
WITHOUT_ENGINES = 'for engine in docker podman; do mount --bind /dev/null "$(command -v $engine)"; done; :'


class Harm(NamedTuple):
    """after: seconds since the one before it to the same role. role: head, node or server. lasts: seconds."""

    after: float
    what: str
    role: str
    whom: str
    lasts: float


class Plan(NamedTuple):
    """The harms to heads, and at the same time those to nodes and the server. spared: the node that is never killed
    with its machine; users sit there, since whoever sits at a machine that is killed has no more to submit."""

    sides: tuple[list[Harm], list[Harm]]
    spared: str


def plan(seed: int, rounds: int, between: float) -> Plan:
    """Every kind of harm in each round, in an order, at moments and for times that follow from the seed."""
    chance = random.Random(seed)
    spared, doomed = chance.sample(NODES, 2)

    def side(*roles: str) -> list[Harm]:
        kinds = [kind for kind in every(rounds) if kind[1] in roles]
        order = [kind for _ in range(rounds) for kind in chance.sample(kinds, len(kinds))]
        return [
            harm(*given) for given in zip(order, spread(chance, len(order)), spread(chance, len(order)), strict=True)
        ]

    def harm(kind: tuple[str, str], after: float, lasts: float) -> Harm:
        what, role = kind
        whom = {"head": LEADER, "server": SERVER, "node": doomed if what == "power off" else chance.choice(NODES)}
        return Harm(after * between, what, role, whom[role], lasts * LONGEST[role])

    return Plan((side("head"), side("node", "server")), spared)


def spread(chance: random.Random, count: int) -> list[float]:
    """So many numbers from 0 to 1, one in each such part of it: at random, but of much the same sum for every seed."""
    return chance.sample([(number + chance.random()) / count for number in range(count)], count)


def length(harms: list[Harm]) -> float:
    """Seconds that they take one after another, about."""
    return sum(harm.after + harm.lasts for harm in harms)


class Met(NamedTuple):
    """A harm that was done; from when until when."""

    harm: Harm
    began: float
    ended: float


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The variants of version 3 come one after another on one bench: booting it takes as long as one of them."""
    with Bench.up(clients=(*HEADS, *NODES), version=request.param) as bench:
        yield bench


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("bench", "options", "jobs", "rounds", "between"), VARIANTS, indirect=["bench"], scope="module"
)
def test_every_job_runs_once_whatever_is_killed_frozen_or_cut_off(
    bench: Bench, options: str, jobs: int, rounds: int, between: float
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 30))
    print("seed", seed)
    sides, spared = plan(seed, rounds, between)
    if options != bench.options:
        bench.mount_again(options)
    with running(bench, f"chaos-{options.partition('=')[0] or 'plain'}", **SETTINGS) as site:
        site.head("a").head("b").node("c", GPUS, 64).node("d", GPUS, 64).is_ready(*NODES)
        pace = max(jobs / 15, length(sides[0]))
        writers = [site.write(spared, "whole", f"{n}-", jobs // 2, seed + n, pace) for n in range(2)]
        began = time.monotonic()
        met: list[Met] = []
        side_by_side([one_after_another(site, side, met) for side in sides])
        harmed = time.monotonic() - began
        assert [writer.wait(120) for writer in writers] == [0] * 2, [writer.err for writer in writers]
        over = site.over(jobs, 60 + 0.5 * jobs)
        took = time.monotonic() - began
        print(f"{jobs} jobs in {took:.0f} s, harm for {harmed:.0f} s, {site.leader()[1]} epochs, {dict(over)}")
        site.eventually(lambda: site.leader()[1] > len(sides[0]) // 3)  # also where all jobs were over before
        history = site.history()
        assert faults(history) == []
        assert sum(outcomes(history).values()) == jobs
        assert not (found := unexcused(history, met)), "\n".join(found)
        assert {(done.harm.what, done.harm.role) for done in met} == set(every(rounds))
        assert "Traceback" not in site.story()


def test_the_harms_follow_from_the_seed_alone_and_none_is_left_out() -> None:
    plans = [plan(seed, rounds, 1.0) for seed in range(50) for rounds in (1, 2)]
    assert plans == [plan(seed, rounds, 1.0) for seed in range(50) for rounds in (1, 2)]
    assert len({repr(p) for p in plans}) == len(plans)
    assert all({(h.what, h.role) for side in p.sides for h in side} >= set(every(1)) for p in plans)
    assert {(h.what, h.role) for side in plans[1].sides for h in side} == set(every(2)) == {*every(1), LEADERS_MACHINE}
    assert all(h.whom != p.spared for p in plans for h in p.sides[1] if h.what == "power off")


# ---- the judge


def unexcused(history: History, met: list[Met]) -> list[str]:
    """What ended in another way than well, but for jobs of a node whose machine was killed. Of these none has begun
    since its runner is back."""
    outages = [m for m in met if (m.harm.what, m.harm.role) == ("power off", "node")]
    runs = [parse(name, text) for name, text in history.proofs.items()]
    told = what_counts(history.events)[0]
    starts = {r["id"]: r for r in told if r["event"] == "started"}
    ends = {r["id"]: r for r in told if r["event"] in ("ended", "lost")}
    return [
        f"{end}, which was started by {starts.get(job)}"
        for job, end in ends.items()
        if end.get("status") != "SUCCEEDED"
        and not any(
            end["reason"] == LOST
            and starts[job]["allocations"][0]["node"] == m.harm.whom
            and m.began < end["at"]
            and all(run.began < m.ended for run in runs if run.job == job)
            for m in outages
        )
    ]


# ---- doing it


def side_by_side(sides: list[Iterator[float]]) -> None:
    """Go through several stories at once. Each tells in how many seconds it goes on."""
    due = dict.fromkeys(sides, time.monotonic())
    while due:
        for side in [side for side, moment in due.items() if moment <= time.monotonic()]:
            pause = next(side, None)
            if pause is None:
                del due[side]
            else:
                due[side] = time.monotonic() + pause
        time.sleep(0.02)


def one_after_another(site: Site, harms: list[Harm], met: list[Met]) -> Iterator[float]:
    """The harms to one role. What was done is noted in `met`."""
    for harm in harms:
        yield harm.after
        while site.bench.machines[SERVER].pid is None or not site.bench.is_ready(SERVER):
            yield 0.1  # nobody else can tell who leads
        machine = harm.whom or site.leader()[0]
        began = time.time()
        yield from HARMS[harm.what](site, harm.role, machine, harm.lasts)
        met.append(Met(harm, began, time.time()))


def start(site: Site, role: str, machine: str) -> None:
    """Start a head or a node on a machine."""
    if role == "head":
        site.head(machine)
    else:
        site.node(machine, GPUS, 64)


def kill(site: Site, role: str, machine: str, lasts: float) -> Iterator[float]:
    """kill -9 of the process; another one is started at once, or a moment later."""
    site.kill(f"{role}-{machine}")
    yield max(0.0, lasts / LONGEST[role] * 2 - 1)
    start(site, role, machine)


def stop(site: Site, role: str, machine: str, lasts: float) -> Iterator[float]:
    """SIGSTOP of the process, then SIGCONT."""
    site.stop(f"{role}-{machine}")
    yield lasts
    site.go_on(f"{role}-{machine}")


def freeze(site: Site, role: str, machine: str, lasts: float) -> Iterator[float]:
    """The machine stands still for a while."""
    with site.bench.frozen(machine):
        yield lasts


def cut_off(site: Site, role: str, machine: str, lasts: float) -> Iterator[float]:
    """The machine cannot reach the server for a while."""
    with site.bench.cut_off(machine):
        yield lasts


def power_off(site: Site, role: str, machine: str, lasts: float) -> Iterator[float]:
    """The machine loses its power, and boots a moment later; then what ran there is started again."""
    site.bench.kill(machine)
    site.daemons.pop(f"{role}-{machine}", None)
    yield lasts
    site.bench.power_on(machine)
    end = time.monotonic() + BOOT
    while not site.bench.is_ready(machine):
        assert time.monotonic() < end, site.bench.log(machine)
        yield 0.1
    if role == "server":
        return
    site.shell(machine, f"mkfifo {NEVER}; {WITHOUT_ENGINES}")
    start(site, role, machine)


HARMS: dict[str, Callable[[Site, str, str, float], Iterator[float]]] = {
    "kill": kill,
    "stop": stop,
    "freeze": freeze,
    "cut off": cut_off,
    "power off": power_off,
}
LEADERS_MACHINE = ("power off", "head")


def every(rounds: int) -> list[tuple[str, str]]:
    """All kinds of harm of a plan: what, and to which role. Where there is one round, no leader's machine boots: two
    that boot are what there is time for, and in test_heads.py it does on each version."""
    kinds = [*((what, role) for role in ("head", "node") for what in HARMS), ("power off", "server")]
    return kinds if rounds > 1 else [kind for kind in kinds if kind != LEADERS_MACHINE]
