"""Hosts with runners that go away on real NFS: what happens to their jobs, and what they do themselves meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.history.checker import faults
from tests.nfs.bench import Bench
from tests.nfs.site import QUICK, Site, running

pytestmark = pytest.mark.xdist_group("nodes")
TIMEOUT, MARGIN = 20.0, 10.0  # seconds: after so long a node's jobs are given up; it ends them by itself so much sooner
SETTINGS = {**QUICK, "node_timeout": f"{TIMEOUT:g}s", "fence_margin": f"{MARGIN:g}s"}
WORK = "read -rt 300 <>/tmp/never"
AGAIN = {"accelerators": "H100:1", "job_recovery": "failover"}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench.up(clients=("a", "b", "c")) as bench:
        yield bench


@pytest.fixture
def site(bench: Bench) -> Iterator[Site]:
    """A head on a, nodes of one GPU each on b and c; a job that may run elsewhere has begun on one of them."""
    with running(bench, f"nodes{time.monotonic_ns()}", **SETTINGS) as site:
        site.head("a").node("b", gpus="H100:1").node("c", gpus="H100:1").is_ready("b", "c")
        yield site
        assert "Traceback" not in site.story()
        assert faults(site.history()) == []


def begin(site: Site, name: str, resources: dict[str, str] | None = None) -> str:
    """Submit a job without end, and wait until it has begun: its host."""
    before = len(runs(site))
    site.record("a", name, work=WORK, **({"resources": resources} if resources else {}))
    site.eventually(lambda: len(runs(site)) > before)
    return runs(site)[-1].partition("@")[2].split("-")[0]


def runs(site: Site) -> list[str]:
    """ATTEMPT.RANK@HOST-… of all that began so far, in order of their jobs and attempts."""
    return site.names("proofs")


def told(site: Site, node: str) -> str:
    """What `skyspool status` says of a node."""
    said = site.sky("a", "status", site.name)
    return next((line for line in said.splitlines() if line.split()[:1] == [node]), said)


def test_a_node_that_is_cut_off_ends_what_may_run_elsewhere_before_it_is_started_there(site: Site) -> None:
    """The history proves it: hosts of a bench have one clock, so two attempts at once would be seen."""
    host = begin(site, "anywhere", resources=AGAIN)
    with site.bench.cut_off(host):
        site.eventually(lambda: "lost contact" in told(site, host), TIMEOUT)
        assert not any(name.startswith("1.2.") for name in runs(site))
        site.eventually(lambda: any(name.startswith("1.2.") for name in runs(site)), 3 * TIMEOUT)
        assert "down" in told(site, host)
        counted = site.bench.run(host, "sh", "-c", "grep -l SKYSPOOL_ATTEMPT_DIR /proc/[0-9]*/environ; :")
        assert counted == "", "the first attempt's processes live on"
    site.eventually(lambda: " up" in told(site, host), 60)
    site.sky("a", "cancel", site.name, "-y", "1")
    assert site.over(1) == {"CANCELLED": 1}


def test_a_node_that_is_cut_off_lets_other_jobs_run_and_tells_their_end_when_it_is_back(site: Site) -> None:
    """For less than the time after which they are given up."""
    host = begin(site, "here")
    with site.bench.cut_off(host):
        site.eventually(lambda: "lost contact" in told(site, host), TIMEOUT)
    site.eventually(lambda: " up" in told(site, host), 60)
    site.sky("a", "cancel", site.name, "-y", "1")
    assert site.over(1) == {"CANCELLED": 1}
    assert [name for name in runs(site) if not name.startswith("1.1.")] == []


def test_when_a_nodes_host_is_killed_its_jobs_fail_or_run_elsewhere_and_it_comes_back_empty(site: Site) -> None:
    host = begin(site, "anywhere", resources=AGAIN)
    other = "c" if host == "b" else "b"
    assert begin(site, "here") == other
    site.bench.kill(other)
    assert site.over(1, 4 * TIMEOUT) == {"FAILED": 1}
    site.bench.boot(other)
    site.shell(other, "mkfifo /tmp/never")
    site.daemons.pop(f"node-{other}")
    site.node(other, gpus="H100:1")
    site.bench.kill(host)
    site.eventually(lambda: any(name.startswith(f"1.2.0@{other}") for name in runs(site)), 4 * TIMEOUT)
    site.bench.boot(host)
    site.daemons.pop(f"node-{host}")
    site.sky("a", "cancel", site.name, "-y", "1")
    assert site.over(2) == {"FAILED": 1, "CANCELLED": 1}
