"""What is replaced in filelock for the lock of the heads is still what filelock opens its files with."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec
import pytest

from spool_layout import storage
from spool_layout.leadership import HeadLock
from spool_layout.paths import Spool
from spool_layout.settings import Settings

SETTINGS = msgspec.structs.replace(Settings(format=1, id="0" * 16, name="test"), lock_heartbeat=0.1, lock_threshold=5.0)


def test_no_file_of_the_lock_is_opened_for_reading_so_that_its_server_gives_a_delegation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage, "_without_delegations", (f"{tmp_path}/",))
    spool = Spool(str(tmp_path))
    os.mkdir(os.path.dirname(spool.head_lock))
    opened: dict[str, int] = {}
    real = os.open

    def recorded(path: str, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        ours = dir_fd is not None or str(path).startswith(spool.root)
        if ours and flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_DIRECTORY:
            opened[os.path.basename(path)] = flags & os.O_DIRECT
        return real(path, flags & ~os.O_DIRECT, *rest, dir_fd=dir_fd)  # tmpfs has no such thing

    monkeypatch.setattr(os, "open", recorded)
    locks = [HeadLock(spool, SETTINGS) for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        assert locks[0].acquire(1.0)
        assert not locks[1].acquire(0.3)
    locks[0].release()
    assert not caplog.records
    assert {"HEAD", "epoch"} <= opened.keys()
    assert sum(len(name) == 32 for name in opened) == 2, "records of two holders"
    assert [name for name, direct in opened.items() if not direct] == []
