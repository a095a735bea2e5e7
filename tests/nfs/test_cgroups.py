"""Cgroups on a kernel that has v2 alone, its memory controller with it: what tests/node/test_cgroups.py says, there.

This host may be a hybrid, where memory is v1's. The machines' kernel gives all controllers to who mounts v2 first.
"""

from __future__ import annotations

import sys

from tests.nfs.bench import PROJECT, Bench

FILE = "tests/node/test_cgroups.py"
WHAT = "told or may_use or in_v2 or names_spool or beside"  # the others are of no controller, or of none of v2


def test_memory_is_limited_by_cgroup_v2() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:xdist", "-p", "no:cacheprovider"]
    words += ["--rootdir", str(PROJECT), "-c", str(PROJECT / "pyproject.toml"), str(PROJECT / FILE), "-k", WHAT]
    with Bench.up(clients=("a",), memory="768M") as bench:
        bench.run("a", "mount", "-t", "cgroup2", "none", "/sys/fs/cgroup")
        said = bench.run("a", *words, seconds=300, PYTHONDONTWRITEBYTECODE="1")
    assert "NOT TESTED" not in said and " passed" in said
