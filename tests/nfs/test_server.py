"""The file server goes away, or has no room: everybody waits or says so, and goes on with nothing lost or run twice."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.history.checker import faults
from tests.nfs.bench import MOUNT, SERVER, Bench
from tests.nfs.site import QUICK, Site, running

VERSIONS = [
    pytest.param("4.2", marks=pytest.mark.xdist_group("server-4.2")),
    pytest.param("3", marks=pytest.mark.xdist_group("server-3")),
]
AWAY = 60.0  # seconds that the server is stopped
LEFT = "3M"  # of the disk: less than the twentieth that is kept for the jobs that run
BUSY = 0.25  # of the time that it is away, at most, a daemon may use the processor


@pytest.fixture(scope="module", params=VERSIONS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with Bench.up(clients=("a", "b", "c"), version=request.param, disk_mib=96) as bench:
        yield bench


@pytest.fixture
def site(bench: Bench) -> Iterator[Site]:
    """Heads on a and b, nodes on b and c. What happened is judged at the end."""
    with running(bench, f"server{time.monotonic_ns()}", **QUICK) as site:
        site.head("a").leads("a")
        site.head("b").node("b", gpus="H100:4").node("c", gpus="H100:4").is_ready("b", "c")
        yield site
        assert {key: daemon.poll() for key, daemon in site.daemons.items()} == dict.fromkeys(site.daemons)
        assert "Traceback" not in site.story()
        assert faults(site.history()) == []


def test_a_server_that_crashes_and_boots_under_load_loses_nothing(site: Site) -> None:
    writer = site.write("a", "whole", "busy", 40, spread=20)
    site.eventually(lambda: len(site.account().over) > 4)
    with site.bench.off(SERVER):
        time.sleep(2)
    assert writer.wait(90) == 0, writer.err
    assert site.over(40, 120) == {"SUCCEEDED": 40}


def test_a_server_that_is_stopped_for_a_minute_is_waited_for_by_all(site: Site) -> None:
    """Jobs that run go on meanwhile; one that asks nothing of the server ends, and its supervisor notes that; nobody
    spins."""
    site.record("a", "short", work="read -rt 15 <>/tmp/never")
    site.record("a", "long", work="read -rt 70 <>/tmp/never")
    site.submit("a", "local", "read -rt 15 <>/tmp/never; exit 7")
    site.eventually(lambda: len(site.names("proofs")) == 2 and followed(site, 3))
    before = {machine: used(site.bench, machine) for machine in ("a", "b", "c")}
    with site.bench.frozen(SERVER):
        time.sleep(AWAY)
        spun = {machine: used(site.bench, machine) - before[machine] for machine in before}
        ends = noted(site, "3.1", "run.exit")
    assert all(seconds < BUSY * AWAY for seconds in spun.values()), spun
    assert '"code": 7' in ends, ends
    site.record("a", "after")
    assert site.over(4, 60) == {"SUCCEEDED": 3, "FAILED": 1}


def followed(site: Site, job: int) -> str:
    """By what a runner has a job's log open to sync it. Until then the job's last close waits for a server of NFS 4."""
    look = f"for pid in $(pgrep -f 'spoold [n]ode'); do ls -l /proc/$pid/fd; done | grep logs/{job}/run.log; :"
    return "".join(site.bench.run(machine, "sh", "-c", look) for machine in ("b", "c"))


def noted(site: Site, attempt: str, name: str) -> str:
    """What stands in a file of an attempt on its node's own disk; "" where no node has it."""
    place = f"/tmp/state-{site.name}/*/*/attempts/{attempt}/{name}"
    return "".join(site.bench.run(machine, "sh", "-c", f"cat {place} 2>/dev/null; :") for machine in ("b", "c"))


def used(bench: Bench, machine: str) -> float:
    """Seconds of processor that a machine has used."""
    words = bench.run(machine, "head", "-1", "/proc/stat").split()
    return sum(int(words[number]) for number in (1, 2, 3)) / 100


def test_a_full_disk_refuses_submissions_and_loses_no_running_job(site: Site) -> None:
    """What is kept free is there for the job that ends meanwhile; where not a byte is, one is reported later."""
    site.record("a", "running", work="read -rt 6 <>/tmp/never")
    site.record("a", "longer", work="read -rt 40 <>/tmp/never")
    site.eventually(lambda: len(site.names("proofs")) == 2)
    fill = f"dd if=/dev/zero of={MOUNT}/filler bs=64k 2>/dev/null; sync; truncate -s -{LEFT} {MOUNT}/filler; sync"
    site.shell(SERVER, fill)
    refused(site, "are kept for the jobs that run")
    assert site.over(1, 30) == {"SUCCEEDED": 1}
    site.shell(SERVER, f"dd if=/dev/zero bs=4k >>{MOUNT}/filler 2>/dev/null; dd if=/dev/zero bs=1 >>{MOUNT}/filler; :")
    refused(site, "full|No space|room|free")
    site.eventually(lambda: noted(site, "2.1", "run.exit"), 60)
    site.shell(SERVER, f"rm {MOUNT}/filler")
    site.record("a", "after")
    assert site.over(3, 60) == {"SUCCEEDED": 3}


def refused(site: Site, why: str) -> None:
    """A submission is not taken, and told why."""
    said = site.bench.begin("a", *site.client("exec", site.name, "-d", "true"))
    assert said.wait() != 0
    assert re.search(why, said.out + said.err), said.out + said.err
