"""Whoever read a file of the spool and whose host then froze holds up nobody.

An NFS 4 server gives a reader a delegation, and whoever then writes, replaces, moves or removes the file waits until
that reader has given it back, or until its lease is over: 90 seconds by a server's default, longer than a node may be
silent. Version 3 has no delegations.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.history.checker import faults
from tests.nfs.bench import Bench
from tests.nfs.site import QUICK, Site, running

pytestmark = pytest.mark.xdist_group("readers")
LEASE = 20  # seconds of the server; longer than anything may take here


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench.up(clients=("a", "b", "c"), lease=LEASE) as bench:
        yield bench


@pytest.fixture
def site(bench: Bench) -> Iterator[Site]:
    with running(bench, f"readers{time.monotonic_ns()}", **QUICK) as site:
        site.head("b").node("c", gpus="H100:1").is_ready("c")
        yield site


def test_a_client_that_looked_at_the_spool_and_froze_holds_up_neither_head_nor_node(site: Site) -> None:
    site.record("c", "before")
    site.over(1)
    site.sky("a", "status")
    site.sky("a", "queue", site.name)
    with site.bench.frozen("a"):
        beat = site.files("nodes")["c/status.json"]
        site.eventually(lambda: site.files("nodes")["c/status.json"] != beat, 5)
        site.record("c", "after")
        site.over(2, 10)
    assert site.account().faults == []
    assert faults(site.history()) == []
