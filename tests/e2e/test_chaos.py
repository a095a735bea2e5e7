"""200 jobs from eight writers, while head and runners are killed: each runs once, no GPU above one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spool_layout.records import Accepted, Ended, Started
from tests.e2e.cluster import Cluster

WRITER = """
import os, random, sys, time
spool, proof, writer, count, seed = sys.argv[1:]
chance = random.Random(int(seed))
for n in range(int(count)):
    name = f"w{writer}-{n}"
    gpus = chance.choice(["H100:1", "H100:0.5", "H100:0.25", "H100:2", "H100:4"])
    made = f"{spool}/tmp/{name}"
    with open(made, "w") as file:
        file.write(f"name: {name}\\nresources: {{accelerators: '{gpus}', cpus: 0.1}}\\n"
                   f"run: |\\n  echo {name} $SKYSPOOL_ATTEMPT >> {proof}\\n"
                   f"  sleep {chance.choice([0, 0.05, 0.2, 0.5])}\\n")
    os.rename(made, f"{spool}/pending/{name}.yaml")
    time.sleep(chance.random() * 0.3)
"""


@pytest.mark.timeout(240)
def test_two_hundred_jobs_while_everything_is_killed(cluster: Cluster) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    proof = cluster.folder / "proof"
    cluster.head().node("n1", "H100:4").node("n2", "H100:4").ready()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, cluster.spool.root, str(proof), str(w), "25", str(seed + w)])
        for w in range(8)
    ]
    for victim in chance.sample(["head"] * 10 + ["n1"] * 5 + ["n2"] * 5, 20):
        time.sleep(chance.random() * 0.8)
        cluster.kill(victim)
        if victim == "head":
            cluster.head()
        else:
            cluster.node(victim, "H100:4")
    assert [writer.wait(60) for writer in writers] == [0] * 8
    cluster.eventually(lambda: cluster.state().finished == 200 and not cluster.state().jobs, 120)
    statuses = cluster.statuses()
    assert set(statuses.values()) == {"SUCCEEDED"}, cluster.story()
    ran = sorted(line.split()[0] for line in proof.read_text().splitlines())
    assert ran == sorted(f"w{w}-{n}" for w in range(8) for n in range(25))
    cluster.sound()
    events = cluster.events()
    assert sorted(e.id for e in events if isinstance(e, Accepted)) == list(range(1, 201))
    assert sorted(e.id for e in events if isinstance(e, Ended)) == list(range(1, 201))
    assert {e.attempt for e in events if isinstance(e, Started)} <= {1, 2, 3}
    left = [
        p
        for folder in ("pending", "running", "claims", "requests")
        for p in Path(cluster.spool.root, folder).rglob("*")
        if p.is_file()
    ]
    assert left == []
