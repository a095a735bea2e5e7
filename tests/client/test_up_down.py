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

from skyspool import offered
from skyspool.clusters import open_spool
from skyspool.verbs.up import AUTO, home_root
from spool_layout import history
from spool_layout.errors import UsageError
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
    kept = [line for line in path.read_text().splitlines() if not line.startswith(("lock_", "heartbeat"))]
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
    assert "note: the node was running already; --gpus had no effect\nhint: skyspool down && skyspool up " in again.err
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
    if shutil.which("unshare") is None:  # a name space is the only way to a second host name on one machine
        pytest.skip("unshare is not installed: a second host name is NOT tested")
    if subprocess.run([*elsewhere, "true"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: needs root, for a second host name")
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
            "Head: alive, leads (epoch 1)",
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


def node_line(ran: Ran) -> str:
    assert ran.code == 0, ran.err
    return next(line for line in ran.out.splitlines() if line.startswith("Node: "))


def test_down_and_up_offer_the_same_gpus_until_told_otherwise(up: Callable[..., Ran], process: Run, home: Path) -> None:
    spool = quick(home)
    kept = f"note: --gpus H100:4, as an earlier `skyspool up` on this host said; --gpus {AUTO}: what is found\n"
    ran = up("--gpus", "H100:4")
    assert "(4 H100)" in node_line(ran) and kept not in ran.err
    assert process("down").code == 0
    ran = up()
    assert "(4 H100)" in node_line(ran) and kept in ran.err
    assert "--gpus had no effect" not in up("--gpus", "H100:4").err
    assert process("down").code == 0
    assert "(no GPU)" in node_line(up("--gpus", "none"))
    assert process("down").code == 0
    ran = up()
    assert "(no GPU)" in node_line(ran) and "note: --gpus none, as an earlier" in ran.err
    assert process("down").code == 0
    assert "as an earlier" not in up("--gpus", AUTO).err
    assert state(spool).nodes  # it runs
    assert process("down").code == 0
    assert "as an earlier" not in up().err


def test_a_wrong_gpus_is_not_kept(process: Run, home: Path, tmp_path: Path) -> None:
    cluster = open_spool(quick(home).root)
    assert process("up", "--state", str(tmp_path / "state"), "--gpus", "H100:0").code == 1
    assert offered.recall(cluster) is None
    assert process("down").code == 0
    eventually(lambda: process("down").out.startswith("Nothing of spool runs on "))


def test_what_was_kept_is_for_that_directory_only(scene: Scene, tmp_path: Path) -> None:
    cluster = open_spool(scene.spool.root)
    offered.keep(cluster, "H100:4")
    assert offered.recall(cluster) == "H100:4"
    assert offered.recall(cluster._replace(spool=Spool(tmp_path / "other"))) is None
    offered.keep(cluster, None)
    assert offered.recall(cluster) is None


def test_hints_name_the_spool_where_it_is_not_the_default_one(up: Callable[..., Ran], process: Run, home: Path) -> None:
    quick(home)
    process("init", "other", "--name", "second")
    for word in ("other", "second"):
        ran = up(word, "--gpus", "none" if word == "other" else "L4")
        assert "hint: skyspool exec second -- hostname      # then: skyspool queue second\n" in ran.err
    assert "hint: skyspool down second && skyspool up second --gpus L4\n" in ran.err
    assert process("down", "second").code == 0


def test_only_the_log_of_a_daemon_that_has_one_is_named(up: Callable[..., Ran], process: Run, home: Path) -> None:
    spool = quick(home)
    with (home / "mine.log").open("w") as log:
        head = subprocess.Popen([sys.executable, "-m", "spoold", "head", spool.root], stdout=log, stderr=log)
    node = subprocess.Popen([sys.executable, "-m", "spoold", "node", spool.root], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: state(spool).nodes)
        lines = up().out.splitlines()[1:]
        assert lines[0] == f"Head: was running, pid {head.pid}, log {home}/mine.log"
        assert lines[1].startswith(f"Node: was running, pid {node.pid}, ") and ", log " not in lines[1]
    finally:
        process("down")
        head.wait(30)
        node.wait(30)


@pytest.mark.parametrize("made", [True, False], ids=["empty", "missing"])
def test_up_makes_no_spool_in_a_directory_that_is_named(process: Run, home: Path, made: bool) -> None:
    if made:
        (home / "share").mkdir()
    ran = process("up", "share")
    assert ran.code == 69
    assert ran.err == (
        f"error: {home}/share holds no spool: it is mistyped, its share is not mounted, or none was made there yet\n"
        f"hint: skyspool init {home}/share && skyspool up {home}/share\n"
    )
    assert os.listdir(home) == ["share"] * made


def test_up_names_the_cluster_that_a_mistyped_word_may_have_meant(sky: Run, home: Path) -> None:
    sky("init", "spool", "--name", "mycluster")
    ran = sky("up", "myclustr")
    assert ran.code == 69 and "it is mistyped (did you mean mycluster?), its share" in ran.err


def test_a_home_whose_skyspool_is_something_else_gets_its_spool_beside_it(home: Path) -> None:
    assert home_root() == f"{home}/skyspool"
    (home / "skyspool/pending").mkdir(parents=True)  # an `up` that was cut
    assert home_root() == f"{home}/skyspool"
    (home / "skyspool/README.md").write_text("our source")
    assert home_root() == f"{home}/skyspool-queue"
    (home / "skyspool-queue").mkdir()
    (home / "skyspool-queue/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="are something else"):
        home_root()
    (home / "skyspool/spool.yaml").write_text("format: 1\n")
    assert home_root() == f"{home}/skyspool"


def test_only_daemons_are_ever_signalled(scene: Scene, sky: Run) -> None:
    from skyspool import daemons

    scene.head(host=daemons.host(), pid=os.getpid())  # a number that is somebody else's now
    assert sky("down").out.startswith("Nothing of mycluster runs on ")
