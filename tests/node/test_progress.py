"""Where an attempt stands by the files in its directory, and ending it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from spool_layout.records import Phase
from spoold.local import boot_id
from spoold.node import progress
from spoold.node.cgroups import Group
from spoold.node.containment import MARK
from spoold.node.supervisor import Supervisor
from spoold.node.workplace import Attempt, Workplace, boot_time, read_json, start_time

DEAD = {"by": "supervisor", "pid": 1, "start": 1, "boot": "the boot before"}
AT = {"at": 5.0}
PID = {"pid": 7, "start": 1, "at": 4.0}


def ended(code: int, fenced: bool = False, gone: bool = True) -> dict[str, object]:
    return {"code": code, "at": 6.0, "fenced": fenced, "gone": gone}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    made = Workplace(str(tmp_path / "node-n1"))
    made.make()
    return made


@pytest.fixture
def attempt(place: Workplace) -> Attempt:
    """Prepared, with setup and run."""
    progress.prepare(place, "1.1", {"version": (1, 1), "scripts": {"setup": "true", "run": "true"}})
    return place.attempt("1.1")


def put(attempt: Attempt, **files: object) -> None:
    """Files of an attempt; `_` stands for the dot."""
    for name, value in files.items():
        attempt.write(name.replace("_", "."), value)


# ---- preparing, settling, forgetting


def test_an_attempt_appears_whole(place: Workplace, attempt: Attempt) -> None:
    assert attempt.names() == {"order.json"}
    assert os.stat(attempt.path).st_mode & 0o777 == 0o700
    assert os.listdir(place.attempts) == ["1.1"]


def test_preparing_that_was_cut_is_done_again(place: Workplace) -> None:
    os.mkdir(os.path.join(place.attempts, ".1.1"))
    Path(place.attempts, ".1.1", "left.over").touch()
    assert place.remembered() == []
    progress.prepare(place, "1.1", {})
    assert place.attempt("1.1").names() == {"order.json"}


def test_scripts_are_kept_to_the_byte(place: Workplace) -> None:
    text = "echo 'ä€𝄞'\r\n\techo\v x\n" * 50_000
    progress.prepare(place, "1.1", {"scripts": {"run": text}})
    assert place.attempt("1.1").read("order.json")["scripts"]["run"].encode() == text.encode()


def test_what_is_settled_is_marked_first_and_can_be_settled_again(place: Workplace) -> None:
    phase = Phase("lost", reason="why")
    for _ in range(2):
        progress.settle(place, "1.1", phase, (3, 4))
        assert progress.stand(place.attempt("1.1")) == phase
    assert read_json(place.attempt("1.1").file("marker"))["by"] == "runner"
    assert tuple(read_json(place.attempt("1.1").file("order.json"))["version"]) == (3, 4)


def test_what_is_forgotten_is_out_of_sight_also_when_it_was_cut_before(place: Workplace, attempt: Attempt) -> None:
    os.mkdir(os.path.join(place.attempts, ".old-1.1"))
    progress.forget(attempt)
    assert place.remembered() == []
    progress.forget(attempt)
    assert os.listdir(place.attempts) == []


# ---- standing


@pytest.mark.parametrize(
    ("files", "phase"),
    [
        ({}, Phase("starting")),
        ({"marker": DEAD}, Phase("starting")),
        ({"marker": {**DEAD, "by": "runner"}}, Phase("never", reason="was marked never to be started")),
        ({"marker": DEAD, "setup_pid": PID}, Phase("setup", stage="setup", pid=7, started_at=4.0)),
        ({"marker": DEAD, "setup_pid": PID, "setup_exit": ended(0)}, Phase("ready", stage="setup")),
        (
            {"marker": DEAD, "setup_pid": PID, "setup_exit": ended(2)},
            Phase("ended", stage="setup", code=2, pid=7, started_at=4.0, ended_at=6.0),
        ),
        (
            {"marker": DEAD, "setup_pid": PID, "setup_exit": ended(0), "run_pid": {**PID, "pid": 8}},
            Phase("running", pid=8, started_at=4.0),
        ),
        (
            {"marker": DEAD, "setup_exit": ended(0), "run_pid": PID, "run_exit": ended(3)},
            Phase("ended", code=3, pid=7, started_at=4.0, ended_at=6.0),
        ),
        (
            {"marker": DEAD, "run_pid": PID, "run_exit": ended(3, gone=False)},
            Phase("exited", code=3, pid=7, started_at=4.0, ended_at=6.0),
        ),
        (
            {"marker": DEAD, "run_pid": PID, "run_exit": ended(3), "containers": "called an engine"},
            Phase("exited", code=3, pid=7, started_at=4.0, ended_at=6.0),
        ),
        (
            {"marker": DEAD, "setup_exit": ended(0), "run_exit": ended(137, fenced=True)},
            Phase("ended", code=137, ended_at=6.0, reason="ended by its node, which had lost contact", fenced=True),
        ),
        ({"marker": DEAD, "fail": {"reason": "no"}}, Phase("exited", stage="setup", code=1, reason="no")),
        ({"marker": DEAD, "run_exit": ended(3), "outcome": {"phase": "lost"}}, Phase("lost")),
    ],
)
def test_where_it_stands(attempt: Attempt, files: dict[str, object], phase: Phase) -> None:
    put(attempt, **files)
    assert progress.stand(attempt) == phase


def test_a_task_with_only_setup_is_over_with_it(place: Workplace) -> None:
    progress.prepare(place, "1.1", {"scripts": {"setup": "true"}})
    put(place.attempt("1.1"), marker=DEAD, setup_pid=PID, setup_exit=ended(0))
    phase = progress.stand(place.attempt("1.1"))
    assert (phase.phase, phase.stage, phase.code) == ("ended", "run", 0)
    assert progress.is_gone(place.attempt("1.1"))


@pytest.mark.parametrize(
    ("files", "gone"),
    [
        ({}, False),
        ({"run_exit": ended(0, gone=False)}, False),
        ({"run_exit": ended(0, gone=True)}, True),
        ({"run_exit": ended(0, gone=False), "gone": AT}, True),
        ({"setup_exit": ended(0, gone=True)}, False),  # run is still to come
        ({"setup_exit": ended(4, gone=True)}, True),
        ({"setup_exit": ended(0, gone=True), "run_pid": PID}, False),
        ({"setup_exit": ended(0, gone=True), "run_exit": ended(1, gone=False)}, False),
    ],
)
def test_whether_the_supervisor_said_that_nothing_is_left(
    attempt: Attempt, files: dict[str, object], gone: bool
) -> None:
    put(attempt, marker=DEAD, **files)
    assert progress.is_gone(attempt) == gone


# ---- whose processes they are


@pytest.fixture
def stranger() -> object:
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def test_a_supervisor_is_known_by_pid_start_and_boot(attempt: Attempt, stranger: subprocess.Popen[bytes]) -> None:
    start = start_time(stranger.pid)
    assert start is not None
    marker = {"by": "supervisor", "pid": stranger.pid, "start": start, "boot": boot_id()}
    for wrong in ({"start": start + 1}, {"boot": "the boot before"}, {"by": "runner"}, {"pid": 1 << 22}):
        put(attempt, marker={**marker, **wrong})
        assert progress.supervisor(Attempt(attempt.path)) is None
    put(attempt, marker=marker)
    assert progress.supervisor(attempt) == (stranger.pid, start)


@pytest.mark.parametrize("other", ["boot", "start"])
def test_a_number_that_was_given_anew_is_nobody_of_ours(
    attempt: Attempt, stranger: subprocess.Popen[bytes], other: str
) -> None:
    start = start_time(stranger.pid)
    assert start is not None
    boot = "the boot before" if other == "boot" else boot_id()
    put(attempt, marker={"by": "supervisor", "pid": 1 << 22, "start": 1, "boot": boot})
    put(attempt, run_pid={"pid": stranger.pid, "start": start + (other == "start"), "at": 1.0})
    assert progress.processes(attempt) == []
    assert progress.Ending(0.0).step(attempt)
    assert stranger.poll() is None


# ---- ending


@pytest.fixture
def orphan(attempt: Attempt) -> object:
    """A process of an attempt whose supervisor is dead: it heeds no SIGTERM until it is told to."""
    code = (
        f"trap 'echo term >> {attempt.path}/heard' TERM; echo up > {attempt.path}/heard; while :; do sleep 0.02; done"
    )
    process = subprocess.Popen(["bash", "-c", code], env={**os.environ, MARK: attempt.path})
    put(attempt, marker={**DEAD, "boot": boot_id()})
    until(lambda: heard(attempt) == ["up"])
    yield process
    process.kill()
    process.wait()


def heard(attempt: Attempt) -> list[str]:
    """What the orphan has said."""
    path = Path(attempt.path, "heard")
    return path.read_text().split() if path.exists() else []


def until(holds: object, seconds: float = 10) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_is_asked_once_and_killed_after_the_grace_time(attempt: Attempt, orphan: subprocess.Popen[bytes]) -> None:
    ending = progress.Ending(3600.0)
    assert not ending.step(attempt)
    until(lambda: heard(attempt) == ["up", "term"])
    assert not ending.step(attempt) and not ending.step(attempt)
    assert heard(attempt) == ["up", "term"] and orphan.poll() is None
    put(attempt, stop={"at": boot_time() - 3600})
    assert not ending.step(attempt)
    assert orphan.wait(10) == -signal.SIGKILL
    until(lambda: ending.step(attempt))


def test_the_grace_time_goes_on_when_the_runner_is_another_one(
    attempt: Attempt, orphan: subprocess.Popen[bytes]
) -> None:
    put(attempt, stop={"at": boot_time() - 31})
    assert not progress.Ending(30.0).step(attempt)
    assert orphan.wait(10) == -signal.SIGKILL


def test_a_stopped_process_is_let_go_on_so_that_it_can_heed(attempt: Attempt, orphan: subprocess.Popen[bytes]) -> None:
    orphan.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, orphan.pid, os.WSTOPPED | os.WNOWAIT)
    progress.Ending(3600.0).step(attempt)
    until(lambda: heard(attempt) == ["up", "term"])


@pytest.mark.parametrize(("phase", "last"), [("exited", "ended"), ("running", "lost"), ("ready", "lost")])
def test_what_is_closed_keeps_what_is_known_of_it(attempt: Attempt, phase: str, last: str) -> None:
    closed = progress.close(attempt, Phase(phase, code=3 if phase == "exited" else None, pid=9))
    assert (closed.phase, closed.pid) == (last, 9)
    assert progress.stand(attempt) == closed


# ---- by its cgroup


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """A directory that stands in for an attempt's cgroup of v2: somebody is in it, whom no list of processes shows."""
    made = tmp_path / "cgroup"
    made.mkdir()
    (made / "cgroup.events").write_text("populated 1\n")
    (made / "cgroup.kill").touch()
    return made


def test_after_the_grace_time_whatever_is_in_its_cgroup_is_killed_with_it(attempt: Attempt, cgroup: Path) -> None:
    put(attempt, marker={**DEAD, "cgroups": {"processes": str(cgroup)}})
    assert not progress.Ending(3600.0).step(attempt)
    assert not progress.Ending(3600.0).step(attempt)
    assert (cgroup / "cgroup.kill").read_text() == ""
    assert not progress.Ending(0.0).step(attempt)
    assert (cgroup / "cgroup.kill").read_text() == "1"
    (cgroup / "cgroup.events").write_text("populated 0\n")
    assert progress.Ending(0.0).step(attempt)


def test_its_supervisor_kills_whatever_is_in_its_cgroup_too(
    place: Workplace, attempt: Attempt, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spoold.node.containment.below", lambda *_, **__: [])  # not what else this process started
    watcher = Supervisor(place, attempt, -1)
    watcher.group = Group(str(cgroup))
    watcher.end_if_due()
    assert (cgroup / "cgroup.kill").read_text() == ""
    put(attempt, kill=AT)
    watcher.end_if_due()
    assert (cgroup / "cgroup.kill").read_text() == "1"
