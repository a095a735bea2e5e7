from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from skyspool import story
from skyspool.verbs import demo
from spool_layout.states import Status
from tests.client.builders import Scene
from tests.client.conftest import Run
from tests.client.pseudo import on_terminal

STORY = [
    "  Job 1 holds all 4 GPUs; the others wait.",
    "  Job 1 is over: job2 and job3 start with one GPU each.",
    "  Job4 wants 4 GPUs and waits; job5 wants 2 and overtakes it.",
    "  When all 4 GPUs are free again, job4 starts.",
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its directory."""
    made = tmp_path / "tmp"
    made.mkdir()
    monkeypatch.setenv("TMPDIR", str(made))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return made


def test_it_plays_the_story_at_80_columns_and_leaves_nothing(place: Path, home: Path) -> None:
    began = time.monotonic()
    shown = on_terminal("demo", "--pace", "0.25", columns=80)
    assert shown.code == 0, shown.out.decode()
    assert time.monotonic() - began < 60
    text = [re.sub(r"\x1b\[\d+A\x1b\[J", "", line) for line in shown.lines]
    assert [line for line in text if line.startswith("$ ")] == [f"$ skyspool {line}" for line in story.COMMANDS]
    assert [line for line in dict.fromkeys(text) if line in STORY] == STORY
    assert max(len(line) for line in text if str(place) not in line) <= 80
    us = demo.own_name()
    last = ["As the text says. Now with what this machine has:", f"  {us} up", f"  {us} exec -- hostname"]
    assert text[-3:] == last
    assert list(place.iterdir()) == [] and list(home.iterdir()) == []


def test_interrupted_it_ends_its_daemons_and_jobs(place: Path, home: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "skyspool", "demo"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert started.stdout is not None
    for line in started.stdout:
        if "RUNNING" in line:
            started.send_signal(signal.SIGINT)
            break
    started.stdout.read()
    assert started.wait(30) == 130
    started.stdout.close()
    assert list(place.iterdir()) == [] and list(home.iterdir()) == []


def told(scene: Scene) -> list[str]:
    return [beat.what for beat in story.beats(scene.state) if beat.happened]


def test_what_differs_from_the_text_is_told(scene: Scene) -> None:
    scene.node("n1", "H100:4")
    for name, gpus in (("huggingface", 4), ("job2", 1), ("job3", 1), ("job4", 4), ("job5", 2)):
        scene.pending(name, f"H100:{gpus}")
    assert (told(scene), story.is_over(scene.state)) == ([], False)
    scene.start(1, ago=500)
    scene.ended(1, ago=400)
    scene.start(4, ago=390)  # instead of job5
    scene.ended(4, Status.FAILED, ago=300, reason="sad")
    assert story.objections(scene.state) != []
    for ident, ago in ((2, 290), (3, 290), (5, 280)):
        scene.start(ident, ago)
        scene.ended(ident, ago=200)
    assert story.is_over(scene.state)
    assert story.objections(scene.state) == ["job 4 is FAILED: sad"]


def test_an_order_that_is_not_the_texts_is_told(scene: Scene) -> None:
    scene.node("n1", "H100:4")
    for name, gpus in (("huggingface", 4), ("job2", 1), ("job3", 1), ("job4", 4), ("job5", 2)):
        scene.start(scene.pending(name, f"H100:{gpus}"), ago=500 - scene.state.next_id)
        scene.ended(scene.state.next_id - 1, ago=100)
    assert story.objections(scene.state) == [
        *(f"job {ident} started before job 1 ended" for ident in (2, 3, 4, 5)),
        "job5 did not overtake job4",
        *(f"job4 started before job{ident} ended" for ident in (2, 3, 5)),
    ]


@pytest.mark.parametrize("on_path", [True, False])
def test_the_name_that_its_last_line_tells_can_be_typed(
    home: Path, monkeypatch: pytest.MonkeyPatch, on_path: bool
) -> None:
    folder = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin" if on_path else "/usr/bin:/bin")
    name = demo.own_name()
    assert (name == "skyspool") is on_path
    done = subprocess.run(["sh", "-c", f"{name} --version"], capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("skyspool 0."), done.stderr


def test_the_demo_knows_nothing_of_my_own_spools(scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands go to its own spool whatever SKYSPOOL_DIR says, and that is as it was afterwards."""
    seen: list[str | None] = []
    monkeypatch.setattr(demo.Stage, "play", lambda self: seen.append(os.environ.get("SKYSPOOL_DIR")))
    assert sky("demo").code == 0
    assert (seen, os.environ["SKYSPOOL_DIR"]) == ([None], scene.spool.root)
