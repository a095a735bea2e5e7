from __future__ import annotations

import json
import re

from tests.client.builders import Scene
from tests.client.conftest import Run, fits


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
    assert re.fullmatch(r"Room: the spool takes [\d.]+ KiB \(logs: 0 B\) in \d+ files", lines[4])
    assert re.fullmatch(r"Free: [\d.]+ [GT]iB of [\d.]+ [GT]iB", lines[5])
    assert lines[7:] == [
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
    scene.node("n1")
    ran = sky("status")
    assert ran.code == 0
    assert re.search(
        r"^Head: none is alive; the last sign of one was a few secs ago \(\d\d:\d\d:\d\d\)\n"
        r"      it led on h1 \(pid 7\); what follows is as it was then$",
        ran.out,
        re.MULTILINE,
    )


def test_without_a_node(scene: Scene, sky: Run) -> None:
    ran = sky("status")
    assert ran.out.endswith("Nodes: none is known yet\n")
    assert ran.err == f"hint: spoold node {scene.spool.root}      # on each host that is to run jobs\n"


def test_nodes_that_are_away(scene: Scene, sky: Run) -> None:
    scene.head()
    scene.node("n1", "H100:1")
    scene.started("train", "H100:1")
    scene.node("n1", "H100:1", state="lost contact")
    scene.node("n2", state="down", left=True)
    lines = sky("status").out.splitlines()
    assert lines[7].startswith(" n1    lost contact ")
    assert lines[8].startswith(" n2    stopped ")


def test_a_gpu_that_its_node_no_longer_reports(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:2")
    scene.started("train", "H100:2")
    scene.node("n1", "H100:1")
    assert "1 job 1 train (user), not reported by its node" in sky("status").out.splitlines()[-1]


def test_slots_of_a_job_that_was_given_up(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:1")
    scene.lost(scene.started("train", "H100:1"))
    assert "1 job 1 (given up; not yet reported gone)" in sky("status").out.splitlines()[-1]
    [node] = json.loads(sky("status", "-o", "json").out)["mycluster"]["nodes"]
    assert node["gpus"][0]["holders"] == [{"job_id": 1, "share": 1.0, "live": False}]


def test_what_a_node_says_of_itself(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:1")
    scene.says("n1", notes=["GPU 3 is not offered: it is lost"])
    assert " n1: GPU 3 is not offered: it is lost\n" in sky("status").out
    [node] = json.loads(sky("status", "-o", "json").out)["mycluster"]["nodes"]
    assert node["notes"] == ["GPU 3 is not offered: it is lost"]


def test_it_fits_the_schema(story: Scene, sky: Run) -> None:
    story.head()
    fits(json.loads(sky("status", "-o", "json").out), "status")


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
