"""Clients with an error at each call: a submission tells truly what became of it, and a reading verb hides nothing.

What says 0 stands whole in pending/. What says otherwise says why, with a code that is known, and says that nothing was
submitted only where nothing was. Verbs that read show what they show without trouble, or say what went wrong: what
cannot be read is never shown as absent.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from skyspool.__main__ import main
from spool_layout import errors
from spool_layout.states import Status
from spool_layout.storage import Disk, Space
from tests.client.builders import Head, Scene
from tests.faults.port import FAULTS, Fault, Port, trouble

SUBMIT = ("exec", "-d", "--no-wait", "--gpus", "H100:1", "--", "hostname")
KNOWN = {1, 3, errors.EXIT_IO, errors.EXIT_DATA, errors.EXIT_UNAVAILABLE, 77}
BEFORE = "Command to run: hostname\nSubmitting job to cluster: mycluster\n"
PRUNE = "hint: skyspool prune --older 30d --dry-run      # what could be removed\n"
FEW = 7  # of so many calls one, in the tests that always run
READING = (
    ("queue",),
    ("queue", "-s", "-u"),
    ("logs", "--no-follow", "1"),
    ("logs", "1"),
    ("logs", "2", "--status"),
    ("why", "2"),
    ("status",),
)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def scene(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Two jobs, one of which is over; a file that no head has accepted; a head that lives."""
    made = Scene(folder)
    monkeypatch.setenv("SKYSPOOL_DIR", made.spool.root)
    monkeypatch.chdir(folder)
    made.node("n1", "H100:4")
    made.ended(made.started("over", "H100:1"), Status.FAILED, (2,))
    made.log(1, "run.log", b"one\ntwo\n" * 40000)
    made.started("runs", "H100:1")
    made.dropped("waits@00000000000000.yaml")
    made.head()
    return made


@pytest.fixture
def sky(port: Port, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in this process, through the port."""

    def run(*words: str) -> Ran:
        with port:
            code = main(words)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return Ran(code, out.decode(), err.decode())

    now = time.time()
    monkeypatch.setattr("skyspool.queueing.time", SimpleNamespace(time=lambda: now))
    return run


# ---- submitting


class Submissions:
    """Submits again and again, and looks at what each one says."""

    def __init__(self, scene: Scene, sky: Run, port: Port, words: tuple[str, ...]) -> None:
        self.scene, self.sky, self.port, self.words = scene, sky, port, words

    def dropped(self) -> list[str]:
        """What was submitted: waiting, or accepted by now."""
        listed = os.listdir(self.scene.spool.pending)
        known = [job.drop for job in self.scene.state.known()]  # after that: a head may be just accepting one
        files = [file for file in listed if file not in self.scene.state.waiting]
        return sorted({*known, *files})

    def submit(self) -> None:
        before = set(self.dropped())
        ran = self.sky(*self.words)
        self.port.lift()
        new = set(self.dropped()) - before
        assert len(new) <= 1, new
        if ran.code == 0:
            self.is_there(new, ran)
        else:
            assert ran.code in KNOWN and "\nerror: " in f"\n{ran.err}", ran
            says_none, says_some = "nothing was submitted" in ran.err, "submitted" in ran.err
            assert not (new and (says_none or not says_some)), f"it is there, and this is said: {ran}"
            assert new or ran.code != 3 or "may have been" in ran.err, f"it is not there, and this is said: {ran}"

    def is_there(self, new: set[str], ran: Ran) -> None:
        [file] = new
        path = Path(self.scene.spool.dropped(file))
        if path.exists():  # a head takes it otherwise
            assert path.read_text().endswith("\n...\n")
        assert f"handle: {file.removesuffix('.yaml')}" in ran.out or "ID: " in ran.out, ran


by_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
by_lasting = pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])


@pytest.mark.faults
@by_lasting
@by_fault
def test_a_submission_tells_truly_what_became_of_it(
    scene: Scene, sky: Run, port: Port, fault: Fault, lasting: bool
) -> None:
    submissions = Submissions(scene, sky, port, SUBMIT)
    assert trouble(port, fault, lasting, submissions.submit) > 0


@by_fault
def test_a_submission_tells_truly_what_became_of_it_at_some_calls(
    scene: Scene, sky: Run, port: Port, fault: Fault
) -> None:
    submissions = Submissions(scene, sky, port, SUBMIT)
    assert trouble(port, fault, True, submissions.submit, every=FEW) > 0


@pytest.mark.faults
@by_fault
def test_a_submission_that_waits_for_its_id_tells_truly_what_became_of_it(
    scene: Scene, sky: Run, port: Port, fault: Fault
) -> None:
    submissions = Submissions(scene, sky, port, tuple(word for word in SUBMIT if word != "--no-wait"))
    with Head(scene):
        assert trouble(port, fault, False, submissions.submit) > 0


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.number in (errno.ENOSPC, errno.EDQUOT)], ids=lambda f: f.name)
def test_who_has_no_room_is_told_what_was_not_done_where_and_what_to_do(
    scene: Scene, sky: Run, port: Port, fault: Fault
) -> None:
    """A disk that is full at once, or a quota, which no look beforehand shows."""
    port.plan(fault._replace(calls=fault.calls - {"close"}), 1, lasting=True)  # first of all it closes what it has read
    words = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}[fault.number]
    told = f"{BEFORE}error: nothing was submitted: {scene.spool.root}: {words}\n{PRUNE}"
    assert sky(*SUBMIT) == Ran(errors.EXIT_IO, "", told)
    assert port.struck


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (Space(8 << 20, 1 << 40, 10**6, 10**6), "8192 KiB are free, and 16384 KiB are kept for the jobs that run"),
        (Space(1 << 30, 1 << 40, 150, 10**6), "150 more files can be made, and 200 are kept for the jobs that run"),
    ],
    ids=["bytes", "inodes"],
)
def test_who_would_take_what_is_kept_for_running_jobs_is_told_how_much_that_is(
    scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch, left: Space, words: str
) -> None:
    monkeypatch.setattr(Disk, "room", lambda *_: left)
    told = f"{BEFORE}error: nothing was submitted: {scene.spool.root} is full: {words}\n{PRUNE}"
    assert sky(*SUBMIT) == Ran(errors.EXIT_IO, "", told)


# ---- reading


def shows_all(sky: Run, port: Port, words: tuple[str, ...]) -> Callable[[], None]:
    """What a verb shows is what it shows without trouble, or it says what went wrong."""
    port.lift()
    untroubled = sky(*words)

    def look() -> None:
        ran = sky(*words)
        told = port.fault is not None and port.struck and os.strerror(port.fault.number) in ran.err
        if ran != untroubled and not told:
            pytest.fail(f"without trouble: {untroubled}\nnow, and no word of an error: {ran}", pytrace=False)

    return look


@pytest.mark.faults
@by_lasting
@pytest.mark.parametrize("fault", [f for f in FAULTS if "read" in f.calls or "stat" in f.calls], ids=lambda f: f.name)
@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_reading_verb_hides_nothing(
    scene: Scene, sky: Run, port: Port, words: tuple[str, ...], fault: Fault, lasting: bool
) -> None:
    assert trouble(port, fault, lasting, shows_all(sky, port, words)) > 0


@by_lasting
@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_reading_verb_hides_nothing_at_some_calls(
    scene: Scene, sky: Run, port: Port, words: tuple[str, ...], lasting: bool
) -> None:
    assert trouble(port, FAULTS[0], lasting, shows_all(sky, port, words), every=FEW) > 0
