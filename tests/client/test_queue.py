from __future__ import annotations

import json

from spool_layout.states import Status
from tests.client.builders import Scene
from tests.client.conftest import Run

TABLE = """\
Job queue of current user on cluster mycluster
 ID  NAME         USER  SUBMITTED    STARTED      DURATION  RESOURCES   STATUS     LOG
 5   job5         user  10 mins ago  10 mins ago  10m       1x[H100:2]  RUNNING    {root}/logs/5
 4   job4         user  10 mins ago  -            -         1x[H100:4]  PENDING    -
 3   job3         user  10 mins ago  9 mins ago   9m        1x[H100:1]  RUNNING    {root}/logs/3
 2   job2         user  10 mins ago  9 mins ago   9m        1x[H100:1]  RUNNING    {root}/logs/2
 1   huggingface  user  11 mins ago  11 mins ago  1m 30s    1x[H100:4]  SUCCEEDED  {root}/logs/1
"""


def test_the_reference_table(story: Scene, sky: Run) -> None:
    story.head()
    ran = sky("queue")
    assert ran.out == TABLE.format(root=story.spool.root)
    assert (ran.code, ran.err) == (0, "")


def test_a_dead_head_is_told_on_stderr(story: Scene, sky: Run) -> None:
    ran = sky("queue")
    assert "note: no head is alive on mycluster since" in ran.err
    assert "job5" in ran.out


def test_skip_finished_and_users(scene: Scene, sky: Run) -> None:
    scene.ended(scene.pending("old"), Status.CANCELLED)
    scene.pending("mine")
    scene.pending("theirs", uid=4242, user="eve")
    assert [line.split()[1] for line in sky("queue", "-s").out.splitlines()[2:]] == ["mine"]
    assert [line.split()[1] for line in sky("queue", "-u").out.splitlines()[2:]] == ["theirs", "mine", "old"]


def test_what_no_head_has_accepted_yet(scene: Scene, sky: Run) -> None:
    scene.dropped("train@00000000000000.yaml")
    scene.dropped(".hidden.yaml")
    row = sky("queue").out.splitlines()[2].split()
    assert (row[0], row[1], row[-2]) == ("-", "train", "PENDING")


def test_rejected_files_end_the_listing(scene: Scene, sky: Run) -> None:
    from skyspool.listing import user_name

    me = user_name(__import__("os").getuid())
    scene.rejected("bad.yaml", "line 3: no such field 'acelerators'", user=me)
    scene.rejected("old.yaml", "long ago", ago=2 * 86400, user=me)
    scene.rejected("other.yaml", "not mine", user="eve")
    assert sky("queue").out.splitlines()[2:] == ["rejected 1 min ago: bad.yaml: line 3: no such field 'acelerators'"]


def test_json_has_skypilots_shape_and_more(story: Scene, sky: Run) -> None:
    records = json.loads(sky("queue", "-o", "json").out)["mycluster"]
    five = records[0]
    assert {
        "job_id",
        "job_name",
        "username",
        "user_hash",
        "submitted_at",
        "start_at",
        "end_at",
        "resources",
        "status",
        "log_path",
        "metadata",
        "links",
    } <= five.keys()
    assert (five["job_id"], five["status"], five["resources"]) == (5, "RUNNING", "1x[H100:2]")
    assert [gpu["index"] for gpu in five["gpus"]] == [2, 3]
    assert records[1]["start_at"] is None and records[1]["end_at"] is None
    assert records[4]["exit_codes"] == [0]


def test_an_unknown_cluster_names_what_makes_one(scene: Scene, sky: Run) -> None:
    ran = sky("queue", "nope")
    assert ran.code == 1
    assert "skyspool up" in ran.err and "skyspool init" in ran.err


def test_shares_and_cpus_in_resources(scene: Scene, sky: Run) -> None:
    scene.pending("half", "H100:0.5")
    scene.pending("cpu")
    scene.pending("gang", "H100:8", nodes=2)
    cells = [line.split()[-3] for line in sky("queue").out.splitlines()[2:]]
    assert cells == ["2x[H100:8]", "1x[CPU:1+]", "1x[H100:0.5]"]
