"""Real daemons, started as people start them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout import history
from spool_layout.paths import Spool
from spool_layout.replay import State
from spool_layout.storage import Disk
from spoold.node.workplace import Workplace
from tests.client.builders import Scene
from tests.client.conftest import Ran, Run

QUICK = "shell: plain\ngrace: 1s\nheartbeat: 0.5s\nlock_heartbeat: 0.4s\nlock_threshold: 1.2s\n"


@pytest.fixture
def up(home: Path, process: Run, tmp_path: Path) -> Iterator[Callable[..., Ran]]:
    """`skyspool up …`, with local state in the test's directory; everything is ended with the test."""

    def run(*words: str) -> Ran:
        return process("up", "--state", str(tmp_path / "state"), *words)

    yield run
    process("down", "--jobs", timeout=120)
    process("down")
    end_starters(tmp_path)


def end_starters(folder: Path) -> None:
    """What starts jobs outlives its runner by ten seconds, for one that comes back at once. Nobody does here."""
    for path in folder.glob("state*/*/node-*"):
        if Workplace(str(path)).has_starter():
            os.kill(json.loads((path / "starter.lock").read_text())["pid"], signal.SIGKILL)


def quick(home: Path) -> Spool:
    """A spool with short waits, known as the default cluster."""
    subprocess.run([sys.executable, "-m", "skyspool", "init", "spool"], check=True, capture_output=True, cwd=home)
    path = home / "spool/spool.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("lock_")]
    path.write_text("\n".join(kept) + "\n" + QUICK)
    return Spool(home / "spool")


def state(spool: Spool) -> State:
    return history.read_present(spool, Disk()).state


def eventually(holds: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_one_command_on_a_bare_machine(up: Callable[..., Ran], process: Run, home: Path) -> None:
    ran = up("--gpus", "H100:4")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[:2] == [f"Spool local made: {home}/skyspool", f"Cluster local: {home}/skyspool"]
    assert lines[2].startswith("Head: started, pid ") and lines[3].startswith("Node: started, pid ")
    assert ", log " in lines[2] and "(4 H100), log " in lines[3]
    assert Path(lines[2].rpartition(", log ")[2]).parent == home / ".local/state/skyspool"
    ran = process("exec", "--gpus", "H100:2", "--", "echo", "$CUDA_VISIBLE_DEVICES")
    assert (ran.code, ran.out) == (0, "Job submitted, ID: 1\n0,1\n"), ran.err
    assert "no node of local is known yet" not in ran.err
    again = up("--gpus", "H100:8")
    assert [line.split(",")[0] for line in again.out.splitlines()[1:]] == ["Head: was running", "Node: was running"]
    assert "note: the node was running already; --gpus had no effect" in again.err
    down = process("down")
    assert [line.split(" (")[0] for line in down.out.splitlines()] == ["Head stopped", "Node stopped"]
    assert process("down").out.startswith("Nothing of local runs on ")


def test_down_leaves_running_jobs_alone_and_up_finds_them_again(
    up: Callable[..., Ran], process: Run, home: Path
) -> None:
    spool = quick(home)
    assert up().code == 0
    assert process("exec", "-d", "--", "sleep 1000").out == "Job submitted, ID: 1\n"
    eventually(lambda: state(spool).jobs[1].start_at)
    ran = process("down")
    assert "note: jobs 1 go on running here; the next node of that name finds them again" in ran.err
    ran = process("down", "--jobs")
    assert ran.code == 1
    assert "jobs 1 run here, and no head is alive to cancel them; nothing was stopped" in ran.err
    pid = state(spool).jobs[1].pids[0]
    assert os.path.exists(f"/proc/{pid}")
    assert up().code == 0
    ran = process("down", "--jobs", timeout=60)
    assert ran.code == 0 and "Cancelling jobs 1 …" in ran.err, ran.err
    assert not os.path.exists(f"/proc/{pid}")
    assert str(state(spool).ended[1].status) == "CANCELLED"


def test_a_second_host_with_the_same_home_joins(
    up: Callable[..., Ran], process: Run, home: Path, tmp_path: Path
) -> None:
    elsewhere = ["unshare", "--uts", "bash", "-c", 'hostname host2 && exec "$@"', "bash"]
    if shutil.which("unshare") is None or subprocess.run([*elsewhere, "true"], capture_output=True).returncode:
        pytest.skip("needs root and unshare, for a second host name")
    spool = quick(home)

    def on_host2(*words: str) -> subprocess.CompletedProcess[str]:
        line = [*elsewhere, sys.executable, "-m", "skyspool", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=60)

    assert up("--gpus", "H100:1").code == 0
    joined = on_host2("up", "--gpus", "H100:2", "--state", str(tmp_path / "state2"))
    try:
        assert joined.returncode == 0, joined.stderr
        assert "made" not in joined.stdout and "host2 (2 H100)" in joined.stdout
        eventually(lambda: "host2" in state(spool).nodes)
        status = process("status").out.splitlines()
        assert [line.split(", on ")[0] for line in status if line.startswith("Head: ")] == [
            "Head: alive, leads",
            "Head: alive, stands by",
        ]
        assert any(line.startswith("Head: alive, stands by, on host2 ") for line in status)
        ran = process("exec", "--gpus", "H100:2", "--", "hostname")
        assert (ran.code, ran.out.splitlines()[1:]) == (0, ["host2"]), ran.err
    finally:
        ended = on_host2("down")
    assert [line.split(" (")[0] for line in ended.stdout.splitlines()] == ["Head stopped", "Node stopped"]
    assert "Head: alive, leads" in process("status").out  # only that host's daemons were ended


def test_a_daemon_that_cannot_start_is_told_with_its_last_words(process: Run, home: Path, tmp_path: Path) -> None:
    quick(home)
    (tmp_path / "state").write_text("not a directory")
    ran = process("up", "--state", str(tmp_path / "state"))
    assert ran.code == 1
    assert ran.err.startswith("error: the head ended at once with 1:\n")
    assert f"{tmp_path}/state is not a directory that only we may write to" in ran.err
    eventually(lambda: process("down").out.startswith("Nothing of spool runs on "))


def test_up_on_what_is_no_spool_makes_one_there(up: Callable[..., Ran], process: Run, home: Path) -> None:
    ran = up("mine", "--gpus", "none")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"Spool mine made: {home}/mine\n") and "(no GPU)" in ran.out
    assert f"  mine: {home}/mine" in (home / ".config/skyspool/config.yaml").read_text()


def test_only_daemons_are_ever_signalled(scene: Scene, sky: Run) -> None:
    from skyspool import daemons

    scene.head(host=daemons.host(), pid=os.getpid())  # a number that is somebody else's now
    assert sky("down").out.startswith("Nothing of mycluster runs on ")
