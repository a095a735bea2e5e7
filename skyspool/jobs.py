"""From words to jobs. Every verb takes an ID, a handle (LABEL@TOKEN) or a name where it takes a job.

An ID is digits. A handle is what `exec` printed when the ID was not known yet. A name means the newest job that has
it. Ended jobs that the ledger forgot are looked for in done/. A file in pending/ that no head has accepted yet is
meant by its handle or its name too. A file that was rejected is no job, but whoever asks for it is told why.
"""

from __future__ import annotations

import os
import stat
import time
from typing import NamedTuple

from skyspool.ages import ago
from skyspool.clusters import Cluster
from skyspool.heads import heads, is_served
from skyspool.present import Watch
from skyspool.say import note
from skyspool.tables import one_line
from spool_layout.errors import BadSettings, SpoolError
from spool_layout.paths import Spool, id_of, is_digits, is_handle, is_passing, is_task_file, label, without_ending
from spool_layout.records import Job, Rejection
from spool_layout.replay import State
from spool_layout.states import EXIT_NOT_FOUND, Status
from spool_layout.storage import Disk, Entry

CLAIMED = 1.0  # seconds in which a file that a head has just claimed must turn up as a job
POLL = 0.05
LOOKED_AT = 200  # files in pending/ of which a listing tells owner and time; of more it tells the number


class NoSuchJob(SpoolError):
    """No job is called so."""

    exit_code = EXIT_NOT_FOUND
    fault = "user"


class Waiting(NamedTuple):
    """A file in pending/ that no head has accepted yet."""

    file: str
    inode: int
    uid: int
    changed: float
    held: str = ""  # why it has to wait although a head is alive: see `held_back`

    @property
    def handle(self) -> str:
        """What the file can be called: its name without the ending."""
        return without_ending(self.file)

    @property
    def name(self) -> str:
        """What a listing shows as its name."""
        return label(self.file)

    def waits_for(self, served: bool) -> str:
        """Why it has no ID yet, in one sentence. served: whether a head is alive."""
        told = self.held or "the head has not accepted it yet" if served else "no head is alive to accept it"
        return f"{one_line(self.handle)} waits in pending/: {told}"


def me() -> int:
    """Who asks: files and jobs are theirs whose user ID they carry."""
    return os.getuid()


def meant(cluster: Cluster, disk: Disk, watch: Watch, word: str) -> Job | Waiting:
    """The job, or the file not yet accepted, that a word means. NoSuchJob.

    Between pending/ and the events a file stands in the head's claim directory, for milliseconds: a handle that is
    nowhere is looked for a second time.
    """
    end = time.monotonic() + CLAIMED
    while True:
        listed = [] if is_digits(word) else pending_files(cluster.spool, disk, word)
        state = watch.refresh()  # after the listing: see unaccepted()
        files = waiting(cluster.spool, disk, unaccepted(cluster.spool, listed, state))
        found = newest_file(files, word) or in_state(state, word) or in_past(cluster.spool, disk, word)
        if found is not None:
            _tell_later_rejection(cluster, state, found, word)
            return held_back(cluster, disk, state, [found])[0] if isinstance(found, Waiting) else found
        if not is_handle(word) or time.monotonic() > end:
            raise missing(cluster, state, word)
        time.sleep(POLL)


def find(cluster: Cluster, disk: Disk, state: State, word: str) -> Job:
    """The accepted job that a word means. NoSuchJob."""
    job = in_state(state, word) or in_past(cluster.spool, disk, word)
    if job is None:
        raise missing(cluster, state, word)
    return job


def in_state(state: State, word: str) -> Job | None:
    """The live or lately ended job that a word means."""
    if is_digits(word):
        return state.find(int(word))
    known = list(reversed(state.known()))
    dropped = [job for job in known if is_handle(word) and without_ending(job.drop) == word]
    return next(iter(dropped or [job for job in known if job.name == word]), None)


def in_past(spool: Spool, disk: Disk, word: str) -> Job | None:
    """The job that a word means, of those that the ledger forgot."""
    from skyspool import past

    if is_digits(word):
        return past.find(spool, disk, int(word))
    if is_handle(word):
        return past.find_drop(spool, disk, f"{word}.yaml")
    return past.find_name(spool, disk, word)


def missing(cluster: Cluster, state: State, word: str) -> NoSuchJob:
    """No such job: what is there instead."""
    newest = state.next_id - 1
    if refused := rejected(state, word):
        return NoSuchJob(*_rejection_words(cluster, refused))
    if is_digits(word):
        told = f"the newest has ID {newest}" if newest else "there is none yet"
        return NoSuchJob(f"no job {word} on {cluster.name}: {told}", f"skyspool queue {cluster.word}")
    import shlex
    from difflib import get_close_matches

    from skyspool.clusters import configuration

    if _is_cluster(word):
        return NoSuchJob(
            f"no job on {cluster.name} has the handle or name {word!r}; it names a cluster, and a command takes one",
            f"skyspool queue {shlex.quote(word)}",
        )
    near = get_close_matches(word, {job.name for job in state.known()} | configuration().clusters.keys(), 1)
    told = f"; did you mean {near[0]!r}?" if near else ""
    return NoSuchJob(
        f"no job on {cluster.name} has the handle or name {word!r}, and no cluster is called so{told}",
        f"skyspool queue {cluster.word}",
    )


def _is_cluster(word: str) -> bool:
    from skyspool.clusters import lookup

    try:
        return lookup(word) is not None
    except SpoolError:  # one that cannot be read
        return True


def newest(cluster: Cluster, disk: Disk, watch: Watch) -> Job | Waiting:
    """What was submitted last: the latest job, or a file that no head is there to accept. NoSuchJob.

    While a head is alive only jobs count: a file that it leaves alone, since it cannot read it, stays in pending/.
    """
    listed = pending_files(cluster.spool, disk)
    state = watch.refresh()
    files = waiting(cluster.spool, disk, unaccepted(cluster.spool, listed, state))
    if files and not (state.known() and is_served(heads(cluster, disk))):
        return files[-1]
    return latest(cluster, state)


def latest(cluster: Cluster, state: State) -> Job:
    """The job with the largest ID, whoever's. NoSuchJob."""
    known = state.known()
    if not known:
        raise NoSuchJob(f"there is no job on {cluster.name} yet", f"skyspool exec {cluster.word} -- hostname")
    return known[-1]


def latest_running(state: State, uid: int) -> Job | None:
    """This user's newest job that runs, and is not being stopped."""
    mine = [j for j in state.jobs.values() if j.uid == uid and j.status is Status.RUNNING and j.stop is None]
    return mine[-1] if mine else None


# ---- what was rejected


def rejected(state: State, word: str) -> Rejection | None:
    """The newest rejected file that a word means: by its file name, its handle or its name.

    One that was mended and dropped again under its name has become a job.
    """
    fitting = (r for r in reversed(state.rejected) if word in (r.drop, without_ending(r.drop), label(r.drop)))
    found = next(fitting, None)
    mended = found and any(job.drop == found.drop and job.submitted > found.at for job in state.known())
    return None if mended else found


def _tell_later_rejection(cluster: Cluster, state: State, found: Job | Waiting, word: str) -> None:
    """That the job which a name means is not what was dropped last under this name."""
    refused = rejected(state, word)
    if isinstance(found, Job) and found.submitted and refused and refused.at > found.submitted and not is_digits(word):
        message, _ = _rejection_words(cluster, refused)
        note(f"note: this is job {found.id}, which is older than a file of this name: {message}")


def _rejection_words(cluster: Cluster, refused: Rejection) -> tuple[str, str]:
    """(why it is no job, how to see more). What a file says may be anything: it is made printable."""
    import shlex

    place, name = (cluster.spool.rejected, refused.file) if refused.file else (cluster.spool.pending, refused.drop)
    reason = "\n  ".join(map(one_line, refused.reason.splitlines()))  # further lines never look like ours
    return (
        f"{one_line(refused.drop)} was rejected {ago(refused.at, time.time())}: {reason}",
        f"skyspool lint --dropped {one_line(shlex.quote(os.path.join(place, name)))}      # it stands there",
    )


# ---- what was dropped and has no ID yet


def newest_file(files: list[Waiting], word: str) -> Waiting | None:
    """The file that a word means: by its handle, its file name or its name."""
    fitting = [f for f in files if word in (f.handle, f.file)] or [f for f in files if f.name == word]
    return fitting[-1] if fitting else None


def unaccepted(spool: Spool, listed: list[Entry], state: State) -> list[Entry]:
    """Of a listing of pending/, made before the state was read: the files that are no accepted job's, and that no head
    has left there with a reason, which is told as a rejection."""
    taken = {(job.drop, job.inode) for job in state.jobs.values()}
    left = {rejection.drop for rejection in state.rejected if not rejection.file}
    return [
        entry
        for entry in listed
        if not _is_known(entry, state, taken)  # first: of thousands of files nearly all are
        and is_task_file(entry.name)
        and entry.name not in left
        and not is_passing(entry.name)
    ]


def _is_known(entry: Entry, state: State, taken: set[tuple[str, int]]) -> bool:
    if entry.name in state.waiting or (entry.name, entry.inode) in taken:
        return True
    ident = id_of(entry.name)
    return ident is not None and (job := state.find(ident)) is not None and job.file == entry.name


def waiting(spool: Spool, disk: Disk, entries: list[Entry]) -> list[Waiting]:
    """Who dropped these files, and when; files that are gone meanwhile are left out."""
    found = []
    for entry in entries:
        seen = disk.stat(spool.dropped(entry.name))
        if seen is not None and not stat.S_ISDIR(seen.st_mode):  # a directory never becomes a job
            found.append(Waiting(entry.name, seen.st_ino, seen.st_uid, seen.st_ctime))
    return sorted(found, key=lambda w: (w.changed, w.file))


def held_back(cluster: Cluster, disk: Disk, state: State, files: list[Waiting]) -> list[Waiting]:
    """The files, with why each of them has to wait for a limit of its owner, if it has to."""
    told = {uid: _limit(cluster, disk, state, uid) for uid in {file.uid for file in files}}
    return [file._replace(held=told[file.uid]) for file in files]


def my_limit(cluster: Cluster, disk: Disk, state: State) -> str:
    """Why no file of who asks would be accepted now; "" where it would: said where pending/ may not be listed."""
    return _limit(cluster, disk, state, me())


def _limit(cluster: Cluster, disk: Disk, state: State, uid: int) -> str:
    from spool_layout import limits, settings

    try:
        return limits.too_many_pending(state, settings.load(cluster.spool, disk), uid)
    except (SpoolError, OSError):
        return ""


def pending_files(spool: Spool, disk: Disk, word: str = "") -> list[Entry]:
    """What stands in pending/. Where that may not be listed: the file that has this word for its handle, if any."""
    try:
        return disk.list(spool.pending)
    except PermissionError:
        file = f"{without_ending(word)}.yaml"
        seen = disk.stat(spool.dropped(file)) if is_handle(without_ending(word)) else None
        return [Entry(file, seen.st_ino)] if seen else []


def is_admin(cluster: Cluster, disk: Disk) -> bool:
    """Whether who asks may do to others' jobs what their owners may: by spool.yaml, root, or whose the spool is."""
    from spool_layout import settings, users

    owner = disk.stat(os.path.realpath(cluster.spool.root))
    account = owner.st_uid if owner else -1
    try:
        known = users.of_settings(settings.load(cluster.spool, disk), account)
    except BadSettings:  # users whom this host does not know
        known = users.Users(True, account)
    return known.is_admin(me())
