from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import yaml

from spool_layout.states import Status
from tests.client.builders import Scene
from tests.client.conftest import Run


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyspool.verbs.cancel.PATIENCE", 0.1)


def request(scene: Scene) -> object:
    [name] = scene.files("requests")
    text = Path(scene.spool.request(name)).read_text()
    assert text.endswith("\n...\n")
    return yaml.safe_load(text)


def test_by_id(story: Scene, sky: Run) -> None:
    ran = sky("cancel", "3", "4")
    assert request(story) == {"cancel": [3, 4]}
    assert ran.code == 0
    assert ran.out == "Cancellation requested: 3, 4\n"
    assert "no head is alive" in ran.err


def test_it_waits_until_the_head_did_it(story: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyspool.verbs.cancel.PATIENCE", 5)

    def head() -> None:
        while not story.files("requests"):
            time.sleep(0.01)
        story.stopping(2)
        story.ended(4, Status.CANCELLED)

    thread = threading.Thread(target=head)
    thread.start()
    ran = sky("cancel", "2", "job4")
    thread.join()
    assert ran.out == "Cancelled job ID(s): 2, 4\n"


def test_what_is_over_or_unknown_is_no_error(story: Scene, sky: Run) -> None:
    ran = sky("cancel", "1", "99")
    assert ran.code == 0
    assert ran.out == "No jobs cancelled.\n"
    assert "job 1 is over (SUCCEEDED)" in ran.err
    assert "no job 99 on mycluster" in ran.err
    assert story.files("requests") == []


def test_nothing_named_means_the_latest_running_one(story: Scene, sky: Run) -> None:
    sky("cancel")
    assert request(story) == {"cancel": [5]}


def test_all_needs_yes_off_a_terminal(story: Scene, sky: Run) -> None:
    ran = sky("cancel", "--all")
    assert ran.code == 2
    assert "hint: skyspool cancel mycluster --all -y" in ran.err
    assert sky("cancel", "--all", "-y").code == 0
    assert request(story) == {"cancel": "all"}


def test_all_users(story: Scene, sky: Run) -> None:
    sky("cancel", "-u", "-y")
    assert request(story) == {"cancel": "all-users"}


def test_all_with_ids_is_an_error(story: Scene, sky: Run) -> None:
    assert sky("cancel", "--all", "3").code == 2


def test_a_file_that_nobody_accepted_yet_is_taken_back(scene: Scene, sky: Run) -> None:
    scene.dropped("train@00000000000000.yaml")
    ran = sky("cancel", "train@00000000000000")
    assert ran.out == "Cancelled before it was accepted: train@00000000000000\n"
    assert scene.files("pending") == scene.files("tmp") == scene.files("requests") == []


def test_an_ambiguous_name_is_refused(scene: Scene, sky: Run) -> None:
    scene.pending("train")
    scene.pending("train")
    ran = sky("cancel", "train")
    assert ran.code == 1
    assert "2 live jobs are called 'train': 1 2\nhint: skyspool cancel 1 2" in ran.err
