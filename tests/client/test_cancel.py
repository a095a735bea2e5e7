from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import pytest
import yaml

from skyspool.jobs import Waiting
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


def test_a_job_that_ends_by_itself_meanwhile_was_not_cancelled(
    story: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyspool.verbs.cancel.PATIENCE", 5)

    def head() -> None:
        while not story.files("requests"):
            time.sleep(0.01)
        story.ended(2)
        story.ended(4, Status.CANCELLED)

    thread = threading.Thread(target=head)
    thread.start()
    ran = sky("cancel", "2", "4")
    thread.join()
    assert (ran.out, ran.err) == ("Cancelled job ID(s): 4\n", "note: job 2 was over before it could be cancelled\n")


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
    assert f"hint: skyspool cancel {story.spool.root} --all -y" in ran.err
    assert sky("cancel", "--all", "-y").code == 0
    assert request(story) == {"cancel": "all"}


def test_all_users(story: Scene, sky: Run) -> None:
    sky("cancel", "-u", "-y")
    assert request(story) == {"cancel": "all-users"}


def test_what_is_being_stopped_is_not_cancelled_again(story: Scene, sky: Run) -> None:
    story.stopping(5)
    ran = sky("cancel", "5")
    assert ran.out == "No jobs cancelled.\n" and "job 5 is being stopped already" in ran.err
    assert "Cancellation requested: 3\n" in sky("cancel").out
    assert "Cancellation requested: 2, 3, 4\n" in sky("cancel", "-a", "-y").out


def test_only_my_jobs_are_meant_by_all_and_by_latest(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    scene.started("mine")
    scene.started("theirs", uid=4242, user="eve")
    assert sky("cancel").out == "Cancellation requested: 1\n"
    assert sky("cancel", "-a", "-y").out == "Cancellation requested: 1\n"
    assert sky("cancel", "-u", "-y").out == "Cancellation requested: 1, 2\n"


def test_explicit_jobs_may_be_anybodys(scene: Scene, sky: Run) -> None:
    scene.pending("theirs", uid=4242, user="eve")
    sky("cancel", "1")
    assert request(scene) == {"cancel": [1]}


def test_nothing_runs(scene: Scene, sky: Run) -> None:
    scene.pending("waits")
    ran = sky("cancel")
    assert (ran.code, ran.out) == (0, "No jobs cancelled.\n")


def test_async_does_not_look_what_became_of_it(story: Scene, sky: Run) -> None:
    story.head()
    ran = sky("cancel", "3", "--async")
    assert (ran.out, ran.err) == ("Cancellation requested: 3\n", "")


def test_a_head_that_does_not_carry_it_out_is_told(story: Scene, sky: Run) -> None:
    story.head()
    ran = sky("cancel", "3")
    assert ran.out == "Cancellation requested: 3\n"
    assert ran.err == (
        "note: the head has not carried it out yet; "
        "of one user's it carries out 600 a minute (max_requests in spool.yaml)\n"
        f"hint: skyspool queue {story.spool.root}\n"
    )


def test_a_word_that_is_no_cluster_and_no_job_cancels_nothing(story: Scene, sky: Run) -> None:
    ran = sky("cancel", "myclutser", "3")
    assert ran.code == 102
    assert "no job on mycluster has the handle or name 'myclutser', and no cluster is called so" in ran.err
    assert story.files("requests") == []


def test_a_second_cluster_is_no_job(story: Scene, sky: Run) -> None:
    """It is not told to mean itself."""
    sky("use", story.spool.root)
    for word in ("mycluster", story.spool.root):
        ran = sky("cancel", "mycluster", word)
        assert (ran.code, ran.err) == (
            102,
            f"error: no job on mycluster has the handle or name {word!r}; it names a cluster, and a command takes one\n"
            f"hint: skyspool queue {word}\n",
        )
    assert story.files("requests") == []


def test_the_cluster_may_be_named(story: Scene, sky: Run) -> None:
    sky("cancel", story.spool.root, "3")
    assert request(story) == {"cancel": [3]}


@pytest.mark.parametrize(("answer", "asked_for"), [("", ["all"]), ("y", ["all"]), ("n", [])])
def test_on_a_terminal_all_asks(
    story: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch, answer: str, asked_for: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Typed(answer + "\n"))
    ran = sky("cancel", "--all")
    assert "Cancelling jobs (2, 3, 4, 5) on cluster mycluster. Proceed? [Y/n]" in ran.err
    assert (ran.code, len(story.files("requests"))) == (0, len(asked_for))


class Typed(io.StringIO):
    """What is typed at a terminal."""

    def isatty(self) -> bool:
        return True


def test_all_with_ids_is_an_error(story: Scene, sky: Run) -> None:
    assert sky("cancel", "--all", "3").code == 2


def test_a_file_that_nobody_accepted_yet_is_taken_back(scene: Scene, sky: Run) -> None:
    scene.dropped("train@00000000000000.yaml")
    ran = sky("cancel", "train@00000000000000")
    assert ran.out == "Cancelled before it was accepted: train@00000000000000\n"
    assert scene.files("pending") == scene.files("tmp") == scene.files("requests") == []


def test_by_its_name_too(scene: Scene, sky: Run) -> None:
    scene.ended(scene.pending("train"), Status.CANCELLED)
    scene.dropped("train@00000000000000.yaml")
    assert sky("cancel", "train").out == "Cancelled before it was accepted: train@00000000000000\n"


def test_a_file_that_a_head_was_faster_to_take_is_asked_for_by_its_handle(
    scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scene.dropped("train@00000000000000.yaml")
    listing = scene.disk.list(scene.spool.pending)
    path.unlink()
    monkeypatch.setattr("skyspool.jobs.pending_files", lambda *_: listing)
    monkeypatch.setattr("skyspool.jobs.waiting", lambda *_: [Waiting(path.name, 1, os.getuid(), 0.0)])
    ran = sky("cancel", "train@00000000000000")
    assert request(scene) == {"cancel": ["train@00000000000000"]}
    assert ran.out == "Cancellation requested: train@00000000000000\n"


def test_all_takes_back_what_nobody_accepted_yet(scene: Scene, sky: Run) -> None:
    scene.dropped("a@00000000000000.yaml")
    scene.dropped("b.yaml")
    ran = sky("cancel", "-a", "-y")
    assert sorted(ran.out.splitlines()) == [
        f"Cancelled before it was accepted: {name}" for name in ("a@00000000000000", "b")
    ]
    assert scene.files("pending") == []


def test_an_ambiguous_name_is_refused(scene: Scene, sky: Run) -> None:
    scene.pending("train")
    scene.pending("train")
    ran = sky("cancel", "train")
    assert ran.code == 1
    assert "2 live jobs are called 'train': 1 2\nhint: skyspool cancel 1 2" in ran.err
