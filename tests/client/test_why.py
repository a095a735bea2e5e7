from __future__ import annotations

import json

import pytest

from spool_layout.states import Status
from tests.client.builders import Scene
from tests.client.conftest import Run, fits


def test_the_reference_texts_job4(story: Scene, sky: Run) -> None:
    story.head()
    assert sky("why", "4").out == (
        "job 4 waits for 4 H100 on one node: n1 has 0 free; job 5 holds 2 (RUNNING for 10 mins), "
        "job 2 holds 1 (RUNNING for 9 mins), job 3 holds 1 (RUNNING for 9 mins)\n"
    )


def test_with_two_free(story: Scene, sky: Run) -> None:
    story.head()
    story.ended(2)
    story.ended(3)
    assert sky("why").out == (
        "job 4 waits for 4 H100 on one node: n1 has 2 free; job 5 holds 2 (RUNNING for 10 mins)\n"
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
        ("", {"cpus": 9}, "job 1 asks for 1x[CPU:9], which no known nodes could ever serve"),
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
    scene.start(scene.pending("half", "H100:0.6", cpus=1.5), ago=60)
    scene.pending("other", "H100:0.5")
    scene.pending("cpu", cpus=1)
    assert sky("why", "2").out == (
        "job 2 waits for 0.5 H100 on one node: n1 has 0.4 free; job 1 holds 0.6 (RUNNING for 1 min)\n"
    )
    assert sky("why", "cpu").out == (
        "job 3 waits for 1 CPU on one node: n1 has 0.5 CPUs free; job 1 holds 1.5 CPUs (RUNNING for 1 min)\n"
    )


@pytest.mark.parametrize(
    ("held", "options", "told"),
    [
        (1, {"cpus": 2}, "2 CPUs beside 1 H100 on one node: n1 has 1 CPU free; job 1 holds 3 CPUs (RUNNING"),
        (1, {"memory": 2048}, "2 GiB of memory beside 1 H100 on one node: n1 has 1 GiB of memory free; job 1 holds 9"),
        (
            2,
            {"cpus": 2},
            "1 H100 and 2 CPUs on one node: n1 has 0 H100 free; job 1 holds 2 H100 (RUNNING for 1 min); "
            "n1 has 1 CPU free; job 1 holds 3 CPUs",
        ),
        (2, {"cpus": 1}, "1 H100 on one node: n1 has 0 free; job 1 holds 2 (RUNNING"),
    ],
)
def test_what_lacks_is_named_and_nothing_else(
    scene: Scene, sky: Run, held: int, options: dict[str, int], told: str
) -> None:
    scene.head()
    scene.node("n1", "H100:2", cpus=4, memory_gb=10)
    scene.start(scene.pending("hog", f"H100:{held}", cpus=3, memory=9216), ago=60)
    scene.pending("next", "H100:1", **options)
    assert sky("why", "2").out.startswith(f"job 2 waits for {told}")


def test_the_node_that_lacks_least_of_what_is_asked_for_is_told_first(scene: Scene, sky: Run) -> None:
    scene.head()
    scene.node("n1", "H100:4", memory_gb=64)
    scene.node("n2", "H100:4", memory_gb=64)
    scene.start(scene.pending("memory", "H100:1", memory=60 * 1024), ago=60)  # on n1: 44 of 48 GiB lack
    scene.start(scene.pending("gpus", "H100:4"), ago=60)  # on n2: one H100 of one lacks
    scene.pending("next", "H100:1", memory=48 * 1024)
    assert "node: n1 has 4 GiB of memory free" in sky("why", "3").out


def test_a_slip_in_an_accelerators_name_is_told(scene: Scene, sky: Run) -> None:
    scene.head()
    scene.node("n1", "H100:4")
    scene.pending("train", "H10O:1")
    assert sky("why", "1").out.endswith("there is: 1 node with H100:4, 8 CPUs, 64 GiB; did you mean H100?\n")


def test_a_node_that_is_down(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:1", state="down")
    scene.pending("train", "H100:1")
    assert sky("why", "1").out == ("job 1 waits for 1 H100 on one node: n1 is not up (and for a head: none is alive)\n")


def test_jobs_that_wait_for_nothing(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    scene.started("run", ago=60)
    scene.ended(scene.started("over"), Status.FAILED, reason="node n2 was lost", ago=120)
    scene.stopping(scene.started("stop"))
    assert sky("why", "1").out == "job 1 waits for nothing: it has been RUNNING on n1 for 1 min\n"
    assert sky("why", "2").out == ("job 2 waits for nothing: it ended 2 mins ago (FAILED: node n2 was lost)\n")
    assert sky("why", "3").out == ("job 3 waits for its processes on n1 to be gone, then it is CANCELLED (cancelled)\n")


def test_what_no_head_accepted_yet(scene: Scene, sky: Run) -> None:
    scene.dropped("train@00000000000000.yaml")
    assert sky("why", "train@00000000000000").out == (
        "train@00000000000000 waits in pending/: no head is alive to accept it\n"
    )

    assert sky("why").out == "train@00000000000000 waits in pending/: no head is alive to accept it\n"
    scene.head()
    assert sky("why", "train").out == "train@00000000000000 waits in pending/: the head has not accepted it yet\n"


def test_memory(scene: Scene, sky: Run) -> None:
    scene.head()
    scene.node("n1", memory_gb=10)
    scene.start(scene.pending("large", memory=8192), ago=60)
    scene.pending("other", memory=4096)
    assert sky("why", "2").out == (
        "job 2 waits for 4 GiB of memory on one node: n1 has 2 GiB of memory free; "
        "job 1 holds 8 GiB of memory (RUNNING for 1 min)\n"
    )


def test_of_many_nodes_and_holders_the_nearest_and_largest_are_told(scene: Scene, sky: Run) -> None:
    scene.head()
    for number in range(1, 6):
        scene.node(f"n{number}", "H100:8")
    for _ in range(40):
        scene.start(scene.pending("one", "H100:1"), ago=60)
    scene.pending("gang", "H100:8", nodes=2)
    told = sky("why", "41").out
    assert told.startswith(
        "job 41 waits for 8 H100 on each of 2 nodes: n1 has 0 free; job 1 holds 1 (RUNNING for 1 min), "
    )
    assert "4 more jobs hold 4; n2 has" in told
    assert told.endswith("; and 2 more nodes\n")


def test_slots_of_a_job_that_was_given_up(scene: Scene, sky: Run) -> None:
    scene.head()
    scene.node("n1", "H100:1")
    scene.lost(scene.started("train", "H100:1"))
    scene.pending("next", "H100:1")
    assert sky("why", "2").out == (
        "job 2 waits for 1 H100 on one node: n1 has 0 free; "
        "job 1, which was given up there, holds 1 until the node tells that it is gone\n"
    )


def test_nothing_waits(scene: Scene, sky: Run) -> None:
    scene.pending("theirs", uid=4242, user="eve")
    ran = sky("why")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.endswith("none of your jobs waits\n")
    assert "note: no head is alive on mycluster" in ran.err


def test_an_unknown_job(scene: Scene, sky: Run) -> None:
    assert sky("why", "7").code == 102


def test_a_dropped_file_that_was_rejected(scene: Scene, sky: Run) -> None:
    scene.rejected("train.yaml", "line 1: runn: there is no such field\nline 2: \x1b]0;title\x07")
    for verb, word in (("why", "train"), ("logs", "train.yaml"), ("cancel", "train")):
        ran = sky(verb, word)
        assert (ran.code, ran.out) == (102, "")
        assert ran.err.endswith(
            "error: train.yaml was rejected 1 min ago: line 1: runn: there is no such field\n  line 2: ?]0;title?\n"
            f"hint: skyspool lint --dropped {scene.spool.rejected}/train.yaml      # it stands there\n"
        )


def test_a_file_that_was_rejected_after_a_job_of_its_name_is_told_beside_it(scene: Scene, sky: Run) -> None:
    scene.ended(scene.pending("train", ago=600), Status.CANCELLED)
    scene.rejected("train.yaml", "line 1: no", ago=60)
    ran = sky("logs", "train", "--status")
    assert (ran.code, ran.out) == (103, "Job 1: CANCELLED\n")
    told = "note: this is job 1, which is older than a file of this name: train.yaml was rejected 1 min ago: line 1: no"
    assert told in ran.err.splitlines()
    assert told not in sky("logs", "1", "--status").err
    scene.pending("train", ago=30)
    assert "rejected" not in sky("logs", "train", "--status").err
    scene.pending("other", drop="mended.yaml", ago=30)
    scene.rejected("mended.yaml", "line 1: no", ago=60)
    assert "no job on mycluster has the handle or name 'mended'" in sky("logs", "mended").err


def test_it_fits_the_schema(story: Scene, sky: Run) -> None:
    story.dropped("new.yaml")
    fits(json.loads(sky("why", "4", "1", "new", "-o", "json").out), "why")


def test_as_data(story: Scene, sky: Run) -> None:
    [found] = json.loads(sky("why", "4", "-o", "json").out)
    assert (found["job_id"], found["kind"]) == (4, "full")
    assert [holder["id"] for holder in found["lacks"][0]["holders"]] == [5, 2, 3]
