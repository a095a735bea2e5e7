"""From a file's rename into pending/ on one host to its job's first command on another, on real NFS.

    python -m tests.nfs.latency [--jobs 12] [--rest 6] [--version 3] [--options actimeo=1] [KEY=VALUE...]

Boots a bench with a client, a head and a node, each on a machine of its own, drops one file after the other, each when
all has been quiet for `--rest` seconds (0: while somebody is at work), and prints seconds: minimum, median, maximum,
and the same in polling intervals. The machines of a bench have one clock, and are slow: what a head's tick, a runner's
pass and a bash cost there is printed too, as the time of the same job where nobody waits (`poll` of 10 ms). The
promise: one interval in the median and two at worst, plus 30 ms on a real machine.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time

from tests.nfs.bench import Bench, missing_packages
from tests.nfs.site import Site, running

DROP = """
import os, sys, time
made, target = sys.argv[1:]
os.rename(made, target)
print(time.time())
"""


def once(site: Site, number: int) -> float:
    """Seconds from the rename of one file to what its job says of its beginning."""
    name = f"job{number}"
    made = f"{site.root}/tmp/{name}"
    text = f'run: echo "$EPOCHREALTIME" >{site.proofs}/{name}\nresources: {{cpus: 0.1}}\n...\n'
    site.shell("client", f"printf %s '{text}' >{made}")
    dropped = float(site.bench.python("client", DROP, made, f"{site.root}/pending/{name}.yaml"))
    site.eventually(lambda: site.files("proofs").get(name), 60)
    return float(site.files("proofs")[name]) - dropped


def measure(chosen: argparse.Namespace, **more: str) -> list[float]:
    """The times of some jobs on a fresh bench. more: settings."""
    bench_of = Bench.up(clients=("client", "head", "node"), version=chosen.version, options=chosen.options, lease=90)
    with bench_of as bench, running(bench, "latency", **more) as site:
        site.head("head").node("node").is_ready("node")
        once(site, 0)  # which starts the starter
        times = []
        for number in range(1, chosen.jobs + 1):
            time.sleep(chosen.rest and chosen.rest + random.random())
            times.append(once(site, number))
        return times


def show(what: str, times: list[float], interval: float) -> None:
    low, middle, high = min(times), statistics.median(times), max(times)
    print(f"{what}: {low:.3f} {middle:.3f} {high:.3f} s; {middle / interval:.2f} {high / interval:.2f} intervals")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--jobs", type=int, default=12)
    arguments.add_argument("--rest", type=float, default=6)
    arguments.add_argument("--version", default="4.2")
    arguments.add_argument("--options", default="")
    arguments.add_argument("--interval", type=float, default=2.0, help="what counts as one: idle_poll, or poll")
    arguments.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    chosen = arguments.parse_args()
    if missing := missing_packages():
        sys.exit(f"install first: {' '.join(missing)}")
    more = dict(word.split("=", 1) for word in chosen.settings)
    show("as set", measure(chosen, **more), chosen.interval)
    show("nobody waits", measure(chosen, **{**more, "poll": "10ms", "idle_poll": "10ms"}), chosen.interval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
