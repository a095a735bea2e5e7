"""Looking at what users dropped: which files are complete, claiming them, reading them.

A file is taken in three steps. While it stands in pending/ (or requests/) it is only looked at: is it complete? Then it
is moved into the head's claim directory, where no later drop of the same name can take its place. What a descriptor
says that was opened once, without following links, is believed: its owner, its inode, its text. That is the descriptor
of the look where what was moved is the same file on a local disk, unchanged; else it is opened anew there, and what
has changed is read anew.

Complete is what ends with YAML's own end mark `...`, or has been quiet for the settle time by the file server's clock;
an empty file never; on a local disk a file that somebody still has open for writing never.

Cut between the move and the commit: the file stands in the claim directory; the next head finds it there, sees that no
event knows it, and takes it to its own claim directory to be accepted from there (recover.py).
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from spool_layout import history
from spool_layout.paths import Spool, encodable, is_digits, is_task_file
from spool_layout.records import Demand, Task
from spool_layout.settings import Settings
from spool_layout.storage import Disk, NotRegular, Seen
from spool_layout.taskfile import InvalidTask, TaskSpec, is_complete, parse_task, read_mapping
from spool_layout.users import of_settings, user_name
from spoold.core.model import NewFile, Request
from spoold.head.claims import Claims, Ready, dropped_name

log = logging.getLogger("spoold.head")

REQUEST_BYTES = 64 * 1024
NAMES_FOR = 60.0  # seconds for which users' names are remembered
ID_DIGITS = 18  # of a job's ID in a request; longer words are no IDs


class Left(NamedTuple):
    """A name that is left where it is, and why."""

    name: str
    reason: str


class Unfinished(Exception):
    """A claimed file is being written."""


class Intake:
    """What a head remembers of the drop boxes between two looks: nothing that a restart could not do without."""

    def __init__(self, spool: Spool, disk: Disk, settings: Settings, local: bool, clock: Callable[[], float]):
        self.spool, self.disk, self.settings, self.local = spool, disk, settings, local
        self.clock = clock  # the file server's
        self.users = of_settings(settings, os.getuid())
        self.told: set[Left] = set()  # those that were reported
        self._names: dict[int, str] = {}  # user -> what this host called them when it was asked last
        self._asked = float("-inf")

    # ---- which are complete

    def look_at(self, path: str, name: str, known: Seen | None = None) -> Ready | Left | float | None:
        """Ready; Left; seconds until it may be ready; None: it is gone, or empty. known: what it said in this look; by
        then it was ready if that is, while how long it has been quiet is asked for anew."""
        if known is not None and self._is_whole(known):
            return Ready(name, known.inode, known.changed, known)
        try:
            seen = self.disk.inspect(path, self.settings.max_file)
        except FileNotFoundError:
            return None
        except NotRegular as error:
            if "directory" in str(error.strerror):
                return Left(name, "a directory, not a task file; it is left where it is")
            return Ready(name, 0, 0.0)  # a link, FIFO or device: set aside, like any file that is no task
        except PermissionError as error:
            return Left(name, f"cannot be read by the head ({error.strerror}){self._way_out()}; it is left where it is")
        except OSError as error:
            return Left(name, f"cannot be read by the head ({error.strerror}); it is left where it is")
        if self._is_whole(seen):
            return Ready(name, seen.inode, seen.changed, seen)
        return self._settled(path, name, seen)

    def _is_whole(self, seen: Seen) -> bool:
        """Whether a file is complete by what it says, or too large to be taken at all."""
        return seen.size > self.settings.max_file or is_complete(seen.data)

    def _way_out(self) -> str:
        """What its owner can do about a file that we may not read."""
        if not self.users.multi:
            return ""
        return f": chmod g+r it, and chgrp it to {group_name(os.getgid())}, or submit it with skyspool or cp"

    def _settled(self, path: str, name: str, seen: Seen) -> Ready | float | None:
        settle = self.settings.settle
        wait = seen.changed + settle - self.clock()
        if seen.size == 0:
            return None  # nothing to wait for: who writes to it makes it news again
        if wait > 0:
            return min(wait, settle)
        if self.local and self.disk.is_held_for_writing(path):
            return settle / 4
        return Ready(name, seen.inode, seen.changed, seen)

    def name_of(self, uid: int) -> str:
        """What a user is called, asked once in a while: on many sites a directory service is asked for each name."""
        now = time.monotonic()
        if now - self._asked > NAMES_FOR:
            self._names.clear()
            self._asked = now
        if uid not in self._names:
            self._names[uid] = user_name(uid)
        return self._names[uid]

    def news(self, left: list[Left]) -> list[Left]:
        """Those of the names left alone that were not reported yet."""
        fresh = [item._replace(name=encodable(item.name)) for item in left if item not in self.told]
        self.told = set(left)
        return fresh

    # ---- reading what was claimed

    def read_new(self, claims: Claims, claim: str) -> NewFile:
        """A claimed file as a task, or with what is wrong with it. OSError: gone, or not to be read just now.
        Unfinished: it is not what was looked at, and not complete."""
        ready = claims.hand_out(claim)
        name = ready.name if ready else dropped_name(claim)  # a claim of an earlier head is cut to fit
        me = os.getuid()
        new = NewFile(claims.full(claim), encodable(name), me, self.name_of(me), 0, "", 0.0)
        try:
            seen = self._unchanged(claims.path(claim), ready) or self._anew(claims.path(claim), ready)
        except NotRegular as error:
            return new._replace(problem=str(error.strerror))
        except PermissionError:
            return new._replace(problem="cannot be read by the head: permission denied")
        task, problem = self.judge(seen, name)
        return new._replace(
            uid=seen.uid,
            user=self.name_of(seen.uid),
            inode=seen.inode,
            digest=history.digest(seen.data),
            submitted=ready.changed if ready and ready.changed else seen.changed,
            name=task.name if task else "",
            task=summary(task) if task else None,
            problem=problem,
        )

    def _unchanged(self, path: str, ready: Ready | None) -> Seen | None:
        """What a file said in the drop box, if by all that the file system says it is still that file; None: open it.
        On a local disk alone: of what another host does to it a client of NFS is told for certain when it opens it.

        Who writes to it at this moment, and puts its times back, is found out like whoever does so a moment later: by
        its digest, when it starts."""
        seen = ready.seen if ready and self.local else None
        info = self.disk.stat(path) if seen else None
        if seen is None or info is None:
            return None
        return seen if seen.is_still(info) else None

    def _anew(self, path: str, ready: Ready | None) -> Seen:
        """A claimed file, opened anew. Who writes to it since is waited for, as in the drop box: it may have been moved
        with half a text in it."""
        known = ready.seen if ready else None
        seen = self.disk.inspect(path, self.settings.max_file, known)
        same = ready is None or (known is not None and known.data == seen.data)
        if not same and not self._is_whole(seen) and seen.changed + self.settings.settle > self.clock():
            raise Unfinished
        return seen

    def judge(self, seen: Seen, name: str, accepted: bool = False) -> tuple[TaskSpec | None, str]:
        """A task, or why it is none. accepted: this inode is a job's file already, and known to whoever reads events:
        a link that somebody made to it since is no reason to stop the job."""
        if problem := self.objection(seen, name, accepted):
            return None, problem
        try:
            task = parse_task(seen.data, require_absolute_workdir=True)
        except InvalidTask as error:
            return None, error.message
        except Exception as error:  # a fault of ours: one file must not stop the tick for the others
            # not what it says, which may hold what stands in the file
            places = "; ".join(f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__))
            log.error("%r cannot be judged: %s at %s", name, type(error).__name__, places)
            return None, f"cannot be read because of a fault in this program ({type(error).__name__})"
        if not task.run and not task.setup:
            return None, "has neither run nor setup commands: there is nothing to do"
        return task, ""

    def objection(self, seen: Seen, name: str, accepted: bool = False) -> str:
        """What is wrong with a file before its text is looked at; "" for nothing."""
        limit = self.settings.max_file
        if stranger := self.users.objection(seen.uid):
            return f"belongs to {user_name(seen.uid)}, {stranger}"
        if seen.links != 1 and not accepted:
            return f"has {seen.links} hard links; a task file has one: copy it instead"
        if seen.size > limit:
            return f"has {seen.size} bytes; at most {limit} are taken (max_file in spool.yaml)"
        if not name.isprintable():
            return "its name holds control characters or bytes that are no UTF-8"
        if not is_task_file(name):
            return "its name does not end in .yaml"
        return ""

    def read_request(self, claims: Claims, claim: str) -> Request:
        """A claimed request, perhaps with what is wrong with it. OSError: gone, or not to be read just now."""
        me = os.getuid()
        claims.hand_out(claim)
        try:
            seen = self.disk.inspect(claims.path(claim), REQUEST_BYTES)
        except (NotRegular, PermissionError) as error:
            return Request(claim, encodable(claims.full(claim)), me, self.name_of(me), problem=str(error.strerror))
        request = Request(claim, encodable(claims.full(claim)), seen.uid, self.name_of(seen.uid))
        if not self.users.is_admin(seen.uid) and (stranger := self.users.objection(seen.uid)):
            return request._replace(problem=f"belongs to {user_name(seen.uid)}, {stranger}")
        if seen.links != 1:  # somebody else may have linked it here, perhaps long after it was meant
            return request._replace(problem=f"has {seen.links} hard links; a request has one")
        if seen.size > REQUEST_BYTES:
            return request._replace(problem=f"has {seen.size} bytes; at most {REQUEST_BYTES} are taken")
        return asked(request, seen.data)


def asked(request: Request, text: bytes) -> Request:
    """What a request's text asks for: `cancel: [3, train]`, `cancel: all` (mine) or `cancel: all-users`."""
    try:
        words = read_mapping(text)
    except InvalidTask as error:
        return request._replace(problem=error.message)
    if set(words) != {"cancel"}:
        return request._replace(problem="a request is `cancel:` and what to cancel")
    wanted = words["cancel"]
    if wanted in ("all", "all-users"):
        return request._replace(what="cancel", everything="mine" if wanted == "all" else "all")
    targets = wanted if isinstance(wanted, list) else [wanted]
    if not all(isinstance(t, (int, str)) and not isinstance(t, bool) for t in targets):
        return request._replace(what="cancel", problem="`cancel:` takes IDs, names or handles")
    return request._replace(what="cancel", targets=tuple(_target(str(t)) for t in targets))


def _target(word: str) -> int | str:
    return int(word) if is_digits(word) and len(word) <= ID_DIGITS else word


def summary(task: TaskSpec) -> Task:
    """What the scheduler and the listings need of a task."""
    return Task(
        num_nodes=task.num_nodes,
        setup=bool(task.setup),
        run=bool(task.run),
        restartable=task.restartable,
        demands=tuple(Demand(d.accelerator, d.milli, d.cpus_milli, d.memory_mb) for d in task.demands),
    )


def group_name(gid: int) -> str:
    """The name of a group, or the number where this host knows none."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
