"""200 jobs from eight writers, while head and runners are killed: each runs once, no GPU above one.

What makes the test hard is asserted: jobs wait, start and end all the while; most kills of a head hit one that leads
(one that stands by proves nothing, and after each kill the next one stands by for lock_threshold); and some hit it
while files stand in its claim directory: two of three kills wait for such a moment, or for a runner's new orders.

That no GPU is above one is read three times: by the ledger's own rules, by an account of the events that is the test's
own, and from what the jobs themselves wrote when they began and ended.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from spool_layout.events import Accepted, Ended, Returned, Sealed, Started
from tests.e2e.cluster import Cluster, running

WRITER = """
import os, random, sys, time
spool, proof, writer, count, seed = sys.argv[1:]
chance = random.Random(int(seed))
for n in range(int(count)):
    name = f"w{writer}-{n}"
    share = chance.choice(["1", "0.5", "0.25", "2", "4"])
    made = f"{spool}/tmp/{name}"
    with open(made, "w") as file:
        file.write(f"name: {name}\\nresources: {{accelerators: 'H100:{share}', cpus: 0.1}}\\n"
                   f"run: |\\n  echo + {name} {share} $SKYSPOOL_GPU_UUIDS >> {proof}\\n"
                   f"  sleep {chance.choice([0, 0.05, 0.2, 0.5])}\\n"
                   f"  echo - {name} {share} $SKYSPOOL_GPU_UUIDS >> {proof}\\n")
    os.rename(made, f"{spool}/pending/{name}.yaml")
    time.sleep(chance.random() * 1.2)
"""
WRITERS, EACH = 8, 25
NAMES = [f"w{writer}-{number}" for writer in range(WRITERS) for number in range(EACH)]
HEAD_KILLS, RUNNER_KILLS = 10, 5
STANDBY = 0.9  # seconds until a new head leads: its start, and the lock_threshold below


@pytest.mark.timeout(240)
def test_two_hundred_jobs_while_everything_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    with running(tmp_path, lock_heartbeat="0.2s", lock_threshold="0.6s") as cluster:
        cluster.head().node("n1", "H100:4").node("n2", "H100:4").ready()
        proof = tmp_path / "proof"
        words = [sys.executable, "-c", WRITER, cluster.spool.root, str(proof)]
        writers = [subprocess.Popen([*words, str(w), str(EACH), str(seed + w)]) for w in range(WRITERS)]
        try:
            interrupt(cluster, random.Random(seed))
            assert [writer.wait(60) for writer in writers] == [0] * WRITERS
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
        cluster.eventually(lambda: cluster.state().finished == len(NAMES) and not cluster.state().jobs, 120)
        assert set(cluster.statuses().values()) == {"SUCCEEDED"}, cluster.story()
        each_ran_once(proof.read_text().splitlines())
        account(cluster.events())
        cluster.sound()
        nothing_lies_about(cluster)


def interrupt(cluster: Cluster, chance: random.Random) -> None:
    """Kill the head and each runner at random moments, and start them again at once or a moment later."""
    led = halfway = 0
    began = time.monotonic()
    for moment, what, key in timeline(chance):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        if what == "kill":
            if chance.random() < 2 / 3:
                catch_in_the_act(cluster, key)
            cluster.kill(key)
            led += key == "head" and leads(cluster)
            halfway += key == "head" and leads(cluster) and holds_claims(cluster)
        elif key == "head":
            for path in Path(cluster.spool.heads).glob("*.json"):
                path.unlink()  # of the one that was killed: so that the next look tells of the next one
            cluster.head()
        else:
            cluster.node(key, "H100:4")
    print(f"kills of a head that led: {led}, with claimed files: {halfway}")
    assert led >= HEAD_KILLS // 2
    assert halfway >= 2


def catch_in_the_act(cluster: Cluster, key: str) -> None:
    """Wait, not for long, until a head that leads has claimed something, or a runner has got new orders."""
    assigned = Path(cluster.spool.assigned(key))
    before = assigned.stat().st_ino if assigned.exists() else 0
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if key == "head" and leads(cluster) and holds_claims(cluster):
            return
        if key != "head" and assigned.exists() and assigned.stat().st_ino != before:
            return


def leads(cluster: Cluster) -> bool:
    """Whether the head that was started last says, or said when it was killed, that it leads."""
    return any('"role":"leading"' in path.read_text() for path in Path(cluster.spool.heads).glob("*.json"))


def holds_claims(cluster: Cluster) -> bool:
    """Whether files stand in a claim directory; a head that leads has emptied all but its own."""
    for folder in os.listdir(cluster.spool.claims):
        with contextlib.suppress(FileNotFoundError):  # it was just emptied and removed
            if os.listdir(Path(cluster.spool.claims, folder)):
                return True
    return False


def timeline(chance: random.Random) -> list[tuple[float, str, str]]:
    """(seconds, kill or start, whom), in order."""
    steps: list[tuple[float, str, str]] = []
    for key, kills, least, spread in (
        ("head", HEAD_KILLS, STANDBY, 1.0),
        ("n1", RUNNER_KILLS, 0.2, 4.5),
        ("n2", RUNNER_KILLS, 0.2, 4.5),
    ):
        moment = 0.0
        for _ in range(kills):
            moment += least + chance.random() * spread
            steps.append((moment, "kill", key))
            moment += chance.choice([0.0, 0.0, 0.5]) * chance.random()
            steps.append((moment, "start", key))
    return sorted(steps)


def each_ran_once(lines: list[str]) -> None:
    """Of what jobs wrote when they began and before they ended: each once, and no GPU above one in between."""
    held: Counter[str] = Counter()
    for line in lines:
        sign, _, share, uuids = line.split()
        for uuid in uuids.split(","):
            held[uuid] += int(min(float(share), 1) * 1000) * (1 if sign == "+" else -1)
            assert held[uuid] <= 1000, line
    for sign in "+-":
        assert sorted(line.split()[1] for line in lines if line[0] == sign) == sorted(NAMES)


def account(events: list[object]) -> None:
    """What the events say: every job accepted and ended once, every start ended or taken back, no GPU above one."""
    held: Counter[str] = Counter()
    granted: dict[int, list[tuple[str, int]]] = {}
    for event in events:
        if isinstance(event, Started):
            granted[event.id] = [share for a in event.allocations for share in a.gpus.items()]
            held.update(dict(granted[event.id]))
            assert max(held.values()) <= 1000, event
        elif isinstance(event, (Ended, Returned)):
            held.subtract(dict(granted.pop(event.id)))
    assert granted == {}
    for kind in (Accepted, Ended):
        assert sorted(e.id for e in events if isinstance(e, kind)) == list(range(1, len(NAMES) + 1))
    assert sum(isinstance(e, Sealed) for e in events) > HEAD_KILLS // 2


def nothing_lies_about(cluster: Cluster) -> None:
    def files() -> Iterator[Path]:
        for folder in ("pending", "running", "claims", "requests"):
            yield from (path for path in Path(cluster.spool.root, folder).rglob("*") if path.is_file())

    cluster.eventually(lambda: not list(files()))  # a file follows the event that moves it
