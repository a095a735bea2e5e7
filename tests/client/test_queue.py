from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from skyspool.say import AT_ONCE, show_lists
from spool_layout.states import Status
from spool_layout.storage import Disk
from spool_layout.users import user_name
from tests.client.builders import Scene
from tests.client.conftest import Run, fits, unprivileged
from tests.client.pseudo import on_terminal

TABLE = """\
Job queue of current user on cluster mycluster
 ID  NAME         USER  SUBMITTED    STARTED      DURATION  RESOURCES   STATUS     LOG
 5   job5         user  10 mins ago  10 mins ago  10m       1x[H100:2]  RUNNING    {root}/logs/5
 4   job4         user  10 mins ago  -            -         1x[H100:4]  PENDING    -
 3   job3         user  10 mins ago  9 mins ago   9m        1x[H100:1]  RUNNING    {root}/logs/3
 2   job2         user  10 mins ago  9 mins ago   9m        1x[H100:1]  RUNNING    {root}/logs/2
 1   huggingface  user  11 mins ago  11 mins ago  1m 30s    1x[H100:4]  SUCCEEDED  {root}/logs/1
"""


def test_the_reference_table(story: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyspool.queueing.time", SimpleNamespace(time=lambda: story.now))  # DURATION ticks
    story.head()
    ran = sky("queue")
    assert ran.out == TABLE.format(root=story.spool.root)
    assert (ran.code, ran.err) == (0, "")


def test_a_dead_head_is_told_on_stderr(story: Scene, sky: Run) -> None:
    ran = sky("queue")
    assert "note: no head is alive on mycluster: the last sign of one was a few secs ago (" in ran.err
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
    scene.spool.dropped("directory.yaml")
    os.mkdir(scene.spool.dropped("directory.yaml"))
    for words in (("queue",), ("queue", "-s")):
        [row] = [line.split() for line in sky(*words).out.splitlines()[2:]]
        assert (row[0], row[1], row[-2]) == ("-", "train", "PENDING")
    [record] = json.loads(sky("queue", "-o", "json").out)["mycluster"]
    assert (record["job_id"], record["handle"], record["status"]) == (None, "train@00000000000000", "PENDING")


def test_of_very_many_such_files_it_tells_the_number(scene: Scene, sky: Run) -> None:
    for number in range(203):
        scene.dropped(f"{number:03}.yaml")
    lines = sky("queue").out.splitlines()
    assert len(lines) == 2 + 200 + 1
    assert lines[-1] == f"and 3 more files in {scene.spool.pending} that no head has accepted yet"


def test_a_reason_of_several_lines_is_told_in_one(scene: Scene, sky: Run) -> None:
    scene.rejected("bad.yaml", "line 1: this\nline 2: \x1b[31mthat", user=user_name(os.getuid()))
    assert sky("queue").out.splitlines()[2] == "rejected 1 min ago: bad.yaml: line 1: this; line 2: ?[31mthat"


def test_jobs_that_ended_before_the_ledgers_memory_are_counted(scene: Scene, sky: Run) -> None:
    for _ in range(3):
        scene.ended(scene.pending("old"), Status.CANCELLED)
    scene.forget(1)
    scene.forget(2)
    lines = sky("queue").out.splitlines()
    assert [line.split()[0] for line in lines[2:3]] == ["3"]
    assert lines[3:] == [f"and 2 jobs of all users that ended before these; their files: {scene.spool.done}"]
    assert len(sky("queue", "-s").out.splitlines()) == 2


def test_finished_jobs_in_done_cost_nothing(scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.ended(scene.pending("old"), Status.CANCELLED)
    scene.forget(1)
    scene.pending("waits")
    touched: list[str] = []
    for call in ("list", "read", "inspect", "stat"):
        real = getattr(Disk, call)
        monkeypatch.setattr(
            Disk, call, lambda self, path, *more, real=real: touched.append(path) or real(self, path, *more)
        )
    assert "waits" in sky("queue").out
    assert len(touched) < 20
    assert [path for path in touched if path.startswith((scene.spool.done, scene.spool.logs))] == []


def test_several_clusters(scene: Scene, sky: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKYSPOOL_DIR")
    (tmp_path / "b").mkdir()
    other = Scene(tmp_path / "b", "other")
    scene.pending("first")
    other.pending("second")
    for place in (scene, other):
        assert sky("use", place.spool.root).code == 0
    heading = "Job queue of current user on cluster"
    out = sky("queue").out
    assert [line for line in out.splitlines() if line.startswith(heading)] == [
        f"{heading} mycluster",
        f"{heading} other",
    ]
    assert list(json.loads(sky("queue", "-o", "json").out)) == ["mycluster", "other"]
    assert "second" in sky("queue", "other").out and "first" not in sky("queue", "other").out
    os.rename(other.spool.settings, f"{other.spool.settings}.away")
    ran = sky("queue")
    assert (ran.code, ran.out.count(heading)) == (0, 1)
    assert f"warning: other is left out: {other.spool.root} holds no spool.yaml" in ran.err
    assert sky("queue", "other").code == 69


def test_of_two_spools_with_one_name_neither_hides_the_other(scene: Scene, sky: Run, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = Scene(tmp_path / "b", "mycluster")
    found = json.loads(sky("queue", scene.spool.root, other.spool.root, scene.spool.root, "-o", "json").out)
    assert list(found) == ["mycluster", other.spool.root]


def test_without_permission_to_write(story: Scene) -> None:
    folders = [story.spool.root, *(path for path in story.spool.directories if os.path.isdir(path))]
    for folder in folders:
        os.chmod(folder, 0o555)
    try:
        done = subprocess.run(
            [*unprivileged(), sys.executable, "-m", "skyspool", "queue"], capture_output=True, text=True, timeout=30
        )
        touched = subprocess.run([*unprivileged(), "touch", f"{story.spool.tmp}/x"], capture_output=True, text=True)
    finally:
        for folder in folders:
            os.chmod(folder, 0o755)
    assert "Permission denied" in touched.stderr  # else the test would tell nothing
    assert "job5" in done.stdout, done.stderr


def test_every_record_fits_the_schema(story: Scene, sky: Run) -> None:
    story.dropped("new.yaml")
    fits(json.loads(sky("queue", "-o", "json").out), "queue")


def test_rejected_files_end_the_listing(scene: Scene, sky: Run) -> None:
    me = user_name(os.getuid())
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


@pytest.mark.parametrize("jobs", [0, 1, AT_ONCE, AT_ONCE + 1])
@pytest.mark.parametrize("name", ["train", "tränen", os.fsdecode(b"tr\xe4nen")])
def test_json_is_written_in_pieces_of_one_whole(capfd: pytest.CaptureFixture[str], jobs: int, name: str) -> None:
    held = [{"name": "plain", "exit_codes": [], "links": {}}] * jobs
    told = {"empty": [], name: [*held, {"name": name}], "last": held}
    show_lists(told)
    assert capfd.readouterr().out == json.dumps(told, indent=2) + "\n"


def test_json_of_a_name_that_is_no_ascii(scene: Scene, sky: Run) -> None:
    scene.pending("tränen")
    out = sky("queue", "-o", "json").out
    assert out.isascii() and json.dumps(json.loads(out), indent=2) + "\n" == out
    assert json.loads(out)["mycluster"][0]["job_name"] == "tränen"


def test_an_unknown_cluster_names_what_makes_one(scene: Scene, sky: Run) -> None:
    ran = sky("queue", "nope")
    assert ran.code == 1
    assert "skyspool up" in ran.err and "skyspool init" in ran.err


def test_shares_and_cpus_in_resources(scene: Scene, sky: Run) -> None:
    scene.pending("half", "H100:0.5")
    scene.pending("cpu")
    scene.pending("gang", "H100:8", nodes=2)
    cells = [line.split()[-3] for line in sky("queue").out.splitlines()[2:]]
    assert cells == ["2x[H100:8]", "1x[CPU:0.5]", "1x[H100:0.5]"]


def test_a_list_that_is_higher_than_the_terminal_ends_with_what_there_is_in_all(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    for status in (Status.CANCELLED, Status.FAILED):
        for _ in range(12):
            scene.ended(scene.pending("old"), status)
    scene.started("runs")
    scene.pending("waits")
    scene.dropped("new.yaml")
    both = on_terminal("queue", stderr=True).lines
    assert both[-2:] == [
        "In all: 2 PENDING, 1 RUNNING; 12 FAILED, 12 CANCELLED",
        "hint: skyspool queue -s      # only what waits or runs",
    ]
    assert "In all" not in "".join(on_terminal("queue", "-s").lines)
    assert "In all" not in sky("queue").out
    for _ in range(30):
        scene.pending("more")
    assert on_terminal("queue", "-s", stderr=True).lines[-1] == "In all: 32 PENDING, 1 RUNNING"


def test_cpus_and_memory_are_shown_where_they_were_asked_for(scene: Scene, sky: Run) -> None:
    scene.pending("one", "H100:1", cpus=1)
    scene.pending("full", "H100:1", cpus=4, memory=16 * 1024)
    scene.pending("plain", cpus=2, memory=512)
    cells = [record["resources"] for record in json.loads(sky("queue", "-o", "json").out)["mycluster"]]
    assert cells == ["1x[CPU:2, 0.5 GiB]", "1x[H100:1, 4 CPUs, 16 GiB]", "1x[H100:1, 1 CPU]"]
    assert "1x[H100:1, 4 CPUs, 16 GiB]  PENDING" in sky("queue").out


def test_a_job_that_runs_and_is_not_reported_yet_has_run_since_it_got_its_slots(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    scene.start(scene.pending("new"), ago=120, go=False)
    scene.start(scene.pending("setup", setup=True), ago=120)
    setup, new = json.loads(sky("queue", "-o", "json").out)["mycluster"]
    assert (new["status"], new["start_at"], round(new["duration"])) == ("RUNNING", scene.now - 120, 120)
    assert (setup["status"], setup["start_at"], setup["duration"]) == ("SETTING_UP", None, None)
    assert " 2 mins ago  2m " in sky("queue").out


def test_a_file_that_the_head_left_in_place_is_told_once(scene: Scene, sky: Run) -> None:
    scene.head()
    Path(scene.spool.pending, "locked.yaml").write_text("run: 'true'\n")
    assert "locked" in sky("queue").out
    scene.left("locked.yaml", "cannot be read by the head (Permission denied); it is left where it is")
    told = sky("queue").out
    assert told.count("locked") == 1
    assert "rejected a few secs ago: locked.yaml: cannot be read by the head" in told
