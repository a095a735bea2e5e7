"""A fast place for spools, and the port that stands in for the operating system."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spool_layout import stamps
from tests.faults.port import Port, put_in_place

# Begun first, the longest first, or one worker is left alone with one of them at the end: parts of their names.
LONGEST = [
    "made_good[live",
    "made_good[gang",
    "made_good[lose_a_node",
    "made_good[prune",
    "lose_the_local",
    "node-leave",
    "takeover",
    "node-reboot",
    "head-once",
    "what_goes_wrong_at_any_call",
    "kills",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An order by length; the others stay as they are, after them."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


@pytest.fixture(autouse=True)
def stamps_spare_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A story that is told again makes the same calls; what a head does not read again by its stamp depends on the
    time."""
    monkeypatch.setattr(stamps, "SETTLED", 1 << 62)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory that is as fast as this host has it."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    made = Path(tempfile.mkdtemp(prefix="faults-", dir=memory))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Port:
    """What the modules that touch a spool take for `os` from now on."""
    made = Port()
    put_in_place(made, monkeypatch)
    return made
