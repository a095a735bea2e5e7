"""Following a job: showing what it prints while it prints it, and ending as it ended.

What is said about the job (it waits, it started, how it ended) goes to stderr, in SkyPilot's words; while it waits also
for what, and again when that has changed, but in a long wait more and more seldom. Following ends by
itself when the job is over; its exit code is that of the job's state (states.EXIT_CODES). Ctrl-C ends the following and
leaves the job alone; killing it does no harm either, since nothing but reading is done. A job that is started again
(its node was lost) is followed again. While no head is alive nobody tells how a job ends: that is said once.
"""

from __future__ import annotations

import shlex
import time

from skyspool import jobs
from skyspool.clusters import Cluster
from skyspool.heads import heads, is_served, server_now, silence
from skyspool.logfiles import Folder
from skyspool.present import Watch
from skyspool.say import hint, note
from skyspool.streaming import Screen, Source, begin, folder_of, must_be_read, name_ranks, name_setups, sources
from spool_layout.records import Job
from spool_layout.states import EXIT_CODES, Status
from spool_layout.storage import Disk

INTERRUPTED = 130
FASTEST, SLOWEST = 0.05, 0.5  # seconds between two looks at the logs: while something comes, and while nothing does
STATE_PAUSE = 0.3  # seconds between two looks at the events
PIDS_PATIENCE = 5.0  # seconds in which the processes of several ranks, which SkyPilot's prefixes name, become known
SILENCE_PAUSE = 10.0  # seconds between two looks whether a head is alive
WHY_PAUSE, WHY_SELDOM = 2.0, 300.0  # seconds between two looks at what it waits for: at first, and at last
SEGFAULT = 139
LINES = 1000  # of each rank, where nothing else is asked for


class Follower:
    """Follows one job to its end. tail: lines of each rank to begin with; 0: all; None: LINES, and says so."""

    def __init__(self, cluster: Cluster, disk: Disk, watch: Watch, job: Job, tail: int | None, raw: bool) -> None:
        self.cluster, self.disk, self.watch = cluster, disk, watch
        self.ident, self.job, self.tail, self.screen = job.id, job, tail, Screen(raw)
        self.attempt, self.told_start, self.told_wait, self.told_silence = 0, False, False, False
        self.run_began = False
        self.next_head = self.next_why = self.named_by = 0.0
        self.why_pause = WHY_PAUSE
        self.told_why: object = None
        self.folder: Folder | None = None
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
            if over and self.folder is not None:
                self.folder.over = True
            found = self._show(over)
            if over:
                return self._end()
            soon = found or (self.folder is not None and self.folder.restless)
            pause = FASTEST if soon else min(pause * 1.5, SLOWEST)
            time.sleep(pause)
            must_be_read()

    def _look(self) -> None:
        state = self.watch.refresh()
        self.job = job = state.find(self.ident) or jobs.find(self.cluster, self.disk, state, str(self.ident))
        if job.status is Status.PENDING and not self.told_wait:
            note(f"Waiting for task resources on {job.task.num_nodes} node(s).")
            self.told_wait = True
        if job.status is Status.PENDING and time.monotonic() >= self.next_why:
            self._tell_why()
        if job.attempt > self.attempt and job.allocations:
            self._begin()
        elif job.allocations:  # processes are known only some time after the start
            name_setups(self.cluster, self.disk, state, job, self.setup)
            name_ranks(state, job, self.run)
        if job.status is Status.RUNNING and not self.told_start:
            note("Job started. Streaming logs... (Ctrl-C to exit log streaming; job will not be killed)")
            self.told_start = True
        if job.live and not self.told_silence:
            self._listen()

    def _tell_why(self) -> None:
        """Say what it waits for, if that is not what was said last. A job that fits starts at once: that is no wait."""
        from skyspool.reasons import why

        reason = why(self.watch.state, self.job, time.time(), served=True)  # a dead head is told by _listen
        if reason.kind != "fits" and reason.mark != self.told_why:
            note(reason.text)
            self.told_why, self.why_pause = reason.mark, min(self.why_pause * 2, WHY_SELDOM)
        self.next_why = time.monotonic() + self.why_pause

    def _begin(self) -> None:
        """Follow a new attempt."""
        self.attempt, self.told_start, self.run_began = self.job.attempt, False, False
        self.named_by = time.monotonic() + PIDS_PATIENCE
        self.folder = folder_of(self.cluster, self.job)
        self.setup, self.run = sources(self.cluster, self.disk, self.watch.state, self.job, self.folder)
        if begin(self.setup, self.run, LINES if self.tail is None else self.tail) and self.tail is None:
            note(f"note: only the last {LINES} lines of each rank are shown; --tail 0 shows all")

    def _listen(self) -> None:
        """Say once that no head is alive, which makes the wait for the end long."""
        if time.monotonic() < self.next_head:
            return
        self.next_head = time.monotonic() + SILENCE_PAUSE
        now = server_now(self.cluster.spool, self.disk)
        found = heads(self.cluster, self.disk, now)
        if not is_served(found):
            since = silence(self.cluster, found, self.watch.present.written, now)
            note(f"note: {since}; how the job ends is known when one runs")
            self.told_silence = True

    def _show(self, over: bool) -> bool:
        late = over or time.monotonic() > self.named_by
        found = False
        if late or self.told_start or all(source.is_named for source in self.setup):
            found = self.screen.drain(self.setup, last=self.told_start or over)
        if late or all(source.is_named for source in self.run):
            found = self._show_run(over) or found
        return found

    def _show_run(self, over: bool) -> bool:
        """What is new of run. Its first words are read before, and shown after, the last of setup: it is over then."""
        if self.run_began:
            return self.screen.drain(self.run, last=over)
        first = [next(source.pieces(), b"") for source in self.run]
        self.run_began = any(first)
        if self.run_began:
            self.screen.drain(self.setup, last=True)
        for source, piece in zip(self.run, first, strict=True):
            self.screen.write(piece)
            self.screen.drain([source], last=over)
        return self.run_began

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


def follow(cluster: Cluster, disk: Disk, watch: Watch, job: Job, tail: int | None, raw: bool = False) -> int:
    """Follow a job to its end; its exit code. Ctrl-C: 130, and how to cancel the job."""
    try:
        return Follower(cluster, disk, watch, job, tail, raw).follow()
    except KeyboardInterrupt:
        return left_alone(cluster, str(job.id))


def left_alone(cluster: Cluster, word: str) -> int:
    """After Ctrl-C: the job goes on, and how to end it."""
    note("\nNo longer following; the job goes on.")
    words = f"{cluster.word} {shlex.quote(word)}"
    hint(f"skyspool logs {words}      # follow it again\n  or: skyspool cancel {words}")
    return INTERRUPTED
