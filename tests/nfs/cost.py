"""What jobs cost the file server, in calls by party and kind; and what the next job of a queue waits for.

    python -m tests.nfs.cost [--jobs 100] [--rounds 2] [--versions "4.2 3"] [--chain 10] [--works "0.1 12"]
                             [--options OPT] [--whose] [KEY=VALUE...]

Boots a bench with a client, a head and a node, each on a machine of its own, all settings as `init` writes them.

Calls: the client writes so many files of `true` into tmp/, the head is stopped, the client renames all of them into
pending/, and the head goes on and finds them in one look; the node has a CPU for each. Counted is all that the three
machines ask of the server from the first rename until every job is over and what follows from that (moves to done/,
the ledger, the last reports) is done too. Nothing is subtracted; what the same machines ask for in as much time in
which nothing happens is printed beside it. Writing the files is counted apart. --whose: also which calls of head and
runner cost what (whose.py), which slows both down.

A chain: jobs that wait for one CPU, each of which notes when it begins and ends, by its machine's clock.

The machines are slow (a bash takes 65 ms of the one processor that all jobs have), so jobs that would end at once on a
real node end one after the other here, in as many looks of the head and the runner as there is time for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import statistics
import sys
import time
from collections import Counter
from typing import Any, NamedTuple

from tests.nfs.bench import Bench, missing_packages
from tests.nfs.idle import KERNELS_LEASE
from tests.nfs.mountstats import calls
from tests.nfs.site import SPOOLD, Site, running

PARTIES = ("client", "head", "node")
HEAD, NODE = "head-head", "node-node"
WHOSE = ("-m", "tests.nfs.whose")
TASK = "run: 'true'\nresources: {cpus: 1}\n...\n"
CHAINED = (  # least milliseconds, up to how many more, directory
    "began=$EPOCHREALTIME; ms=$((%d + RANDOM %% %d)); printf -v rest %%03d $((ms %% 1000)); "
    "read -rt $((ms / 1000)).$rest <>/tmp/never; "
    'echo "$began $EPOCHREALTIME" >%s/$SKYSPOOL_JOB_ID'
)
DEAREST = 24  # calls of a daemon that are shown
REST = 10.0  # seconds after which all that follows from an end is done: the last reports, assigned.json, a ledger
WORKS = "0.1 12"  # seconds that a job of a chain takes: looks are frequent still, or as seldom as when idle
QUIET = 15.0  # seconds after which nothing moves any more
IDLE = 30.0  # seconds that are counted then
WRITE = """
import sys
tmp, prefix, count, text = sys.argv[1:]
for number in range(int(count)):
    with open(f"{tmp}/{prefix}-{number}.yaml", "w") as file:
        file.write(text)
"""
DROP = """
import os, sys
root, prefix, count = sys.argv[1:]
for number in range(int(count)):
    os.rename(f"{root}/tmp/{prefix}-{number}.yaml", f"{root}/pending/{prefix}-{number}.yaml")
"""


class Cost(NamedTuple):
    """Of some jobs. counted, idle: party -> calls by operation."""

    jobs: int
    seconds: float  # until every job was over, and what follows
    written: Counter[str]  # calls for the files in tmp/
    counted: dict[str, Counter[str]]
    orders: int  # how often assigned.json was written

    def a_job(self) -> float:
        """Calls for each."""
        return sum(counted.total() for counted in self.counted.values()) / self.jobs


def all_calls(bench: Bench) -> dict[str, Counter[str]]:
    """Of each party, so far."""
    return {party: calls(bench, party) for party in PARTIES}


def since(bench: Bench, before: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    """Of each party, since then."""
    return {party: now - before[party] for party, now in all_calls(bench).items()}


def orders(site: Site) -> int:
    """How many assigned.json this epoch has written to the node."""
    return int(json.loads(site.files("nodes")["node/assigned.json"])["version"][1])


def cost(site: Site, prefix: str, jobs: int) -> Cost:
    """Of jobs that the head finds in one look."""
    before = calls(site.bench, "client")
    site.bench.python("client", WRITE, f"{site.root}/tmp", prefix, str(jobs), TASK)
    written = calls(site.bench, "client") - before
    over, ordered = len(site.account().over), orders(site)
    counted, began = all_calls(site.bench), time.monotonic()
    site.stop(HEAD)
    site.bench.python("client", DROP, site.root, prefix, str(jobs))
    site.go_on(HEAD)
    site.over(over + jobs, 180)
    time.sleep(REST)  # the calls that follow from an end are these jobs', and nothing tells which is the last
    found = since(site.bench, counted)
    return Cost(jobs, time.monotonic() - began, written, found, orders(site) - ordered)


def idle(site: Site) -> dict[str, Counter[str]]:
    """Calls while nothing happens."""
    time.sleep(QUIET)  # looks become rarer and rarer until then, and nothing tells of it
    before, began = all_calls(site.bench), time.monotonic()
    time.sleep(IDLE)  # what is measured: so long nothing happens
    found = since(site.bench, before)
    assert time.monotonic() - began < 1.2 * IDLE, "the host is too busy to tell"
    return found


def show(found: Cost) -> None:
    parts = ", ".join(f"{party} {counted.total() / found.jobs:.2f}" for party, counted in found.counted.items())
    print(f"{found.a_job():.2f} calls a job ({parts}) over {found.seconds:.0f} s, {found.orders} assigned.json")
    print(f"and {found.written.total() / found.jobs:.2f} for its file in tmp/: {dict(found.written.most_common())}")
    kinds = sum(found.counted.values(), Counter[str]())
    print(f"  {'':<22}" + "".join(f"{party:>9}" for party in (*PARTIES, "all")))
    for kind, count in kinds.most_common():
        print(f"  {kind:<22}" + "".join(f"{counted[kind]:>9}" for counted in found.counted.values()) + f"{count:>9}")


def show_idle(found: dict[str, Counter[str]], cost: Cost) -> None:
    rates = {party: counted.total() / IDLE for party, counted in found.items()}
    told = ", ".join(f"{party} {rate:.2f}" for party, rate in rates.items())
    share = sum(rates.values()) * cost.seconds / cost.jobs
    print(f"idle: {told} a second; that makes {share:.2f} calls a job in the last round's {cost.seconds:.0f} s")


def whose(site: Site) -> dict[str, list[Any]]:
    """Daemon -> what it tells of its calls since it was asked last (whose.py)."""
    found = {}
    for key in (HEAD, NODE):
        daemon, before = site.daemons[key], site.daemons[key].out.count("\n")
        daemon.signal(signal.SIGUSR2)
        site.eventually(lambda daemon=daemon, before=before: daemon.out.count("\n") > before)  # type: ignore[misc]
        found[key] = json.loads(daemon.out.splitlines()[-1])
    return found


def show_whose(told: dict[str, list[Any]]) -> None:
    for daemon, rows in told.items():
        print(f"  {daemon}: {sum(sum(cost.values()) for _, _, cost in rows)}")
        for who, times, cost in rows[:DEAREST]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(cost).most_common())
            print(f"  {sum(cost.values()):>6} in {times} {who}: {kinds}")


def chain(site: Site, jobs: int, work: float) -> list[float]:
    """Seconds from the end of one job to the begin of the next, of so many that wait for one CPU."""
    proofs, over = f"{site.proofs}/{work:g}", len(site.account().over)
    site.shell("client", f"mkdir {proofs}")
    spread = 2000 if work > 1 else 100  # so that ends are in no step with looks
    text = f"run: '{CHAINED % (1000 * work, spread, proofs)}'\nresources: {{cpus: 1}}\n...\n"
    site.bench.python("client", WRITE, f"{site.root}/tmp", f"chain{work:g}", str(jobs), text)
    site.bench.python("client", DROP, site.root, f"chain{work:g}", str(jobs))
    site.over(over + jobs, 60 + jobs * (work + 8))
    times = sorted(tuple(map(float, text.split())) for text in site.files(f"proofs/{work:g}").values())
    return [later[0] - earlier[1] for earlier, later in itertools.pairwise(times)]


def show_times(what: str, times: list[float]) -> None:
    low, middle, high = min(times), statistics.median(times), max(times)
    print(f"{what}: {low:.3f} {middle:.3f} {high:.3f} s (least, median, most of {len(times)})", flush=True)


def measure(chosen: argparse.Namespace, version: str) -> None:
    """Everything on a fresh bench, printed."""
    more = dict(word.split("=", 1) for word in chosen.settings)
    bench_of = Bench.up(PARTIES, version, chosen.options, KERNELS_LEASE, memory="768M")
    print(f"NFS {version}:", flush=True)
    with bench_of as bench, running(bench, "cost", **more) as site:
        program = WHOSE if chosen.whose else SPOOLD
        site.start(HEAD, "head", "head", program=program)
        offer = ["--gpus", "none", "--cpus", str(chosen.jobs), "--memory", "64"]
        site.start(NODE, "node", "node", "--name", "node", *offer, program=program)
        site.is_ready("node")
        if chosen.rounds:
            found = cost(site, "first", chosen.jobs)  # not shown: much is made that stays
            for number in range(chosen.rounds):
                told = whose(site) if chosen.whose else {}
                found = cost(site, f"round{number}", chosen.jobs)
                show(found)
                told = whose(site) if told else {}
                show_whose(told)
            show_idle(idle(site), found)
        if chosen.chain:
            site.kill(NODE, signal.SIGTERM)
            site.node("node", cpus=1)
            site.eventually(lambda: '"cpus_milli":1000' in site.files("nodes")["node/status.json"], 40)
            for work in map(float, chosen.works.split()):
                show_times(f"end to next begin, jobs of {work:g} s", chain(site, chosen.chain, work))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--jobs", type=int, default=100)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--versions", default="4.2 3")
    arguments.add_argument("--chain", type=int, default=10, help="jobs of a chain; 0: none is measured")
    arguments.add_argument("--works", default=WORKS, help="seconds that a job of a chain takes, of each chain")
    arguments.add_argument("--options", default="")
    arguments.add_argument("--whose", action="store_true")
    arguments.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    chosen = arguments.parse_args()
    if missing := missing_packages():
        sys.exit(f"install first: {' '.join(missing)}")
    for version in chosen.versions.split():
        measure(chosen, version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
