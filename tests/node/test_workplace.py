"""The node's own directory: locks, markers, the time rule, files that are whole or not there."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spool_layout.errors import Taken
from spoold.local import boot_id
from spoold.node.workplace import (
    Workplace,
    boot_time,
    is_alive,
    is_free,
    link_new,
    read_json,
    start_time,
    try_lock,
    write,
)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    made = Workplace(str(tmp_path / "node-n1"))
    made.make()
    return made


def in_a_process(code: str, *words: str) -> subprocess.Popen[bytes]:
    """Python in a process of its own; it has said a line when this returns, and goes on until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{code}\nprint('!', flush=True)\nsys.stdin.read()", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline()
    return process


# ---- the directory


def test_it_is_closed_to_others_and_made_again_without_harm(place: Workplace) -> None:
    assert os.stat(place.attempts).st_mode & 0o777 == 0o700
    memory = place.memory
    place.make()
    assert place.memory == memory and len(memory) == 16


def test_drafts_are_no_attempts(place: Workplace) -> None:
    for name in ("1.1", ".1.1", ".old-2.1"):
        os.mkdir(os.path.join(place.attempts, name))
    assert place.remembered() == ["1.1"]


def test_a_marker_is_read_once(place: Workplace) -> None:
    os.mkdir(place.attempt("1.1").path)
    attempt = place.attempt("1.1")
    assert attempt.marker is None and not attempt.is_marked()
    assert place.attempt("1.1").mark("runner")
    assert attempt.is_marked() and attempt.marker["by"] == "runner"
    os.unlink(attempt.file("marker"))
    assert attempt.is_marked() and attempt.marker["by"] == "runner"
    assert not place.attempt("1.1").is_marked()


# ---- locks


def test_a_second_runner_is_refused_naming_the_pid_of_the_first(place: Workplace) -> None:
    code = "from spoold.node.workplace import Workplace\nlock = Workplace(sys.argv[1]).lock_runner()"
    first = in_a_process(code, place.path)
    try:
        assert place.has_runner()
        with pytest.raises(Taken, match=f"pid {first.pid}") as caught:
            place.lock_runner()
        assert "--name" in caught.value.hint
    finally:
        first.kill()
        first.communicate()
    assert not place.has_runner()  # a lock ends with its holder, however that ended
    os.close(place.lock_runner())


def test_to_ask_whether_a_lock_is_held_leaves_it_as_it_was(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    assert is_free(path)
    held = try_lock(path)
    assert held is not None and not is_free(path) and try_lock(path) is None
    os.close(held)
    assert is_free(path)


# ---- markers


def test_of_many_that_mark_at_once_one_has_it(place: Workplace) -> None:
    os.mkdir(place.attempt("1.1").path)
    code = (
        "from spoold.node.workplace import Workplace\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "print(Workplace(sys.argv[1]).attempt('1.1').mark('supervisor'), flush=True)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", f"import sys\n{code}", place.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(b"\n")
        racer.stdin.flush()
    won = [racer.communicate()[0] == b"True\n" for racer in racers]
    assert won.count(True) == 1
    assert read_json(place.attempt("1.1").file("marker"))["pid"] == racers[won.index(True)].pid
    assert place.attempt("1.1").names() == {"marker"}


def test_a_marker_names_process_and_boot(place: Workplace) -> None:
    os.mkdir(place.attempt("1.1").path)
    assert place.attempt("1.1").mark("runner")
    assert read_json(place.attempt("1.1").file("marker")) == {
        "by": "runner",
        "pid": os.getpid(),
        "start": start_time(os.getpid()),
        "boot": boot_id(),
    }


# ---- files


@pytest.fixture
def full_disk() -> object:
    """Nothing can be written to files any more (EFBIG, which root gets too)."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.usefixtures("full_disk")
def test_a_write_that_fails_leaves_nothing_new_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write(str(tmp_path / "renewed"), {"at": 1})
    with pytest.raises(OSError):
        link_new(str(tmp_path / "marker"), "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_and_a_taken_name_is_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    write(path, {"a": 1})
    write(path, {"b": 2})
    assert not link_new(path, '{"c": 3}')
    assert read_json(path) == {"b": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert read_json(str(tmp_path / "missing")) is None


# ---- the time rule


def test_time_is_kept_within_the_limit_of_the_last_renewal(place: Workplace) -> None:
    place.renew(10.0, boot_time() - 9, 0)
    assert place.keeps_time(0)
    place.renew(10.0, boot_time() - 11, 0)
    assert not place.keeps_time(0)


def test_a_lapse_since_is_a_lapse_though_time_is_kept_again(place: Workplace) -> None:
    place.renew(10.0, boot_time(), 3)
    assert place.keeps_time(3) and not place.keeps_time(2)
    assert place.lapses() == 3


def test_no_time_is_kept_without_a_renewal_or_with_one_of_another_boot(place: Workplace) -> None:
    assert not place.keeps_time(0) and place.age() is None and place.lapses() == 0
    place.renew(10.0, boot_time(), 0)
    path = Path(place.path, "renewed")
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "the boot before"}))
    assert not place.keeps_time(0) and place.age() is None


def test_left_on_purpose_means_for_ever(place: Workplace) -> None:
    place.renew(None, boot_time() - 1e6, 0)
    assert place.keeps_time(0) and place.was_left()
    age = place.age()
    assert age is not None and age >= 1e6
    place.renew(10.0, boot_time(), 0)
    assert not place.was_left()


# ---- processes


def test_a_process_is_known_by_pid_and_start(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "300"])
    start = start_time(process.pid)
    assert start is not None and is_alive(process.pid, start)
    assert not is_alive(process.pid, start + 1) and not is_alive(process.pid, None)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(process.pid) == start and not is_alive(process.pid, start)  # a zombie runs nothing
    process.wait()
    assert start_time(process.pid) is None and not is_alive(process.pid, start)
