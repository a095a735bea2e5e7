"""Putting what was decided onto the spool: moves of files, assigned.json, outcomes.

Everything here is done from the state, may be cut anywhere and is done again by the same head or the next, with the
same result. Order (each step relies on the one before):

    1 claimed new files    claims/…/new-NAME   -> pending/ID.NAME, or running/ID.NAME where the job starts now
    2 waiting files        pending/ID.NAME     -> claims/…/ID.NAME -> compared -> running/ID.NAME
      What this finds (deleted, or not what was accepted) is committed before anything else happens.
    3 assigned.json        of the nodes concerned: an attempt is listed only when its file stood in running/
    4 ended jobs           a line in done/DAY/EPOCH.jsonl, then running/ID.NAME -> done/DAY/ID.NAME.STATUS
                           (of one that ended while it waited: pending/ID.NAME -> claims/…/ID.NAME -> done/DAY/…)

A move never overwrites: targets carry the ID. A rename that says ENOENT is believed only after a listing.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
from collections.abc import Callable, Iterable

import msgspec

from spool_layout import history
from spool_layout.errors import Deposed
from spool_layout.events import AnyEvent, Ended, Returned
from spool_layout.leadership import Epoch
from spool_layout.paths import FORMAT, Spool, label, parse_attempt_key, without_ending
from spool_layout.records import Assigned, Assignment, Job, encode
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.states import Status
from spool_layout.storage import Disk, NotRegular

log = logging.getLogger("spoold.head")

Read = tuple[tuple[int, int], int]  # which assigned.json a node says that it read last: (version, incarnation)
OF_ONE_NODE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM})
UNREAD = 5.0  # seconds between two looks at an assigned.json of which its node goes on saying that it did not read it
# Seconds that attempts which are over may stay in assigned.json, where nothing else changes there: on a disk of this
# host, and on NFS, where each time that it is written costs twenty calls (it is looked for, read, and reported twice).
LATER, LATER_ON_NFS = 0.5, 5.0


class Projector:
    """Carries out what the events say. One for each term of a head."""

    def __init__(
        self,
        spool: Spool,
        disk: Disk,
        settings: Settings,
        epoch: Epoch,
        state: State,
        clock: Callable[[], float],
        later: float = 0.0,
    ) -> None:
        """later: seconds that attempts which are over may stay in assigned.json."""
        self.spool, self.disk, self.settings, self.epoch, self.state = spool, disk, settings, epoch, state
        self.clock, self.later = clock, later
        self.seq = 0
        self.wrote: dict[str, Assigned] = {}
        self.days: set[str] = set()
        self.outcomes: set[str] = set()  # files with lines that are not durable yet
        self.unwritten: set[str] = set()  # nodes whose assigned.json could not be written, told once
        self.turns: dict[str, tuple[int, int]] = {}  # node -> its turn when `wrote` was what it shall do
        self.looked: dict[str, tuple[Read | None, float]] = {}  # node -> what it said at our last write or look; when
        self.over: dict[str, float] = {}  # node -> when what is over leaves its assigned.json (monotonic clock)

    def _claims(self, name: str) -> str:
        return os.path.join(self.epoch.claims, name)

    def _move_claimed(self, source: str, target: str) -> None:
        """Out of the own claim directory. If it is not there, a newer head has taken it: this one is deposed."""
        if not self.disk.move(source, target) and os.path.basename(target) not in self._names(os.path.dirname(target)):
            raise Deposed(f"{source} is gone: a newer head emptied this one's claim directory")

    def _names(self, folder: str) -> set[str]:
        return {entry.name for entry in self.disk.list(folder)}

    # ---- 1: new files

    def place_new(self, job: Job, claim: str) -> None:
        """A file that was just accepted goes where its job stands. claim: EPOCH.TOKEN/new-N-NAME, as in the event."""
        if job.status is Status.PENDING:
            target = self.spool.dropped(job.file)
        elif job.live:
            target = self.spool.started(job.file)
        else:
            self._make_day(job.day)
            target = self.spool.ended(job.day, job.file, job.status)
        self._move_claimed(self.spool.claimed(claim), target)

    def reject(self, claim: str, aside: str, reason: str) -> None:
        """Set a file aside: the reason first, then the file. claim: as in place_new."""
        self.disk.publish(
            os.path.join(self.spool.rejected, f"{without_ending(aside)}.error"),
            (reason.rstrip() + "\n").encode("utf-8", "replace"),
            0o644,
            durable=False,
        )
        self._move_claimed(self.spool.claimed(claim), os.path.join(self.spool.rejected, aside))

    # ---- 2: waiting files that start

    def start_waiting(self, job: Job) -> AnyEvent | None:
        """Take a waiting job's file through the claim directory to running/; what has to be committed if that fails."""
        claimed, target = self._claims(job.file), self.spool.started(job.file)
        if not self._take(self.spool.dropped(job.file), claimed, job):
            if job.file in self._names(self.spool.running):
                return None
            return self._withdrawn(job, "its file was deleted before it started")
        if self._is_as_accepted(claimed, job):
            self._move_claimed(claimed, target)
            return None
        return self.returned(job)

    def returned(self, job: Job) -> Returned:
        """What was claimed is not what was accepted: the job waits again, under a name that nobody uses."""
        reason = "its file was changed just when it was to start"
        return Returned(id=job.id, attempt=job.attempt, file=self._unused(job), at=self.clock(), reason=reason)

    def _take(self, source: str, claimed: str, job: Job) -> bool:
        """Whether the file stands in the claim directory now. Absence is believed only of a listing."""
        for _ in range(3):
            try:
                if self.disk.move(source, claimed):
                    return True
            except FileNotFoundError:
                pass
            if job.file not in self._names(self.spool.pending):
                break
        try:
            return job.file in self._names(self.epoch.claims)
        except FileNotFoundError as error:
            raise Deposed(f"{self.epoch.claims} is gone: a newer head removed it") from error

    def _is_as_accepted(self, path: str, job: Job) -> bool:
        try:
            seen = self.disk.inspect(path, self.settings.max_file)
        except (NotRegular, PermissionError):
            return False
        return seen.uid == job.uid and history.digest(seen.data) == job.digest

    def _unused(self, job: Job) -> str:
        """A name in pending/ under which nothing stands: ID.LABEL+N.yaml."""
        taken = self._names(self.spool.pending)
        number = 1
        while (file := f"{job.id}.{label(job.file).split('+')[0]}+{number}.yaml") in taken:
            number += 1
        return file

    def _withdrawn(self, job: Job, reason: str) -> Ended:
        now = self.clock()
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        return Ended(id=job.id, attempt=job.attempt, status=Status.CANCELLED, reason=reason, day=day, at=now)

    def put_back(self, event: Returned, was: str) -> None:
        """After `returned` is committed: out of the claim directory, back to pending/ under its unused name."""
        if not event.in_running:
            self._move_claimed(self._claims(was), self.spool.dropped(event.file))

    # ---- 3: assigned.json

    def assign(self, nodes: Iterable[str], addressed: dict[str, Read] | None = None) -> None:
        """Write assigned.json of these nodes where it is not what was written last.

        addressed: what each node says that it read last, (version, incarnation); where that is not what was written
        last, the file itself is looked at, since a deposed head may have overwritten it: at once where the node says
        another one than before, else now and then, since mostly it has only not come to it yet.

        What a node shall do follows from the node and from the jobs that hold something there, with the addresses of
        their nodes. Whatever changes any of these is an event, which gives the node another turn (State.turn): while it
        has the same one, what was written last is what it shall do.

        Where all that changed is that attempts of the node are over, which it knows, since it said so, it is not told
        at once: of many that end one after the other it is told together. Until then its file says what a head that
        was cut right here would have left.
        """
        for name in sorted(set(nodes)):
            if name not in self.state.nodes:
                continue
            turn, read, last = self.state.turn(name), (addressed or {}).get(name), self.wrote.get(name)
            known = self.turns.get(name) == turn and name not in self.over
            wanted = last if last and known else self.desired(name)
            self.turns[name] = turn
            if (
                last
                and (last.attempts, last.incarnation) == (wanted.attempts, wanted.incarnation)
                and self._stands(name, last, read)
            ):
                continue
            if last and self._can_wait(name, last, wanted) and self._stands(name, last, read):
                continue
            self.over.pop(name, None)
            self.seq += 1
            self._write(name, msgspec.structs.replace(wanted, version=(self.epoch.number, self.seq)))
            self.looked[name] = read, time.monotonic()

    def _can_wait(self, node: str, last: Assigned, wanted: Assigned) -> bool:
        """Whether all that changed is that attempts are over, of which the node is told a little later."""
        if last.incarnation != wanted.incarnation or not wanted.attempts.keys() < last.attempts.keys():
            return False
        if any(last.attempts[key] != assignment for key, assignment in wanted.attempts.items()):
            return False
        now = time.monotonic()
        return now < self.over.setdefault(node, now + self.later)

    def tell_over(self) -> None:
        """Tell the nodes what is over now: a head that ends leaves that to nobody."""
        self.over = dict.fromkeys(self.over, 0.0)
        self.assign(list(self.over))

    def due(self) -> float | None:
        """Seconds until a node is to be told what is over; None: none is."""
        times = [at for node, at in self.over.items() if node in self.state.nodes]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _write(self, node: str, wanted: Assigned) -> None:
        """Publish assigned.json. One node's directory that is gone or closed must not stop the others."""
        try:
            self.disk.publish(self.spool.assigned(node), encode(wanted), 0o600)
        except OSError as error:
            if error.errno not in OF_ONE_NODE:
                raise
            if node not in self.unwritten:
                log.warning("node %s cannot be told what to do: %s", node, error)
            self.unwritten.add(node)
            self.wrote.pop(node, None)
        else:
            self.unwritten.discard(node)
            self.wrote[node] = wanted

    def _stands(self, node: str, last: Assigned, read: Read | None) -> bool:
        if read is None or read == (last.version, last.incarnation):
            return True
        now = time.monotonic()
        had_read, looked = self.looked.get(node, (None, 0.0))
        if read == had_read and now - looked < UNREAD:
            return True
        self.looked[node] = read, now
        return self.disk.read(self.spool.assigned(node)) == encode(last)

    def desired(self, name: str) -> Assigned:
        """What a node shall do, by the state: every attempt that holds anything of it."""
        node = self.state.nodes[name]
        attempts = {key: self._assignment(key, name) for key in sorted(node.shares)}
        return Assigned(
            format=FORMAT,
            cluster=self.settings.name,
            version=(self.epoch.number, self.seq),
            incarnation=node.incarnation,
            attempts=attempts,
        )

    def _assignment(self, key: str, node: str) -> Assignment:
        ident, attempt = parse_attempt_key(key)
        job = self.state.jobs.get(ident)
        here = job is not None and job.attempt == attempt and any(a.node == node for a in job.allocations)
        if job is None or not here:
            return Assignment(
                id=ident,
                attempt=attempt,
                want="stop",
                file="",
                digest="",
                name="",
                user="",
                uid=0,
                rank=0,
                nodes=[node],
                addresses=[],
                gpus=[],
                milli=0,
                cpus_milli=0,
                memory_mb=0,
            )
        rank = next(r for r, a in enumerate(job.allocations) if a.node == node)
        mine = job.allocations[rank]
        nodes = [a.node for a in job.allocations]
        return Assignment(
            id=ident,
            attempt=attempt,
            want="run" if job.stop is None else "stop",
            file=job.file,
            digest=job.digest,
            name=job.name,
            user=job.user,
            uid=job.uid,
            rank=rank,
            nodes=nodes,
            addresses=[self.state.nodes[n].address if n in self.state.nodes else "" for n in nodes],
            gpus=sorted(mine.gpus, key=self._index(node)),
            milli=_most(job),
            cpus_milli=mine.cpus_milli,
            memory_mb=mine.memory_mb,
            granted=job.granted or 0.0,
            go=job.go,
            restartable=job.task.restartable,
            task_id=self._task_id(job),
        )

    def _index(self, node: str):  # type: ignore[no-untyped-def]
        order = {slot.gpu.uuid: slot.gpu.index for slot in self.state.nodes[node].gpus}
        return lambda uuid: order.get(uuid, 0)

    def _task_id(self, job: Job) -> str:
        """sky-<Y-m-d-H-M-S-us>_<cluster>_<jobid>, as SkyPilot writes it; the time is that of acceptance."""
        return f"sky-{_stamp(job.accepted)}_{self.settings.name}_{job.id}"

    # ---- 4: ended jobs

    def finish(self, jobs: list[Job]) -> None:
        """Record how jobs ended, then move their files to done/."""
        by_day: dict[str, list[Job]] = {}
        for job in jobs:
            by_day.setdefault(job.day, []).append(job)
        for day, ended in by_day.items():
            self._make_day(day)
            path = self.spool.outcomes(day, self.epoch.number)
            self.disk.add_lines(path, b"".join(encode(job) for job in ended))
            self.outcomes.add(path)
        for job in jobs:
            self.disk.move(self.spool.started(job.file), self.spool.ended(job.day, job.file, job.status))

    def clear_waiting(self, job: Job) -> str | None:
        """The file of a job that ended while it waited: to done/. A file that is not what was accepted is new:
        its name in the claim directory is returned."""
        claimed = self._claims(job.file)
        if not self._take(self.spool.dropped(job.file), claimed, job):
            return None
        if job.digest and not self._is_as_accepted(claimed, job) and not job.problem:
            return job.file
        self._make_day(job.day)
        self._move_claimed(claimed, self.spool.ended(job.day, job.file, job.status))
        return None

    def _make_day(self, day: str) -> None:
        if day not in self.days:
            self.disk.make_dir(self.spool.day(day))
            self.days.add(day)


@functools.lru_cache(10_000)  # each tick writes it anew for every job that runs
def _stamp(moment: float) -> str:
    """Y-m-d-H-M-S-us in UTC."""
    import datetime

    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d-%H-%M-%S-%f")


def _most(job: Job) -> int:
    """Thousandths of GPUs for each node, as the alternative that was granted asks for."""
    return max((sum(a.gpus.values()) for a in job.allocations), default=0)
