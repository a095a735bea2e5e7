"""What an idle spool costs the file server: calls by kind, for each role alone on its own client.

    python -m tests.nfs.idle [--seconds 60] [--version 3] [--options actimeo=1] [--nodes 2] [--settle 20] [KEY=VALUE...]

Boots a bench with a leading head, a standby head and NODES runners, each on a machine of its own, waits until nothing
moves any more, and counts for a while. KEY=VALUE: a setting of spool.yaml. The design allows a runner 1.5 calls a
second, the leading head 3 and 0.5 for each node, a standby head 2. Ends with 1 if any is above.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.nfs.bench import Bench, missing_packages
from tests.nfs.mountstats import calls, table
from tests.nfs.site import Site, heads, running

CROWD = "crowd"  # a machine with several runners: to the head each is a node
KERNELS_LEASE = 90  # seconds, as servers have it: a client of 4 renews its own every two thirds of that
RUNNER, STANDBY, LEADING, FOR_EACH_NODE = 1.5, 2.0, 3.0, 0.5  # calls a second


def limits(nodes: list[str], crowd: int = 0) -> dict[str, float]:
    """Machine -> calls a second that it may make. crowd: nodes that share the machine of that name."""
    leading = LEADING + FOR_EACH_NODE * (len(nodes) + crowd)
    shared = {CROWD: RUNNER * crowd} if crowd else {}
    return {"leading": leading, "standby": STANDBY, **dict.fromkeys(nodes, RUNNER), **shared}


def prepare(site: Site, nodes: list[str], crowd: int = 0) -> None:
    """Start the leading head, the standby head and the nodes, and wait until each is at its place."""
    site.head("leading")
    site.eventually(lambda: "leading" in roles(site), 40)
    site.head("standby")
    for node in nodes:
        site.node(node, gpus="H100:1")
    shared = [f"{CROWD}{number}" for number in range(1, crowd + 1)]
    for node in shared:
        site.start(node, CROWD, "node", "--name", node, "--gpus", "none", "--cpus", "8", "--memory", "64")
    site.eventually(lambda: roles(site) == ["leading", "standby"], 40)
    site.is_ready(*nodes, *shared, seconds=80)


def roles(site: Site) -> list[str]:
    """What the heads say that they do."""
    return sorted("leading" if said["role"] == "leading" else "standby" for said in heads(site).values())


def count(bench: Bench, machines: list[str], seconds: float) -> dict[str, Counter[str]]:
    """Machine -> calls by operation over some seconds in which nobody does anything. For each machine they begin when
    it was asked first, which takes its time."""
    before, ends = {}, {}
    for machine in machines:
        before[machine] = calls(bench, machine)
        ends[machine] = time.monotonic() + seconds
    counted = {}
    for machine in machines:
        time.sleep(max(0.0, ends[machine] - time.monotonic()))
        counted[machine] = calls(bench, machine) - before[machine]
    return counted


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--settle", type=float, default=20)
    arguments.add_argument("--version", default="4.2")
    arguments.add_argument("--options", default="")
    arguments.add_argument("--nodes", type=int, default=1)
    arguments.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    chosen = arguments.parse_args()
    if missing := missing_packages():
        sys.exit(f"install first: {' '.join(missing)}")
    nodes = [f"node{number}" for number in range(1, chosen.nodes + 1)]
    machines = ["leading", "standby", *nodes]
    more = dict(word.split("=", 1) for word in chosen.settings)
    bench_of = Bench.up(clients=machines, version=chosen.version, options=chosen.options, lease=KERNELS_LEASE)
    with bench_of as bench, running(bench, "idle", **more) as site:
        prepare(site, nodes)
        time.sleep(chosen.settle)
        counted = count(bench, machines, chosen.seconds)
        print(site.story())
    above = False
    for machine, limit in limits(nodes).items():
        rate = counted[machine].total() / chosen.seconds
        above |= rate > limit
        print(f"{machine}: {rate:.2f}/s, may be {limit:.2f}/s{' ABOVE' if rate > limit else ''}")
        print(table(counted[machine], chosen.seconds))
    return int(above)


if __name__ == "__main__":
    sys.exit(main())
