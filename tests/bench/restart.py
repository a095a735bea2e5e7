"""A head that starts on a large spool: how long to its first decision, what its ticks cost with the disk, its memory.

The spool stands on the disk with every file; a head starts on it as a process of its own (this module with a
directory), leads one term, and tells what it saw. The nodes are files that nobody renews: in each of its ticks jobs of
100 nodes have ended, which is written into their status.json between two ticks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.bench.figures import OURS, Figure, short
from tests.bench.figures import say as tell
from tests.bench.filled import Filler, node_name, status_of
from tests.bench.ours import Ours
from tests.bench.place import Place
from tests.bench.scheduling import NODES, PENDING, STARTS

TICKS = 3  # that start 100, of one head


def restart(place: Place, rounds: int, pending: int = PENDING, nodes: int = NODES) -> list[Figure]:
    """Start a head on the same spool again and again."""
    cluster = Ours(place.folder("restart"), max_pending="0")
    Filler(cluster).nodes(nodes).pending(pending).done()
    return restarts({OURS: cluster}, rounds, pending, nodes)


def restarts(clusters: dict[str, Ours], rounds: int, pending: int, nodes: int) -> list[Figure]:
    """Start heads on spools in turn."""
    told: dict[str, list[dict[str, float]]] = {name: [] for name in clusters}
    for _ in range(rounds):
        for name, cluster in clusters.items():
            words = [sys.executable, "-m", "tests.bench.restart", cluster.spool.root, str(cluster.folder / "state")]
            ran = subprocess.run([*words, str(nodes), repr(time.monotonic())], stdout=subprocess.PIPE, check=True)
            told[name].append(json.loads(ran.stdout))
            tell(f"  {name}: {', '.join(f'{what} {short(value)}' for what, value in told[name][-1].items())}")

    def figure(title: str, unit: str, key: str, goal: str = "", note: str = "") -> Figure:
        values = {name: [one[key] for one in ones] for name, ones in told.items()}
        return Figure(f"{title}; {pending:,} pending", unit, "low", values, goal, note)

    return [
        figure("start of a head → first decision", "s", "first", "≤ 3 s"),
        figure("its first look", "s", "look", note="part of the above: reads the waiting files for the first time"),
        figure("a quiet tick, with the disk", "ms", "quiet"),
        figure(f"a tick that starts {min(STARTS, nodes)}, with the disk", "ms", "tick", "≤ 150 ms"),
        figure("a ledger written", "ms", "ledger"),
        figure("resident memory of the head", "MiB", "resident", "≤ 250 MiB"),
    ]


# ---- the head's process


def lead(root: str, state: str, nodes: int, began: float) -> dict[str, float]:
    """One term, in seconds and MiB."""
    import tests.bench.calls as calls
    from spoold.core.decide import decide
    from spoold.head.loop import Head

    head = Head(root, state=state)
    head.check_mounted()
    while not head.lock.acquire(2 * head.lock.interval):
        pass
    term = head.begin()
    assert term is not None
    before_look = time.monotonic()
    look, _ = term.observer.look()
    looked = time.monotonic() - before_look
    term.commit(decide(term.state, look, term.policy) or [])
    first = time.monotonic() - began
    term.project([], look)
    term.tick()
    quiet = 1000 * seconds(term.tick)
    ticks = []
    for turn in range(TICKS):
        some_end(root, nodes, turn)
        ticks.append(1000 * seconds(term.tick))
        term.tick()
    ledger = 1000 * seconds(lambda: head.write_ledger(term))
    resident = calls.resident_mib(os.getpid())
    for node in range(nodes):  # the next head finds full nodes again
        report(root, node, term.state.nodes[node_name(node)].shares, set())
    head.lock.release()
    return {
        "first": first,
        "look": looked,
        "quiet": quiet,
        "tick": sorted(ticks)[len(ticks) // 2],
        "ledger": ledger,
        "resident": resident,
    }


def seconds(call: Callable[[], object]) -> float:
    """That a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def some_end(root: str, nodes: int, turn: int) -> None:
    """On 100 nodes one job ends."""
    for number in range(min(STARTS, nodes)):
        node = (turn * STARTS + number) % nodes
        path = Path(root, "nodes", node_name(node), "assigned.json")
        keys = sorted(json.loads(path.read_bytes())["attempts"], key=lambda key: int(key.split(".")[0]))
        report(root, node, keys, {keys[0]})


def report(root: str, node: int, keys: Iterable[str], over: set[str]) -> None:
    """Write a node's status.json: these attempts run, but for those that are over."""
    from spool_layout.records import Phase, encode

    now = time.time()
    running, ended = Phase("running", pid=4711, started_at=now), Phase("ended", code=0, started_at=now, ended_at=now)
    status = status_of(node, {key: ended if key in over else running for key in keys}, time.monotonic_ns())
    Path(root, "nodes", node_name(node), "status.json").write_bytes(encode(status))


if __name__ == "__main__":
    print(json.dumps(lead(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
