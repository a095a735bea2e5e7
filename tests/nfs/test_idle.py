"""What an idle spool costs the file server, counted on each client: see idle.py, which prints it."""

from __future__ import annotations

import time

import pytest

from tests.nfs.bench import Bench
from tests.nfs.idle import KERNELS_LEASE, count, limits, prepare
from tests.nfs.mountstats import parse, table
from tests.nfs.site import running

pytestmark = pytest.mark.xdist_group("idle")
SETTLE, IDLE = 15.0, 60.0  # seconds: until nothing moves any more; counted
NODES = ["node1"]
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


def test_calls_are_read_from_mountstats() -> None:
    assert parse(MOUNTSTATS) == {"READ": 12, "GETATTR": 30}
    with pytest.raises(LookupError):
        parse(MOUNTSTATS, "/mnt/other")


def test_idle_heads_and_runners_cost_the_server_no_more_calls_than_promised() -> None:
    machines = ["leading", "standby", *NODES]
    with Bench.up(clients=machines, lease=KERNELS_LEASE) as bench, running(bench, "idle") as site:
        prepare(site, NODES)
        time.sleep(SETTLE)
        counted = count(bench, machines, IDLE)
    told = "\n".join(f"{machine}:\n{table(calls, IDLE)}" for machine, calls in counted.items())
    rates = {machine: calls.total() / IDLE for machine, calls in counted.items()}
    assert all(rates[machine] <= limit for machine, limit in limits(NODES).items()), told
    assert all(rate > 0 for rate in rates.values())  # they do live
