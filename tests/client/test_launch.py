from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spool_layout.states import Status
from tests.client.builders import Head, Scene
from tests.client.conftest import Run

TASK = """\
name: train
setup: pip install torch
file_mounts:
  /data: ./data
  ~/models: /srv/models
  /bucket: s3://somewhere/else
run: python train.py
"""


@pytest.fixture(autouse=True)
def taskfile(home: Path) -> Path:
    path = home / "cluster.yaml"
    path.write_text(TASK)
    return path


def submitted(scene: Scene) -> dict[str, object]:
    [name] = scene.files("pending")
    read: dict[str, object] = yaml.safe_load(Path(scene.spool.dropped(name)).read_text())
    return read


def test_setup_and_file_mounts_are_kept_and_paths_made_absolute(scene: Scene, sky: Run, home: Path) -> None:
    ran = sky("launch", "-c", scene.spool.root, "cluster.yaml", "-d")
    assert submitted(scene) == {
        "name": "train",
        "setup": "pip install torch",
        "file_mounts": {"/data": f"{home}/data", "~/models": "/srv/models", "/bucket": "s3://somewhere/else"},
        "run": "python train.py",
        "workdir": str(home),
    }
    assert ran.code == 0
    assert ran.err.splitlines()[:2] == [
        "YAML to run: cluster.yaml",
        "note: ignored, since nothing is made in a cloud: file_mounts./bucket",
    ]


def test_no_setup_skips_setup_alone(scene: Scene, sky: Run) -> None:
    ran = sky("launch", "cluster.yaml", "-d", "--no-setup")
    assert "note: skipped: setup, as --no-setup says\n" in ran.err
    assert "setup" not in submitted(scene) and "file_mounts" in submitted(scene)


def test_a_task_that_only_sets_up_is_a_job(scene: Scene, sky: Run, taskfile: Path) -> None:
    taskfile.write_text("setup: pip install torch\n")
    assert sky("launch", "cluster.yaml", "-d").out.startswith("Job submitted, handle: ")
    assert submitted(scene)["setup"] == "pip install torch"


def test_no_machine_is_ever_made(scene: Scene, sky: Run) -> None:
    ran = sky("launch", "-c", "newcluster", "cluster.yaml")
    assert ran.code == 1
    assert ran.err.splitlines() == [
        "error: no cluster is called 'newcluster', and it is no directory with a spool.yaml",
        "hint: skyspool up                            # a spool, a head and a node on this machine",
        "  or: skyspool init DIR --name NAME      # a spool in a directory, for many machines",
    ]
    assert scene.files("pending") == []


def test_options_of_skypilots_launch_are_taken(scene: Scene, sky: Run) -> None:
    words = "-y -i 10 --down -r --retry-until-up --fast --priority 3 --wait-for none -w space --clone other --docker"
    ran = sky("launch", "cluster.yaml", "-d", *words.split())
    assert ran.code == 0
    assert "note: ignored, since nothing is made in a cloud: --priority, --idle-minutes-to-autostop" in ran.err
    assert len(scene.files("pending")) == 1


@pytest.mark.parametrize("words", [("-d", "-no-d"), ("-d", "--no-detach-run"), ()])
def test_attached_is_the_default_and_can_be_asked_for(scene: Scene, sky: Run, words: tuple[str, ...]) -> None:
    scene.node("n1")
    with Head(scene, prints="hello\n", ends=Status.FAILED_SETUP, codes=(3,)):
        ran = sky("launch", "cluster.yaml", *words)
    assert (ran.code, ran.out) == (100, "Job submitted, ID: 1\nhello\n")
