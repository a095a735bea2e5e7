"""What users do to files in the drop boxes, meaning well or not: each is judged, told once, and stops nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from spool_layout.events import Accepted, Rejected, Requested, Returned, Started
from spool_layout.states import Status
from spool_layout.storage import Disk, Seen
from tests.head import stage
from tests.head.stage import CPU, GPU, Killed, Mortal, Stage

NOBODY = 65534


def waiting_behind(s: Stage) -> str:
    """a runs, b waits for its GPU. Where the file of b stands."""
    s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    s.drop("b")
    s.run()
    return s.waiting("b")


def free_the_gpu(s: Stage) -> None:
    """a has ended, and its node says so; the head has not looked yet."""
    s.nodes["n1"].over.add("a")
    s.nodes["n1"].step()


def count(s: Stage, kind: type) -> int:
    return sum(isinstance(event, kind) for event in s.events())


# ---- what stands where a waiting file stood ------------------------------------------------------------------


def to_link(path: str) -> None:
    os.unlink(path)
    os.symlink("/etc/passwd", path)


def to_fifo(path: str) -> None:
    os.unlink(path)
    os.mkfifo(path)


def to_directory(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)
    Path(path, "inner").touch()


def to_file_of_another(path: str) -> None:
    os.unlink(path)
    Path(path).write_text(CPU)
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("when", [lambda s: None, free_the_gpu], ids=["idle", "at its start"])
@pytest.mark.parametrize("become", [to_link, to_fifo, to_directory, to_file_of_another], ids=lambda f: f.__name__)
def test_what_is_no_file_of_its_owner_cancels_the_job_and_is_set_aside(
    become: Callable[[str], None], when: Callable[[Stage], None], folder: Path
) -> None:
    if become is to_file_of_another and os.getuid():
        pytest.skip("only root can make a file of another user")
    stage = Stage(folder)
    become(waiting_behind(stage))
    when(stage)
    stage.run()
    assert stage.job("b").status is Status.CANCELLED
    assert os.listdir(stage.spool.pending) == []
    assert "2.b.error" in os.listdir(stage.spool.rejected) or "b.error" in os.listdir(stage.spool.rejected)
    stage.drop("c", CPU)
    stage.finish("a", "c")
    assert stage.job("c").status is Status.SUCCEEDED


@pytest.mark.parametrize("when", [lambda s: None, free_the_gpu], ids=["idle", "at its start"])
def test_nonsense_written_over_a_waiting_file_waits_until_it_is_a_task_again(
    when: Callable[[Stage], None], folder: Path
) -> None:
    stage = Stage(folder)
    path = waiting_behind(stage)
    Path(path).write_bytes(bytes(range(256)) + b"\n...\n")
    when(stage)
    stage.run()
    stage.finish("a")
    assert stage.job("b").status is Status.PENDING
    assert "UTF-8" in stage.job("b").problem
    stage.replace("b")
    stage.finish("b")
    assert stage.job("b").status is Status.SUCCEEDED


def test_a_hard_link_to_a_waiting_file_changes_nothing(folder: Path) -> None:
    """Backups are made so (cp -al)."""
    stage = Stage(folder)
    os.link(waiting_behind(stage), Path(stage.spool.tmp, "backup"))
    free_the_gpu(stage)
    stage.finish("b")
    assert stage.job("b").status is Status.SUCCEEDED
    assert stage.job("b").attempt == 1


def test_an_edit_that_is_not_complete_when_its_slots_come_free_starts_once_it_is(folder: Path) -> None:
    """It is put back once, not over and over."""
    stage = Stage(folder)
    path = waiting_behind(stage)
    with Path(path).open("a") as file:
        file.write("# edited\n")  # no end mark, and still open: it is not complete
        file.flush()
        free_the_gpu(stage)
        assert stage.term is not None
        for _ in range(20):
            stage.term.tick()
        assert count(stage, Returned) == 1
        assert count(stage, Started) == 2  # a, and b once
        assert stage.job("b").status is Status.PENDING
    stage.run()
    stage.finish("b")
    assert stage.job("b").status is Status.SUCCEEDED


def test_a_job_that_was_cancelled_while_it_waited_is_run_again_by_moving_its_file_back(folder: Path) -> None:
    """Also where the head is killed when it has just claimed it."""
    disk = Mortal()
    stage = Stage(folder, disk)
    waiting_behind(stage)
    stage.request("cancel: b")
    stage.run()
    day = stage.job("b").day
    os.rename(stage.spool.ended(day, "2.b.yaml", "CANCELLED"), stage.spool.dropped("b.yaml"))
    disk.trap = lambda what: what.startswith("append")
    assert stage.term is not None
    with pytest.raises(Killed):
        stage.term.tick()
    stage.term, stage.disk = None, Disk()
    stage.run()
    stage.finish("a", "b")
    assert [job.status for job in stage.jobs()["b"]] == [Status.CANCELLED, Status.SUCCEEDED]


# ---- one file that cannot be read ----------------------------------------------------------------------------


class Refusing(Disk):
    """A disk that cannot open files whose name ends so."""

    def __init__(self, ending: str, error: int) -> None:
        self.ending, self.error = ending, error

    def inspect(self, path: str, limit: int, known: Seen | None = None) -> Seen:
        if path.endswith(self.ending):
            raise OSError(self.error, os.strerror(self.error), path)
        return super().inspect(path, limit, known)


ERRORS = [errno.EIO, errno.EAGAIN, errno.EACCES, errno.ESTALE]


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_a_new_file_that_cannot_be_read_is_left_and_told_once_and_the_others_run(number: int, folder: Path) -> None:
    stage = Stage(folder, Refusing("sick.yaml", number))
    stage.node("n1")
    stage.drop("sick", CPU)
    stage.drop("well", CPU)
    stage.run()
    stage.finish("well")
    assert stage.job("well").status is Status.SUCCEEDED
    assert os.listdir(stage.spool.pending) == ["sick.yaml"]
    assert count(stage, Rejected) == 1
    stage.term, stage.disk = None, Disk()  # the next head can read it
    stage.run()
    stage.finish("sick")
    stage.audit()


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_a_waiting_file_that_cannot_be_read_is_not_taken_for_deleted(number: int, folder: Path) -> None:
    stage = Stage(folder)
    waiting_behind(stage)
    stage.term, stage.disk = None, Refusing("2.b.yaml", number)
    stage.run()
    assert stage.job("b").status is Status.PENDING
    assert len(os.listdir(stage.spool.pending)) == 1
    stage.term, stage.disk = None, Disk()
    stage.run()
    stage.finish("a")
    stage.finish("b")
    assert stage.job("b").status is Status.SUCCEEDED
    stage.audit()


class Linking(Disk):
    """A disk on which somebody links what is moved out of pending/, at that moment."""

    def move(self, source: str, target: str, inode: int | None = None) -> bool:
        moved = super().move(source, target, inode)
        if "/pending/" in source:
            os.link(target, os.path.join(os.path.dirname(source), "..", "tmp", "linked"))
        return moved


def test_a_file_that_is_linked_between_the_look_and_the_claim_is_told_by_its_links(folder: Path) -> None:
    s = Stage(folder, Linking())
    s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    assert "2 hard links" in Path(s.spool.rejected, "a.error").read_text()
    assert count(s, Started) == 0


class Rewriting(Disk):
    """A disk on which somebody writes anew what is moved out of pending/, at that moment, and has come half way."""

    def move(self, source: str, target: str, inode: int | None = None) -> bool:
        moved = super().move(source, target, inode)
        if "/pending/" in source and "new-1-" in target:
            Path(target).write_text("run: rm -r /tmp")
        return moved


@pytest.mark.parametrize("ending", ["/x\n...\n", "/x\n"])
def test_a_file_that_is_written_anew_while_it_is_claimed_is_taken_when_it_is_complete(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(stage, "SETTINGS", msgspec.structs.replace(stage.SETTINGS, settle=60.0))
    s = Stage(folder, Rewriting())
    s.node("n1", gpus=1)
    s.drop("a", CPU)
    s.drop("b", CPU)
    s.look()
    assert s.term is not None and 0 < (s.term.again or 0) <= 60
    assert [event.name for event in s.events() if isinstance(event, Accepted)] == ["b"]
    (claimed,) = Path(s.term.epoch.claims).iterdir()
    with claimed.open("a") as file:
        file.write(ending)
    s.look()
    if not ending.endswith("...\n"):
        assert count(s, Accepted) == 1
        monkeypatch.setattr(s.term.observer.intake, "clock", lambda: time.time() + 60)
        s.look()
    s.run()
    assert [text for _, text in s.nodes["n1"].ran] == ["run: echo mark-1-b\n...\n", f"run: rm -r /tmp{ending}"]


# ---- requests ------------------------------------------------------------------------------------------------

NONSENSE = [
    'cancel: ["' + "9" * 5000 + '"]',
    "cancel: [99999999999999999999999]",
    "cancel: 0xffffffffffffffff",
    "cancel: [1.5, {a: b}, null, true]",
    'cancel: "\\uD800"',
    "cancel: [-1, '٣', '']",
    "cancel:",
    "hold: 3",
    "- cancel",
    "cancel: &a [*a]",
    "[" * 10_000,
]


def test_a_request_that_makes_no_sense_is_refused_and_the_next_one_carried_out(folder: Path) -> None:
    stage = Stage(folder)
    waiting_behind(stage)
    for number, text in enumerate(NONSENSE):
        stage.request(text, f"nonsense{number}.yaml")
    stage.request("cancel: b", "zz.yaml")
    stage.run()
    assert count(stage, Requested) == len(NONSENSE) + 1
    assert stage.job("a").status is Status.RUNNING
    assert stage.job("b").status is Status.CANCELLED
    assert os.listdir(stage.spool.requests) == []


def test_the_same_request_dropped_twice_is_carried_out_twice(folder: Path) -> None:
    """As files of the same name and the same times (`cp -p`)."""
    stage = Stage(folder)
    stage.node("n1", gpus=1)
    for name in "ab":
        stage.drop(name)
        stage.run()
        stage.request("cancel: all", "r.yaml")
        os.utime(stage.spool.request("r.yaml"), (1.0, 1.0))
        stage.run()
        assert stage.job(name).status is Status.CANCELLED


# ---- nodes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instead", ["nothing", "a file"])
def test_a_node_whose_directory_is_gone_stops_neither_this_head_nor_the_next(instead: str, folder: Path) -> None:
    stage = Stage(folder)
    stage.node("n1")
    stage.node("n2")
    stage.look()
    shutil.rmtree(stage.spool.node("n2"))
    if instead == "a file":
        Path(stage.spool.node("n2")).touch()
    del stage.nodes["n2"]
    for name in "ab":
        stage.term = None  # a head that takes over writes assigned.json of all nodes
        stage.drop(name, CPU)
        stage.run()
        stage.finish(name)
        assert stage.job(name).status is Status.SUCCEEDED


def test_a_job_is_not_lost_with_the_label_of_its_file_when_heads_change(folder: Path) -> None:
    stage = Stage(folder)
    waiting_behind(stage)
    stage.unlink(Path(stage.spool.started("1.a.yaml")))
    for _ in range(3):
        stage.term = None
        stage.run()
        assert stage.job("a").status is Status.RUNNING
        assert stage.job("b").status is Status.PENDING
    stage.finish("a")
    stage.finish("b")
    stage.audit()


def test_text_of_the_gpu_task_is_what_runs(folder: Path) -> None:
    """The stage itself: a node starts what was accepted, word for word."""
    stage = Stage(folder)
    stage.node("n1")
    stage.drop("a")
    stage.run()
    (mark,) = stage.texts
    assert stage.nodes["n1"].ran == [("1.1", GPU.replace("NAME", mark))]
