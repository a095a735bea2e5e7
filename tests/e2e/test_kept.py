"""What is kept of jobs that are over, and what is removed: by the head as `keep:` says, by its owner with `prune`."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.e2e.cluster import Cluster, running

TWO_DAYS = 2 * 86400


def age(path: Path, seconds: float = TWO_DAYS) -> None:
    """Make a file, or all files below a directory, look as if nobody had touched them for so long."""
    for file in [path, *path.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # a live job's node makes and removes files there
            os.utime(file, (time.time() - seconds,) * 2, follow_symlinks=False)


def another_round(cluster: Cluster) -> None:
    """Let a head of cron do what the head does once a day."""
    mark = Path(cluster.spool.locks, "pruned")
    if mark.exists():
        age(mark)
    assert cluster.once("head").returncode == 0


def logs(cluster: Cluster) -> set[str]:
    return set(os.listdir(cluster.spool.logs))


def test_the_head_removes_what_keep_says_once_a_day_and_nothing_of_a_live_job(tmp_path: Path) -> None:
    with running(tmp_path, keep="{done: 30d, logs: 1d, rejected: 200ms}") as cluster:
        cluster.head().node("n1").ready()
        gate = cluster.gate()
        old = cluster.add("old.yaml", "run: echo old\n...\n")
        new = cluster.add("new.yaml", "run: echo new\n...\n")
        live = cluster.add("live.yaml", f"run: {gate}\n...\n")
        cluster.drop("bad.yaml", "runn: x\n...\n")
        cluster.ended(old, new)
        cluster.runs(live)
        day = Path(cluster.spool.done, "2020-01-01")
        day.mkdir()
        (day / "1.ancient.SUCCEEDED.yaml").write_text("run: x\n")
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_text("")
        Path(cluster.spool.log_dir(old), "link").symlink_to(outside)
        for ident in (old, live):
            age(Path(cluster.spool.log_dir(ident)))
        cluster.eventually(lambda: "bad.yaml" in os.listdir(cluster.spool.rejected))
        time.sleep(0.25)  # for so long rejected files are kept here
        cluster.kill("head", signal.SIGTERM)
        another_round(cluster)
        assert logs(cluster) == {"1", str(new), str(live)} - {str(old)}
        assert not day.exists()
        assert len(os.listdir(cluster.spool.done)) == 1
        assert os.listdir(cluster.spool.rejected) == []
        assert [path.name for path in outside.iterdir()] == ["precious"]
        age(Path(cluster.spool.log_dir(new)))
        assert cluster.once("head").returncode == 0
        assert str(new) in logs(cluster)  # the next round is a day away
        cluster.head()
        gate.open()
        assert cluster.ended(live) == ["SUCCEEDED"]
        assert cluster.sky("logs", str(old)).stdout == ""
        assert "old" in cluster.sky("queue").stdout


def test_of_logs_that_are_too_many_the_oldest_go_first(tmp_path: Path) -> None:
    with running(tmp_path, keep="{logs_size: 500k}") as cluster:
        cluster.head().node("n1").ready()
        ids = [cluster.add(f"{n}.yaml", "run: head -c 200000 /dev/zero\n...\n") for n in range(4)]
        assert cluster.ended(*ids) == ["SUCCEEDED"] * 4
        for hours, ident in enumerate([ids[2], ids[0], ids[3], ids[1]]):
            age(Path(cluster.spool.log_dir(ident)), 3600 * (4 - hours))
        cluster.kill("head", signal.SIGTERM)
        another_round(cluster)
        assert logs(cluster) == {str(ids[3]), str(ids[1])}


def test_without_keep_nothing_is_removed_and_prune_removes_what_its_owner_says(cluster: Cluster) -> None:
    cluster.head().node("n1").ready()
    gate = cluster.gate()
    old, new = (cluster.add(f"{name}.yaml", "run: echo hi\n...\n") for name in ("old", "new"))
    live = cluster.add("live.yaml", f"run: {gate}\n...\n")
    cluster.ended(old, new)
    cluster.runs(live)
    for ident in (old, live):
        age(Path(cluster.spool.log_dir(ident)))
    cluster.kill("head", signal.SIGTERM)
    another_round(cluster)
    assert logs(cluster) == {str(old), str(new), str(live)}
    dry = cluster.sky("prune", "mycluster", "--older", "1d", "--dry-run").stdout
    assert f"{cluster.spool.log_dir(old)}/run.log" in dry
    assert "Would remove 1 files" in dry
    assert logs(cluster) == {str(old), str(new), str(live)}
    assert "Removed 1 files" in cluster.sky("prune", "mycluster", "--older", "1d").stdout
    assert logs(cluster) == {str(new), str(live)}
    cluster.head()
    gate.open()
    assert cluster.ended(live) == ["SUCCEEDED"]
