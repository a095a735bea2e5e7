"""What a new head does before it looks at pending/: empties the claim directories of the heads before it.

A claim directory of the same or a lower epoch belongs to a head that no longer leads. Each file in it goes where the
events say: that of a started job (compared) to running/, that of a waiting one to pending/ID.NAME, that of an ended one
to done/, and one that no accepted event knows to this head's own claim directory under an unused name, to be accepted
from there; never back to pending/NAME, where the user's next file may stand. Then the directory is removed, which makes
every late rename of its old owner fail.

Cut anywhere: the next head finds the same directories with fewer files in them.
"""

from __future__ import annotations

import logging
import os

from spool_layout import history
from spool_layout.paths import claim_epoch_of, id_of
from spool_layout.records import AnyEvent, Job, Returned
from spool_layout.replay import waits_in_pending
from spool_layout.states import Status
from spool_layout.storage import NotRegular, Seen
from spoold.head.intake import NEW, REQUEST, claim_name, dropped_name
from spoold.head.project import Projector

log = logging.getLogger("spoold.head")


class Recovery:
    """Empties older claim directories. events: to be committed, in order, by the caller through `commit`."""

    def __init__(self, projector: Projector) -> None:
        self.p = projector
        self.disk, self.spool, self.state, self.epoch = (
            projector.disk,
            projector.spool,
            projector.state,
            projector.epoch,
        )
        self.own: set[str] = set()

    def older(self) -> list[str]:
        """Names of claim directories that are not ours, of our epoch or lower, oldest first."""
        mine = os.path.basename(self.epoch.claims)
        found = [(claim_epoch_of(e.name), e.name) for e in self.disk.list(self.spool.claims) if e.name != mine]
        return [name for epoch, name in sorted((e, n) for e, n in found if e is not None) if epoch <= self.epoch.number]

    def clear(self, name: str) -> list[AnyEvent]:
        """Empty and remove one. What it returns has to be committed; then it is called again until it is gone."""
        folder = os.path.join(self.spool.claims, name)
        for _ in range(100):
            try:
                entries = self.disk.list(folder)
            except FileNotFoundError:
                return []
            for entry in sorted(entries):
                if event := self._place(folder, entry.name):
                    return [event]
            if self.disk.remove_dir(folder):
                return []
        log.warning("%s does not become empty; it is left to the next head", folder)
        return []

    def _place(self, folder: str, name: str) -> AnyEvent | None:
        path = os.path.join(folder, name)
        seen: Seen | None
        try:
            seen = self.disk.inspect(path, self.p.settings.max_file)
        except FileNotFoundError:
            return None
        except (NotRegular, PermissionError):
            seen = None
        if seen is None or name.startswith(REQUEST):
            self._adopt(path, REQUEST if name.startswith(REQUEST) else NEW, dropped_name(name))
            return None
        job = self._by_content(seen) if name.startswith(NEW) else self._by_id(name)
        if job is None:
            self._adopt(path, NEW, dropped_name(name))
            return None
        return self._place_known(path, job, seen)

    def _by_id(self, name: str) -> Job | None:
        """The job whose waiting file was claimed. It may be called otherwise by now: `returned` names it anew."""
        ident = id_of(name)
        return self.state.find(ident) if ident is not None else None

    def _by_content(self, seen: Seen) -> Job | None:
        """The accepted job of which this is the file, not yet put in its place."""
        digest = history.digest(seen.data)
        for job in self.state.known():
            if job.inode == seen.inode and job.digest == digest and job.uid == seen.uid and not self._in_place(job):
                return job
        return None

    def _in_place(self, job: Job) -> bool:
        folder = self.spool.pending if waits_in_pending(job) else self.spool.running
        if not job.live:
            return job.file not in self._names(self.spool.running) and bool(job.attempt)
        return job.file in self._names(folder)

    def _names(self, folder: str) -> set[str]:
        return {entry.name for entry in self.disk.list(folder)}

    def _place_known(self, path: str, job: Job, seen: Seen) -> AnyEvent | None:
        if waits_in_pending(job) and job.file in self._names(self.spool.pending):
            self._adopt(path, NEW, job.file)
        elif waits_in_pending(job):
            self.disk.move(path, self.spool.dropped(job.file))
        elif not job.live:
            self.disk.make_dir(self.spool.day(job.day))
            self.disk.move(path, self.spool.ended(job.day, job.file, job.status))
        elif job.file in self._names(self.spool.running):
            self._adopt(path, NEW, job.file)
        elif history.digest(seen.data) == job.digest and seen.uid == job.uid:
            self.disk.move(path, self.spool.started(job.file))
        elif job.status is not Status.PENDING:
            return Returned(
                id=job.id,
                attempt=job.attempt,
                file=self.p._unused(job),
                at=self.p._now(),
                reason="its file was changed just when it was to start",
            )
        return None

    def _adopt(self, path: str, kind: str, name: str) -> None:
        claim = claim_name(kind, name, self.own)
        self.own.add(claim)
        self.disk.move(path, os.path.join(self.epoch.claims, claim))

    def misplaced(self) -> tuple[list[Job], list[Job], list[Job]]:
        """After the clearing, by listings: jobs to be started from pending/, ended ones whose file still stands in
        running/, ended ones whose file still stands in pending/ under their name."""
        running = self._names(self.spool.running)
        pending = self._names(self.spool.pending)
        start = [
            job for job in self.state.jobs.values() if job.status is not Status.PENDING and job.file not in running
        ]
        finish = [job for job in self.state.ended.values() if job.file in running]
        waiting = [
            job
            for job in self.state.ended.values()
            if job.file in pending and not job.in_running and job.file not in self.state.waiting
        ]
        return start, finish, waiting
