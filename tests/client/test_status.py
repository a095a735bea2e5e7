from __future__ import annotations

import json

from tests.client.builders import Scene
from tests.client.conftest import Run


def test_everything_at_a_glance(story: Scene, sky: Run) -> None:
    story.head()
    story.head(role="standby", host="h2", pid=9)
    lines = sky("status").out.splitlines()
    assert lines[:4] == [
        f"Cluster mycluster: {story.spool.root}",
        "Head: alive, leads, on h1 (pid 7), started 1 hr ago",
        "Head: alive, stands by, on h2 (pid 9), started 1 hr ago",
        "Jobs: 1 PENDING, 3 RUNNING; 1 ended",
    ]
    assert lines[4].startswith("Room: the spool takes ")
    assert lines[6:] == [
        " NODE  STATE  SINCE     GPUS              CPUS           MEMORY             ADDRESS",
        " n1    up     1 hr ago  0 of 4 H100 free  6.5 of 8 free  64 of 64 GiB free  10.0.0.1",
        "",
        " NODE  GPU  NAME  FREE  HELD BY              UUID",
        " n1    0    H100  0     1 job 2 job2 (user)  GPU-n1-0",
        " n1    1    H100  0     1 job 3 job3 (user)  GPU-n1-1",
        " n1    2    H100  0     1 job 5 job5 (user)  GPU-n1-2",
        " n1    3    H100  0     1 job 5 job5 (user)  GPU-n1-3",
    ]


def test_without_a_head(scene: Scene, sky: Run) -> None:
    assert "Head: none is alive; the last sign of one was" in sky("status").out


def test_as_data(story: Scene, sky: Run) -> None:
    found = json.loads(sky("status", "-o", "json").out)["mycluster"]
    assert found["head_alive"] is False
    assert found["nodes"][0]["gpus"][0]["holders"] == [{"job_id": 2, "share": 1.0, "live": True}]
    assert found["room"]["whole"] is True


def test_a_share(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:1")
    scene.started("half", "H100:0.5")
    assert sky("status").out.splitlines()[-1].split() == (
        ["n1", "0", "H100", "0.5", "0.5", "job", "1", "half", "(user)", "GPU-n1-0"]
    )
