"""An empty directory where the spool was is never taken for an empty queue."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.history.checker import faults
from tests.nfs.bench import MOUNT, Bench
from tests.nfs.site import QUICK, Site, running

pytestmark = pytest.mark.xdist_group("readers")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench.up(clients=("a", "b", "c")) as bench:
        yield bench


@pytest.fixture
def site(bench: Bench) -> Iterator[Site]:
    with running(bench, f"gone{time.monotonic_ns()}", **QUICK) as site:
        site.head("b").leads("b")
        site.head("c").node("c", gpus="H100:1").is_ready("c")
        yield site
        assert faults(site.history()) == []


def test_daemons_whose_mount_is_gone_end_with_a_message_and_leave_the_empty_directory_alone(site: Site) -> None:
    daemons = [site.daemons["head-c"], site.daemons["node-c"]]
    site.shell("c", f"umount -l {MOUNT} && mkdir -p {site.root}")
    try:
        for daemon in daemons:
            assert daemon.wait(60) not in (0, 1)
            assert "no spool.yaml" in daemon.err and "not mounted" in daemon.err, daemon.err
        site.head("c", key="again").node("c", key="again-node")
        for key in ("again", "again-node"):
            assert site.daemons[key].wait() not in (0, 1)
            assert "not mounted" in site.daemons[key].err
        said = site.bench.begin("c", *site.client("queue", site.name))
        assert said.wait() != 0
        assert "not mounted" in said.out + said.err
        assert site.shell("c", f"find {site.root}").split() == [site.root]
    finally:
        site.bench.kill("c")
        site.bench.boot("c")
