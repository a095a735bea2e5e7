"""What tells that something has changed, on a real directory and with a clock that is moved."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from spool_layout.stamps import Glance, SharedDisk, stamp_of_name


def test_a_shared_disk_lists_what_came_after_its_last_listing(tmp_path: Path) -> None:
    disk = SharedDisk()
    (tmp_path / "a").touch()
    assert [entry.name for entry in disk.list(str(tmp_path))] == ["a"]
    (tmp_path / "b").touch()
    assert sorted(entry.name for entry in disk.list(str(tmp_path))) == ["a", "b"]
    (tmp_path / "a").unlink()
    assert [entry.name for entry in disk.list(str(tmp_path))] == ["b"]


def test_a_shared_disk_leaves_a_time_that_no_later_change_can_leave(tmp_path: Path) -> None:
    """A client of NFS 3 takes a directory with an unchanged time for unchanged: here, so does the listing itself."""
    disk = SharedDisk()
    for name in ("a", "b", "c"):
        before = time.time_ns()
        (tmp_path / name).touch()
        assert name in {entry.name for entry in disk.list(str(tmp_path))}
        assert tmp_path.stat().st_mtime_ns < before, "a change within the same tick would leave this time too"
    marked = tmp_path.stat().st_mtime_ns
    disk.list(str(tmp_path))
    assert tmp_path.stat().st_mtime_ns == marked, "what did not change is not marked anew"
    (tmp_path / "hidden").touch()
    os.utime(tmp_path, ns=(marked, marked))
    assert "hidden" not in {entry.name for entry in disk.list(str(tmp_path))}, "an unchanged time means unchanged"


def test_a_shared_disk_lists_directories_that_are_not_its_own() -> None:
    if os.getuid():
        pytest.skip("NOT TESTED: another user's directory needs root")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        Path(folder, "a").touch()
        before = os.stat(folder).st_mtime_ns
        os.seteuid(65534)
        try:
            listed = [SharedDisk().list(folder) for _ in range(2)]
        finally:
            os.seteuid(0)
        assert [[entry.name for entry in entries] for entries in listed] == [["a"], ["a"]]
        assert os.stat(folder).st_mtime_ns == before


def test_a_glance_believes_a_stamp_once_it_has_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("spool_layout.stamps.time.monotonic", lambda: now)
    glance = Glance(str(tmp_path))
    assert glance.changed()
    now += 0.5
    assert glance.changed(), "a second change within the same step would have the same stamp"
    now += 0.5
    assert glance.changed(), "what came before it settled is looked at"
    assert not glance.changed()
    now += 60
    assert not glance.changed()
    stamp = tmp_path.stat().st_mtime_ns + 10_000_000
    os.utime(tmp_path, ns=(stamp, stamp))
    assert glance.changed()
    now += 1
    assert glance.changed()
    assert not glance.changed()


def test_a_change_of_ones_own_settles_from_when_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("spool_layout.stamps.time.monotonic", lambda: now)
    glance = Glance(str(tmp_path))
    glance.note()
    now += 2
    assert glance.changed()
    assert not glance.changed()


def test_of_a_name_what_stands_there_is_looked_at_once_and_once_more_when_it_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("spool_layout.stamps.time.monotonic", lambda: now)
    glance = Glance(str(tmp_path / "x"), stamp_of_name)
    assert [glance.changed() for _ in range(3)] == [True, False, False], "nothing stands there"
    (tmp_path / "x").touch()
    assert [glance.changed() for _ in range(3)] == [True, False, False]
    (tmp_path / "other").touch()  # an inode of its own
    (tmp_path / "other").rename(tmp_path / "x")
    glance.note()  # since it is looked at for another reason
    assert not glance.changed()
    now += 1
    assert [glance.changed() for _ in range(3)] == [True, False, False]
