"""What is promised in numbers of a spool as `init` makes it on NFS: the calls that it costs while nothing happens (see
idle.py, which prints them), how soon another head leads, and how soon a job starts.

The last is counted in looks: a Python that starts takes 170 ms on these machines, so the 30 ms beside the polling
intervals cannot be seen here. latency.py prints the times, docs/performance.md has them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.history.checker import faults
from tests.nfs.bench import SERVER, Bench
from tests.nfs.idle import CROWD, KERNELS_LEASE, count, limits, prepare
from tests.nfs.looks import Story
from tests.nfs.mountstats import parse, table
from tests.nfs.site import Site, running

SETTLE, IDLE = 15.0, 60.0  # seconds: until nothing moves any more; counted
NODES, MANY = ["node1", "node2"], 8  # each on a machine of its own; on one machine together: ten in all
THRESHOLD, TICK = 30.0, 2.0  # seconds: lock_threshold as `init` writes it; taking over, on machines at rest
POLL = 2.0  # seconds: idle_poll
JOBS, SPREAD = 10, 15.0  # dropped within so many seconds
HOLDERS = "locks/head.rw/holders"  # what the leader renews
LOOKS = ("-m", "tests.nfs.looks")
VERSIONS = [
    pytest.param("4.2", marks=pytest.mark.xdist_group("budgets-4.2")),
    pytest.param("3", marks=pytest.mark.xdist_group("budgets-3")),
]
MOUNTSTATS = """device rootfs mounted on / with fstype rootfs
device server:/ mounted on /mnt/nfs with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.2
\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)
\tper-op statistics
\t        NULL: 0 0 0 0 0 0 0 0 0
\t        READ: 12 12 0 2880 1440 0 6 6 0
\t     GETATTR: 30 30 0 2880 1440 0 6 6 0
device proc mounted on /proc with fstype proc
"""


@pytest.fixture(scope="module", params=VERSIONS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    machines = ["leading", "standby", *NODES, CROWD]
    with Bench.up(clients=machines, version=request.param, lease=KERNELS_LEASE, memory="512M") as bench:
        yield bench


@pytest.fixture(scope="module")
def site(bench: Bench) -> Iterator[Site]:
    """A leading head, one that stands by, ten nodes; all is as `init` writes it."""
    with running(bench, "idle") as site:
        prepare(site, NODES, MANY)
        yield site


def test_calls_are_read_from_mountstats() -> None:
    assert parse(MOUNTSTATS) == {"READ": 12, "GETATTR": 30}
    with pytest.raises(LookupError):
        parse(MOUNTSTATS, "/mnt/other")


def test_idle_heads_and_runners_cost_the_server_no_more_calls_than_promised(site: Site) -> None:
    allowed = limits(NODES, MANY)
    time.sleep(SETTLE)
    counted = count(site.bench, list(allowed), IDLE)
    told = "\n".join(f"{machine}:\n{table(calls, IDLE)}" for machine, calls in counted.items())
    rates = {machine: calls.total() / IDLE for machine, calls in counted.items()}
    print(told)
    assert all(rates[machine] <= limit for machine, limit in allowed.items()), told
    assert all(rate > 0 for rate in rates.values())  # they do live


def test_a_job_is_started_by_the_first_look_of_the_head_and_then_of_the_runner_on_other_hosts(bench: Bench) -> None:
    """And no pause between two looks is longer than an interval. So a file waits for two of them at worst; that this is
    one in the median, tests/head/test_pace.py tells."""
    with running(bench, "looks", poll=f"{POLL}s", idle_poll=f"{POLL}s") as site:
        site.start("head", "standby", "head", program=LOOKS)
        site.start("node", "node1", "node", "--name", "node1", "--gpus", "H100:32", program=LOOKS)
        site.is_ready("node1")
        site.record("node2", "first")
        assert site.over(1) == {"SUCCEEDED": 1}
        writer = site.write("node2", "mv", "job", JOBS, spread=SPREAD)
        assert writer.wait(60) == 0, writer.err
        assert site.over(1 + JOBS) == {"SUCCEEDED": 1 + JOBS}
        assert faults(site.history()) == []
        daemons = [site.daemons[key] for key in ("head", "node")]
        head, runner = (Story(daemon.out, bench.ahead(daemon.machine)) for daemon in daemons)
        dropped = dict(line.split() for line in writer.out.splitlines())
        named = {record["name"]: job for job, record in site.account().accepted.items()}
        ahead = bench.ahead("node2")
        jobs = {named[name]: float(renamed) - ahead for name, renamed in dropped.items()}
    for job, renamed in jobs.items():
        print(f"job {job}: taken {head.over(job) - renamed:.2f} s, ordered {runner.over(job) - renamed:.2f} s later")
    assert {head.looks(renamed, job) for job, renamed in jobs.items()} <= {0, 1}
    assert {runner.looks(head.over(job), job) for job in jobs} <= {0, 1}
    assert max(*head.pauses(), *runner.pauses()) <= POLL


def test_another_head_leads_within_the_threshold_when_the_leaders_machine_dies_right_after_a_renewal(
    site: Site,
) -> None:
    """Which is when it takes longest. That machine stays off."""
    allowed = THRESHOLD + TICK * site.bench.slowness("standby")
    before = site.files(HOLDERS)
    site.eventually(lambda: site.files(HOLDERS) != before, 20, look=0.1)
    site.bench.kill("leading")
    renewed = float(site.shell(SERVER, f"stat --format=%.Y {site.root}/{HOLDERS}/*"))  # as the seal, by its clock
    site.leads("standby", seconds=60)
    took = float(site.seal()["at"]) - renewed
    print(f"another head led {took:.1f} s after the last renewal, of {allowed:.1f} s")
    assert took <= allowed
    site.record(NODES[0], "after")
    assert site.over(1) == {"SUCCEEDED": 1}
    assert faults(site.history()) == []
