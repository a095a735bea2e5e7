"""What a new head does before it looks at pending/: empties the claim directories of the heads before it.

A claim directory of the same or a lower epoch belongs to a head that no longer leads. Each file in it goes where the
events say: that of a started job (compared) to running/, that of a waiting one to pending/ID.NAME, that of an ended one
to done/, and one that no accepted event knows to this head's own claim directory under an unused name, to be accepted
from there; never back to pending/NAME, where the user's next file may stand. Which job a new-N-NAME belongs to is in
the event that accepted it, by the name under which it was claimed. Then the directory is removed, which makes every
late rename of its old owner fail. A name that NFS gave to a file which was removed while somebody had it open
(`.nfs…`) is no file of a user's: where it cannot be removed yet, the directory is left to the next head.

Then what was committed and not projected, by listings. A started job whose file is not in running/ was not handed to
its nodes yet, or its owner removed the label, which changes nothing: assigned.json and status.json of its nodes tell
the two apart. A power loss may have undone the moves that took a file from pending/ to running/ and on to done/, since
only the events are made durable for each: what stands in pending/ under the name of a job that was started, and is the
very file (by its inode, and compared), is moved there again.

A file that was changed, of a job that was started, becomes a job of its own, also one that comes straight from its
acceptance: the attempt may have been handed over without a trace (a deposed head may have overwritten assigned.json, or
still move the file to running/), so it is left to its nodes, which tell what came of it. What stands in pending/ under
the name of an ended job whose own file is in done/ is new.

Cut anywhere: the next head finds the same directories with fewer files in them.
"""

from __future__ import annotations

import itertools
import logging
import os

from spool_layout import history
from spool_layout.errors import Damaged
from spool_layout.paths import claim_epoch_of, encodable, id_of
from spool_layout.records import Assigned, Job, NodeStatus, decode
from spool_layout.replay import waits_in_pending
from spool_layout.states import Status
from spool_layout.storage import NotRegular, Seen
from spoold.head.claims import NEW, REQUEST, Claims, dropped_name, in_turn, is_removed, kind_of
from spoold.head.project import Projector

log = logging.getLogger("spoold.head")

ROUNDS = 100  # listings of one directory while its old owner goes on moving files into it


class Recovery:
    """Empties older claim directories, and finds what was not projected."""

    def __init__(self, projector: Projector, claims: Claims) -> None:
        self.p, self.claims = projector, claims
        self.disk, self.spool, self.state = projector.disk, projector.spool, projector.state
        self.epoch = projector.epoch
        self.pending: set[str] = set()
        self.running: set[str] = set()

    # ---- older claim directories

    def older(self) -> list[str]:
        """Names of claim directories that are not ours, of our epoch or lower, oldest first."""
        found = [(claim_epoch_of(e.name), e.name) for e in self.disk.list(self.spool.claims)]
        mine = self.claims.folder
        older = [(e, name) for e, name in found if e is not None and e <= self.epoch.number and name != mine]
        return [name for _, name in sorted(older)]

    def clear(self, name: str) -> None:
        """Empty and remove one."""
        folder = os.path.join(self.spool.claims, name)
        for _ in range(ROUNDS):
            try:
                entries = sorted((entry.name for entry in self.disk.list(folder)), key=in_turn)
            except FileNotFoundError:
                return
            if entries:
                self.pending, self.running = self._names(self.spool.pending), self._names(self.spool.running)
            for file in entries:
                if is_removed(file):
                    self._remove(os.path.join(folder, file))
                else:
                    self._place(name, file)
            if self.disk.remove_dir(folder):
                return
            if entries and all(map(is_removed, entries)):
                break
        log.warning("%s does not become empty; it is left to the next head", folder)

    def _remove(self, path: str) -> None:
        try:
            self.disk.remove(path)
        except OSError as error:  # EBUSY while a process of this host has it open
            log.info("%s is not removed: %s", path, error.strerror)

    def _place(self, folder: str, file: str) -> None:
        """Move one file where it belongs."""
        path, kind = os.path.join(self.spool.claims, folder, file), kind_of(file)
        job = self._job_of(folder, file)
        if kind == REQUEST and f"{folder}/{file}" in self.state.requests:
            self.disk.remove(path)  # carried out before the crash
            return
        if kind == NEW and (found := self.state.rejects.get(encodable(f"{folder}/{file}"))):
            self.p.reject(f"{folder}/{file}", *found)
            return
        if kind and job is None:
            self.claims.take(kind, path, dropped_name(file))
            return
        try:
            seen: Seen | None = self.disk.inspect(path, self.p.settings.max_file)
        except FileNotFoundError:
            return
        except (NotRegular, PermissionError):
            seen = None
        if job is None or seen is None:
            self.claims.take(NEW, path, file)
        else:
            self._place_known(path, job, seen)

    def _job_of(self, folder: str, file: str) -> Job | None:
        """The job that was accepted from this file, or whose waiting file this was when it was claimed (it may be
        called otherwise by now: `returned` names it anew)."""
        ident = self.state.claims.get(f"{folder}/{file}") if kind_of(file) else id_of(file)
        return self.state.find(ident) if ident is not None else None

    def _place_known(self, path: str, job: Job, seen: Seen) -> None:
        as_accepted = history.digest(seen.data) == job.digest and seen.uid == job.uid
        if waits_in_pending(job) and job.file not in self.pending:
            self.disk.move(path, self.spool.dropped(job.file))
            self.pending.add(job.file)
        elif not job.live and (as_accepted or job.problem or kind_of(os.path.basename(path))):
            self.disk.make_dir(self.spool.day(job.day))
            self.disk.move(path, self.spool.ended(job.day, job.file, job.status))
        elif job.live and as_accepted and not waits_in_pending(job) and job.file not in self.running:
            self.disk.move(path, self.spool.started(job.file))
            self.running.add(job.file)
        else:
            self.claims.take(NEW, path, job.file)  # another file than the job's

    def _names(self, folder: str) -> set[str]:
        return {entry.name for entry in self.disk.list(folder)}

    # ---- what was not projected

    def misplaced(self) -> tuple[list[Job], list[Job], list[Job]]:
        """After the clearing, by listings: jobs to be started from pending/, ended ones whose file still stands in
        running/, ended ones whose file still stands in pending/ under their name."""
        running = self._names(self.spool.running)
        pending = {entry.name: entry.inode for entry in self.disk.list(self.spool.pending)}
        known = itertools.chain(self.state.ended.values(), self.state.jobs.values())
        undone = {job.id for job in known if job.in_running and pending.get(job.file) == job.inode}
        start = [
            job for job in self.state.jobs.values() if job.status is not Status.PENDING and job.file not in running
        ]
        if start:
            told, unknown = self._handed_over()
            lost = [j for j in start if j.key not in told and not unknown & {a.node for a in j.allocations}]
            start = [job for job in start if job in lost or job.id in undone]
        ended = self.state.ended.values()
        finish = [job for job in ended if job.file in running]
        left = [job for job in ended if job.file in pending and job.file not in self.state.waiting]
        waiting = [job for job in left if not job.in_running or job.id in undone]
        return start, finish, self._not_cleared(waiting)

    def _not_cleared(self, ended: list[Job]) -> list[Job]:
        """Those of them whose file is not in done/ yet."""
        kept = {name for day in {job.day for job in ended} for name in self._kept(day)}
        return [job for job in ended if os.path.basename(self.spool.ended(job.day, job.file, job.status)) not in kept]

    def _kept(self, day: str) -> set[str]:
        try:
            return self._names(self.spool.day(day))
        except FileNotFoundError:
            return set()

    def _handed_over(self) -> tuple[set[str], set[str]]:
        """Attempts that a node was told of or tells of; and the nodes of which that cannot be read."""
        told: set[str] = set()
        unknown: set[str] = set()
        for node in self.state.nodes:
            try:
                told |= self._attempts(self.spool.assigned(node), Assigned)
                told |= self._attempts(self.spool.status(node), NodeStatus)
            except (OSError, Damaged) as error:
                log.warning("node %s: %s", node, error)
                unknown.add(node)
        return told, unknown

    def _attempts(self, path: str, shape: type[Assigned] | type[NodeStatus]) -> set[str]:
        data = self.disk.read(path)
        return set(decode(data, shape, path).attempts) if data is not None else set()
