"""Supervisors that go on to the next attempt: one at a time, and never where somebody may still end the last one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from spoold.node import progress, resting
from spoold.node.containment import children
from spoold.node.resting import Resting, next_attempt
from spoold.node.workplace import Attempt, is_alive
from tests.node.site import kill
from tests.node.test_starter import Bench, over, runs, supervisor, until


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


def rests(bench: Bench, attempt: Attempt) -> int:
    """Wait until the supervisor of an attempt that is over waits for another one; its pid."""
    marker = attempt.read("marker")
    until(lambda: waits(marker["pid"]))
    assert is_alive(marker["pid"], marker["start"])
    return int(marker["pid"])


def waits(pid: int) -> bool:
    """Whether a process waits in recv(2) on a socket."""
    return Path(f"/proc/{pid}/wchan").read_text() in ("unix_stream_read_generic", "__skb_wait_for_more_packets") or (
        Path(f"/proc/{pid}/syscall").read_text().split()[0] == str(RECVFROM)
    )


RECVFROM = {"x86_64": 45, "aarch64": 207}[os.uname().machine]


def test_one_after_the_other_has_the_same_supervisor(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    pids = []
    for number in range(1, 6):
        attempt = bench.run(f"{number}.1", run=f"echo {number} >> $PROOF; exit {number}")
        assert over(attempt).code == number
        pids.append(rests(bench, attempt))
    assert len(set(pids)) == 1 and bench.proof == ["1", "2", "3", "4", "5"]


def test_two_at_once_have_one_each_and_then_either_takes_the_next(
    bench: Bench, starter: subprocess.Popen[bytes]
) -> None:
    both = [bench.run(f"{number}.1", run=bench.until_end) for number in (1, 2)]
    for attempt in both:
        runs(attempt)
    (bench.folder / "end").touch()
    pids = {rests(bench, attempt) for attempt in both if over(attempt).code == 0}
    assert len(pids) == 2
    third = bench.run("3.1", run="exit 3")
    assert over(third).code == 3 and rests(bench, third) in pids


def test_one_whose_attempt_was_stopped_takes_no_other(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    """Who stopped it may be about to signal what is below it."""
    attempt = bench.run("1.1", run="exec sleep 300")
    runs(attempt)
    pid = supervisor(attempt)
    until(lambda: progress.Ending(0.1).step(attempt))
    until(lambda: progress.supervisor(attempt) is None, resting.FOR / 2)
    other = bench.run("2.1", run="exit 0")
    assert over(other).code == 0 and other.read("marker")["pid"] != pid


def test_a_stop_is_written_before_it_is_looked_who_is_below(
    bench: Bench, starter: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = bench.run("1.1", run="exec sleep 300")
    runs(attempt)
    seen = []
    find = progress.processes
    monkeypatch.setattr(progress, "processes", lambda of: seen.append(of.has("stop")) or find(of))
    assert not progress.Ending(5.0).step(attempt)
    assert seen == [True]
    over(attempt)


def test_what_is_gone_when_the_stop_is_written_is_not_looked_for(
    bench: Bench, starter: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor may have another attempt by then, whose processes these would be."""
    attempt = bench.run("1.1", run=bench.until_end)
    runs(attempt)
    write = Attempt.write

    def ends_just_before(of: Attempt, name: str, value: object, mode: int = 0o600) -> None:
        if name == "stop":
            (bench.folder / "end").touch()
            until(lambda: progress.is_gone(of))
            other = bench.run("2.1", run="exec sleep 300")
            runs(other)
            assert supervisor(other) == of.read("marker")["pid"]
        write(of, name, value, mode)

    monkeypatch.setattr(Attempt, "write", ends_just_before)
    assert progress.Ending(0.0).step(attempt)
    monkeypatch.undo()
    other = bench.place.attempt("2.1")
    assert not attempt.has("kill") and progress.stand(other).phase == "running"
    assert len(progress.processes(other)) == 1


FAILS = """
import os, socket, sys
from spoold.node import supervisor
from spoold.node.workplace import Workplace
place, forks = Workplace(sys.argv[1]), [supervisor.Group.fork]
def fork(group):
    if not forks:
        raise BlockingIOError(11, "no more processes")
    return forks.pop()(group)
supervisor.Group.fork = fork
supervisor.supervise(place, "1.1", os.open(place.bell, os.O_RDWR | os.O_NONBLOCK), socket.socket())
"""


def test_one_that_cannot_fork_after_setup_says_that_nothing_is_left(bench: Bench) -> None:
    """Else what is below it later, of another attempt, is taken for what is left of this one, and ended."""
    attempt = bench.prepare("1.1", setup="exit 0", run="echo ran >> $PROOF")
    subprocess.run([sys.executable, "-c", FAILS, bench.place.path], check=True, timeout=20)
    assert progress.is_gone(attempt) and progress.Ending(0.0).step(attempt)
    assert "no more processes" in progress.stand(attempt).reason and bench.proof == []


def test_what_is_given_twice_is_for_a_new_one(rest: Resting) -> None:
    """The one that was to take it was killed."""
    for _ in range(3):
        rest.theirs.send(b"rests")
    rest.hear()
    assert [rest.give(key) for key in ("1.1", "1.1", "2.1", "1.1", "3.1")] == [True, False, True, True, False]


def test_those_that_rest_end_with_their_starter(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    attempt = bench.run("1.1", run="exit 0")
    over(attempt)
    pid = rests(bench, attempt)
    starter.kill()
    starter.wait()
    until(lambda: progress.supervisor(attempt) is None)
    assert not is_alive(pid, attempt.read("marker")["start"])


def test_an_order_for_one_that_was_killed_at_rest_is_carried_out_when_it_is_repeated(
    bench: Bench, starter: subprocess.Popen[bytes]
) -> None:
    attempt = bench.run("1.1", run="exit 0")
    over(attempt)
    kill(rests(bench, attempt))
    other = bench.prepare("2.1", run="exit 2")
    for _ in range(3):
        bench.order("2.1")
        time.sleep(0.05)  # a runner repeats it at each pass
    assert over(other).code == 2


def test_a_starter_that_waits_leaves_nobody_at_rest(bench: Bench, starter: subprocess.Popen[bytes]) -> None:
    attempt = bench.run("1.1", run="exit 0")
    over(attempt)
    rests(bench, attempt)
    until(lambda: not children(starter.pid), 3 * resting.FOR)


@pytest.fixture
def rest() -> Iterator[Resting]:
    made = Resting()
    yield made
    made.ours.close()
    made.theirs.close()


def test_of_too_many_that_rest_some_end_and_of_those_that_rested_for_long_all(
    rest: Resting, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(resting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for _ in range(resting.MOST + 2):
        rest.theirs.send(b"rests")
    rest.hear()
    rest.theirs.setblocking(False)
    assert [rest.theirs.recv(10) for _ in range(2)] == [b"", b""]
    assert rest.give("1.1") and rest.theirs.recv(10) == b"1.1"
    rest.dismiss()
    with pytest.raises(BlockingIOError):
        rest.theirs.recv(10)
    now[0] += resting.FOR + 1
    rest.dismiss()
    assert [rest.theirs.recv(10) for _ in range(resting.MOST - 1)] == [b""] * (resting.MOST - 1)
    assert not rest.give("2.1")


def test_one_without_a_starter_does_not_wait(rest: Resting) -> None:
    rest.ours.close()
    assert next_attempt(rest.theirs) == ""
    assert (
        signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    )  # as in a supervisor, else the send had ended this process
