"""What is replaced in filelock for the lock of the heads is still what filelock reads with."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec
import pytest

from spool_layout import leadership, storage
from spool_layout.leadership import HeadLock
from spool_layout.paths import Spool
from spool_layout.settings import Settings

SETTINGS = msgspec.structs.replace(Settings(format=1, id="0" * 16, name="test"), lock_heartbeat=1.0, lock_threshold=5.0)


def test_what_other_heads_replace_is_read_without_delegations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage, "_without_delegations", (f"{tmp_path}/",))
    read: set[str] = set()

    def read_once(path: str) -> bytes:
        read.add(os.path.basename(path))
        return Path(path).read_bytes()

    monkeypatch.setattr(leadership, "read_once", read_once)
    spool = Spool(str(tmp_path))
    os.mkdir(os.path.dirname(spool.head_lock))
    locks = [HeadLock(spool, SETTINGS) for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        assert locks[0].acquire(1.0)
        assert not locks[1].acquire(0.1)
    locks[0].release()
    assert not caplog.records
    assert "HEAD" in read
    assert any(len(name) == 32 for name in read), "records of holders"
