from __future__ import annotations

import json

import pytest

from spool_layout.states import Status
from tests.client.builders import Scene
from tests.client.conftest import Run


def test_the_reference_texts_job4(story: Scene, sky: Run) -> None:
    story.head()
    assert sky("why", "4").out == (
        "job 4 waits for 4 H100 on one node: n1 has 0 free; 2 are held by job 5 (RUNNING since 10 mins ago), "
        "1 is held by job 2 (RUNNING since 9 mins ago), 1 is held by job 3 (RUNNING since 9 mins ago)\n"
    )


def test_with_two_free(story: Scene, sky: Run) -> None:
    story.head()
    story.ended(2)
    story.ended(3)
    assert sky("why").out == (
        "job 4 waits for 4 H100 on one node: n1 has 2 free; 2 are held by job 5 (RUNNING since 10 mins ago)\n"
    )


@pytest.mark.parametrize(
    ("gpus", "options", "told"),
    [
        (
            "A100:1",
            {},
            "job 1 asks for 1x[A100:1], which no known nodes could ever serve; there is: "
            "1 node with H100:4, 8 CPUs, 64 GiB",
        ),
        ("H100:1", {}, "job 1 fits: it starts at the head's next look"),
        ("", {"cpus": 9}, "job 1 asks for 1x[CPU:9+], which no known nodes could ever serve"),
        ("H100:4", {"nodes": 2}, "job 1 asks for 2x[H100:4], which"),
    ],
)
def test_not_for_other_jobs(scene: Scene, sky: Run, gpus: str, options: dict[str, int], told: str) -> None:
    scene.head()
    scene.node("n1", "H100:4")
    scene.pending("train", gpus, **options)
    assert sky("why", "1").out.startswith(told)


def test_cpus_fractions_and_down_nodes(scene: Scene, sky: Run) -> None:
    scene.head()
    scene.node("n1", "H100:1", cpus=2)
    scene.start(scene.pending("half", "H100:0.6", cpus=2), ago=60)
    scene.pending("other", "H100:0.5")
    scene.pending("cpu", cpus=1)
    assert sky("why", "2").out == (
        "job 2 waits for 0.5 H100 on one node: n1 has 0.4 free; 0.6 is held by job 1 (RUNNING since 1 min ago)\n"
    )
    assert sky("why", "cpu").out == (
        "job 3 waits for 1 CPUs on one node: n1 has 0 CPUs free; 2 CPUs are held by job 1 (RUNNING since 1 min ago)\n"
    )


def test_a_node_that_is_down(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:1", state="down")
    scene.pending("train", "H100:1")
    assert sky("why", "1").out == ("job 1 waits for 1 H100 on one node: n1 is not up (and for a head: none is alive)\n")


def test_jobs_that_wait_for_nothing(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    scene.started("run", ago=60)
    scene.ended(scene.started("over"), Status.FAILED, reason="node n2 was lost", ago=120)
    scene.stopping(scene.started("stop"))
    assert sky("why", "1").out == "job 1 waits for nothing: it is RUNNING on n1 since 1 min ago\n"
    assert sky("why", "2").out == ("job 2 waits for nothing: it ended 2 mins ago (FAILED: node n2 was lost)\n")
    assert sky("why", "3").out == ("job 3 waits for its processes on n1 to be gone, then it is CANCELLED (cancelled)\n")


def test_what_no_head_accepted_yet(scene: Scene, sky: Run) -> None:
    scene.dropped("train@00000000000000.yaml")
    assert sky("why", "train@00000000000000").out == (
        "train@00000000000000 waits in pending/: no head is alive to accept it\n"
    )


def test_as_data(story: Scene, sky: Run) -> None:
    [found] = json.loads(sky("why", "4", "-o", "json").out)
    assert (found["job_id"], found["kind"]) == (4, "full")
    assert [holder["id"] for holder in found["lacks"][0]["holders"]] == [5, 2, 3]
