"""Showing what a job prints, while it prints it, and ending as it ended.

One rank's output passes through untouched; of several, each piece carries its rank, as SkyPilot writes it. Setup's
output comes first, marked `(setup pid=…)`. The job's output goes to stdout; what is said about it (it waits, it
started, how it ended) goes to stderr, in SkyPilot's words.

Following ends by itself when the job is over; its exit code is that of the job's state (states.EXIT_CODES). Ctrl-C
ends the following and leaves the job alone. A job that is started again (its node was lost) is followed again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from skyspool import jobs
from skyspool.clusters import Cluster
from skyspool.logfiles import Prefixed, Reader, count_lines, tail_offset
from skyspool.present import Watch
from skyspool.say import hint, note
from skyspool.submission import Dropped
from spool_layout.errors import Damaged
from spool_layout.paths import Spool, run_log, setup_log
from spool_layout.records import Job, NodeStatus, decode
from spool_layout.replay import State
from spool_layout.states import EXIT_CODES, Status
from spool_layout.storage import Disk

INTERRUPTED = 130
FASTEST, SLOWEST = 0.05, 0.5  # seconds between two looks at the logs: while something comes, and while nothing does
STATE_PAUSE = 0.3  # seconds between two looks at the events
SEGFAULT = 139


class Source:
    """One file of a job's output. prefix: b"" where it passes through."""

    def __init__(self, path: str, prefix: bytes = b"") -> None:
        self.reader, self.prefixed = Reader(path), Prefixed(prefix) if prefix else None

    def tail(self, lines: int) -> int:
        """Begin with the last `lines` lines; how many lines there were, counted up to `lines`."""
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


def sources(cluster: Cluster, disk: Disk, state: State, job: Job) -> tuple[list[Source], list[Source]]:
    """(setup, run): the files of a job's latest attempt, by rank."""
    folder, count = cluster.spool.log_dir(job.id, job.attempt), job.task.num_nodes
    setup, run = [], []
    for rank, allocation in enumerate(job.allocations):
        node = state.nodes.get(allocation.node)
        address = node.address if node else ""
        before = _setup_prefix(setup_pid(cluster.spool, disk, job, allocation.node), rank, address)
        setup.append(Source(os.path.join(folder, setup_log(rank, count, allocation.node)), before))
        prefix = b"" if count == 1 else _rank_prefix(job, rank, address)
        run.append(Source(os.path.join(folder, run_log(rank, count, allocation.node)), prefix))
    return setup, run


def _rank_prefix(job: Job, rank: int, address: str) -> bytes:
    """`(head, rank=0, pid=123) `, `(worker1, rank=1, pid=123, ip=10.0.0.2) `."""
    pid = job.pids[rank] if rank < len(job.pids) else 0
    words = ["head" if rank == 0 else f"worker{rank}", f"rank={rank}"]
    words += [f"pid={pid}"] if pid else []
    words += [f"ip={address}"] if rank and address else []
    return f"({', '.join(words)}) ".encode()


def _setup_prefix(pid: int, rank: int, address: str) -> bytes:
    words = f"setup pid={pid}" if pid else "setup"
    return f"({words}{f', ip={address}' if rank and address else ''}) ".encode()


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


def begin(setup: list[Source], run: list[Source], tail: int) -> None:
    """Start each rank's output at its last `tail` lines; 0: at its beginning."""
    for before, after in zip(setup, run, strict=True):
        if tail:
            left = tail - after.tail(tail)
            before.tail(left) if left > 0 else skip(before)


def skip(source: Source) -> None:
    """Begin at the end."""
    from skyspool.logfiles import size

    source.reader.offset = size(source.reader.path)


def show(cluster: Cluster, disk: Disk, state: State, job: Job, tail: int, raw: bool) -> int:
    """What a job has printed so far. 0 for a job that is not over, as under SkyPilot."""
    setup, run = sources(cluster, disk, state, job)
    begin(setup, run, tail)
    screen = Screen(raw)
    screen.drain([*setup, *run], last=True)
    if not run:
        note(f"note: job {job.id} has not started: it is {job.status}{f' ({job.reason})' if job.reason else ''}")
    return 0 if job.live else EXIT_CODES[job.status]


# ---- following


class Follower:
    """Follows one job to its end."""

    def __init__(self, cluster: Cluster, disk: Disk, watch: Watch, job: Job, tail: int, raw: bool) -> None:
        self.cluster, self.disk, self.watch = cluster, disk, watch
        self.ident, self.job, self.tail, self.screen = job.id, job, tail, Screen(raw)
        self.attempt, self.told_start, self.told_wait = 0, False, False
        self.setup: list[Source] = []
        self.run: list[Source] = []

    def follow(self) -> int:
        """Show everything until the job is over; its exit code."""
        pause, next_look = FASTEST, 0.0
        while True:
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + STATE_PAUSE
            over = not self.job.live
            found = self._show(over)
            if over:
                return self._end()
            pause = FASTEST if found else min(pause * 1.5, SLOWEST)
            time.sleep(pause)

    def _look(self) -> None:
        state = self.watch.refresh()
        self.job = state.find(self.ident) or jobs.find(self.cluster, self.disk, state, str(self.ident))
        job = self.job
        if job.status is Status.PENDING and not self.told_wait:
            note(f"Waiting for task resources on {job.task.num_nodes} node(s).")
            self.told_wait = True
        if job.attempt > self.attempt and job.allocations:
            self.attempt, self.told_start = job.attempt, False
            self.setup, self.run = sources(self.cluster, self.disk, state, job)
            begin(self.setup, self.run, self.tail)
        if job.status is Status.RUNNING and not self.told_start:
            self._started(state)

    def _started(self, state: State) -> None:
        note("Job started. Streaming logs... (Ctrl-C to exit log streaming; job will not be killed)")
        self.told_start = True

    def _show(self, over: bool) -> bool:
        if self.job.pids and self.job.task.num_nodes > 1:
            self._name_ranks()
        found = self.screen.drain(self.setup, last=self.told_start or over)
        return self.screen.drain(self.run, last=over) or found

    def _name_ranks(self) -> None:
        """The ranks' process numbers are known only some time after the start."""
        for rank, source in enumerate(self.run):
            node = self.watch.state.nodes.get(self.job.allocations[rank].node) if self.job.allocations else None
            if source.prefixed:
                source.prefixed.prefix = _rank_prefix(self.job, rank, node.address if node else "")

    def _end(self) -> int:
        for line in last_words(self.job):
            note(line)
        return EXIT_CODES[self.job.status]


def last_words(job: Job) -> list[str]:
    """How a job ended, in SkyPilot's words, and why."""
    lines = []
    if job.status is Status.FAILED and job.exit_codes:
        crashed = " (likely due to Segmentation Fault)" if SEGFAULT in job.exit_codes else ""
        lines.append(f"ERROR: Job {job.id} failed with return code list: {job.exit_codes}{crashed}")
        if 137 in job.exit_codes and len(job.exit_codes) > 1:
            lines.append("(137: ended because another rank failed)")
    elif job.status is Status.FAILED_SETUP and job.exit_codes:
        failed = [
            f"(pid={job.pids[rank] if rank < len(job.pids) else '?'}, returncode={code})"
            for rank, code in enumerate(job.exit_codes)
            if code
        ]
        lines.append(f"ERROR: Job {job.id}'s setup failed. Failed workers: {', '.join(failed)}")
    if job.reason and job.status is not Status.SUCCEEDED:
        lines.append(f"reason: {job.reason}")
    return [*lines, f"Job finished (status: {job.status})."]


def follow(cluster: Cluster, disk: Disk, watch: Watch, job: Job, tail: int = 0, raw: bool = False) -> int:
    """Follow a job to its end. Ctrl-C: 130, and how to cancel the job."""
    try:
        return Follower(cluster, disk, watch, job, tail, raw).follow()
    except KeyboardInterrupt:
        return left_alone(cluster, str(job.id))


def follow_dropped(cluster: Cluster, disk: Disk, dropped: Dropped, ident: int | None) -> int:
    """Follow what was just submitted, from the moment that it is accepted."""
    try:
        watch = Watch(cluster, disk)
        while (job := _accepted(watch, dropped, ident)) is None:
            time.sleep(STATE_PAUSE)
            watch.refresh()
    except KeyboardInterrupt:
        return left_alone(cluster, dropped.handle if ident is None else str(ident))
    if ident is None:
        note(f"Job submitted, ID: {job.id}")
    return follow(cluster, disk, watch, job)


def _accepted(watch: Watch, dropped: Dropped, ident: int | None) -> Job | None:
    from skyspool.submission import Refused

    for refused in watch.state.rejected:
        if refused.drop == dropped.file:
            raise Refused(f"the head refused it: {refused.reason}")
    return watch.state.find(ident) if ident is not None else jobs.in_state(watch.state, dropped.handle)


def left_alone(cluster: Cluster, word: str) -> int:
    """After Ctrl-C: the job goes on, and how to end it."""
    note("\nNo longer following; the job goes on.")
    hint(f"skyspool logs {cluster.name} {word}      # follow it again\n  or: skyspool cancel {cluster.name} {word}")
    return INTERRUPTED
