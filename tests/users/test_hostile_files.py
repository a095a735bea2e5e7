"""What a hostile user puts into the drop boxes, and when: what runs, runs as who wrote it, and nothing stands still.

The users are real: files are theirs, and the head believes what the file system says. The attacker acts between any two
calls of the head to the disk.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spool_layout import history
from spool_layout.events import Accepted, Rejected, Requested
from spool_layout.states import Status
from spool_layout.storage import Disk
from tests.head.conftest import folder as folder
from tests.head.stage import CPU
from tests.users.test_hostile_floods import FLOODER as EVIL
from tests.users.test_hostile_floods import OTHER as VICTIM
from tests.users.test_hostile_floods import Crowd, as_root

pytestmark = as_root
REACHES_THE_DISK = ("list", "read", "inspect", "stat", "move", "is_held_for_writing")


# ---- what is no file


def char_device(path: str) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def block_device(path: str) -> None:
    os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(7, 200))


def bound_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)


def link_to_a_task_of_roots(path: str) -> None:
    os.symlink(roots(path), path)


def link_to_nothing(path: str) -> None:
    os.symlink("/nowhere", path)


def link_to_itself(path: str) -> None:
    os.symlink(path, path)


def fifo(path: str) -> None:
    os.mkfifo(path)


def roots(path: str) -> str:
    """A file that only root can read, and that is a good task."""
    target = Path(path).parent.parent / "root-only.yaml"
    target.write_text(CPU)
    target.chmod(0o600)
    return str(target)


KINDS = [char_device, block_device, bound_socket, link_to_a_task_of_roots, link_to_nothing, link_to_itself, fifo]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_no_file_is_set_aside_in_either_drop_box_and_hinders_nobody(
    make: Callable[[str], None], folder: Path
) -> None:
    stage = Crowd(folder)
    stage.node("n1", gpus=0)
    make(stage.spool.dropped("x.yaml"))
    make(stage.spool.request("x.yaml"))
    stage.user_drops(VICTIM, "good.yaml")
    stage.tick()
    stage.tick()
    (told,) = [event for event in stage.events() if isinstance(event, Rejected)]
    assert "not a regular file" in told.reason
    assert os.path.lexists(os.path.join(stage.spool.rejected, told.file)), "it is moved, not followed"
    (request,) = [event for event in stage.events() if isinstance(event, Requested)]
    assert "not a regular file" in request.reason and not request.ids
    assert stage.status_of(VICTIM) != [Status.PENDING] and len(stage.status_of(VICTIM)) == 1
    assert [event.uid for event in stage.events() if isinstance(event, Accepted)] == [VICTIM]


def test_a_hard_link_to_anothers_file_makes_no_job_of_anybody(folder: Path) -> None:
    stage = Crowd(folder)
    stage.node("n1", gpus=0)
    theirs = stage.user_drops(VICTIM, "draft", folder=stage.spool.tmp)
    os.link(theirs, stage.spool.dropped("x.yaml"))
    stage.tick()
    stage.tick()
    assert not [event for event in stage.events() if isinstance(event, Accepted)]
    (told,) = [event for event in stage.events() if isinstance(event, Rejected)]
    assert "2 hard links" in told.reason


def test_a_hard_link_to_anothers_request_cancels_nothing(folder: Path) -> None:
    stage = Crowd(folder)
    theirs = stage.user_drops(VICTIM, "draft", "cancel: all\n...\n", stage.spool.tmp)
    stage.user_drops(VICTIM, "good.yaml")
    stage.tick()
    os.link(theirs, stage.spool.request("x.yaml"))
    stage.tick()
    stage.tick()
    (request,) = [event for event in stage.events() if isinstance(event, Requested)]
    assert "hard link" in request.reason and not request.ids
    assert stage.status_of(VICTIM) == [Status.PENDING]


# ---- swapped between any two looks at it


class Watched(Disk):
    """A disk that lets somebody act right before one of the calls to it."""

    def __init__(self) -> None:
        self.at, self.count, self.act = 0, 0, lambda: None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in REACHES_THE_DISK:
            return found

        def call(*words: Any, **more: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                self.act()
            return found(*words, **more)

        return call


class Swap:
    """One user's file, and what stands under its name when the user has acted. Each text belongs to one user."""

    def __init__(self, folder: Path) -> None:
        self.stage = Crowd(folder)
        self.stage.disk = self.disk = Watched()
        self.owners: dict[str, int] = {}
        self.stage.node("n1", gpus=0)
        self.stage.tick()
        self.drop("a.yaml", EVIL, "first")

    def text(self, uid: int, word: str) -> str:
        made = f"run: echo {word}\n...\n"
        self.owners[history.digest(made.encode())] = uid
        return made

    def drop(self, name: str, uid: int, word: str, folder: str | None = None) -> str:
        return self.stage.user_drops(uid, name, self.text(uid, word), folder)

    def present(self) -> str | None:
        """Where the file can be reached by its user now: under its own name, or with an ID in front."""
        found = [name for name in os.listdir(self.stage.spool.pending) if name.endswith("a.yaml")]
        return self.stage.spool.dropped(found[0]) if found else None

    def become(self, make: Callable[[str], None]) -> None:
        if path := self.present():
            os.unlink(path)
            make(path)

    def to_link(self) -> None:
        target = Path(self.stage.spool.root, "root-only.yaml")
        target.write_text(self.text(0, "root"))
        self.become(lambda path: os.symlink(target, path))

    def to_file_of_victim(self) -> None:
        """As where nothing keeps users from linking what is not theirs."""
        theirs = self.drop("theirs", VICTIM, "victim", self.stage.spool.tmp)
        self.owners = {digest: uid for digest, uid in self.owners.items() if uid != VICTIM}  # who never submitted it
        self.become(lambda path: os.link(theirs, path))

    def to_moved_file_of_victim(self) -> None:
        theirs = self.drop("theirs", VICTIM, "victim", self.stage.spool.tmp)
        self.become(lambda path: os.rename(theirs, path))

    def to_another_text(self) -> None:
        new = self.drop("new", EVIL, "second", self.stage.spool.tmp)
        self.become(lambda path: os.rename(new, path))

    def to_fifo(self) -> None:
        self.become(os.mkfifo)

    def written_over(self) -> None:
        """Through a descriptor that was opened before: wherever the file stands, and whatever it is called."""
        text = self.text(EVIL, "third").encode()
        for place in (self.stage.spool.pending, self.stage.spool.claims, self.stage.spool.running):
            for path in Path(place).rglob("*a.yaml"):
                if path.is_file() and not path.is_symlink():
                    path.write_bytes(text)

    def gone(self) -> None:
        self.become(lambda path: None)


ACTS = [
    Swap.to_link,
    Swap.to_file_of_victim,
    Swap.to_moved_file_of_victim,
    Swap.to_another_text,
    Swap.to_fifo,
    Swap.written_over,
    Swap.gone,
]


def story(swap: Swap) -> None:
    """It is accepted, starts, and ends."""
    for _ in range(4):
        swap.stage.tick()
        swap.stage.nodes["n1"].step()
    swap.stage.finish("a")


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_whenever_a_file_is_swapped_what_runs_is_a_text_of_the_user_it_runs_for(
    act: Callable[[Swap], None], folder: Path
) -> None:
    untroubled = Swap(folder / "untroubled")
    before = untroubled.disk.count
    story(untroubled)
    calls = untroubled.disk.count - before
    assert len(untroubled.stage.nodes["n1"].ran) == 1 and calls > 20
    ends = set()
    for number in range(1, calls + 1):
        swap = Swap(folder / str(number))
        swap.disk.at, swap.disk.act = swap.disk.count + number, lambda swap=swap: act(swap)
        story(swap)
        ends.add(check(swap))
    assert len(ends) > 1, "it never made a difference: nothing was tested"


def check(swap: Swap) -> tuple[str, ...]:
    """What came of it, the promises kept."""
    term = swap.stage.term
    assert term is not None
    jobs = {job.id: job for job in term.state.known()}
    for key, text in swap.stage.nodes["n1"].ran:
        job, digest = jobs[int(key.split(".")[0])], history.digest(text.encode())
        assert job.digest == digest, "what runs is what was accepted"
        assert swap.owners[digest] == job.uid, f"{text!r} runs for user {job.uid}"
    for event in swap.stage.events():
        if isinstance(event, Accepted):
            assert swap.owners.get(event.digest) == event.uid != 0
    swap.stage.user_drops(VICTIM, "after.yaml")
    swap.stage.run()
    swap.stage.finish("after")
    assert [job.status for job in swap.stage.jobs()["after"]] == [Status.SUCCEEDED], "others go on"
    return (
        *sorted(f"{job.status} {job.user}" for job in jobs.values()),
        *sorted(text for _, text in swap.stage.nodes["n1"].ran),
    )
