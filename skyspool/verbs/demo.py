"""demo: the reference text's story on four simulated GPUs, with a real head, a real node and real processes.

Everything lies in one temporary directory, which is removed; the daemons are ended; nothing is left running. It ends
with 0 if all went as told, else with 1 and what was different.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import click

from skyspool import daemons, listing, processes, story, tables
from skyspool.clusters import Cluster, open_spool, remember
from skyspool.present import Watch
from spool_layout.errors import SpoolError
from spool_layout.replay import State
from spool_layout.storage import Disk

LIMIT = 55.0  # seconds of the whole
POLL = 0.1
ENDING = 10.0  # seconds in which a daemon or a cancelled job must be gone
COLUMNS = ("ID", "NAME", "USER", "SUBMITTED", "STARTED", "RESOURCES", "STATUS")
CLEAN = ("SKYSPOOL_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME")


class WentWrong(SpoolError):
    """The story was not as told."""


@click.command("demo")
@click.option("--pace", type=float, default=1.0, metavar="SECONDS", help="How long an epoch of training takes.  [1]")
def command(pace: float) -> None:
    """Play the queue's story with four simulated H100s; takes half a minute, leaves nothing behind."""
    place = tempfile.mkdtemp(prefix="skyspool-demo-")
    kept = {name: os.environ.pop(name, None) for name in CLEAN}
    before = os.getcwd()
    os.environ["XDG_CONFIG_HOME"] = os.path.join(place, "config")
    stage = Stage(place, pace)
    try:
        os.chdir(place)
        stage.play()
    finally:
        stage.clear()
        os.chdir(before)
        os.environ.pop("XDG_CONFIG_HOME")
        os.environ.update({name: value for name, value in kept.items() if value is not None})
        shutil.rmtree(place, ignore_errors=True)
    us = own_name()
    click.echo(f" Now with what this machine has:\n  {us} up\n  {us} exec -- hostname")


def own_name() -> str:
    """How this program is typed from here: `skyspool` where that is found, else its path."""
    if shutil.which("skyspool"):
        return "skyspool"
    beside = os.path.join(os.path.dirname(sys.executable), "skyspool")
    if not os.access(beside, os.X_OK):
        return f"{shlex.quote(sys.executable)} -m skyspool"
    return shlex.quote(min(beside, os.path.relpath(beside), key=len))


class Stage:
    """A spool in a temporary directory, with its daemons."""

    def __init__(self, place: str, pace: float) -> None:
        self.place, self.pace, self.disk = place, pace, Disk()
        self.started, self.drawn, self.shown = time.monotonic(), 0, ""
        self.running: list[subprocess.Popen[bytes]] = []
        self.told: list[str] = []
        self.printed: list[str] = []
        self.cluster: Cluster | None = None

    # ---- before and after

    def build(self) -> Cluster:
        """The spool and its daemons, ready."""
        from skyspool.verbs import init

        root = os.path.join(self.place, "spool")
        init.make(root, story.CLUSTER)
        self.cluster = cluster = open_spool(root)
        remember(story.CLUSTER, root, default=True)
        with open(os.path.join(self.place, "dnn.yaml"), "w", encoding="utf-8") as file:
            file.write(story.task(self.pace))
        started = [self._daemon("head"), self._daemon("node", "--name", story.NODE, "--gpus", story.GPUS)]
        daemons.await_all(cluster, self.disk, started)
        return cluster

    def _daemon(self, kind: str, *options: str) -> daemons.Started:
        log = os.path.join(self.place, f"{kind}.log")
        with open(log, "ab") as out:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "spoold",
                    kind,
                    os.path.join(self.place, "spool"),
                    *options,
                    "--state",
                    os.path.join(self.place, "state"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.running.append(process)
        return daemons.Started(kind, process, log)

    def clear(self) -> None:
        """End everything that was started; first the jobs, if any still run."""
        if self.cluster is not None:
            self._end_jobs(self.cluster)
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        processes.end_all(self.place)

    def _end_jobs(self, cluster: Cluster) -> None:
        from skyspool import submission
        from skyspool.verbs.cancel import request

        try:
            watch = Watch(cluster, self.disk)
            if not watch.state.jobs:
                return
            submission.ask(cluster.spool, self.disk, request("all"))
            end = time.monotonic() + ENDING
            while watch.refresh().jobs and time.monotonic() < end:
                time.sleep(POLL)
        except (SpoolError, OSError):
            return

    # ---- the play

    def play(self) -> None:
        """Everything, from the empty stage to the last job's end. WentWrong where it is not as told."""
        click.echo(f"A cluster with 4 simulated H100s, in {self.place}\n(removed at the end).\n")
        cluster = self.build()
        for line in story.COMMANDS:
            self.type(line)
        click.echo()
        watch = Watch(cluster, self.disk)
        while not story.is_over(watch.refresh()):
            self.draw(cluster, watch.state)
            if time.monotonic() - self.started > LIMIT:
                raise WentWrong(f"it has not ended after {LIMIT:.0f} s:\n{self._last_words()}")
            time.sleep(POLL)
        self.draw(cluster, watch.state)
        if wrong := story.objections(watch.state):
            raise WentWrong("it went otherwise than told: " + "; ".join(wrong) + "\n" + self._last_words())
        click.echo("As the text says.", nl=False)

    def type(self, line: str) -> None:
        """One command line, as a person types it."""
        from skyspool.__main__ import main

        click.echo(f"$ skyspool {line}")
        sys.stdout.flush()
        if main(shlex.split(line)) != 0:
            raise WentWrong(f"`skyspool {line}` failed\n{self._last_words()}")

    def _last_words(self) -> str:
        return "\n".join(daemons.last_words(os.path.join(self.place, f"{kind}.log")) for kind in ("head", "node"))

    # ---- drawing

    def draw(self, cluster: Cluster, state: State) -> None:
        """The queue, when it has changed; on a terminal in place of the last one, with the story so far below it."""
        marks = ", ".join(f"{job.id} {listing.status(job)}" for job in state.known())
        terminal = sys.stdout.isatty()
        if marks == self.shown and not terminal:
            return
        if self.drawn and terminal:
            click.echo(f"\x1b[{self.drawn}A\x1b[J", nl=False)
        happened = [beat.what for beat in story.beats(state) if beat.happened]
        self.told += [what for what in happened if what not in self.told]
        table = self._table(cluster, state)
        click.echo(f"[{time.monotonic() - self.started:4.1f} s] $ skyspool queue {story.CLUSTER}")
        tables.show(table, listing.narrowing())
        sys.stdout.flush()
        new = self.told if terminal else [what for what in self.told if what not in self.printed]
        for line in new:
            click.echo(f"  {line}")
        click.echo()
        self.printed = list(self.told)
        self.shown, self.drawn = marks, 3 + len(table.rows) + len(new)

    def _table(self, cluster: Cluster, state: State) -> tables.Table:
        shown = listing.select(state, [], None, live_only=False)
        table = listing.table(cluster.spool, state, shown, time.time())
        for heading in table.headings:
            if heading not in COLUMNS:
                table = table.without(heading)
        return table
