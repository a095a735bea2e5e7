"""What a job printed: its files, whose output it is, and how it gets to the screen.

One rank's output passes through untouched; of several, each piece carries its rank, as SkyPilot writes it. Setup's
output comes first, marked `(setup pid=…)`. The job's output goes to stdout as bytes; what is said about it goes to
stderr. skyspool/following.py shows it while it is written.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator

from skyspool.clusters import Cluster
from skyspool.logfiles import Folder, Prefixed, Reader, count_lines, size, tail_offset
from skyspool.say import note
from spool_layout.errors import Damaged
from spool_layout.mounts import is_network
from spool_layout.paths import Spool, run_log, setup_log
from spool_layout.records import Job, NodeStatus, decode
from spool_layout.replay import State
from spool_layout.states import EXIT_CODES, Status
from spool_layout.storage import Disk


class Source:
    """One file of a job's output. prefix: b"" where it passes through. folder: see `logfiles.Reader`."""

    def __init__(self, path: str, prefix: bytes = b"", folder: Folder | None = None) -> None:
        self.reader, self.prefixed = Reader(path, 0, folder), Prefixed(prefix) if prefix else None

    @property
    def is_named(self) -> bool:
        """Whether the prefix says which process writes here, or none is wanted."""
        return self.prefixed is None or b"pid=" in self.prefixed.prefix

    def tail(self, lines: int) -> int:
        """Begin with the last `lines` lines; how many lines there were, counted up to `lines`."""
        if not self.reader.arrive():
            return 0
        self.reader.offset = tail_offset(self.reader.path, lines)
        return lines if self.reader.offset else count_lines(self.reader.path, lines)

    def pieces(self) -> Iterator[bytes]:
        """Everything that is new."""
        while data := self.reader.new():
            yield self.prefixed.feed(data) if self.prefixed else data

    def rest(self) -> bytes:
        """What was kept back of an unfinished line."""
        return self.prefixed.rest() if self.prefixed else b""


# ---- which files, under which names


def folder_of(cluster: Cluster, job: Job) -> Folder | None:
    """Where the logs of a job's latest attempt are looked for with care: on a file server, while the job lives."""
    if job.live and is_network(cluster.spool.root):
        return Folder(cluster.spool.log_dir(job.id, job.attempt), 2 if job.attempt <= 1 else 3)
    return None


def sources(
    cluster: Cluster, disk: Disk, state: State, job: Job, folder: Folder | None
) -> tuple[list[Source], list[Source]]:
    """(setup, run): the files of a job's latest attempt, by rank."""
    place, count = cluster.spool.log_dir(job.id, job.attempt), job.task.num_nodes
    setup, run = [], []
    for rank, allocation in enumerate(job.allocations):
        setup.append(Source(os.path.join(place, setup_log(rank, count, allocation.node)), b"(setup) ", folder))
        prefix = b"" if count == 1 else b" "
        run.append(Source(os.path.join(place, run_log(rank, count, allocation.node)), prefix, folder))
    name_setups(cluster, disk, state, job, setup)
    name_ranks(state, job, run)
    return setup, run


def name_ranks(state: State, job: Job, run: list[Source]) -> None:
    """Put `(head, rank=0, pid=123) `, `(worker1, rank=1, pid=123, ip=10.0.0.2) ` before what several ranks print."""
    for rank, source in enumerate(run):
        if source.prefixed:
            pid = job.pids[rank] if rank < len(job.pids) else 0
            words = ["head" if rank == 0 else f"worker{rank}", f"rank={rank}", *([f"pid={pid}"] if pid else [])]
            source.prefixed.prefix = f"({', '.join([*words, *_address(state, job, rank)])}) ".encode()


def name_setups(cluster: Cluster, disk: Disk, state: State, job: Job, setup: list[Source]) -> None:
    """Put `(setup pid=123) `, `(setup pid=123, ip=10.0.0.2) ` before what setup prints; a pid once known stays."""
    for rank, source in enumerate(setup):
        if source.prefixed and not source.is_named and job.allocations:
            pid = setup_pid(cluster.spool, disk, job, job.allocations[rank].node)
            words = [f"setup pid={pid}" if pid else "setup", *_address(state, job, rank)]
            source.prefixed.prefix = f"({', '.join(words)}) ".encode()


def _address(state: State, job: Job, rank: int) -> list[str]:
    """How SkyPilot names the host of a rank: not at all where it is the first."""
    node = state.nodes.get(job.allocations[rank].node) if rank and job.allocations else None
    return [f"ip={node.address}"] if node and node.address else []


def setup_pid(spool: Spool, disk: Disk, job: Job, node: str) -> int:
    """The process of a job's setup on a node, while the node still tells it; else 0."""
    if job.status is not Status.SETTING_UP:
        return 0
    try:
        data = disk.read(spool.status(node))
        phase = decode(data, NodeStatus, node).attempts.get(job.key) if data else None
    except (OSError, Damaged):
        return 0
    return phase.pid if phase and phase.stage == "setup" else 0


# ---- showing


def must_be_read() -> None:
    """BrokenPipeError where whoever read our stdout has gone: a job that prints nothing would never show that."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)  # errors and hang-ups are always told
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0)):
        raise BrokenPipeError


class Screen:
    """Where output goes: stdout as bytes; on a terminal without what could harm it."""

    def __init__(self, raw: bool = False) -> None:
        from skyspool.terminal import Filter

        self.filter = None if raw or not sys.stdout.isatty() else Filter()

    def write(self, data: bytes) -> None:
        """Show a piece at once."""
        if data:
            sys.stdout.buffer.write(self.filter.feed(data) if self.filter else data)
            sys.stdout.buffer.flush()

    def drain(self, files: list[Source], last: bool = False) -> bool:
        """Show what is new in some files. last: also unfinished lines. Whether there was anything."""
        found = False
        for source in files:
            for piece in source.pieces():
                self.write(piece)
                found = True
            if last:
                self.write(source.rest())
        return found


def begin(setup: list[Source], run: list[Source], tail: int) -> bool:
    """Start each rank's output at its last `tail` lines; 0: at its beginning. Whether that leaves something out."""
    if not tail:
        return False
    for before, after in zip(setup, run, strict=True):
        left = tail - after.tail(tail)
        if left > 0:
            before.tail(left)
        else:
            before.reader.offset = size(before.reader.path) if before.reader.arrive() else 0
    return any(source.reader.offset for source in (*setup, *run))


def silent(job: Job) -> str:
    """What to say of a job of which there is no output."""
    if job.start_at is not None:
        return "printed nothing"
    return "has not started" if job.live else "ended before it ran" if not job.attempt else "left no output"


def show(cluster: Cluster, disk: Disk, state: State, job: Job, tail: int, raw: bool) -> int:
    """What a job has printed so far. 0 for a job that is not over, as under SkyPilot."""
    setup, run = sources(cluster, disk, state, job, folder_of(cluster, job))
    for source in (*setup, *run):
        source.reader.arrive()
    begin(setup, run, tail)
    printed = Screen(raw).drain([*setup, *run], last=True)
    if not run or not (printed or job.live):
        note(f"note: job {job.id} {silent(job)}: it is {job.status}{f' ({job.reason})' if job.reason else ''}")
    return 0 if job.live else EXIT_CODES[job.status]
