"""cancel: end jobs. Writes one request file, and looks for two seconds whether it was carried out.

A file that no head has accepted yet is taken out of pending/ by ourselves: it then never becomes a job. Without a head
the request waits in requests/ until one runs. Jobs that are over, or unknown, are no error: they do not run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import click

from skyspool import jobs, submission
from skyspool.clusters import Cluster, split
from skyspool.present import Watch
from skyspool.say import hint, note
from spool_layout.errors import SpoolError, UsageError
from spool_layout.paths import is_digits, is_handle
from spool_layout.records import Job
from spool_layout.replay import State
from spool_layout.storage import Disk

PATIENCE = 2.0
POLL = 0.05


class Ambiguous(SpoolError):
    """A name that several live jobs have."""

    fault = "user"


class Targets(NamedTuple):
    """What shall be cancelled. words: as the request names it; ids: live jobs; files: not accepted; idle: nothing."""

    words: str | list[int | str]
    ids: list[int]
    files: list[jobs.Waiting]
    idle: list[str]


@click.command("cancel")
@click.argument("words", nargs=-1, metavar="[CLUSTER] [ID|NAME|HANDLE]...")
@click.option("-a", "--all", "everything", is_flag=True, help="All my jobs.")
@click.option("-u", "--all-users", is_flag=True, help="All jobs, everybody's.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--async/--no-async", "asynchronous", default=False, help="Do not wait for it to be carried out.")
def command(words: tuple[str, ...], everything: bool, all_users: bool, yes: bool, asynchronous: bool) -> None:
    """Cancel jobs; where none is named, my latest running one."""
    cluster, named = split(words)
    if named and (everything or all_users):
        raise UsageError("--all and explicit jobs exclude each other")
    disk = Disk()
    listed = jobs.pending_files(cluster.spool, disk)
    watch = Watch(cluster, disk)
    files = jobs.waiting(cluster.spool, disk, jobs.unaccepted(cluster.spool, listed, watch.state))
    if everything or all_users:
        targets = _all(watch.state, files, None if all_users else jobs.me())
    else:
        targets = _named(cluster, disk, watch.state, files, named) if named else _latest(watch.state)
    if _agreed(cluster, targets, named, yes):
        _carry_out(cluster, disk, watch, targets, asynchronous)


# ---- what is meant


def _all(state: State, files: list[jobs.Waiting], uid: int | None) -> Targets:
    ids = [job.id for job in state.jobs.values() if uid in (None, job.uid)]
    mine = [file for file in files if uid in (None, file.uid)]
    return Targets("all-users" if uid is None else "all", ids, mine, [])


def _latest(state: State) -> Targets:
    job = jobs.latest_running(state, jobs.me())
    return Targets([job.id], [job.id], [], []) if job else Targets([], [], [], [])


def _named(cluster: Cluster, disk: Disk, state: State, files: list[jobs.Waiting], words: Iterable[str]) -> Targets:
    targets = Targets([], [], [], [])
    for word in dict.fromkeys(words):
        job = _live(state, word)
        file = next((f for f in files if word in (f.handle, f.file)), None)
        if job is not None:
            targets.ids.append(job.id)
        elif file is not None:
            targets.files.append(file)
        elif (ended := jobs.in_state(state, word) or jobs.in_past(cluster.spool, disk, word)) is not None:
            targets.idle.append(f"job {ended.id} is over ({ended.status})")
        else:
            targets.idle.append(jobs.missing(cluster, state, word).message)
    return targets._replace(words=list(targets.ids))


def _live(state: State, word: str) -> Job | None:
    """The live job that a word means. Ambiguous where several have the name."""
    if is_digits(word) or is_handle(word):
        job = jobs.in_state(state, word)
        return job if job is not None and job.live else None
    found = [job for job in state.jobs.values() if job.name == word]
    if len(found) > 1:
        ids = " ".join(str(job.id) for job in found)
        raise Ambiguous(f"{len(found)} live jobs are called {word!r}: {ids}", f"skyspool cancel {ids}")
    return found[0] if found else None


def _agreed(cluster: Cluster, targets: Targets, named: tuple[str, ...], yes: bool) -> bool:
    """Whether to go on: explicit jobs never ask; --all asks on a terminal, and needs -y elsewhere."""
    if named or yes or not (targets.ids or targets.files):
        return True
    if not sys.stdin.isatty():
        if isinstance(targets.words, str):
            raise UsageError("cancelling all jobs from a script needs -y", f"skyspool cancel {cluster.name} --all -y")
        return True
    what = ", ".join([*map(str, targets.ids), *(file.handle for file in targets.files)])
    return click.confirm(f"Cancelling jobs ({what}) on cluster {cluster.name}. Proceed?", default=True, err=True)


# ---- doing it


def _carry_out(cluster: Cluster, disk: Disk, watch: Watch, targets: Targets, asynchronous: bool) -> None:
    for told in targets.idle:
        note(f"note: {told}; nothing to cancel")
    taken, missed = _withdraw(cluster, disk, targets.files)
    words = targets.words if isinstance(targets.words, str) else [*targets.words, *missed]
    done: list[int] = []
    if targets.ids or missed:
        submission.ask(cluster.spool, disk, request(words))
        done = [] if asynchronous else _await(watch, targets.ids, missed)
    if done:
        click.echo(f"Cancelled job ID(s): {', '.join(map(str, done))}")
    for handle in taken:
        click.echo(f"Cancelled before it was accepted: {handle}")
    open_ones = [str(ident) for ident in targets.ids if ident not in done]
    if open_ones or (missed and not done):
        _tell_open(cluster, disk, open_ones or missed)
    elif not done and not taken:
        click.echo("No jobs cancelled.")


def request(words: str | list[int | str]) -> bytes:
    """The text of a request to cancel."""
    import yaml

    return yaml.safe_dump({"cancel": words}, default_flow_style=None, allow_unicode=True).encode() + b"...\n"


def _withdraw(cluster: Cluster, disk: Disk, files: list[jobs.Waiting]) -> tuple[list[str], list[str]]:
    """Take files out of pending/: (handles that are gone, handles that a head was faster to take)."""
    taken: list[str] = []
    missed: list[str] = []
    for file in files:
        aside = os.path.join(cluster.spool.tmp, f"{submission.token()}.yaml")
        if disk.move(cluster.spool.dropped(file.file), aside, file.inode):
            disk.remove(aside)
            taken.append(file.handle)
        else:
            missed.append(file.handle)
    return taken, missed


def _await(watch: Watch, ids: list[int], handles: list[str]) -> list[int]:
    """The jobs that were seen to be over, or being stopped, within PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while True:
        state = watch.refresh()
        meant = [*ids, *(job.id for word in handles if (job := jobs.in_state(state, word)) is not None)]
        done = [ident for ident in meant if _is_stopped(state, ident)]
        if len(done) == len(ids) + len(handles) or time.monotonic() > end:
            return done
        time.sleep(POLL)


def _is_stopped(state: State, ident: int) -> bool:
    job = state.find(ident)
    return job is None or not job.live or job.stop is not None


def _tell_open(cluster: Cluster, disk: Disk, ids: list[str]) -> None:
    """What was asked for and not seen to happen."""
    from skyspool import heads

    click.echo(f"Cancellation requested: {', '.join(ids)}")
    if heads.is_served(heads.heads(cluster, disk)):
        note("note: the head has not carried it out yet")
    else:
        note(f"note: no head is alive on {cluster.name}; the request waits in {cluster.spool.requests} until one runs")
    hint(f"skyspool queue {cluster.name}")
