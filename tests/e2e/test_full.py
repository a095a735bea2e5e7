"""A spool whose disk is full: on a small file system of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running

SIZE = 8 << 20  # of the file system, bytes; a twentieth of it is kept for the jobs that run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a small file system of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("NOT TESTED: a small file system needs a mount, and so root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, leave: int) -> Path:
    """Take all room but so many bytes. The file to remove in order to give it back."""
    space = os.statvfs(place)
    filler = place / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        file.write(bytes(max(0, space.f_bavail * space.f_frsize - leave)))
    return filler


def in_pending(cluster: Cluster) -> list[str]:
    return sorted(name for name in os.listdir(cluster.spool.pending) if not name.startswith("."))


def test_a_full_spool_takes_nothing_new_and_its_running_jobs_end(small_disk: Path) -> None:
    with running(small_disk) as cluster:
        cluster.head().node().ready()
        gate = cluster.gate()
        ident = cluster.add("runs.yaml", f"run: {gate}\n...\n")
        cluster.runs(ident)
        filler = fill(small_disk, leave=SIZE // 40)
        refused = cluster.sky("exec", cluster.name, "-d", "--", "true", check=74)
        assert "nothing was submitted" in refused.stderr
        assert "kept for the jobs that run" in refused.stderr
        assert "hint: skyspool prune" in refused.stderr
        cluster.drop("dropped.yaml", "run: 'true'\n...\n")
        gate.open()
        assert cluster.ended(ident) == ["SUCCEEDED"]
        assert in_pending(cluster) == ["dropped.yaml"]
        shown = cluster.sky("status", cluster.name).stdout
        assert "Warning: the spool is full, nothing new is accepted: " in shown
        filler.unlink()
        cluster.eventually(lambda: cluster.statuses() == {1: "SUCCEEDED", 2: "SUCCEEDED"})


def test_what_ends_while_nothing_can_be_written_is_told_once_there_is_room(small_disk: Path) -> None:
    with running(small_disk) as cluster:
        cluster.head().node().ready()
        gate = cluster.gate()
        ident = cluster.add("runs.yaml", f"run: {gate}; exit 7\n...\n")
        cluster.runs(ident)
        filler = fill(small_disk, leave=0)
        refused = cluster.sky("cancel", cluster.name, str(ident), check=None)
        assert refused.returncode == 74, refused.stderr
        assert "No space left" in refused.stderr
        gate.open()
        log = small_disk / "n1.log"
        cluster.eventually(lambda: "No space left" in log.read_text() or log.stat().st_size == 0)
        assert cluster.statuses() == {ident: "RUNNING"}
        filler.unlink()
        assert cluster.ended(ident, seconds=40) == ["FAILED"]
        job = cluster.job(ident)
        assert job is not None
        assert job.exit_codes == [7]
        cluster.sound()
