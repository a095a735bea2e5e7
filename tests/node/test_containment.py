"""Which processes are an attempt's, and that no other is hit."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spoold.node.containment import MARK, Process, below, children, marked, of_attempt, session, signal_process
from spoold.node.workplace import start_time

# A subreaper, as a supervisor is: it runs what it is given, reaps, and waits.
KEEPER = """
import ctypes, os, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
child = subprocess.Popen(["bash", "-c", sys.argv[1]])
child.wait()
signal.pause()
"""
THREADS = """
#include <pthread.h>
#include <unistd.h>
static void *wait_long(void *none) { for (;;) pause(); return none; }
int main(void) { pthread_t thread; pthread_create(&thread, 0, wait_long, 0); pthread_exit(0); }
"""


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes that are killed with the test, with everything below them."""
    made: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **env: str) -> subprocess.Popen[bytes]:
        made.append(subprocess.Popen(words, env={**os.environ, **env}))
        return made[-1]

    yield start
    for process in made:
        for found in below(process.pid):
            signal_process(found, signal.SIGKILL)
        process.kill()
        process.wait()


@pytest.fixture
def keep(spawn: Callable[..., subprocess.Popen[bytes]]) -> Callable[..., int]:
    """Run commands below a subreaper; its pid."""
    return lambda commands, **env: spawn(sys.executable, "-c", KEEPER, commands, **env).pid


def until(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def names(processes: list[Process]) -> list[str]:
    """The programs that they run, sorted; those that have ended meanwhile left out."""
    found = []
    for process in processes:
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{process.pid}/comm").read_text().strip())
    return sorted(found)


# ---- below a supervisor


@pytest.mark.parametrize(
    ("commands", "found"),
    [
        ("sleep 300 & sleep 301 | sleep 302 & wait", ["bash", "sleep", "sleep", "sleep"]),
        ("setsid -f sleep 300", ["sleep"]),
        ("env -i setsid -f sleep 300", ["sleep"]),
        ("(setsid -f setsid -f env -i bash -c 'sleep 300 & sleep 301' &)", ["bash", "sleep", "sleep"]),
        ("nohup sleep 300 > /dev/null 2>&1 & disown", ["sleep"]),
    ],
)
def test_whatever_a_job_starts_stays_below_its_supervisor(
    keep: Callable[..., int], commands: str, found: list[str]
) -> None:
    keeper = keep(commands)
    until(lambda: names(below(keeper)) == found)
    assert keeper not in [process.pid for process in below(keeper)]


def test_a_stopped_process_is_found_and_a_zombie_is_not(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    child = spawn("sleep", "300")
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert child.pid in [process.pid for process in below(os.getpid())]
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.pid in children(os.getpid())
    assert child.pid not in [process.pid for process in below(os.getpid())]


def test_a_process_whose_main_thread_has_ended_is_found(keep: Callable[..., int], tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc)")
    (tmp_path / "threads.c").write_text(THREADS)
    program = str(tmp_path / "threads")
    subprocess.run([compiler, "-pthread", "-o", program, str(tmp_path / "threads.c")], check=True)
    keeper = keep(f"exec {program}")
    until(lambda: state_of_first_child(keeper) == "Z")
    (left,) = children(keeper)
    try:
        assert [process.pid for process in below(keeper)] == [left]
    finally:
        os.kill(left, signal.SIGKILL)


def state_of_first_child(pid: int) -> str:
    """The state letter of a child that is no longer bash; "" before that."""
    for child in children(pid):
        text = Path(f"/proc/{child}/stat").read_text()
        if "(bash)" not in text:
            return text.rpartition(")")[2].split()[0]
    return ""


def test_nothing_is_below_what_does_not_live() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert below(gone.pid) == [] and children(gone.pid) == [] and session(gone.pid) == 0


# ---- where the supervisor was killed


def test_the_mark_is_found_in_every_process_that_has_not_cleared_it(keep: Callable[..., int], tmp_path: Path) -> None:
    mine, other = str(tmp_path / "1.1"), str(tmp_path / "1.10")
    ours = keep("setsid -f sleep 300; sleep 301", **{MARK: mine})
    theirs = keep("sleep 302", **{MARK: other})
    until(lambda: names(below(ours)) == ["sleep", "sleep"] and names(below(theirs)) == ["sleep"])
    found = {process.pid for process in of_attempt(mine, [])}
    assert found == {ours, *(process.pid for process in below(ours))}
    assert marked(theirs, other) and not marked(theirs, mine)


def test_without_a_mark_they_are_found_below_and_in_the_session_of_the_recorded_one(tmp_path: Path) -> None:
    commands = "(sleep 300 &); setsid sleep 301 & sleep 302; true"  # an orphan, one in a session of its own, a child
    root = subprocess.Popen(["bash", "-c", commands], start_new_session=True)
    try:
        until(lambda: names(of_attempt(str(tmp_path), [root.pid])) == ["bash", "sleep", "sleep", "sleep"])
        assert len(below(root.pid)) == 2
    finally:
        for process in of_attempt(str(tmp_path), [root.pid]):
            signal_process(process, signal.SIGKILL)
        root.wait()


def test_the_searcher_itself_is_never_found(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom spoold.node.containment import of_attempt\n"
        "print(os.getpid() in [p.pid for p in of_attempt(sys.argv[1], [os.getpid()])])"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.check_output(words, env={**os.environ, MARK: str(tmp_path)}) == b"False\n"


# ---- signalling


def test_a_number_that_was_given_anew_is_not_hit(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    child = spawn("sleep", "300")
    start = start_time(child.pid)
    assert start is not None
    signal_process(Process(child.pid, start - 1), signal.SIGKILL)
    assert child.poll() is None
    signal_process(Process(child.pid, start), signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    signal_process(Process(child.pid, start), signal.SIGKILL)  # gone: nothing happens
