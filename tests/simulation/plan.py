"""What a run is made of, from its seed: the cluster, what users do, what goes wrong. Plain data, so that it can shrink.

A day, in the mean: 16 things that users do (most of them submit a job), 24 faults.
"""

from __future__ import annotations

import random
from typing import NamedTuple

DAY = 86400.0
DEEDS, FAULTS = 16, 24  # a day
SETTINGS = {
    "settle": "20s",
    "poll": "2m",
    "idle_poll": "20m",
    "sweep": "30m",
    "heartbeat": "20m",
    "node_timeout": "80m",
    "fence_margin": "6m",
    "lock_heartbeat": "20m",
    "lock_threshold": "50m",
    "grace": "5s",
    "unsatisfiable_after": "2h",
    "recent": "50",
}
FAULT_KINDS = {
    "kill head": 3,
    "kill runner": 2,
    "kill starter": 1,
    "kill supervisor": 1,
    "power": 3,
    "stop head": 3,
    "stop runner": 2,
    "sleep": 1,
    "cut": 3,
    "slow": 2,
    "lossy": 2,
    "server": 1,
    "clock": 1,
    "wrong lock": 3,
    "leave node": 1,
    "leave head": 1,
    "soft": 1,
}
DEED_KINDS = {
    "client": 9,
    "name": 4,
    "write": 3,
    "junk": 1,
    "cancel": 3,
    "cancel all": 0.3,
    "edit": 2,
    "delete": 1,
    "copy": 1,
    "unlabel": 0.5,
}


class Fault(NamedTuple):
    """Something goes wrong. where: a host; lasts: seconds; chance: in [0, 1), whatever the kind makes of it."""

    at: float
    kind: str
    where: str
    lasts: float
    chance: float
    fuse: int  # calls of the process after which it happens; 0: at once

    def __str__(self) -> str:
        return f"{self.at:8.0f} s  {self.kind} on {self.where}, {self.lasts:.0f} s, fuse {self.fuse}, {self.chance:.2f}"


class Deed(NamedTuple):
    """Something that a user does, on a host. text: of a task."""

    at: float
    kind: str
    where: str
    chance: float
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:8.0f} s  {self.kind} on {self.where}: {self.name} {self.text!r}"


class Plan(NamedTuple):
    """One run. nodes: host -> GPUs; heads: hosts, of which the ones in `cron` are driven by cron."""

    seed: int
    days: float
    nodes: dict[str, int]
    heads: tuple[str, ...]
    cron: tuple[str, ...]
    version: int
    cached: float
    step: int
    deeds: tuple[Deed, ...]
    faults: tuple[Fault, ...]

    @property
    def hosts(self) -> list[str]:
        """All of them."""
        return sorted({*self.nodes, *self.heads})


def make(seed: int, days: float = 4.0, only: tuple[str, ...] = ()) -> Plan:
    """The plan of a seed. only: the kinds of faults that happen; all, by default."""
    rng = random.Random(f"plan {seed}")
    names = [chr(ord("a") + i) for i in range(rng.choice((3, 4, 4, 5)))]
    nodes = {
        name: rng.choice((1, 2, 2, 4)) for name in sorted(rng.sample(names, min(len(names), rng.choice((2, 3, 4)))))
    }
    heads = tuple(sorted(rng.sample(names, rng.choice((2, 2, 3)))))
    hosts = sorted({*nodes, *heads})
    return Plan(
        seed=seed,
        days=days,
        nodes=nodes,
        heads=heads,
        cron=heads[:1] if rng.random() < 0.15 else (),
        version=rng.choice((3, 4)),
        cached=rng.choice((3.0, 60.0, 600.0)),
        step=rng.choice((1_000_000, 10_000_000)),
        deeds=tuple(_deed(rng, hosts, nodes, days, number) for number in range(_count(rng, DEEDS * days))),
        faults=tuple(_fault(rng, hosts, days, only) for _ in range(_count(rng, FAULTS * days))),
    )


def _count(rng: random.Random, mean: float) -> int:
    return int(mean * rng.choice((0.3, 0.7, 1.0, 1.3, 1.7)))


def _length(rng: random.Random, most: float) -> float:
    """Seconds, of any order up to 2 ** most, and often that long: beyond the time after which a node is lost."""
    return rng.uniform(0.3, 1.0) * 2**most if rng.random() < 0.35 else 2 ** rng.uniform(0, most)


def _pick(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _fault(rng: random.Random, hosts: list[str], days: float, only: tuple[str, ...]) -> Fault:
    kind = _pick(rng, {kind: weight for kind, weight in FAULT_KINDS.items() if not only or kind in only})
    lasts = _length(rng, 13.5)  # a second to three hours
    fuse = rng.choice((0, rng.randrange(1, 40), rng.randrange(1, 200)))
    return Fault(rng.uniform(0, days * DAY), kind, rng.choice(hosts), lasts, rng.random(), fuse)


def _deed(rng: random.Random, hosts: list[str], nodes: dict[str, int], days: float, number: int) -> Deed:
    at = rng.uniform(0, days * DAY)
    kind = _pick(rng, DEED_KINDS)
    return Deed(at, kind, rng.choice(hosts), rng.random(), f"j{number}", _task(rng, nodes, number))


def _task(rng: random.Random, nodes: dict[str, int], number: int) -> str:
    """A task that this cluster can serve, mostly."""
    gang = rng.random() < 0.2 and len(nodes) > 1
    most = min(nodes.values()) if gang else max(nodes.values())
    gpus: float = rng.choice((0, 0.5, 0.5, 1, 1, rng.randrange(1, most + 1), 9 if rng.random() < 0.05 else 1))
    milli = int(min(gpus, 1) * 1000)
    again = rng.random() < 0.5
    seconds = _length(rng, 14)  # up to four hours and a half
    code = rng.choice((0, 0, 0, 0, 1, 3))
    temper = rng.choice(("calm", "calm", "calm", "stubborn"))
    left = rng.choice((0, 0, 0, 2 ** rng.uniform(0, 10)))
    asks = ([f"accelerators: H100:{gpus:g}"] if gpus else []) + (["job_recovery: FAILOVER"] if again else [])
    lines = [f"name: j{number}"]
    lines += [f"resources: {{{', '.join(asks)}}}"] if asks else []
    lines += [f"num_nodes: {rng.randrange(2, len(nodes) + 1)}"] if gang else []
    if rng.random() < 0.3:
        lines.append(f"setup: prepare {2 ** rng.uniform(0, 9):.1f} {rng.choice((0, 0, 0, 0, 1))} calm 0 {milli}")
    lines.append(f"run: work {seconds:.1f} {code} {temper} {left:.1f} {milli}")
    return "\n".join(lines) + "\n"
