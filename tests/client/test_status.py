from __future__ import annotations

import json
import re
from pathlib import Path

from spool_layout.records import Enforced
from tests.client.builders import Scene
from tests.client.conftest import Run, fits
from tests.client.pseudo import on_terminal


def test_everything_at_a_glance(story: Scene, sky: Run) -> None:
    story.head()
    story.head(role="standby", host="h2", pid=9)
    lines = sky("status").out.splitlines()
    assert lines[:5] == [
        f"Cluster mycluster: {story.spool.root}",
        "Users: single",
        "Head: alive, leads (epoch 1), on h1 (pid 7), for 1 hr",
        "Head: alive, stands by, on h2 (pid 9), for 1 hr",
        "Jobs: 1 PENDING, 3 RUNNING; 1 ended",
    ]
    assert re.fullmatch(r"Room: the spool takes [\d.]+ KiB \(logs: 0 B\) in \d+ files", lines[5])
    assert re.fullmatch(r"Free: [\d.]+ [GT]iB of [\d.]+ [GT]iB", lines[6])
    assert lines[8:] == [
        " NODE  STATE  SINCE     FREE GPUS  FREE CPUS  FREE MEMORY  ADDRESS",
        " n1    up     1 hr ago  0/4 H100   6.5/8      64/64 GiB    10.0.0.1",
        "",
        " NODE  GPU  NAME  FREE  HELD BY               UUID",
        " n1    0    H100  0     job 2 job2 (user): 1  GPU-n1-0",
        " n1    1    H100  0     job 3 job3 (user): 1  GPU-n1-1",
        " n1    2    H100  0     job 5 job5 (user): 1  GPU-n1-2",
        " n1    3    H100  0     job 5 job5 (user): 1  GPU-n1-3",
    ]


def test_it_fits_a_terminal_of_eighty_columns_with_all_that_people_ask_for(scene: Scene) -> None:
    scene.node("gpu-worker-17", "H100:1", cpus=192, memory_gb=2015)
    for name in ("a-rather-long-name-of-an-experiment", "another-rather-long-name"):
        scene.started(name, "H100:0.5")
    shown = on_terminal("status").lines
    assert max(map(len, shown[6:])) <= 80
    assert " ".join(shown[-5].split()) == "NODE STATE SINCE FREE GPUS FREE CPUS FREE MEMORY ADDRESS"
    assert shown[-1].split() == ["gpu-worker-17", "0", "H100", "0", "job", "1:", "0.5,", "job", "2:", "0.5"]
    assert "a-rather-long-name-of-an-experiment (user): 0.5" in "\n".join(on_terminal("status", columns=200).lines)


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


def test_files_that_no_head_has_accepted_are_counted(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    Path(scene.spool.pending, "new.yaml").write_text("run: 'true'\n")
    assert "Jobs: none live; 0 ended; 1 file in pending/ that no head has accepted yet\n" in sky("status").out
    assert json.loads(sky("status", "-o", "json").out)["mycluster"]["jobs"] == {"live": 0, "ended": 0, "unaccepted": 1}


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
    assert lines[8].startswith(" n1    lost contact ")
    assert lines[9].startswith(" n2    stopped ")


def test_a_gpu_that_its_node_no_longer_reports(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:2")
    scene.started("train", "H100:2")
    scene.node("n1", "H100:1")
    assert "job 1 train (user): 1, not reported by its node" in sky("status").out.splitlines()[-1]


def test_slots_of_a_job_that_was_given_up(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:1")
    scene.lost(scene.started("train", "H100:1"))
    assert "job 1 (given up; not yet reported gone): 1" in sky("status").out.splitlines()[-1]
    [node] = json.loads(sky("status", "-o", "json").out)["mycluster"]["nodes"]
    assert node["gpus"][0]["holders"] == [{"job_id": 1, "share": 1.0, "live": False}]


def test_what_a_node_says_of_itself(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:1")
    scene.says("n1", notes=["GPU 3 is not offered: it is lost"])
    assert " n1: GPU 3 is not offered: it is lost\n" in sky("status").out
    [node] = json.loads(sky("status", "-o", "json").out)["mycluster"]["nodes"]
    assert node["notes"] == ["GPU 3 is not offered: it is lost"]


def test_what_nodes_enforce_is_told_once_for_all_that_say_the_same(scene: Scene, sky: Run) -> None:
    for name in ("n1", "n2", "n3", "n4"):
        scene.node(name)
    for name in ("n1", "n2"):
        scene.says(name, enforced=Enforced("cgroup v2", "cgroup v1"))
    scene.says("n3", enforced=Enforced("/proc", "", "no memory controller for this node"))
    scene.says("n4")  # of an older version
    assert [line for line in sky("status").out.splitlines() if line.startswith(("Enforced", " " * 10))] == [
        "Enforced: processes by cgroup v2, memory by cgroup v1 (n1, n2)",
        "Enforced: processes by /proc, memory by nothing (n3)",
        "          no memory controller for this node",
    ]
    nodes = json.loads(sky("status", "-o", "json").out)["mycluster"]["nodes"]
    assert [node["enforced"] for node in nodes[1:]] == [
        {"processes": "cgroup v2", "memory": "cgroup v1", "why": None},
        {"processes": "/proc", "memory": None, "why": "no memory controller for this node"},
        None,
    ]


def test_many_nodes_that_enforce_the_same_are_counted(scene: Scene, sky: Run) -> None:
    for number in range(20):
        scene.node(f"n{number}")
        scene.says(f"n{number}", enforced=Enforced("cgroup v2", "cgroup v2"))
    assert "Enforced: processes by cgroup v2, memory by cgroup v2 (20 nodes)\n" in sky("status").out


def test_it_fits_the_schema(story: Scene, sky: Run) -> None:
    story.head()
    story.says("n1", enforced=Enforced("/proc", "", "no memory controller for this node"))
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
        ["n1", "0", "H100", "0.5", "job", "1", "half", "(user):", "0.5", "GPU-n1-0"]
    )
