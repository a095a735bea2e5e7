"""What the file system is asked for: by a job from drop to done, and by daemons with nothing to do.

strace attaches to the head, the runner, the starter and its supervisors (whose children the jobs are). Every call that
names a path of the spool, or a descriptor open on one, counts as an operation, but for those that only the kernel's
table of descriptors sees. Each call of a traced process is slow: no times here.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.bench.figures import OURS, Figure, say
from tests.bench.ours import REST, Ours, Tail, ours
from tests.bench.place import Place

JOBS = 100  # in one tick
ROLES = {"head": "head", "runner": "n1"}  # of the idle -> key of the daemon
SYNCS = ("fsync", "fdatasync", "syncfs", "sync_file_range")
# What is done to a descriptor and not to the file; bash does much of it. A `close` counts: to NFS it is one.
OF_DESCRIPTORS = re.compile(r"dup|lseek|fcntl\([^,]*, F_(DUPFD|GETFD|SETFD|GETFL|SETFL)")
TASK = "resources: {cpus: 1}\nrun: 'true'\n...\n"


class Trace:
    """The calls of some processes on the spool, by party, in their order."""

    def __init__(self, cluster: Ours, folder: Path) -> None:
        self.root = cluster.spool.root
        pids = {"head": cluster.pid("head"), "runner": cluster.pid("n1"), "starter": cluster.starters().get("n1", 0)}
        self.files = {party: folder / party for party, pid in pids.items() if pid}
        self.straces = [self._attach(pids[party], file) for party, file in self.files.items()]
        self.calls: dict[str, list[tuple[str, str]]] = {}
        self.pauses: dict[str, set[int]] = {}  # by party: before which of its calls it slept

    def _attach(self, pid: int, file: Path) -> subprocess.Popen[bytes]:
        words = ["strace", "-f", "-y", "-q", "-s", "0", "-e", "trace=%file,%desc", "-o", str(file)]
        for process in (pid, *descendants(pid)):  # supervisors that rest, of jobs before
            words += ["-p", str(process)]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def await_attached(self, pids: list[int]) -> None:
        """Return when each of them is traced."""
        end = time.monotonic() + 10
        while not all("TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text() for pid in pids):
            if time.monotonic() > end:
                raise TimeoutError("strace does not attach")
            time.sleep(0.02)  # the kernel tells nobody that strace has come

    def end(self) -> None:
        """Let go of the processes, and read what was written."""
        for strace in self.straces:
            strace.send_signal(signal.SIGINT)
            strace.wait(20)
        for party, file in self.files.items():
            for line in file.read_text(errors="replace").splitlines():
                found = re.match(r"\d+ +(\w+)\((.*)", line)
                if found and found[1] == "poll":
                    self.pauses.setdefault(party, set()).add(len(self.calls.get(party, ())))
                if found and self._is_on_spool(found[2]) and not OF_DESCRIPTORS.match(line[found.start(1) :]):
                    self.calls.setdefault(party, []).append((found[1], found[2]))

    def _is_on_spool(self, words: str) -> bool:
        return any(f"{self.root}{end}" in words for end in ("/", '"', ">"))

    def totals(self) -> dict[str, int]:
        """Calls by party."""
        return {party: len(calls) for party, calls in self.calls.items()}

    def kinds(self, party: str) -> str:
        """The commonest calls of a party."""
        return ", ".join(f"{n} {call}" for call, n in Counter(c for c, _ in self.calls.get(party, ())).most_common(9))

    def places(self, party: str) -> str:
        """What a party's calls are about, the commonest first; digits are left out of names."""
        paths = (re.search(re.escape(self.root) + r"/?([^>\"]*)", words) for _, words in self.calls.get(party, ()))
        names = Counter(re.sub(r"[0-9a-f]{6,}|\d+", "N", found[1]) for found in paths if found)
        return ", ".join(f"{count} {name or '.'}" for name, count in names.most_common(9))

    def syncs(self) -> list[list[str]]:
        """What the head syncs in each of its ticks, between two of which it sleeps, and behind it."""
        ticks: list[list[str]] = [[]]
        for number, (call, words) in enumerate(self.calls.get("head", ())):
            if number in self.pauses.get("head", ()):
                ticks.append([])
            if call in SYNCS and (found := re.search(re.escape(self.root) + r"/([^>]*)>", words)):
                ticks[-1].append(found[1])
        return ticks


def parted(syncs: list[str]) -> tuple[list[str], list[str]]:
    """Those of a tick, and those of the ledger that was written behind it: from the claim directory to ledger.json."""
    first = next((at for at, name in enumerate(syncs) if name.startswith("ledger/")), None)
    if first is None:
        return syncs, []
    begin = max(at for at, name in enumerate(syncs[:first]) if name.startswith("claims/"))
    end = next(at for at, name in enumerate(syncs) if at > first and name.startswith(".part-"))
    return syncs[:begin] + syncs[end + 1 :], syncs[begin : end + 1]


@contextlib.contextmanager
def traced(cluster: Ours, folder: Path) -> Iterator[Trace]:
    """Trace what happens within."""
    trace = Trace(cluster, folder)
    try:
        trace.await_attached([cluster.pid("head"), cluster.pid("n1")])
        yield trace
    finally:
        trace.end()


def operations(place: Place, rounds: int, jobs: int = JOBS) -> list[Figure]:
    """Operations for a job, and syncs in a tick, where so many jobs arrive and start in one tick."""
    if "strace" in place.fetch().missing:
        return [Figure("file-system operations a job", "", "low", {}, missing={OURS: place.missing["strace"]})]
    totals: dict[str, list[float]] = {}
    syncs: list[float] = []
    of_ledger: list[float] = []
    with ours(place, "operations", cpus=jobs) as cluster:
        for number in range(rounds + 1):
            trace = arrival(cluster, place.folder(f"strace{number}"), jobs)
            if number:  # the first time much is made that stays
                for party, count in trace.totals().items():
                    totals.setdefault(party, []).append(count / jobs)
                ticks, ledgers = zip(*map(parted, trace.syncs()), strict=True)
                busiest, ledger = max(ticks, key=len), max(ledgers, key=len)
                syncs.append(len(busiest))
                of_ledger.append(len(ledger))
    for party in trace.files:
        say(f"  {party}, for {jobs} jobs: {trace.kinds(party)}; on {trace.places(party)}")
    say(f"  the busiest tick of the last round syncs {', '.join(busiest)}; the ledger {', '.join(ledger)}")
    by_round = [1 + sum(values) for values in zip(*totals.values(), strict=True)]  # and the rename that drops it
    parts = ", ".join(f"{party} {sum(v) / len(v):.1f}" for party, v in totals.items())
    note = f"calls that reach the spool, close too; {parts}; drop 1; heartbeats meanwhile included"
    return [
        Figure(f"file-system operations a job, {jobs} a tick", "calls", "low", {OURS: by_round}, "≤ 16", note),
        Figure("syncs of the head in its busiest tick, one node", "calls", "low", {OURS: syncs}, "≤ 3"),
        Figure("syncs of a ledger, every 1,000 events or at rest", "calls", "low", {OURS: of_ledger}),
    ]


def arrival(cluster: Ours, folder: Path, jobs: int = JOBS) -> Trace:
    """The calls of jobs that arrive in one tick."""
    with traced(cluster, folder) as trace:
        arrive_at_once(cluster, jobs)
    return trace


def arrive_at_once(cluster: Ours, jobs: int) -> None:
    """Drop so many files while the head is stopped, so that it finds them in one look; wait until all is done."""
    names = [cluster.prepare(TASK) for _ in range(jobs)]
    tail = Tail(cluster)
    cluster.processes["head"].send_signal(signal.SIGSTOP)
    time.sleep(0.05)  # the signal has stopped it by then
    for name in names:
        cluster.release(name)
    cluster.processes["head"].send_signal(signal.SIGCONT)
    tail.until("ended", jobs)
    time.sleep(REST)  # the ledger that follows belongs to these jobs


def idle(place: Place, rounds: int, seconds: float = 60) -> list[Figure]:
    """What a head and a runner with nothing to do cost; one round, since it is a long one."""
    with ours(place, "idle", gpus="H100:1") as cluster:
        return idleness(place, {OURS: cluster}, seconds)


def idleness(place: Place, clusters: dict[str, Ours], seconds: float) -> list[Figure]:
    """The same of several clusters, all at once."""
    time.sleep(2)  # what they do once, at their start, is no idleness; nothing tells when it is over
    pids = {role: {name: cluster.pid(key) for name, cluster in clusters.items()} for role, key in ROLES.items()}
    before = {pid: cpu_seconds(pid) for of_role in pids.values() for pid in of_role.values()}
    time.sleep(seconds)  # what is measured
    spent = {pid: cpu_seconds(pid) - before[pid] for pid in before}
    resident = {pid: resident_mib(pid) for pid in before}
    traces = idle_traces(place, clusters, seconds) if "strace" not in place.fetch().missing else {}
    limits = {"head": "≤ 45 MiB", "runner": "≤ 30 MiB"}
    figures = []

    def figure(title: str, unit: str, goal: str, values: dict[str, float]) -> None:
        figures.append(Figure(title, unit, "low", {name: [value] for name, value in values.items()}, goal))

    for role, of_role in pids.items():
        if traces:
            rates = {name: len(trace.calls.get(role, ())) / seconds for name, trace in traces.items()}
            figure(f"idle {role}: calls on the spool", "1/s", "≤ 2", rates)
        figure(f"idle {role}: of a core", "%", "< 0.2 %", {n: 100 * spent[pid] / seconds for n, pid in of_role.items()})
        figure(f"idle {role}: resident", "MiB", limits[role], {name: resident[pid] for name, pid in of_role.items()})
    return figures


def idle_traces(place: Place, clusters: dict[str, Ours], seconds: float) -> dict[str, Trace]:
    """What they call meanwhile."""
    with contextlib.ExitStack() as stack:
        straced = [stack.enter_context(traced(c, place.folder(f"{c.folder.name}-idle"))) for c in clusters.values()]
        time.sleep(seconds)  # what is measured: so long nothing happens
    for name, trace in (traces := dict(zip(clusters, straced, strict=True))).items():
        for role in ROLES:
            say(f"  {name}, {role}, idle: {trace.kinds(role)}; on {trace.places(role)}")
    return traces


def descendants(pid: int) -> list[int]:
    """Processes below one."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """Time on a CPU of all threads, to the nanosecond."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident_mib(pid: int) -> float:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
