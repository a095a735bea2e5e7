"""The lane on a real NFS: `make test-nfs`. Its tests carry the mark `nfs` and are left out of `make test`.

What depends on the version is told on 4.2 and 3 with their default mount options. actimeo=0 (on 4.2), noac and nolock
(on 3) have the main path, a take-over and the chaos; `doctor` looks at nolock and soft as well. A quota, EIO and ESTALE
come through the one port instead (tests/faults): to the program it is the same call that fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nfs.bench import missing_packages

HERE = Path(__file__).parent
LONGEST = 300  # seconds of a test; in it `eventually` fails first, and tells why


# Groups that take longest come first, so that workers end at about the same time (and --no-loadscope-reorder, since
# xdist goes by the number of tests). The others follow.
LONGEST_FIRST = (
    *("chaos-1000", "budgets-4.2", "budgets-3", "chaos-3", "heads-3", "heads-4.2", "main-3"),
    *("server-3", "server-4.2", "nodes", "main-4.2"),
    "chaos-actimeo",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, and put it in order."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("nfs")
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(LONGEST))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    mark = item.get_closest_marker("xdist_group")
    group = mark.args[0] if mark else ""
    return LONGEST_FIRST.index(group) if group in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture(scope="session", autouse=True)
def _parts() -> Iterator[None]:
    """What the machines need. They see this host's files read-only, so what is compiled is compiled here (conftest)."""
    if missing := missing_packages():
        pytest.exit(f"the machines of this lane need these packages: {' '.join(missing)}", returncode=2)
    yield
    assert shutil.which("linux.uml")
