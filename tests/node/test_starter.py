"""A real starter and its supervisors, without a runner: what they do with orders, with the time rule, with `go` and
`stop`, when they are killed, and when they cannot write."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout.records import Phase
from spoold.node import containment, progress
from spoold.node.workplace import Attempt, Workplace, boot_time, is_alive, read_json
from tests.node.site import end_all, kill
from tests.node.test_containment import names

FOREVER = 3600.0  # seconds of limit


class Bench:
    """A workplace, orders made by hand, and starters that are children of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = Workplace(str(folder / "place"))
        self.place.make()
        (folder / "logs").mkdir()
        self.orders = os.open(self.place.orders, os.O_RDWR | os.O_NONBLOCK)
        self.starters: list[subprocess.Popen[bytes]] = []
        self.until_end = f"while [ ! -e {folder}/end ]; do sleep 0.02; done"  # commands that wait for a file `end`
        self.renew()
        self.lock = self.place.lock_runner()  # as if a runner lived

    def renew(self, limit: float | None = FOREVER, lapses: int = 0) -> None:
        """As a runner that just wrote status.json."""
        self.place.renew(limit, boot_time(), lapses)

    def start(self, errors: str | None = None) -> subprocess.Popen[bytes]:
        """A starter that reads its orders. errors: the file that takes its stderr."""
        with open(errors or self.folder / "starter.log", "ab") as log:
            starter = subprocess.Popen(
                [sys.executable, "-m", "spoold.node.starter", self.place.path], stdin=subprocess.DEVNULL, stderr=log
            )
        self.starters.append(starter)
        until(lambda: self.place.has_starter() or starter.poll() is not None)
        return starter

    def prepare(self, key: str, run: str = "", setup: str = "", go: bool = True, **more: object) -> Attempt:
        """An attempt as the runner prepares it."""
        logs = self.logs(key)
        scripts = {stage: text for stage, text in (("setup", setup), ("run", run)) if text}
        attempt = self.place.attempt(key)
        env = {"PATH": os.environ["PATH"], containment.MARK: attempt.path, "PROOF": str(self.folder / "proof")}
        order = {
            "version": (1, 1),
            "lapses": 0,
            "node": "n1",
            "shell": "plain",
            "restartable": False,
            "workdir": str(self.folder),
            "file_mounts": {},
            "scripts": scripts,
        }
        for stage in ("setup", "run"):
            if stage in scripts:
                order |= {f"{stage}_log": str(logs / f"{stage}.log"), f"{stage}_env": env}
        progress.prepare(self.place, key, {**order, **more})
        if go:
            attempt.write("go", {"lapses": 0})
        return attempt

    def order(self, *keys: str) -> None:
        """What a runner writes into the FIFO."""
        os.write(self.orders, "".join(f"{key}\n" for key in keys).encode())

    def run(self, key: str, run: str = "", setup: str = "", **more: object) -> Attempt:
        """Prepare and order an attempt."""
        attempt = self.prepare(key, run, setup, **more)  # type: ignore[arg-type]
        self.order(key)
        return attempt

    def logs(self, key: str) -> Path:
        """The log directory, as paths.log_dir has it."""
        ident, _, attempt = key.partition(".")
        return self.folder / "logs" / ident / ("" if attempt == "1" else f"attempt-{attempt}")

    def log(self, key: str, stage: str = "run") -> str:
        """What a stage wrote so far."""
        path = self.logs(key) / f"{stage}.log"
        return path.read_text() if path.exists() else ""

    @property
    def proof(self) -> list[str]:
        """What jobs wrote to prove that they ran."""
        path = self.folder / "proof"
        return path.read_text().split() if path.exists() else []

    def close(self) -> None:
        """Kill everything."""
        for starter in self.starters:
            starter.kill()
            starter.wait()
        os.close(self.lock)
        os.close(self.orders)
        end_all(self.place)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def starter(bench: Bench) -> subprocess.Popen[bytes]:
    return bench.start()


def until(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def over(attempt: Attempt) -> Phase:
    """Wait until nothing of an attempt is left; where it stands."""
    until(lambda: progress.is_gone(attempt))
    return progress.stand(attempt)


def runs(attempt: Attempt) -> None:
    """Wait until the run commands run: their process is no longer a copy of its supervisor."""
    until(lambda: attempt.has("run.pid"))
    until(lambda: comm(attempt.read("run.pid")["pid"]) != "skyspool-job")


def supervisor(attempt: Attempt) -> int:
    found = progress.supervisor(attempt)
    assert found is not None
    return found.pid


pytestmark = pytest.mark.usefixtures("starter")


# ---- orders


def test_an_order_starts_an_attempt_and_its_end_is_written(bench: Bench) -> None:
    attempt = bench.run("1.1", run="echo out; echo err >&2; exit 3")
    phase = over(attempt)
    assert (phase.phase, phase.stage, phase.code, phase.fenced) == ("ended", "run", 3, False)
    assert bench.log("1.1") == "out\nerr\n"


def test_the_same_order_a_hundred_times_starts_one(bench: Bench) -> None:
    attempt = bench.prepare("1.1", run="echo one >> $PROOF; sleep 300")
    for _ in range(100):
        bench.order("1.1")
    runs(attempt)
    bench.order("1.1", "1.1")
    over(bench.run("2.1", run="echo two >> $PROOF"))  # what came before it has been read
    assert bench.proof == ["one", "two"]


def test_two_supervisors_of_one_attempt_start_it_once(bench: Bench) -> None:
    """The marker decides, not the look before it: several are forked here before any has marked."""
    code = (
        "import os, socket, sys\nfrom spoold.node.supervisor import supervise\n"
        "from spoold.node.workplace import Attempt, Workplace\n"
        "Attempt.names = lambda self: {'order.json', 'go'}  # none sees the marker of another\n"
        "place = Workplace(sys.argv[1])\nbell = os.open(place.bell, os.O_RDWR | os.O_NONBLOCK)\n"
        "sys.stdin.read(1)\nsupervise(place, '1.1', bell, socket.socket())\n"
    )
    attempt = bench.prepare("1.1", run="echo one >> $PROOF")
    racers = [subprocess.Popen([sys.executable, "-c", code, bench.place.path], stdin=subprocess.PIPE) for _ in range(4)]
    for racer in racers:
        racer.communicate(b"!")
    assert [racer.returncode for racer in racers] == [0] * 4
    assert over(attempt).code == 0 and bench.proof == ["one"]


def test_what_is_marked_or_over_or_not_there_is_left_alone(bench: Bench) -> None:
    bench.prepare("1.1", run="echo one >> $PROOF").mark("runner")
    bench.prepare("2.1", run="echo two >> $PROOF").write("outcome", {"phase": "never"})
    bench.order("1.1", "2.1", "9.9", "", "../place", "..")
    over(bench.run("3.1", run="echo three >> $PROOF"))
    assert bench.proof == ["three"]


def test_an_order_that_comes_in_two_pieces_is_read_as_one(bench: Bench) -> None:
    attempt, other = bench.prepare("10.1", run="echo ten >> $PROOF"), bench.prepare("0.1", run="echo zero >> $PROOF")
    os.write(bench.orders, b"1")
    until(lambda: unread(bench.orders) == 0)
    os.write(bench.orders, b"0.1\n")
    over(attempt)
    assert bench.proof == ["ten"] and not other.has("marker")


def unread(fifo: int) -> int:
    """Bytes in a FIFO that nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(fifo, termios.FIONREAD, bytes(4)), sys.byteorder)


# ---- stages


def test_run_follows_setup_without_another_order(bench: Bench) -> None:
    attempt = bench.run("1.1", setup="echo set", run="echo ran")
    assert over(attempt).code == 0
    assert (bench.log("1.1", "setup"), bench.log("1.1")) == ("set\n", "ran\n")


def test_setup_that_fails_is_the_end(bench: Bench) -> None:
    phase = over(bench.run("1.1", setup="exit 9", run="echo ran >> $PROOF"))
    assert (phase.stage, phase.code) == ("setup", 9) and bench.proof == []


def test_run_waits_for_go_and_begins_when_it_is_told(bench: Bench) -> None:
    attempt = bench.run("1.1", setup="exit 0", run="echo ran >> $PROOF", go=False)
    until(lambda: progress.stand(attempt).phase == "ready")
    assert bench.proof == []
    attempt.write("go", {"lapses": 0})
    began = time.monotonic()
    nudge(attempt)
    assert over(attempt).code == 0 and bench.proof == ["ran"]
    assert time.monotonic() - began < 5


def test_a_stop_while_it_waits_for_go_is_its_end(bench: Bench) -> None:
    attempt = bench.run("1.1", setup="exit 0", run="echo ran >> $PROOF", go=False)
    until(lambda: progress.stand(attempt).phase == "ready")
    ending = progress.Ending(1.0)
    until(lambda: ending.step(attempt))
    assert progress.stand(attempt).code == 143
    attempt.write("go", {"lapses": 0})
    until(lambda: progress.supervisor(attempt) is None)
    assert bench.proof == []


def test_what_the_job_left_behind_is_not_gone_until_it_is(bench: Bench) -> None:
    attempt = bench.run("1.1", run="env -i setsid -f sleep 301; exit 0")
    until(lambda: attempt.has("run.exit"))
    assert progress.stand(attempt).code == 0 and not progress.is_gone(attempt)
    (left,) = progress.processes(attempt)
    kill(left.pid)
    over(attempt)
    assert attempt.has("gone")


# ---- what a job inherits


def test_a_job_gets_a_session_of_its_own_and_nothing_of_ours(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    attempt = bench.run("1.1", run="echo $PPID; umask; pwd; exec sleep 300")
    runs(attempt)
    until(lambda: len(bench.log("1.1").splitlines()) == 3 and comm(attempt.read("run.pid")["pid"]) == "sleep")
    job, watcher = attempt.read("run.pid")["pid"], supervisor(attempt)
    assert bench.log("1.1").splitlines() == [str(watcher), "0022", str(bench.folder)]
    log = str(bench.folder / "logs/1/run.log")
    until(lambda: opened(job) == {0: "/dev/null", 1: log, 2: log})  # once its program is loaded
    assert signals(job) == [0, 0]
    assert len({containment.session(pid) for pid in (job, watcher, starter.pid)}) == 3
    assert terminal(job) == 0


def opened(pid: int) -> dict[int, str]:
    """What a process has open, by descriptor."""
    return {int(link.name): str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}


def comm(pid: int) -> str:
    """The name of the program that a process runs."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def signals(pid: int) -> list[int]:
    """The signals that a process blocks, and those that it ignores; without 32 and 33, which the C library keeps for
    itself and lets nobody reset."""
    said = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return [int(said[field], 16) & ~(0b11 << 31) for field in ("SigBlk", "SigIgn")]


def terminal(pid: int) -> int:
    """The controlling terminal of a process; 0: none."""
    fields = containment.stat_fields(pid)
    assert fields is not None
    return int(fields[4])


def test_signals_and_umask_of_whoever_started_the_starter_are_not_the_jobs(bench: Bench) -> None:
    bench.starters[0].kill()
    bench.starters[0].wait()
    for number in (signal.SIGQUIT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    umask = os.umask(0o077)
    try:
        bench.start()
    finally:
        os.umask(umask)
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        for number in (signal.SIGQUIT, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
    attempt = bench.run("1.1", run="umask; exec sleep 300")
    runs(attempt)
    until(lambda: comm(attempt.read("run.pid")["pid"]) == "sleep")
    assert signals(attempt.read("run.pid")["pid"]) == [0, 0] and bench.log("1.1") == "0022\n"


@pytest.mark.parametrize("sure", [False, True])
def test_logs_are_closed_to_others_whatever_the_umask(bench: Bench, sure: bool) -> None:
    over(bench.run("1.1", setup="exit 0", run="exit 0", log_modes=sure))
    folder = bench.folder / "logs/1"
    assert oct(folder.stat().st_mode & 0o777) == "0o750"
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o640"}


def test_logs_are_closed_to_others_whatever_the_directory_above_passes_on(bench: Bench) -> None:
    logs = bench.folder / "logs"
    os.chown(logs, -1, os.getegid() + 1)
    logs.chmod(0o2755)
    over(bench.run("1.1", run="exit 0"))
    assert oct((logs / "1").stat().st_mode & 0o7777) == "0o750"
    assert oct((logs / "1" / "run.log").stat().st_mode & 0o7777) == "0o640"


@pytest.mark.parametrize(
    "what",
    [
        "a file where its directory should be",
        "a link where the log should be",
        "a link where its directory should be",
        "a link where the directory of a job's attempts should be",
    ],
)
def test_a_log_that_cannot_be_opened_is_a_failed_setup_that_names_node_and_path(bench: Bench, what: str) -> None:
    key = "1.2" if what.endswith("attempts should be") else "1.1"
    folder, elsewhere = bench.folder / "logs/1", bench.folder / "elsewhere"
    elsewhere.mkdir()
    if what.startswith("a file"):
        folder.write_text("")
    elif "directory" in what:
        folder.symlink_to(elsewhere)
    else:
        folder.mkdir()
        (folder / "run.log").symlink_to(bench.folder / "stolen")
    phase = over(bench.run(key, run="echo ran >> $PROOF"))
    assert (phase.stage, phase.code) == ("setup", 1)
    assert "node n1" in phase.reason and str(folder) in phase.reason
    assert bench.proof == [] and not (bench.folder / "stolen").exists() and not list(elsewhere.iterdir())


# ---- the time rule


def test_beyond_the_limit_an_order_is_marked_and_never_runs(bench: Bench) -> None:
    bench.place.renew(1.0, boot_time() - 2, 0)
    attempt = bench.run("1.1", run="echo ran >> $PROOF")
    until(lambda: attempt.has("outcome"))
    assert progress.stand(attempt) == Phase("never", reason="the node had lost contact when it was to start")
    assert read_json(attempt.file("marker"))["by"] == "runner" and bench.proof == []


def test_an_order_from_before_a_lapse_never_runs_though_time_is_kept_again(bench: Bench) -> None:
    bench.renew(lapses=1)
    attempt = bench.run("1.1", run="echo ran >> $PROOF")
    until(lambda: attempt.has("outcome"))
    assert progress.stand(attempt).phase == "never" and bench.proof == []


def test_run_waits_when_setup_ends_beyond_the_limit_and_begins_when_it_is_confirmed(bench: Bench) -> None:
    attempt = bench.run("1.1", setup=f"echo up; {bench.until_end}", run="echo ran >> $PROOF")
    until(lambda: bench.log("1.1", "setup"))
    bench.place.renew(1.0, boot_time() - 2, 0)
    (bench.folder / "end").touch()
    until(lambda: progress.stand(attempt).phase == "ready")
    bench.renew(lapses=1)  # contact again: the head may have given it up meanwhile
    nudge(attempt)
    assert progress.stand(attempt).phase == "ready" and bench.proof == []
    attempt.write("go", {"lapses": 1})
    nudge(attempt)
    assert over(attempt).code == 0 and bench.proof == ["ran"]


def test_what_may_run_elsewhere_never_begins_once_the_limit_was_passed(bench: Bench) -> None:
    attempt = bench.run("1.1", setup="exit 0", run="echo ran >> $PROOF", go=False, restartable=True)
    until(lambda: progress.stand(attempt).phase == "ready")
    bench.renew(lapses=1)
    attempt.write("go", {"lapses": 1})
    nudge(attempt)
    phase = over(attempt)
    assert (phase.stage, phase.code, phase.fenced) == ("run", 137, True) and bench.proof == []


def nudge(attempt: Attempt) -> None:
    """As a runner that wants a supervisor to look."""
    os.kill(supervisor(attempt), signal.SIGUSR1)


def test_beyond_the_limit_what_may_run_elsewhere_is_killed_whole_and_the_rest_runs_on(bench: Bench) -> None:
    commands = f"trap '' TERM; env -i setsid -f sleep 301; echo up; {bench.until_end}; exit 7"
    again, here = bench.run("1.1", run=commands, restartable=True), bench.run("2.1", run=commands)
    until(lambda: bench.log("1.1") and bench.log("2.1"))
    bench.place.renew(1.0, boot_time() - 2, 0)
    phase = over(again)
    assert (phase.code, phase.fenced) == (137, True)
    nudge(here)
    (bench.folder / "end").touch()
    until(lambda: here.has("run.exit"))
    assert (progress.stand(here).code, len(progress.processes(here))) == (7, 1)


def test_what_a_restartable_job_left_behind_is_killed_beyond_the_limit_and_its_success_stands(bench: Bench) -> None:
    attempt = bench.run("1.1", run="setsid -f sleep 301; exit 0", restartable=True)
    until(lambda: attempt.has("run.exit"))
    bench.place.renew(1.0, boot_time() - 2, 0)
    phase = over(attempt)
    assert (phase.code, phase.fenced) == (0, False)


ENGINE = """#!/bin/sh
echo "$1" >> {0}/calls
case $1 in
    ps) test -e {0}/killed || echo abc ;;
    inspect) echo abc running 1 no ;;
    kill) sleep 1.5; touch {0}/killed ;;
esac
"""


def test_beyond_the_limit_containers_of_what_may_run_elsewhere_are_killed(bench: Bench) -> None:
    engine = bench.folder / "docker"
    engine.write_text(ENGINE.format(bench.folder))
    engine.chmod(0o755)
    attempt = bench.run("1.1", run="echo up; sleep 300", restartable=True, spool_id="5p001")
    until(lambda: bench.log("1.1"))
    note = {"engine": "docker", "path": str(engine), "flags": [], "cwd": "", "env": {}}
    Path(attempt.file("containers")).write_text(json.dumps(note) + "\n")
    bench.place.renew(1.0, boot_time() - 2, 0)
    assert over(attempt).fenced
    assert (bench.folder / "killed").exists()


def test_after_a_stop_on_purpose_time_is_kept_for_ever(bench: Bench) -> None:
    attempt = bench.run("1.1", setup=bench.until_end, run="exit 6", restartable=True)
    until(lambda: progress.stand(attempt).phase == "setup")
    bench.place.renew(None, boot_time() - 10 * FOREVER, 0)
    (bench.folder / "end").touch()
    assert over(attempt).code == 6


@pytest.fixture
def held_up(bench: Bench) -> Attempt:
    """An attempt whose child waits in opening its log: a FIFO stands for a file server that does not answer."""
    bench.logs("1.1").mkdir()
    os.mkfifo(bench.logs("1.1") / "run.log")
    attempt = bench.run("1.1", run="echo ran >> $PROOF")
    until(lambda: attempt.has("run.pid"))
    return attempt


def test_a_child_that_was_held_up_beyond_the_limit_never_becomes_the_job(bench: Bench, held_up: Attempt) -> None:
    bench.place.renew(1.0, boot_time() - 2, 0)
    answers = os.open(bench.logs("1.1") / "run.log", os.O_RDONLY | os.O_NONBLOCK)
    assert over(held_up).code == 137
    os.close(answers)
    assert bench.proof == []


def test_a_child_that_is_held_up_dies_with_its_supervisor(bench: Bench, held_up: Attempt) -> None:
    child = held_up.read("run.pid")
    kill(supervisor(held_up))
    until(lambda: not is_alive(child["pid"], child["start"]))


# ---- killed, and not able to write


def test_a_killed_starter_disturbs_no_attempt_and_the_next_one_takes_orders(
    bench: Bench, starter: subprocess.Popen[bytes]
) -> None:
    attempt = bench.run("1.1", run=f"{bench.until_end}; exit 4")
    runs(attempt)
    starter.kill()
    starter.wait()
    assert not bench.place.has_starter()  # the lock was the starter's alone
    bench.start()
    assert over(bench.run("2.1", run="exit 0")).code == 0
    (bench.folder / "end").touch()
    assert over(attempt).code == 4


def test_a_second_starter_ends_at_once(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    assert bench.start().wait(10) == 0 and starter.poll() is None


def test_it_ends_soon_after_a_runner_that_left(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    attempt = bench.run("1.1", run=f"{bench.until_end}; exit 4")
    runs(attempt)
    bench.renew(None)
    os.close(bench.lock)
    bench.order("")  # wakes it
    assert starter.wait(10) == 0
    bench.lock = bench.place.lock_runner()
    (bench.folder / "end").touch()
    assert over(attempt).code == 4


def test_signals_that_end_daemons_do_not_end_it(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    over(bench.run("1.1", run="exit 0"))  # it is at work by now
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        starter.send_signal(number)
    assert over(bench.run("2.1", run="exit 0")).code == 0
    assert starter.poll() is None


def test_a_killed_supervisor_leaves_its_job_to_be_found_by_its_mark(bench: Bench) -> None:
    attempt = bench.run("1.1", run="setsid -f sleep 301; sleep 300")
    until(lambda: names(progress.processes(attempt)) == ["bash", "sleep", "sleep"])
    kill(supervisor(attempt))
    assert progress.supervisor(attempt) is None
    assert names(progress.processes(attempt)) == ["bash", "sleep", "sleep"]


def test_a_supervisor_that_cannot_write_tries_until_it_can(bench: Bench) -> None:
    attempt = bench.run("1.1", run=f"{bench.until_end}; exit 4")
    check_that_it_waits_for_a_descriptor(bench, attempt)


def test_a_supervisor_that_can_neither_write_nor_say_so_tries_until_it_can(bench: Bench) -> None:
    bench.starters[0].kill()
    bench.starters[0].wait()
    bench.start(errors="/dev/full")
    attempt = bench.run("1.1", run=f"{bench.until_end}; exit 4")
    check_that_it_waits_for_a_descriptor(bench, attempt)


def check_that_it_waits_for_a_descriptor(bench: Bench, attempt: Attempt) -> None:
    """The disk fails for a while: here by a limit of open files, which root has too."""
    runs(attempt)
    pid = supervisor(attempt)
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, old[1]))
    (bench.folder / "end").touch()
    until(lambda: not containment.children(pid))
    time.sleep(0.2)  # nothing tells when it has tried in vain
    assert is_alive(pid, attempt.read("marker")["start"])
    assert not attempt.has("run.exit")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
    assert over(attempt).code == 4


def test_an_attempt_that_is_forgotten_meanwhile_ends_its_supervisor(bench: Bench) -> None:
    attempt = bench.run("1.1", run="exec sleep 300")
    runs(attempt)
    pid = supervisor(attempt)
    job = attempt.read("run.pid")["pid"]
    progress.forget(attempt)
    kill(job)
    until(lambda: containment.stat_fields(pid) is None)


def test_it_ends_when_its_directory_is_gone(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    os.rmdir(bench.place.attempts)
    bench.order("")  # wakes it
    assert starter.wait(10) == 0
    os.mkdir(bench.place.attempts)
