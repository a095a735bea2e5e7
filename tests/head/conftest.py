"""Directories in memory and no fsync: hundreds of heads are killed here, and none of them by a power cut."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that is as fast as this host has it. What was written when a head is killed is written: fsync is left
    out."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    made = Path(tempfile.mkdtemp(prefix="spool-", dir=memory))
    yield made
    shutil.rmtree(made)
