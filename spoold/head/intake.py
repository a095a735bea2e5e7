"""Looking at what users dropped: which files are complete, claiming them, reading them.

A file is taken in three steps. While it stands in pending/ (or requests/) it is only looked at: is it complete? Then it
is moved into the head's claim directory, where no later drop of the same name can take its place. There it is opened
once, without following links, and what that descriptor says is believed: its owner, its inode, its text.

Complete is what ends with YAML's own end mark `...`, or has been quiet for the settle time by the file server's clock;
an empty file never; on a local disk a file that somebody still has open for writing never.

Cut between the move and the commit: the file stands in the claim directory; the next head finds it there, sees that no
event knows it, and takes it to its own claim directory to be accepted from there (recover.py).
"""

from __future__ import annotations

import logging
import os
import pwd
import re
from collections.abc import Callable, Container
from typing import NamedTuple

from spool_layout import history
from spool_layout.paths import Spool, encodable, is_digits, is_passing, is_task_file
from spool_layout.records import Demand, Task
from spool_layout.settings import Settings
from spool_layout.storage import Disk, Entry, NotRegular, Seen
from spool_layout.taskfile import InvalidTask, TaskSpec, is_complete, parse_task, read_mapping
from spoold.core.model import NewFile, Request

log = logging.getLogger("spoold.head")

REQUEST_BYTES = 64 * 1024
NAME_BYTES = 200  # of a claimed file's name: a prefix has to fit in front
NEW, REQUEST = "new", "request"
_CLAIMED = re.compile(r"^(?:new|request)(\d*)-(.*)$", re.DOTALL)


class Ready(NamedTuple):
    """A complete file in a drop box, and what it was when looked at."""

    name: str
    inode: int
    changed: float


class Left(NamedTuple):
    """A name that is left where it is, and why."""

    name: str
    reason: str


def claim_name(kind: str, name: str, taken: Container[str]) -> str:
    """KIND-NAME, or KIND2-NAME … with the first number that is free; cut so that it stays a legal file name."""
    stem = os.fsdecode(os.fsencode(name)[-NAME_BYTES:])
    number = 1
    while (claim := f"{kind}{number if number > 1 else ''}-{stem}") in taken:
        number += 1
    return claim


def dropped_name(claim: str) -> str:
    """NAME of new-NAME, new2-NAME, request-NAME …"""
    match = _CLAIMED.match(claim)
    return match[2] if match else claim


def user_name(uid: int) -> str:
    """The name of a user, or the number where this host knows no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class Intake:
    """What a head remembers of the drop boxes between two looks: nothing that a restart could not do without."""

    def __init__(self, spool: Spool, disk: Disk, settings: Settings, local: bool, server_now: Callable[[], float]):
        self.spool, self.disk, self.settings, self.local = spool, disk, settings, local
        self.server_now = server_now
        self.told: set[tuple[str, str]] = set()  # names left alone, with the reason, that were reported

    # ---- which are complete

    def ready(self, folder: str, entries: list[Entry]) -> tuple[list[Ready], list[Left], float | None]:
        """Of the new names in a drop box: complete ones, ones left alone, and seconds until to look again."""
        found, left = [], []
        again: float | None = None
        for entry in entries:
            if is_passing(entry.name):
                continue
            verdict = self._look_at(os.path.join(folder, entry.name), entry.name)
            if isinstance(verdict, Ready):
                found.append(verdict)
            elif isinstance(verdict, Left):
                left.append(verdict._replace(name=encodable(verdict.name)))
            elif verdict is not None:
                again = verdict if again is None else min(again, verdict)
        return sorted(found, key=lambda f: (f.changed, f.name)), left, again

    def _look_at(self, path: str, name: str) -> Ready | Left | float | None:
        """Ready; Left; seconds until it may be ready; None: it is gone."""
        try:
            seen = self.disk.inspect(path, self.settings.max_file)
        except FileNotFoundError:
            return None
        except NotRegular as error:
            if "directory" in str(error.strerror):
                return Left(name, "a directory, not a task file; it is left where it is")
            return Ready(name, 0, 0.0)  # a link, FIFO or device: set aside, like any file that is no task
        except PermissionError:
            return Left(name, "cannot be read by the head; it is left where it is")
        if seen.size > self.settings.max_file or is_complete(seen.data):
            return Ready(name, seen.inode, seen.changed)
        return self._settled(path, name, seen)

    def _settled(self, path: str, name: str, seen: Seen) -> Ready | float:
        settle = self.settings.settle
        wait = seen.changed + settle - self.server_now()
        if seen.size == 0:
            return settle
        if wait > 0:
            return min(wait, settle)
        if self.local and self.disk.is_held_for_writing(path):
            return settle / 4
        return Ready(name, seen.inode, seen.changed)

    def news(self, left: list[Left]) -> list[Left]:
        """Those of the names left alone that were not reported yet."""
        fresh = [item for item in left if tuple(item) not in self.told]
        self.told = {tuple(item) for item in left}  # type: ignore[misc]
        return fresh

    # ---- reading what was claimed

    def read_new(self, claims: str, claim: str, ready: Ready | None) -> NewFile | None:
        """A claimed file as a task, or with what is wrong with it. None: it is gone. OSError: not readable now."""
        name = ready.name if ready else dropped_name(claim)  # a claim of an earlier head is cut to fit
        drop = encodable(name)
        try:
            seen = self.disk.inspect(os.path.join(claims, claim), self.settings.max_file)
        except FileNotFoundError:
            return None
        except NotRegular as error:
            return NewFile(claim, drop, os.getuid(), user_name(os.getuid()), 0, "", 0.0, problem=str(error.strerror))
        submitted = ready.changed if ready and ready.changed else seen.changed
        task, problem = self.judge(seen, name)
        return NewFile(
            claim,
            drop,
            seen.uid,
            user_name(seen.uid),
            seen.inode,
            history.digest(seen.data),
            submitted,
            task.name if task else "",
            summary(task) if task else None,
            problem,
        )

    def judge(self, seen: Seen, name: str) -> tuple[TaskSpec | None, str]:
        """A task, or why it is none."""
        if problem := self.objection(seen, name):
            return None, problem
        try:
            task = parse_task(seen.data, require_absolute_workdir=True)
        except InvalidTask as error:
            return None, error.message
        except Exception as error:  # a fault of ours: one file must not stop the tick for the others
            log.exception("%s cannot be judged", name)
            return None, f"cannot be read because of a fault in this program: {error!r}"
        if not task.run and not task.setup:
            return None, "has neither run nor setup commands: there is nothing to do"
        return task, ""

    def objection(self, seen: Seen, name: str) -> str:
        """What is wrong with a file before its text is looked at; "" for nothing."""
        limit = self.settings.max_file
        if not self.serves(seen.uid):
            return (
                f"belongs to {user_name(seen.uid)}, this spool serves {user_name(os.getuid())}: "
                "head and runners take only the files of the user whom they run as"
            )
        if seen.links != 1:
            return f"has {seen.links} hard links; a task file has one: copy it instead"
        if seen.size > limit:
            return f"has {seen.size} bytes; at most {limit} are taken (max_file in spool.yaml)"
        if not name.isprintable():
            return "its name holds control characters or bytes that are no UTF-8"
        if not is_task_file(name):
            return "its name does not end in .yaml"
        return ""

    def serves(self, uid: int) -> bool:
        """Whether this user's files are taken."""
        return uid == os.getuid() or user_name(uid) in self.settings.users

    def read_request(self, claims: str, claim: str) -> Request | None:
        """A claimed request. None: it is gone."""
        try:
            seen = self.disk.inspect(os.path.join(claims, claim), REQUEST_BYTES)
        except FileNotFoundError:
            return None
        except NotRegular as error:
            return Request(claim, encodable(claim), os.getuid(), user_name(os.getuid()), problem=str(error.strerror))
        key = f"{seen.inode}.{seen.modified_ns}.{encodable(dropped_name(claim))}"
        return parse_request(claim, key, seen, "" if self.serves(seen.uid) else "this spool does not serve its owner")


def parse_request(claim: str, key: str, seen: Seen, problem: str) -> Request:
    """`cancel: [3, train]`, `cancel: all` (mine) or `cancel: all-users`."""
    request = Request(claim, key, seen.uid, user_name(seen.uid), problem=problem)
    if problem:
        return request
    try:
        words = read_mapping(seen.data)
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
    return request._replace(what="cancel", targets=tuple(int(t) if is_digits(str(t)) else str(t) for t in targets))


def summary(task: TaskSpec) -> Task:
    """What the scheduler and the listings need of a task."""
    return Task(
        num_nodes=task.num_nodes,
        setup=bool(task.setup),
        run=bool(task.run),
        restartable=task.restartable,
        demands=tuple(Demand(d.accelerator, d.milli, d.cpus_milli, d.memory_mb) for d in task.demands),
    )
