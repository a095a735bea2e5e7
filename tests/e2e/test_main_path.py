"""Files dropped by hand, real daemons, real processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.cluster import Cluster, running, sleepers

HELLO = "run: echo hello; echo on $SKYPILOT_NODE_RANK\n...\n"


def test_a_dropped_file_runs(one_node: Cluster) -> None:
    one_node.drop("hi.yaml", HELLO)
    assert one_node.ended(1) == ["SUCCEEDED"]
    assert one_node.log(1) == "hello\non 0\n"
    file = Path(one_node.spool.ended(one_node.job(1).day, "1.hi.yaml", "SUCCEEDED"))  # type: ignore[union-attr]
    one_node.eventually(file.exists)  # the event comes first, the move after it
    assert file.read_text() == HELLO
    one_node.sound()


def test_by_cron_alone(cluster: Cluster) -> None:
    cluster.drop("hi.yaml", HELLO)
    cluster.drop("sad.yaml", "run: exit 3\n...\n")
    for _ in range(6):
        for words in (("head",), ("node", "--name", "n1", "--gpus", "none", "--cpus", "4")):
            done = cluster.once(*words)
            assert done.returncode == 0, done.stderr
        if len(cluster.state().ended) == 2:
            break
    assert sorted(cluster.statuses().values()) == ["FAILED", "SUCCEEDED"]
    assert cluster.log(1) == "hello\non 0\n"
    cluster.sound()


def test_a_file_written_slowly_never_runs_half(one_node: Cluster) -> None:
    path = Path(one_node.spool.pending, "slow.yaml")
    subprocess.run(
        ["sh", "-c", f"(printf 'run: |\\n  echo one\\n'; sleep 1; printf '  echo two\\n') > {path}"], check=True
    )
    assert one_node.ended(1) == ["SUCCEEDED"]
    assert one_node.log(1) == "one\ntwo\n"


def test_cp_of_one_file_five_times_gives_five_jobs(one_node: Cluster) -> None:
    task = one_node.folder / "task.yaml"
    task.write_text(HELLO)
    for ident in range(1, 6):
        subprocess.run(["cp", str(task), one_node.spool.pending], check=True)
        one_node.eventually(lambda ident=ident: one_node.job(ident))
    assert one_node.ended(1, 2, 3, 4, 5) == ["SUCCEEDED"] * 5


def test_deleting_and_editing_a_waiting_file(one_node: Cluster) -> None:
    gate = one_node.gate()
    one_node.add("hog.yaml", f"resources: {{accelerators: H100:4}}\nrun: {gate}\n...\n")
    for name in ("a", "b"):
        one_node.drop(f"{name}.yaml", "resources: {accelerators: H100:4}\nrun: echo old\n...\n")
    one_node.eventually(lambda: one_node.job(3))
    one_node.eventually(lambda: Path(one_node.spool.dropped("3.b.yaml")).exists())
    Path(one_node.spool.dropped("2.a.yaml")).unlink()
    Path(one_node.spool.dropped("3.b.yaml")).write_text("resources: {accelerators: H100:4}\nrun: echo new\n...\n")
    assert one_node.ended(2) == ["CANCELLED"]
    gate.open()
    assert one_node.ended(1, 2, 3) == ["SUCCEEDED", "CANCELLED", "SUCCEEDED"]
    assert one_node.log(3) == "new\n"
    one_node.sound()


def test_modes_whatever_the_umask(cluster: Cluster) -> None:
    old = os.umask(0)
    try:
        cluster.head().node("n1", "H100:1").ready()
    finally:
        os.umask(old)
    cluster.drop("hi.yaml", "secrets: {TOKEN: s3cret}\nrun: umask; sleep 1\n...\n")
    cluster.eventually(lambda: Path(cluster.spool.log_dir(1), "run.log").exists())
    assert stat.S_IMODE(os.stat(Path(cluster.spool.log_dir(1), "run.log")).st_mode) == 0o640
    assert stat.S_IMODE(os.stat(cluster.spool.assigned("n1")).st_mode) == 0o600
    cluster.ended(1)
    told = subprocess.run(
        ["grep", "-rl", "s3cret", cluster.spool.root, "--include=*.json*", "--include=*.log"],
        capture_output=True,
        text=True,
    ).stdout
    assert told == ""


def test_a_node_that_is_not_heard_loses_its_jobs_and_keeps_its_gpus(tmp_path: Path) -> None:
    with running(tmp_path, node_timeout="2s", fence_margin="0.5s", heartbeat="0.3s") as cluster:
        cluster.head().node("n1", "H100:1").ready()
        lost = cluster.add("long.yaml", "resources: {accelerators: H100:1}\nrun: sleep 9901\n...\n")
        waits = cluster.add("next.yaml", "resources: {accelerators: H100:1}\nrun: echo hi\n...\n")
        cluster.runs(lost)
        cluster.kill("n1")
        assert cluster.ended(lost) == ["FAILED"]
        assert cluster.reason(lost) == "lost contact with node n1"
        assert cluster.statuses()[waits] == "PENDING"
        assert cluster.state().nodes["n1"].gpus[0].holders == {f"{lost}.1": 1000}
        cluster.node("n1", "H100:1")
        assert cluster.ended(waits) == ["SUCCEEDED"]
        assert sleepers(9901) == []
        cluster.sound()


def test_an_unmounted_spool_is_not_an_empty_one(cluster: Cluster) -> None:
    os.rename(cluster.spool.root, cluster.folder / "away")
    os.mkdir(cluster.spool.root)
    for words in (["head"], ["node"]):
        done = cluster.once(*words)
        assert done.returncode == 69
        assert "share is not mounted" in done.stderr
    assert os.listdir(cluster.spool.root) == []
    os.rmdir(cluster.spool.root)
    os.rename(cluster.folder / "away", cluster.spool.root)


def test_a_newer_format_is_left_alone(cluster: Cluster) -> None:
    with open(cluster.spool.settings, "a") as file:
        file.write("")
    text = Path(cluster.spool.settings).read_text().replace("format: 1", "format: 2")
    Path(cluster.spool.settings).write_text(text)
    done = cluster.once("head")
    assert (done.returncode, "formats up to 1" in done.stderr) == (78, True)
    Path(cluster.spool.settings).write_text(text.replace("format: 2", "format: 1"))


def test_a_drop_just_after_another_was_claimed_wakes_the_head_at_once(one_node: Cluster) -> None:
    waits = []
    for number in range(5):
        one_node.drop(f"a{number}.yaml", HELLO)
        first = 2 * number + 1
        one_node.eventually(lambda first=first: one_node.job(first))
        time.sleep(0.02)
        one_node.drop(f"b{number}.yaml", HELLO)
        began = time.monotonic()
        one_node.eventually(lambda first=first: one_node.job(first + 1))
        waits.append(time.monotonic() - began)
    assert sorted(waits)[2] < 0.4, waits  # watchdog's own grouping of moves would make it half a second


def test_two_heads_one_leads(cluster: Cluster) -> None:
    cluster.head("head1").head("head2").node("n1", "H100:1").ready()
    cluster.eventually(lambda: len(os.listdir(cluster.spool.heads)) == 2)
    roles = [Path(cluster.spool.heads, name).read_text() for name in os.listdir(cluster.spool.heads)]
    assert sorted('"role":"leading"' in role for role in roles) == [False, True]
    leading = next(r for r in roles if '"role":"leading"' in r)
    pid = int(leading.split('"pid":')[1].split(",")[0])
    key = next(k for k, p in cluster.processes.items() if p.pid == pid)
    cluster.kill(key)
    cluster.drop("hi.yaml", HELLO)
    assert cluster.ended(1) == ["SUCCEEDED"]
    cluster.sound()


def test_the_command_line_tells_errors(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "spoold", "head", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 69
    assert done.stderr.startswith(f"spoold: {tmp_path} holds no spool.yaml")
    assert "hint: mount the share, or make a spool: skyspool init" in done.stderr
