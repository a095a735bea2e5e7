"""The lane on a real NFS: `make test-nfs`. Its tests carry the mark `nfs` and are left out of `make test`."""

from __future__ import annotations

import compileall
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nfs.bench import PROJECT, missing_packages

HERE = Path(__file__).parent
LONGEST = 300  # seconds of a test; in it `eventually` fails first, and tells why


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here; the longest comes first, so that workers end at about the same time."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker("nfs")
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONGEST))
    longest = [item for item in ours if item.get_closest_marker("longest")]
    items[:] = longest + [item for item in items if item not in longest]


@pytest.fixture(scope="session", autouse=True)
def _parts() -> Iterator[None]:
    """What the machines need; they see this host's files read-only, so nothing is compiled there."""
    if missing := missing_packages():
        pytest.exit(f"the machines of this lane need these packages: {' '.join(missing)}", returncode=2)
    for folder in ("spool_layout", "spoold", "skyspool"):
        compileall.compile_dir(str(PROJECT / folder), quiet=2)
    yield
    assert shutil.which("linux.uml")
