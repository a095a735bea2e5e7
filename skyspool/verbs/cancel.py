"""cancel: end jobs. Writes one request file, and looks for two seconds whether it was carried out.

A file that no head has accepted yet is taken out of pending/ by ourselves: it then never becomes a job. Without a head
the request waits in requests/ until one runs. Jobs that are over, or unknown, are no error: they do not run.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import click

from skyspool import heads, jobs, submission
from skyspool.clusters import Cluster, split
from skyspool.jobs import Waiting
from skyspool.present import Watch, look
from skyspool.say import hint, note
from skyspool.tables import one_line
from spool_layout.errors import SpoolError, UsageError
from spool_layout.paths import is_digits, is_handle
from spool_layout.records import Job
from spool_layout.replay import State
from spool_layout.states import Status
from spool_layout.storage import Disk

PATIENCE = 2.0
POLL = 0.05


class Ambiguous(SpoolError):
    """A name that several live jobs have."""

    fault = "user"


class NotYours(SpoolError):
    """Jobs of others."""

    fault = "user"


class Targets(NamedTuple):
    """What shall be cancelled. words: as the request names it; ids: live jobs; files: not accepted; idle: nothing."""

    words: str | list[int | str]
    ids: list[int]
    files: list[Waiting]
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
        targets = _named(cluster, disk, watch, files, named) if named else _latest(watch.state)
    _must_be_ours(cluster, disk, watch.state, targets)
    if _agreed(cluster, targets, named, yes):
        _carry_out(cluster, disk, watch, targets, asynchronous)


# ---- what is meant


def _all(state: State, files: list[Waiting], uid: int | None) -> Targets:
    ids = [job.id for job in state.jobs.values() if uid in (None, job.uid) and job.stop is None]
    mine = [file for file in files if uid in (None, file.uid)]
    return Targets("all-users" if uid is None else "all", ids, mine, [])


def _latest(state: State) -> Targets:
    job = jobs.latest_running(state, jobs.me())
    return Targets([job.id], [job.id], [], []) if job else Targets([], [], [], [])


def _named(cluster: Cluster, disk: Disk, watch: Watch, files: list[Waiting], words: Iterable[str]) -> Targets:
    """What each word means; an ID that is unknown is no error, a word that is no job's name is one: see split()."""
    targets = Targets([], [], [], [])
    for word in dict.fromkeys(words):
        try:
            item = _live(watch.state, files, word) or jobs.meant(cluster, disk, watch, word)
        except jobs.NoSuchJob as error:
            if not is_digits(word):
                raise
            targets.idle.append(error.message)
            continue
        if isinstance(item, Waiting):
            targets.files.append(item)
        elif item.live and item.stop is None:
            targets.ids.append(item.id)
        else:
            targets.idle.append(f"job {item.id} is {'being stopped already' if item.live else f'over ({item.status})'}")
    return targets._replace(words=list(targets.ids))


def _live(state: State, files: list[Waiting], word: str) -> Job | Waiting | None:
    """The live job or waiting file that has a name. Ambiguous where several have it."""
    if is_digits(word) or is_handle(word):
        return None
    found: list[Job | Waiting] = [job for job in state.jobs.values() if job.name == word]
    found += [file for file in files if word in (file.name, file.handle)]
    if len(found) > 1:
        told = " ".join(str(item.id) if isinstance(item, Job) else shlex.quote(item.handle) for item in found)
        raise Ambiguous(f"{len(found)} live jobs are called {word!r}: {told}", f"skyspool cancel {told}")
    return found[0] if found else None


def _must_be_ours(cluster: Cluster, disk: Disk, state: State, targets: Targets) -> None:
    """NotYours where jobs of others are meant, and we are no admin: the head would refuse it as well."""
    meant = [job for ident in targets.ids if (job := state.find(ident)) and job.uid != jobs.me()]
    if meant and not jobs.is_admin(cluster, disk):
        told = ", ".join(f"{job.id} ({job.user})" for job in meant)
        raise NotYours(
            f"not your jobs: {told}: only their owners and the admins of {cluster.name} can cancel them",
            f"skyspool cancel {cluster.word} --all      # yours",
        )


def _agreed(cluster: Cluster, targets: Targets, named: tuple[str, ...], yes: bool) -> bool:
    """Whether to go on: explicit jobs never ask; --all asks on a terminal, and needs -y elsewhere."""
    if named or yes or not (targets.ids or targets.files):
        return True
    if not sys.stdin.isatty():
        if isinstance(targets.words, str):
            option = "--all-users" if targets.words == "all-users" else "--all"
            hint = f"skyspool cancel {cluster.word} {option} -y"
            raise UsageError("cancelling all jobs from a script needs -y", hint)
        return True
    what = ", ".join([*map(str, targets.ids), *(file.handle for file in targets.files)])
    return click.confirm(f"Cancelling jobs ({what}) on cluster {cluster.name}. Proceed?", default=True, err=True)


# ---- doing it


def _carry_out(cluster: Cluster, disk: Disk, watch: Watch, targets: Targets, asynchronous: bool) -> None:
    for why in targets.idle:
        note(f"note: {why}; nothing to cancel")
    taken, missed = _withdraw(cluster, disk, targets.files)
    words = targets.words if isinstance(targets.words, str) else [*targets.words, *missed]
    done: list[int] = []
    if targets.ids or missed:
        submission.ask(cluster.spool, disk, request(words))
        done = [] if asynchronous else _await(watch, targets.ids, missed)
    told = _tell_done(watch.state, done, taken)
    open_ones = [str(ident) for ident in targets.ids if ident not in done]
    if open_ones or (missed and not done):
        _tell_open(cluster, disk, open_ones or missed, asynchronous)
    elif not told:
        click.echo("No jobs cancelled.")


def _tell_done(state: State, done: list[int], taken: list[str]) -> bool:
    """What was cancelled; whether anything was."""
    late = [ident for ident in done if _ended_otherwise(state, ident)]
    for ident in late:
        note(f"note: job {ident} was over before it could be cancelled")
    if stopped := [ident for ident in done if ident not in late]:
        click.echo(f"Cancelled job ID(s): {', '.join(map(str, stopped))}")
    for handle in taken:
        click.echo(f"Cancelled before it was accepted: {one_line(handle)}")
    return bool(stopped or taken)


def request(words: str | list[int | str]) -> bytes:
    """The text of a request to cancel."""
    import yaml

    return yaml.safe_dump({"cancel": words}, default_flow_style=None, allow_unicode=True).encode() + b"...\n"


def _withdraw(cluster: Cluster, disk: Disk, files: list[Waiting]) -> tuple[list[str], list[str]]:
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


def _ended_otherwise(state: State, ident: int) -> bool:
    """Whether a job ended by itself while it was to be cancelled."""
    job = state.find(ident)
    return job is not None and not job.live and job.status is not Status.CANCELLED


def _tell_open(cluster: Cluster, disk: Disk, ids: list[str], asynchronous: bool) -> None:
    """What was asked for and not seen to happen."""
    click.echo(f"Cancellation requested: {', '.join(map(one_line, ids))}")
    now = heads.server_now(cluster.spool, disk)
    found = heads.heads(cluster, disk, now)
    if not heads.is_served(found):
        silence = heads.silence(cluster, found, look(cluster, disk).written, now)
        note(f"note: {silence}; the request waits in {cluster.spool.requests} until one runs")
    elif not asynchronous:
        note(f"note: the head has not carried it out yet{_at_most(cluster, disk)}")
        hint(f"skyspool queue {cluster.word}")


def _at_most(cluster: Cluster, disk: Disk) -> str:
    """How many requests are carried out, which may be why it waits."""
    from spool_layout.settings import load

    most = load(cluster.spool, disk).max_requests
    return f"; of one user's it carries out {most} a minute (max_requests in spool.yaml)" if most else ""
