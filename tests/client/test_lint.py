from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.conftest import Run

BAD = """\
num_nodes: 0
resources:
  acelerators: H100:8
  cloud: aws
envs:
  A:
setup: [a]
runs: |
  echo
"""


def test_all_problems_at_once_with_line_key_and_the_nearest_key(sky: Run, home: Path) -> None:
    (home / "bad.yaml").write_text(BAD)
    ran = sky("lint", "bad.yaml")
    assert ran.code == 1
    assert [line.split(": ")[:2] for line in ran.out.splitlines()] == [
        ["bad.yaml:1:1", "num_nodes"],
        ["bad.yaml:3:3", "resources.acelerators"],
        ["bad.yaml:6:3", "envs.A"],
        ["bad.yaml:7:1", "setup"],
        ["bad.yaml:8:1", "runs"],
    ]
    lines = ran.out.splitlines()
    assert lines[1].endswith("there is no such field (did you mean 'accelerators'?)")
    assert lines[4].endswith("there is no such field (did you mean 'run'?)")
    assert "--env A=" in lines[2]


def test_every_file_is_looked_at(sky: Run, home: Path) -> None:
    (home / "good.yaml").write_text("run: hostname\nresources: {cloud: aws, ports: 80}\n")
    (home / "broken.yaml").write_text("run: [\n")
    (home / "empty.yaml").write_text("")
    ran = sky("lint", "good.yaml", "broken.yaml", "empty.yaml", "nope.yaml", ".")
    assert ran.code == 1
    assert [line.split(": ")[0] for line in ran.out.splitlines()] == [
        "broken.yaml:2:1",
        "empty.yaml",
        "nope.yaml",
        ".",
    ]
    assert ran.err == "good.yaml: is a task; ignored: resources.cloud, resources.ports\n"
    assert sky("lint", "good.yaml").code == 0


def test_values_that_the_file_leaves_open(sky: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B", "from here")
    (home / "task.yaml").write_text("run: x\nenvs: {A: , B: , C: }\nsecrets: {S: }\n")
    (home / "e").write_text("C=1\nS=2\n")
    assert sky("lint", "task.yaml").out.count("has no value") == 4
    assert sky("lint", "task.yaml", "--env", "A=1", "--env", "B", "--env-file", "e").code == 0
    assert sky("lint", "task.yaml", "--env", "A=1", "--env", "B", "--env", "C=", "--env", "S=x").code == 0


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("name: idle\n", [], "it has neither run nor setup commands: no job is made of it"),
        ("setup: x\n", [], "it has no run commands: its setup is all that runs; `exec` makes no job of it"),
        ("setup: x\n", ["--dropped"], "it has no run commands: its setup is all that runs"),
        ("run: x\nresources: {gpus: h10O}\n", [], "it asks for an accelerator that is not known; did you mean H100?"),
        ("run: x\nresources: {gpus: SomeGPU}\n", [], ""),
    ],
)
def test_what_is_a_task_and_may_not_be_meant_is_told(
    sky: Run, home: Path, text: str, options: list[str], told: str
) -> None:
    (home / "task.yaml").write_text(text)
    ran = sky("lint", *options, "task.yaml")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "task.yaml: is a task\n" + (f"task.yaml: note: {told}\n" if told else "")


def test_as_a_file_that_is_dropped_by_hand(sky: Run, home: Path) -> None:
    (home / "task.yaml").write_text("run: x\nworkdir: code\n")
    (home / "idle.yaml").write_text("name: idle\n")
    assert sky("lint", "task.yaml", "idle.yaml").code == 0
    ran = sky("lint", "--dropped", "task.yaml", "idle.yaml")
    assert ran.code == 1
    assert ran.out.splitlines()[0].startswith("task.yaml:2:1: workdir: ") and "absolute" in ran.out
    assert ran.out.splitlines()[1] == "idle.yaml: has neither run nor setup commands: there is nothing to do"
