"""The runner over a real directory, pass by pass: what it starts, refuses, adopts, stops, reports and forgets."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from spool_layout.errors import Damaged, NewerFormat, Taken
from spool_layout.records import GONE, NodeOwner, NodeStatus, Phase, encode
from spool_layout.stamps import Glance
from spool_layout.storage import Disk, Held
from spoold.local import boot_id
from spoold.node import containers, memory, progress, spawning
from spoold.node.runner import Runner
from spoold.node.workplace import Attempt, boot_time, is_alive, read_json, start_time
from tests.node.site import NODE, Site, kill, running
from tests.node.test_containment import until

LONG = "run: sleep 300\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def up(site: Site) -> Site:
    """A site whose runner has made its first pass."""
    site.start()
    site.step()
    return site


def proof(site: Site) -> list[str]:
    """What jobs wrote into the file that proves that they ran."""
    path = site.folder / "proof"
    return path.read_text().split() if path.exists() else []


def proving(site: Site, word: str, then: str = "true") -> str:
    """A task that says in the proof that it ran."""
    return f"run: echo {word} >> {site.folder}/proof; {then}\n"


# ---- starting, once


def test_what_is_assigned_runs_and_its_end_is_reported(up: Site) -> None:
    key = up.task(1, "run: echo $SKYPILOT_NODE_RANK; exit 3\n")
    up.assign()
    phase = up.ended(key)
    assert (phase.phase, phase.stage, phase.code) == ("ended", "run", 3)
    assert phase.started_at is not None and phase.ended_at is not None and phase.pid > 0
    assert up.log(1) == "0\n"


def test_pass_after_pass_starts_an_attempt_once(up: Site) -> None:
    up.task(1, proving(up, "one", "sleep 300"))
    for _ in range(15):
        up.assign()
        up.step()
    up.until(lambda: up.phase("1.1") == "running" and proof(up))
    assert proof(up) == ["one"]


def test_killed_runners_start_an_attempt_once_and_adopt_it(up: Site) -> None:
    key = up.task(1, proving(up, "one", "sleep 300"))
    up.assign()
    up.step()
    for _ in range(3):
        up.kill()
        up.start()
        up.step()
    up.until(lambda: up.phase(key) == "running" and proof(up))
    pid = up.status().attempts[key].pid
    up.kill()
    up.start()
    assert up.step().attempts[key].pid == pid
    assert proof(up) == ["one"]


def test_an_adopted_job_is_reported_with_its_own_exit_code(up: Site) -> None:
    key = up.task(1, f"run: while [ ! -e {up.folder}/end ]; do sleep 0.02; done; exit 5\n")
    up.assign()
    up.until(lambda: up.phase(key) == "running")
    up.kill()
    (up.folder / "end").touch()
    up.until(lambda: up.attempt(key).has("run.exit"))
    up.start()
    assert up.ended(key).code == 5


def test_an_order_that_no_starter_read_is_repeated(up: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    key = up.task(1, "run: exit 0\n")
    up.assign()
    with monkeypatch.context() as patched:
        patched.setattr("spoold.node.spawning.spawn", lambda place: None)
        up.step()
    assert up.phase(key) == "starting" and not up.place.has_starter()
    assert up.ended(key).code == 0


def test_a_file_that_was_changed_after_it_was_accepted_never_runs(up: Site) -> None:
    key = up.task(1, proving(up, "old"))
    Path(up.spool.started("1.job.yaml")).write_text(proving(up, "new"))
    up.assign()
    phase = up.ended(key)
    assert (phase.phase, phase.stage) == ("never", "file") and "changed after it was accepted" in phase.reason
    assert proof(up) == []


def test_a_file_that_is_gone_never_runs_and_is_not_waited_for(up: Site) -> None:
    key = up.task(1, proving(up, "one"))
    Path(up.spool.started("1.job.yaml")).unlink()
    up.assign()
    assert up.ended(key).phase == "never"


# ---- versions


def test_a_lower_version_is_refused_and_reported_as_read(up: Site, caplog: pytest.LogCaptureFixture) -> None:
    key = up.task(1, LONG)
    up.assign(version=(2, 7))
    up.until(lambda: up.phase(key) == "running")
    up.change(key, want="stop")
    other = up.task(2, LONG)
    up.assign(version=(1, 900))
    with caplog.at_level(logging.WARNING):
        status = up.step()
    assert "refuses assigned.json (1, 900)" in caplog.text
    assert (status.seen, status.read) == ((2, 7), (1, 900))
    assert status.attempts[key].phase == "running" and other not in status.attempts


def test_a_restarted_runner_still_refuses_what_its_predecessor_would_have(up: Site) -> None:
    key = up.task(1, LONG)
    up.assign(version=(5, 1))
    up.until(lambda: up.phase(key) == "running")
    up.kill()
    up.change(key, want="stop")
    up.assign(version=(4, 9))
    up.start()
    status = up.step()
    assert (status.seen, status.read) == ((5, 1), (4, 9)) and status.attempts[key].phase == "running"


@pytest.mark.parametrize("behind", ["status.json", "renewed"])
def test_of_what_is_said_twice_the_later_counts(up: Site, behind: str) -> None:
    """An old status.json was put back, or the runner was killed before it noted what it had reported."""
    path = Path(up.spool.status(NODE) if behind == "status.json" else os.path.join(up.place.path, behind))
    old = path.read_bytes()
    key = up.task(1, LONG)
    up.assign(version=(5, 1))
    up.until(lambda: up.phase(key) == "running" and up.status().seen == (5, 1))
    up.kill()
    path.write_bytes(old)
    up.change(key, want="stop")
    up.assign(version=(4, 9))
    up.start()
    status = up.step()
    assert (status.seen, status.read) == ((5, 1), (4, 9)) and status.attempts[key].phase == "running"


def test_a_status_that_cannot_be_read_starts_nothing(up: Site) -> None:
    up.task(1, proving(up, "one"))
    up.assign()
    up.kill()
    Path(up.spool.status(NODE)).write_bytes(b'{"format":1,"nod')
    with pytest.raises(Damaged):
        up.start()
    assert up.place.remembered() == [] and proof(up) == []


def test_an_assignment_of_a_newer_format_changes_nothing(up: Site) -> None:
    up.task(1, proving(up, "one"))
    up.assign()
    path = Path(up.spool.assigned(NODE))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(NewerFormat, match="99"):
        up.step()
    assert up.place.remembered() == []


# ---- incarnations


def test_what_is_addressed_to_another_incarnation_is_not_begun_but_its_stops_are_heeded(up: Site) -> None:
    old = up.task(1, LONG)
    up.assign()
    up.until(lambda: up.phase(old) == "running")
    up.change(old, want="stop")
    new = up.task(2, proving(up, "two"))
    up.assign(incarnation=up.status().incarnation - 1)
    assert up.ended(old).phase == "ended"
    assert up.phase(new) == ""
    up.assign()
    assert up.ended(new).code == 0


def test_a_quick_restart_keeps_the_incarnation_and_a_late_one_takes_the_next(up: Site) -> None:
    first = up.status().incarnation
    up.kill()
    up.start()
    assert up.step().incarnation == first
    up.kill()
    up.age(3600)
    up.start()
    assert up.step().incarnation == first + 1


def test_a_runner_that_was_away_beyond_its_limit_goes_on_as_the_next_incarnation(up: Site) -> None:
    first = up.status().incarnation
    up.age(56)
    assert up.step().incarnation == first + 1
    assert up.step().incarnation == first + 1


def test_what_an_earlier_incarnation_prepared_is_not_started_by_a_later_one(
    up: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = hold_up(up, monkeypatch)
    up.kill()
    up.age(3600)
    up.start()
    for _ in range(5):
        up.step()
    assert up.phase(key) == "starting" and not up.attempt(key).has("marker") and not up.place.has_starter()
    up.assign()  # the head has read the new incarnation; the order was given before the lapse all the same
    assert up.ended(key).phase == "never"
    assert proof(up) == []


def test_a_report_that_hangs_beyond_the_limit_counts_from_before_it_began(tmp_path: Path) -> None:
    with running(tmp_path, node_timeout="2s", fence_margin="1s") as site:
        runner = site.start()
        before = site.step().incarnation
        runner.disk = Hanging(1.2)
        key = site.task(1, proving(site, "one"))
        runner.report(force=True)
        age = site.place.age()
        assert age is not None and age >= 1.2
        site.assign()  # from before the head gave the node up
        assert site.step().incarnation > before
        site.until(lambda: site.phase(key) in ("", "never"))
        assert proof(site) == []


def hold_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    """Order an attempt that nothing begins yet. Its key."""
    key = site.task(1, proving(site, "one"))
    site.assign()
    with monkeypatch.context() as patched:
        patched.setattr("spoold.node.spawning.spawn", lambda place: None)
        site.step()
    assert site.phase(key) == "starting" and site.attempt(key).has("order.json")
    return key


def test_a_report_that_was_begun_in_time_and_written_too_late_counts_as_a_lapse(
    up: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, first = up.runner, up.status().incarnation
    assert runner is not None
    key = hold_up(up, monkeypatch)
    up.age(50)
    runner.disk = Meanwhile(lambda: up.age(10))  # 60 s between two beats: the head may have given it up
    runner.report(force=True)
    runner.disk = Disk()
    assert not up.place.keeps_time(up.attempt(key).read("order.json")["lapses"])
    assert up.step().incarnation == first + 1
    up.assign()
    assert up.ended(key).phase == "never"
    assert proof(up) == []


class Meanwhile(Disk):
    """A file server on which something happens before a file is written."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def publish(
        self, path: str, data: bytes, mode: int = 0o644, durable: bool = True, held: Held | None = None
    ) -> None:
        self.act()
        super().publish(path, data, mode, durable, held)


class Hanging(Disk):
    """A file server that takes its time once it has done what it was asked to."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def publish(
        self, path: str, data: bytes, mode: int = 0o644, durable: bool = True, held: Held | None = None
    ) -> None:
        super().publish(path, data, mode, durable, held)
        time.sleep(self.seconds)
        self.seconds = 0.0


# ---- omission, stop, forgetting


def test_omission_says_nothing(up: Site) -> None:
    key = up.task(1, LONG)
    up.assign()
    up.until(lambda: up.phase(key) == "running")
    pid = up.status().attempts[key].pid
    del up.wanted[key]
    for _ in range(3):
        up.assign()
        up.step()
    assert up.phase(key) == "running" and start_time(pid) is not None


def test_stop_ends_every_process_and_then_it_is_reported_gone(up: Site) -> None:
    key = up.task(1, "run: |\n  setsid -f sleep 301\n  sleep 300\n")
    up.assign()
    up.until(lambda: up.phase(key) == "running")
    up.change(key, want="stop")
    up.assign()
    phase = up.ended(key)
    assert (phase.phase, phase.code) == ("ended", 143)
    assert progress.processes(up.attempt(key)) == []


def test_a_stop_of_what_was_never_started_is_reported_and_it_never_starts(up: Site) -> None:
    key = up.task(1, proving(up, "one"))
    up.change(key, want="stop")
    up.assign()
    phase = up.ended(key)
    assert phase == Phase("never", reason="stopped before it began")
    assert read_json(up.attempt(key).file("marker"))["by"] == "runner"
    up.change(key, want="run")
    up.assign()
    for _ in range(3):
        up.step()
    assert up.phase(key) == "never" and proof(up) == []


def test_a_stop_of_what_was_ordered_and_not_yet_marked_comes_first(up: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    key = up.task(1, proving(up, "one"))
    up.assign()
    with monkeypatch.context() as patched:
        patched.setattr("spoold.node.spawning.spawn", lambda place: None)
        up.step()
    up.change(key, want="stop")
    up.assign()
    assert up.ended(key).phase == "never"
    up.task(2, "run: exit 0\n")  # brings a starter, which finds the order for the first one in its FIFO
    up.assign()
    assert up.ended("2.1").code == 0
    assert proof(up) == []


def test_a_stop_that_comes_a_moment_too_late_ends_what_was_begun(up: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    key = up.task(1, proving(up, "one", "sleep 300"))
    up.assign()
    with monkeypatch.context() as patched:
        patched.setattr("spoold.node.spawning.spawn", lambda place: None)
        up.step()
    up.change(key, want="stop")
    up.assign()
    mark, marked = Attempt.mark, up.attempt(key)

    def late(attempt: Attempt, by: str) -> bool:
        if not attempt.has("marker"):  # the supervisor is faster, by this much
            spawning.spawn(up.place)
            wait_for(lambda: attempt.has("run.pid") and proof(up))
        return mark(attempt, by)

    with monkeypatch.context() as patched:
        patched.setattr(Attempt, "mark", late)
        up.step()
    assert read_json(marked.file("marker"))["by"] == "supervisor"
    phase = up.ended(key)
    assert (phase.phase, phase.code) == ("ended", 143) and progress.processes(marked) == []


def wait_for(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds, without a pass of the runner."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_over_is_reported_until_a_higher_version_omits_it(up: Site) -> None:
    key = up.task(1, "run: exit 0\n")
    up.assign()
    up.ended(key)
    for _ in range(3):
        up.step()
    assert up.phase(key) == "ended"
    del up.wanted[key]
    version = up.assign()
    up.until(lambda: not up.phase(key))
    assert up.status().seen == version and up.place.remembered() == []


def test_what_was_forgotten_and_is_assigned_anew_begins_anew(up: Site) -> None:
    key, runner = up.task(1, proving(up, "one", "exit 0")), up.runner
    assert runner is not None
    wanted = up.wanted[key]
    for times in (1, 2):
        up.wanted[key] = wanted
        up.assign()
        up.ended(key)
        assert proof(up) == ["one"] * times and runner.attempts[key].marker
        del up.wanted[key]
        up.assign()
        up.until(lambda: not up.phase(key))
        assert runner.attempts[key].marker is None


def test_nothing_is_forgotten_before_a_report_says_so(up: Site) -> None:
    key = up.task(1, "run: exit 0\n")
    up.assign()
    up.ended(key)
    runner = up.runner
    assert runner is not None
    runner.disk = Refusing("status.json")
    del up.wanted[key]
    up.assign()
    with pytest.raises(OSError, match=r"status\.json"):
        runner.step()
    assert up.attempt(key).has("run.exit")
    up.kill()
    up.start()
    up.until(lambda: up.place.remembered() == [])
    up.until(lambda: up.phase(key) == "")  # by the next report, which is due SOON


def test_a_lower_version_that_omits_it_forgets_nothing(up: Site) -> None:
    key = up.task(1, "run: exit 0\n")
    up.assign(version=(3, 1))
    up.ended(key)
    del up.wanted[key]
    up.assign(version=(2, 1))
    for _ in range(3):
        up.step()
    assert up.phase(key) == "ended"


class Refusing(Disk):
    """A file server that refuses to write, or to open, files whose names end so."""

    def __init__(self, ending: str) -> None:
        self.ending = ending

    def publish(
        self, path: str, data: bytes, mode: int = 0o644, durable: bool = True, held: Held | None = None
    ) -> None:
        if path.endswith(self.ending):
            raise OSError(5, "Input/output error", path)
        super().publish(path, data, mode, durable, held)

    def inspect(self, path: str, limit: int):  # type: ignore[no-untyped-def]
        if path.endswith(self.ending):
            raise OSError(5, "Input/output error", path)
        return super().inspect(path, limit)


# ---- supervisors that were killed


def test_a_supervisor_killed_between_marker_and_spawn_leaves_a_lost_attempt(up: Site) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    progress.prepare(up.place, "1.1", {"version": up.version, "node": NODE})
    up.attempt("1.1").write("go", {})
    up.attempt("1.1").write("marker", {"by": "supervisor", "pid": gone.pid, "start": 1, "boot": boot_id()})
    up.task(1, proving(up, "one"))
    up.assign()
    assert up.ended("1.1").phase == "lost"
    assert proof(up) == []


def test_a_job_whose_supervisor_was_killed_is_ended_and_lost(up: Site) -> None:
    key = up.task(1, "run: |\n  setsid -f sleep 301\n  sleep 300\n")
    up.assign()
    up.until(lambda: up.phase(key) == "running" and len(progress.processes(up.attempt(key))) >= 3)
    kill(up.supervisor(key))
    assert up.ended(key).phase == "lost"
    assert progress.processes(up.attempt(key)) == []


def test_what_is_being_ended_is_looked_at_whoever_wakes_the_runner(up: Site) -> None:
    key = up.task(1, f"run: {RESISTS}; sleep 300\n")
    up.assign()
    up.until(lambda: up.phase(key) == "running" and len(progress.processes(up.attempt(key))) >= 2)
    kill(up.supervisor(key))
    runner = up.runner
    assert runner is not None
    for number in range(3):
        up.step()
        assert runner.attempts.ending == {key}
        runner.attention.woken(100.0 + number / 10, by_disk=False, bell=b"9.9\n")
    assert not runner.attention.everything


def test_an_assignment_is_read_when_the_disk_tells_and_by_the_clock_only_when_another_stands_there(
    up: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.assign()
    up.step()
    runner, read, now = up.runner, Disk.read, time.monotonic()
    assert runner is not None
    asked: list[str] = []
    monkeypatch.setattr("spool_layout.stamps.time.monotonic", lambda: now)
    monkeypatch.setattr(Disk, "read", lambda disk, path, start=0: asked.append(path) or read(disk, path, start))

    def reads(by_disk: bool = False) -> int:
        asked.clear()
        runner.attention.woken(now, by_disk, b"")
        up.step()
        return asked.count(up.spool.assigned(NODE))

    reads()
    now += Glance.SETTLED
    assert [reads(), reads(), reads()] == [1, 0, 0], "once more when it has settled"
    assert reads(by_disk=True) == 1 and reads() == 0
    up.assign()
    assert reads() == 1, "the disk did not tell"
    assert up.status().read == up.version


def test_a_killed_supervisor_whose_job_had_ended_leaves_the_outcome_known(up: Site) -> None:
    key = up.task(1, "run: |\n  setsid -f sleep 301\n  exit 4\n", nodes=[NODE, "n2"], addresses=["a", "b"])
    up.assign()
    up.until(lambda: up.phase(key) == "exited")
    kill(up.supervisor(key))
    up.change(key, want="stop")
    up.assign()
    phase = up.ended(key)
    assert (phase.phase, phase.code) == ("ended", 4)


# ---- the node's memory


def test_lost_local_state_makes_everything_lost_and_starts_nothing_again(up: Site) -> None:
    key = up.task(1, proving(up, "one", "sleep 300"))
    up.assign()
    up.until(lambda: up.phase(key) == "running" and proof(up))
    waiting = up.task(2, proving(up, "two"), go=False)
    up.assign()  # not read yet: it may have been started for all that the next runner knows
    before = up.status()
    up.kill()
    up.end_processes()
    shutil.rmtree(up.place.path)
    up.start()
    status = up.step()
    assert status.incarnation == before.incarnation + 1 and status.memory != before.memory
    assert {status.attempts[k].phase for k in (key, waiting)} == {"lost"}
    up.assign()
    for _ in range(5):
        up.step()
    assert {up.phase(k) for k in (key, waiting)} == {"lost"} and proof(up) == ["one"]


@pytest.mark.parametrize("how", ["another directory after a stop on purpose", "the directory was removed"])
def test_lost_local_state_ends_what_runs_before_it_is_reported(up: Site, how: str) -> None:
    key = up.task(1, "run: exec sleep 300\n")
    up.assign()
    up.until(lambda: up.phase(key) == "running" and progress.processes(up.attempt(key)))
    job = up.status().attempts[key].pid
    started = start_time(job)
    try:
        if how.startswith("another"):
            up.leave()
            up.start(state=up.folder / "elsewhere")
        else:
            up.kill()
            kill(up.starter())
            shutil.rmtree(up.place.path)
            up.start()
        up.until(lambda: up.phase(key) in GONE)
        assert not is_alive(job, started)
    finally:
        kill(job)


def engine(site: Site, answers: str = "") -> Path:
    """A docker that has one container, until it is stopped; the file that names the label by which it was found."""
    folder = site.folder / "bin"
    folder.mkdir()
    (folder / "docker").write_text(
        f"#!/bin/sh\ncd {folder}\n{answers}\ncase $1 in\n"
        'ps) test -e stopped || echo 0123456789abcdef; echo "$*" >label;;\n'
        'inspect) echo "0123456789abcdef running 1 ";;\n'
        'kill) echo "$*" >stopped;;\nesac\n'
    )
    (folder / "docker").chmod(0o755)
    return folder / "label"


def test_lost_local_state_stops_the_containers_of_what_was_lost(up: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    key = up.task(1, "run: exec sleep 300\n")
    up.assign()
    up.until(lambda: up.phase(key) == "running")
    up.kill()
    up.end_processes()
    shutil.rmtree(up.place.path)
    label = engine(up)
    monkeypatch.setenv("PATH", f"{label.parent}:/usr/bin:/bin")
    up.start()
    assert label.read_text() == f"ps --all --quiet --no-trunc --filter label=skyspool.attempt={up.id}/{key}\n"
    assert (label.parent / "stopped").read_text() == "kill 0123456789abcdef\n"
    up.step()
    assert up.status().attempts[key].reason == "the node's local state was lost"


@pytest.mark.parametrize("works", [True, False], ids=["stopped", "the engine does not answer"])
def test_a_container_that_an_engine_starts_again_after_a_reboot_is_stopped(
    up: Site, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    monkeypatch.setattr(containers, "RETRY", 0.05)
    key = up.task(1, "run: exec sleep 300\n")
    up.assign()
    up.until(lambda: up.phase(key) == "running")
    label = engine(up, "" if works else "exit 1")
    noted = {"engine": "docker", "path": str(label.parent / "docker"), "flags": [], "cwd": "", "env": {}}
    Path(up.attempt(key).path, containers.NOTES).write_text(json.dumps(noted) + "\n")
    up.kill()
    up.reboot()
    up.start()
    up.step()
    told = "" if works else "; containers of it may still run: their engine did not answer"
    assert up.status().attempts[key].reason == f"its host was rebooted{told}"
    assert (label.parent / "stopped").exists() is works


def test_a_reboot_makes_what_ran_lost_and_takes_the_next_incarnation(up: Site) -> None:
    key = up.task(1, proving(up, "one", "sleep 300"))
    up.assign()
    up.until(lambda: up.phase(key) == "running" and proof(up))
    before = up.status().incarnation
    up.kill()
    up.reboot()
    up.start()
    up.step()
    up.assign()
    assert up.ended(key).phase == "lost"
    assert up.status().incarnation == before + 1 and proof(up) == ["one"]


def test_what_a_power_loss_took_from_the_local_disk_is_not_started_again(up: Site) -> None:
    key = up.task(1, proving(up, "one", "sleep 300"))
    up.assign()
    up.until(lambda: up.phase(key) == "running" and proof(up))
    up.kill()
    up.reboot()
    shutil.rmtree(up.attempt(key).path)
    up.start()
    up.step()
    up.assign()
    up.until(lambda: up.phase(key) in GONE or len(proof(up)) > 1)
    assert (up.phase(key), proof(up)) == ("lost", ["one"])


def test_without_its_status_a_runner_that_was_away_takes_no_incarnation_twice(up: Site) -> None:
    key = up.task(1, proving(up, "one"))
    up.assign()
    before = up.status().incarnation
    up.kill()
    up.age(3600)
    Path(up.spool.status(NODE)).unlink()
    up.start()
    up.step()
    assert up.status().incarnation > before
    assert up.phase(key) == "" and proof(up) == []


# ---- whose name it is


def test_a_second_runner_of_the_name_is_refused_naming_the_first(up: Site) -> None:
    with pytest.raises(Taken, match=f"pid {os.getpid()}"):
        Site.start(up)


def test_a_second_runner_with_other_local_state_is_refused_while_the_first_lives(site: Site) -> None:
    command = [sys.executable, "-m", "spoold", "node", site.spool.root, "--name", NODE, "--gpus", "none"]
    log = (site.folder / "node.log").open("wb")
    first = subprocess.Popen([*command, "--state", str(site.state)], stdout=log, stderr=log, start_new_session=True)
    try:
        site.until(lambda: site.disk.read(site.spool.status(NODE)), 20)
        with pytest.raises(Taken, match=f"pid {first.pid}"):
            site.start(state=site.folder / "elsewhere")
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0
        log.close()
    site.start(state=site.folder / "later")
    assert site.step().pid == os.getpid()


def as_another(site: Site, **fields: object) -> None:
    """Let a runner on a clone of this machine, which cron drives, have written status.json."""
    said = {"memory": "another", "boot": "another", "host": "gpu-17", "driven": "once", "interval": 60.0, **fields}
    told = msgspec.structs.replace(site.status(), timeout=180.0, **said)
    site.disk.publish(site.spool.status(NODE), encode(told))


def earlier(site: Site, seconds: float) -> None:
    """Let what a refused runner noted of the other one be so much older than it is."""
    path = Path(site.place.path, "rival")
    noted = json.loads(path.read_text())
    path.write_text(json.dumps({**noted, "at": noted["at"] - seconds}))


def test_a_second_machine_of_the_name_is_refused_as_long_as_cron_drives_the_first(up: Site) -> None:
    beat = up.status().beat
    up.kill()

    def recall() -> memory.Memory:
        return memory.recall(up.spool, up.disk, NODE, up.place)

    as_another(up, beat=beat + 1)
    with pytest.raises(Taken, match=r"is driven by cron on host gpu-17.* for 180 s more"):
        recall()
    earlier(up, 170)
    with pytest.raises(Taken, match=r"gpu-17.* for 10 s more"):
        recall()
    as_another(up, beat=beat + 2)  # it lives
    earlier(up, 170)
    with pytest.raises(Taken, match=r"gpu-17.* for 180 s more"):
        recall()
    earlier(up, 180)
    assert recall().beat == beat + 2


def test_a_name_of_another_machine_is_refused_naming_its_host(site: Site) -> None:
    site.disk.publish(site.spool.owner(NODE), encode(NodeOwner("another machine", "gpu-17")))
    with pytest.raises(Taken, match="gpu-17") as caught:
        site.start()
    assert site.spool.owner(NODE) in caught.value.hint


def test_two_names_on_one_host_and_one_name_in_two_spools_do_not_meet(site: Site, tmp_path: Path) -> None:
    site.start()
    site.step()
    (tmp_path / "other").mkdir()
    with running(tmp_path / "other") as other:
        other.start(state=site.state)
        other.step()
        assert other.status().node == site.status().node and other.status().memory != site.status().memory
        assert len(list(site.state.glob("*/node-n1"))) == 2


# ---- heartbeat and leaving


def test_a_report_is_written_when_it_says_something_new_or_the_beat_is_due(up: Site) -> None:
    beat = up.status().beat
    up.step()
    assert up.status().beat == beat
    up.assign()
    up.step()
    assert up.status().beat == beat + 1
    up.until(lambda: up.status().beat == beat + 2, 2)


def test_where_many_run_the_end_of_one_waits_a_moment_for_that_of_others(
    up: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, runner = up.task(1, "run: exit 3\n"), up.runner
    assert runner is not None
    runner.interval = 1000.0
    up.assign()
    up.step()
    until(lambda: progress.is_gone(up.attempt(key)))
    monkeypatch.setattr("spoold.node.runner.apart", lambda attempts: 60.0 * attempts)
    runner.attention.woken(100.0, by_disk=False, bell=b"1.1\n")
    assert up.step().attempts[key].phase != "ended" and runner.report_at == runner.written_at + 60.0
    monkeypatch.undo()
    assert up.step().attempts[key].phase == "ended"


def test_a_runner_that_leaves_says_so_and_its_jobs_go_on(up: Site) -> None:
    key = up.task(1, LONG)
    up.assign()
    up.until(lambda: up.phase(key) == "running")
    pid = up.status().attempts[key].pid
    up.leave()
    assert up.status().left and up.place.was_left()
    up.start()
    status = up.step()
    assert not status.left and not up.place.was_left()
    assert status.attempts[key].pid == pid and start_time(pid) is not None


def test_a_runner_cut_right_after_its_first_report_keeps_time_again(up: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    up.leave()
    runner = up.start()
    with monkeypatch.context() as patched:
        patched.setattr(runner.place, "renew", cut)
        with pytest.raises(KeyboardInterrupt):
            runner.step()
    assert not up.status().left  # from here the head counts T
    assert not up.place.was_left()


@pytest.mark.parametrize("away", [0, 3600])
def test_what_a_runner_that_left_had_ordered_and_nobody_begun_is_never_begun(
    up: Site, monkeypatch: pytest.MonkeyPatch, away: int
) -> None:
    """Nobody waits for a node that left before a cancellation is recorded: a supervisor that was held up for all that
    time must not begin the job after it, even before the next runner has reported."""
    key = hold_up(up, monkeypatch)
    up.leave()
    up.age(away)
    up.start()
    up.kill()
    supervise_late(up, key)
    assert proof(up) == []
    up.start()
    phase = up.step().attempts[key]
    assert phase.phase == "never" and phase.stage != "file"  # the job waits again, if it is not over
    assert phase.reason == "the node was stopped when it was to start"


def supervise_late(site: Site, key: str) -> None:
    """Let the supervisor go on that the starter had forked for an attempt, to its end."""
    code = "import sys; from spoold.node.supervisor import *; place = Workplace(sys.argv[1]); " + (
        "supervise(place, sys.argv[2], os.open(place.bell, os.O_RDWR), socket.socket())"
    )
    subprocess.run([sys.executable, "-c", code, site.place.path, key], check=True, timeout=20)


def test_a_runner_that_follows_one_that_left_is_another_incarnation_even_if_it_is_cut_before_it_says_so(
    up: Site,
) -> None:
    first = up.status().incarnation
    up.leave()
    for _ in range(3):
        up.start()
        up.kill()
    up.task(1, proving(up, "one"))
    up.assign(incarnation=first)  # as it may have been given up with, read late
    up.start()
    assert up.step().incarnation == first + 1
    assert up.place.remembered() == []


def cut(*_: object, **__: object) -> None:
    """Here the runner is killed."""
    raise KeyboardInterrupt


def test_the_limit_is_noted_by_the_clock_of_the_boot(up: Site) -> None:
    noted = read_json(os.path.join(up.place.path, "renewed"))
    assert noted["limit"] == pytest.approx(55.0)
    assert 0 <= boot_time() - noted["at"] < 30


# ---- trouble with one attempt


def test_an_attempt_that_cannot_be_begun_keeps_no_other_from_running_and_the_heart_beating(up: Site) -> None:
    runner = up.runner
    assert runner is not None
    runner.orders.disk = Refusing("/1.job.yaml")
    up.task(1, "run: exit 0\n")
    other = up.task(2, "run: exit 0\n")
    up.assign()
    beat = up.status().beat
    assert up.ended(other).code == 0
    up.until(lambda: up.status().beat > beat + 1)
    assert any("job 1" in note and "Input/output error" in note for note in up.status().notes)
    runner.orders.disk = Disk()
    assert up.ended("1.1").code == 0
    assert up.step().notes == []


def test_a_damaged_assignment_stops_nothing_and_is_asked_for_again(up: Site) -> None:
    key = up.task(1, LONG)
    up.assign()
    up.until(lambda: up.phase(key) == "running")
    Path(up.spool.assigned(NODE)).write_text('{"format":1,')
    status = up.step()
    assert status.read == (0, 0) and status.attempts[key].phase == "running"


def test_a_lapse_counts_once_however_often_the_local_disk_refuses(up: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, first = up.runner, up.status().incarnation
    assert runner is not None
    up.age(60)
    with monkeypatch.context() as patched:
        patched.setattr(runner.place, "renew", full)
        for _ in range(5):
            with contextlib.suppress(OSError):
                runner.step()
    up.step()
    assert up.status().incarnation == first + 1


def full(*args: object, **more: object) -> None:
    """The local disk takes nothing more."""
    raise OSError(28, "No space left on device")


# ---- gangs


def test_a_rank_of_a_gang_waits_for_go_also_when_its_runner_and_starter_were_killed(up: Site) -> None:
    text = f"setup: 'true'\nrun: echo one >> {up.folder}/proof\n"
    key = up.task(1, text, nodes=[NODE, "n2"], addresses=["a", "b"], go=False)
    up.assign()
    up.until(lambda: up.phase(key) == "ready")
    up.kill()
    kill(up.starter())
    up.start()
    up.step()
    assert up.phase(key) == "ready" and proof(up) == []
    up.change(key, go=True)
    up.assign()
    assert up.ended(key).code == 0
    assert proof(up) == ["one"]


def test_what_a_rank_of_a_gang_left_behind_lives_until_the_head_says_stop(up: Site) -> None:
    key = up.task(1, "run: setsid -f sleep 301\n", nodes=[NODE, "n2"], addresses=["a", "b"])
    up.assign()
    up.until(lambda: up.phase(key) == "exited")
    for _ in range(5):
        up.step()
    assert up.phase(key) == "exited" and len(progress.processes(up.attempt(key))) == 1
    up.change(key, want="stop")
    up.assign()
    phase = up.ended(key)
    assert (phase.phase, phase.code) == ("ended", 0)


def left_alone(site: Site, seconds: float, until: Callable[[], bool] = lambda: False) -> int:
    """Passes of a runner that wakes as it does by itself, for so long or until something holds."""
    passes, end = 0, time.monotonic() + seconds
    assert site.runner is not None
    while (left := end - time.monotonic()) > 0:
        site.runner.step()
        passes += 1
        if until():
            break
        site.runner.sleep(min(left, site.runner.pause()))
    return passes


RESISTS = "setsid -f sh -c 'trap \"\" TERM; exec sleep 301'"


def test_while_a_rank_that_has_exited_waits_for_the_others_nothing_is_looked_at(tmp_path: Path) -> None:
    with running(tmp_path, heartbeat="20s", grace="0.2s") as up:
        up.start()
        up.step()
        key = up.task(1, f"run: {RESISTS}\n", nodes=[NODE, "n2"], addresses=["a", "b"])
        up.assign()
        up.until(lambda: up.phase(key) == "exited")
        assert left_alone(up, 2.0) <= 5  # of which some are to settle
        up.change(key, want="stop")
        up.assign()
        left_alone(up, 10.0, lambda: up.phase(key) == "ended")
        assert up.phase(key) == "ended"


def test_what_a_killed_supervisor_left_is_ended_without_waiting_for_the_heartbeat(tmp_path: Path) -> None:
    with running(tmp_path, heartbeat="20s", grace="0.2s") as up:
        up.start()
        up.step()
        key = up.task(1, f"run: {RESISTS}; sleep 300\n")
        up.assign()
        up.until(lambda: up.phase(key) == "running" and len(progress.processes(up.attempt(key))) >= 3)
        kill(up.supervisor(key))
        left_alone(up, 10.0, lambda: up.phase(key) == "lost")
        assert up.phase(key) == "lost"


def test_what_was_in_setup_during_a_lapse_runs_when_the_head_has_confirmed_it(up: Site) -> None:
    wait = f"while [ ! -e {up.folder}/end ]; do sleep 0.02; done"
    key = up.task(1, f"setup: {wait}\nrun: echo one >> {up.folder}/proof\n")
    up.assign()
    up.until(lambda: up.phase(key) == "setup")
    up.age(3600)
    (up.folder / "end").touch()
    up.until(lambda: up.phase(key) == "ready")
    assert proof(up) == []
    up.assign()  # addressed to the new incarnation: it was not given up
    assert up.ended(key).code == 0
    assert proof(up) == ["one"]


# ---- once


def test_one_run_by_cron_runs_a_short_job_to_its_end_and_leaves_a_long_one_running(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.start(once=True).run_once()
    site.kill()
    short, long = site.task(1, "run: exit 2\n"), site.task(2, LONG)
    site.assign()
    began = time.monotonic()
    site.start(once=True).run_once()
    assert time.monotonic() - began < 8
    status: NodeStatus = site.status()
    assert (status.driven, status.interval, status.left) == ("once", 60.0, False)
    assert status.attempts[short].code == 2 and status.attempts[long].phase == "running"
    site.kill()
    pid = status.attempts[long].pid
    monkeypatch.setattr("spoold.node.runner.ONCE_FOR", 0.1)
    site.start(once=True).run_once()
    assert site.status().attempts[long].pid == pid


def test_its_limit_is_three_intervals_of_cron_less_the_margin(site: Site) -> None:
    assert site.start(once=True).limit == pytest.approx(3 * 60 - 5)
    site.kill()
    assert site.start().limit == pytest.approx(60 - 5)


# ---- what it finds damaged


def test_an_end_that_was_recorded_before_a_reboot_is_known_after_it(up: Site) -> None:
    key = up.task(1, "run: exit 3\n")
    up.assign()
    up.step()
    wait_for(lambda: up.attempt(key).has("run.exit"))
    up.kill()
    up.reboot()
    up.start()
    up.step()
    phase = up.status().attempts[key]
    assert (phase.phase, phase.code) == ("ended", 3)


@pytest.mark.parametrize("name", ["outcome", "marker", "run.exit", "run.pid", "fail", "order.json"])
def test_a_file_that_a_power_loss_left_empty_means_lost(up: Site, name: str) -> None:
    key = up.task(1, "run: exit 0\n")
    up.assign()
    up.until(lambda: up.phase(key) in ("running", *GONE))
    up.kill()
    up.reboot()
    Path(up.attempt(key).file("outcome")).unlink(missing_ok=True)
    Path(up.attempt(key).file(name)).write_text("")
    up.start()
    assert up.step().attempts[key].phase in GONE


def test_a_status_of_an_older_version_of_the_program_is_taken_up(up: Site) -> None:
    """Fields that it did not write have their defaults."""
    up.kill()
    path = Path(up.spool.status(NODE))
    old = msgspec.json.decode(path.read_bytes())
    path.write_bytes(
        msgspec.json.encode({k: old[k] for k in ("format", "node", "host", "incarnation", "beat", "interval")})
    )
    up.start()
    assert up.step().beat > old["beat"]


# ---- where the disk tells of no changes


@pytest.fixture
def apart(up: Site) -> Runner:
    """The runner of a node whose spool is on a network file system, as it believes."""
    assert up.runner is not None
    up.runner.local = up.runner.waker.native = False
    up.runner.glance = Glance(up.spool.node(NODE))
    return up.runner


def test_an_attempt_that_rings_has_its_phase_looked_at_and_not_the_file_server(
    up: Site, apart: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []
    monkeypatch.setattr(apart.glance, "changed", lambda: looked.append(True) is not None)
    up.step()
    assert 0.2 < apart.pause() <= 2.0 and looked == [True]
    apart.attention.woken(time.monotonic(), by_disk=False, bell=b"1.1\n")
    up.step()
    assert looked == [True] and apart.pause() <= 2.0
    apart.look_at = time.monotonic()
    up.step()
    assert looked == [True, True]
    apart.written_at -= apart.interval  # a heartbeat is due
    up.step()
    assert looked == [True, True, True]


def test_news_of_an_end_make_looks_frequent_again_and_do_not_put_off_the_next(up: Site, apart: Runner) -> None:
    apart.looked, apart.pace.seconds = True, 2.0
    apart.pause()
    assert apart.look_at - time.monotonic() > 1.5
    apart.news = True
    apart.pause()
    assert apart.look_at - time.monotonic() <= 0.25
    apart.look_at = soon = time.monotonic() + 0.1
    apart.news = True
    apart.pause()
    assert apart.look_at == soon


def test_on_a_network_ends_are_told_together_while_many_attempts_run_and_the_last_at_once(
    up: Site, apart: Runner
) -> None:
    running, ended, now = Phase("running", pid=7), Phase("ended"), time.monotonic()
    plain = msgspec.structs.replace(up.status(), attempts={})

    def due(before: dict[str, Phase], after: dict[str, Phase], **more: object) -> float:
        """Seconds after a report that one comes of what changed right after it."""
        apart.written, apart.written_at = msgspec.structs.replace(plain, attempts=before), now
        status = msgspec.structs.replace(plain, attempts=after, **more)
        return max(0.0, apart._when_to_report(status, now) - now)

    many = {f"{ident}.1": running for ident in range(100)}
    assert due(many, {**many, "0.1": ended}) == pytest.approx(1.0)
    assert due({"0.1": running}, {"0.1": ended}) == 0.0
    assert due(dict.fromkeys(many, ended) | {"0.1": running}, dict.fromkeys(many, ended)) == 0.0
    assert due({}, {"0.1": running}) == pytest.approx(0.25)  # nobody waits for that
    assert due(many, {**many, "100.1": running}) == pytest.approx(1.0)
    assert due(many, many, notes=["the local disk is full"]) == 0.0


def test_a_log_is_sent_from_when_its_job_runs_reported_or_not(
    up: Site, apart: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_when_to_report", lambda *_: float("inf"))
    apart.interval = 1000.0
    key = up.task(1, LONG)
    up.assign()
    up.until(lambda: apart.attempts.standing.get(key, Phase("")).phase == "running")
    up.step()
    assert up.phase(key) == "" and apart.logs[key] == (f"{up.spool.log_dir(1)}/run.log",)
