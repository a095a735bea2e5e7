"""Which processes are an attempt's, that no other is hit, and that whatever a job did to stay is gone with it.

The last in both ways: with a cgroup of its own, and where none can be made.
"""

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
from typing import Any

import pytest

from spoold.node import cgroups, progress, spawning
from spoold.node.containment import MARK, Process, below, children, marked, of_attempt, session, signal_process
from spoold.node.workplace import Workplace, start_time
from tests.e2e.cluster import Cluster
from tests.node.site import Site, kill, running

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
        pytest.skip("cc is not installed: a process without its main thread is NOT looked for")
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


# ---- what a job does to stay

# A host on which no cgroup can be made: what mountinfo tells of them is no longer to be seen.
WITHOUT = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh"]
HIDDEN = """
setsid -f env -i setsid -f bash -c 'trap "" TERM HUP INT; echo up >&7; while :; do sleep 0.2; done'
trap "" TERM
while :; do sleep 1; done
"""
# Each lives for some hundred microseconds: it forks the next one, in a session of its own, and ends.
RENEWED = """$SIG{TERM} = "IGNORE"; syswrite(STDOUT, "up\\n"); for (;;) { exit if fork; POSIX::setsid() }"""
RENEWING = f"perl -MPOSIX -e '{RENEWED}' >&7 &"


@pytest.fixture(params=["cgroup", "/proc"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How processes are held together by starters that are started from here on."""
    if request.param == "cgroup":
        if not cgroups.here().processes:
            pytest.skip("NOT TESTED: no cgroup can be made here")
        return "cgroup"
    if subprocess.run([*WITHOUT, "true"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: a host without cgroups needs a mount namespace, and so root")
    monkeypatch.setattr(spawning, "spawn", spawn_without)
    monkeypatch.setattr(cgroups, "here", cgroups.Place)
    return "/proc"


def spawn_without(place: Workplace) -> None:
    """Start a starter that can make no cgroup."""
    words = ["setsid", "-f", *WITHOUT, sys.executable, "-m", "spoold.node.starter", place.path]
    with Path(place.path, "starter.log").open("ab") as log:
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=True)


class Line:
    """A FIFO that a job's processes hold open as descriptor 7: closed when the last of them is gone, at that moment."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "line"
        os.mkfifo(self.path)
        self.end = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def hears(self) -> bool:
        """Whether something was said since; False also where nobody holds it."""
        try:
            return os.read(self.end, 1 << 16) != b""
        except BlockingIOError:
            return False

    def is_closed(self) -> bool:
        """Whether nobody holds it."""
        try:
            while os.read(self.end, 1 << 16):
                pass  # what was said before
            return True
        except BlockingIOError:
            return False


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    os.close(made.end)


@pytest.fixture
def up(tmp_path: Path, way: str) -> Iterator[Site]:
    with running(tmp_path, grace="0.2s", node_timeout="30s") as site:
        site.start()
        site.step()
        yield site


def begins(up: Site, line: Line, run: str, **more: Any) -> str:
    """A job that has begun what it does to stay. Its key."""
    script = f"exec 7> {line.path}\n{run}"
    key = up.task(1, "run: |\n" + "".join(f"  {words}\n" for words in script.splitlines()), **more)
    up.assign()
    up.until(line.hears)
    return key


@pytest.mark.parametrize(
    "run",
    [HIDDEN, f"{RENEWING} sleep 300", f"env -i {RENEWING} trap '' TERM; sleep 300", f"{RENEWING * 10} sleep 300"],
    ids=["hidden", "renewed", "renewed without the mark", "ten renewed"],
)
def test_nothing_of_a_cancelled_job_is_left_when_that_is_reported(up: Site, line: Line, way: str, run: str) -> None:
    key = begins(up, line, run)
    assert bool(progress.group(up.attempt(key)).processes) == (way == "cgroup")
    up.change(key, want="stop")
    up.assign()
    assert up.ended(key).phase == "ended"
    assert line.is_closed()
    assert cgroups.here().groups(up.place.path) == {}


def test_nothing_that_a_job_left_behind_is_left_when_its_end_is_reported(up: Site, line: Line) -> None:
    key = begins(up, line, f"trap '' TERM; env -i {RENEWING} exit 3")
    assert up.ended(key).code == 3
    assert line.is_closed()


def test_nothing_of_a_job_whose_supervisor_was_killed_is_left(up: Site, line: Line, way: str) -> None:
    """Without a cgroup only its mark tells whose a process is then."""
    key = begins(up, line, f"{'env -i' if way == 'cgroup' else ''} {RENEWING} sleep 300")
    kill(up.supervisor(key))
    assert up.ended(key).phase == "lost"
    assert line.is_closed()
    assert cgroups.here().groups(up.place.path) == {}


def test_what_may_run_elsewhere_is_gone_when_its_node_has_lost_contact(up: Site, line: Line) -> None:
    key = begins(up, line, f"env -i {RENEWING} sleep 300", restartable=True)
    up.age(60)
    until(line.is_closed)
    up.until(lambda: up.status().attempts[key].fenced)


def test_local_state_that_was_lost_leaves_nothing_running(up: Site, line: Line, way: str, tmp_path: Path) -> None:
    key = begins(up, line, HIDDEN)
    if way == "cgroup":  # else nothing tells any more whose its processes are
        kill(up.supervisor(key))
    up.leave()
    up.start(state=tmp_path / "other state")
    assert line.is_closed()


def test_a_slot_is_given_out_when_nothing_of_the_cancelled_job_is_left(tmp_path: Path, line: Line, way: str) -> None:
    with contextlib.closing(Cluster(tmp_path, grace="0.2s")) as cluster:
        cluster.host = WITHOUT if way == "/proc" else []
        cluster.head().node(gpus="H100:1").ready()
        first = cluster.add("first.yaml", task(f"exec 7> {line.path}; env -i {RENEWING} sleep 300"))
        cluster.eventually(line.hears)
        look = "import os, sys; os.read(os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK), 1)"  # fails while it is held
        second = cluster.add("second.yaml", task(f"{sys.executable} -c '{look}' {line.path}"))
        cluster.sky("cancel", "mycluster", str(first), "-y")
        assert cluster.ended(first, second) == ["CANCELLED", "SUCCEEDED"]


def task(run: str) -> str:
    return f"resources:\n  accelerators: H100:1\nrun: |\n  {run}\n...\n"
