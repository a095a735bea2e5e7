"""The thread that sends logs to the file server. What it is for shows on NFS only: tests/nfs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from spoold.node.flushing import Flusher


def opened(path: Path) -> int:
    """How many descriptors of this process lead to a file."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}") == str(path)
        except FileNotFoundError:
            continue
    return found


def eventually(path: Path, count: int) -> None:
    end = time.monotonic() + 10
    while opened(path) != count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_log_is_held_while_it_is_followed_and_given_back_after(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    flusher = Flusher()
    flusher.follow(frozenset({str(log)}))
    log.write_text("late\n")
    eventually(log, 1)
    flusher.follow(frozenset())
    eventually(log, 0)
    assert log.read_text() == "late\n"


def test_logs_that_cannot_be_opened_keep_nobody_from_the_others(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "log").touch()
    flusher = Flusher()
    flusher._wanted = frozenset(str(tmp_path / name) for name in ("missing", "directory", "log"))
    flusher.flush()
    assert opened(tmp_path / "log") == 1


def test_what_was_followed_is_synced_in_every_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.touch()
    synced: list[str] = []
    monkeypatch.setattr(
        "spoold.node.flushing.os.fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}"))
    )
    flusher = Flusher()
    flusher._wanted = frozenset({str(log)})
    flusher.flush()
    flusher.flush()
    assert synced == [str(log)] * 2


def test_a_server_that_tells_a_close_that_it_is_full_does_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS writes at the close what is still to be written."""
    log = tmp_path / "log"
    log.touch()
    flusher = Flusher()
    flusher._wanted = frozenset({str(log)})
    flusher.flush()
    close = os.close

    def full(descriptor: int) -> None:
        close(descriptor)
        raise OSError(28, "No space left on device")

    flusher._wanted = frozenset()
    with monkeypatch.context() as patched:
        patched.setattr("spoold.node.flushing.os.close", full)
        flusher.flush()
    assert opened(log) == 0
