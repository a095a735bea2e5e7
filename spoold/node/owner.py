"""In the forked child of a spool of several users: turning into the job's owner.

Until it has turned, the child has the account's rights (rights.py), and takes the owner's for two fixed steps: to make
the log, and the file in which the job's container wrappers make notes. Both are made by their owner and by nobody else:
what the account had made it could have open still. The log is made in logs/.new, where nobody can list names, and moved
by the account to logs/ID, where nobody else can write; so it is the owner's, whole and at its place, or not there.

From then on the child is the owner and nobody else, for good. What the job is it reads from the file that was accepted,
which must be the owner's: the order, which the account wrote, says only which file that is, and what was granted.

When the job is over, what its clone's login was kept in is removed, as its owner again: by who supervised the attempt,
or ended it, as the last thing that this process does.
"""

from __future__ import annotations

import ctypes
import os
import platform
import stat
import sys
from typing import Any

import msgspec

from spool_layout import history
from spool_layout.becoming import Account, account_of, become
from spool_layout.paths import Spool
from spool_layout.records import Assignment
from spool_layout.storage import Disk
from spool_layout.taskfile import TaskSpec, parse_task
from spool_layout.users import is_system
from spoold.node import gitlogin
from spoold.node.environment import Host
from spoold.node.order import of_task, owner_of
from spoold.node.rights import acting_as, post
from spoold.node.unfit import Unfit
from spoold.node.workplace import Attempt

CLONES = ".skyspool"  # in the owner's home
TAKEN = ("node", "shell", "setup_log")  # of an order: all else is made anew, by what the accepted text says
KEYCTL = {"x86_64": 250, "aarch64": 219}  # number of keyctl(2)
JOIN_SESSION_KEYRING = 1  # linux/keyctl.h
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def owner_to_be(order: dict[str, Any]) -> Account:
    """Whom a job runs as. Unfit for root, system accounts, the spool's own, and whom this host does not know."""
    uid = order.get("uid")
    if not isinstance(uid, int) or is_system(uid) or uid == post().account.uid:
        raise Unfit(f"no job runs as user {uid}: that is root, a system account or the spool's own")
    try:
        return account_of(uid)
    except KeyError as error:
        raise Unfit(f"this host knows no user with ID {uid}") from error


def become_owner(order: dict[str, Any]) -> None:
    """The owner from here on, and nothing of whoever started us. Unfit, PermissionError."""
    become(owner_to_be(order))
    number = KEYCTL.get(platform.machine())
    if number:  # root's keys are no matter of the job's
        ctypes.CDLL(None).syscall(number, JOIN_SESSION_KEYRING, None)


def turn(attempt: Attempt, order: dict[str, Any], stage: str) -> int:
    """Make the log, then become the owner. The log's descriptor. Unfit, OSError."""
    owner = owner_to_be(order)
    log = make_log(order[f"{stage}_log"], owner)
    make_notes(attempt, owner)
    become_owner(order)
    return log


def make_log(path: str, owner: Account) -> int:
    """A new log of the owner's, open to be appended to. Unfit where something stands there."""
    made = os.path.join(Spool(post().spool).new_logs, os.urandom(16).hex())
    with acting_as(*owner):
        log = os.open(made, CREATE | os.O_APPEND, 0o640)
        os.fchmod(log, 0o640)
    info = os.fstat(log)
    if info.st_uid != owner.uid or info.st_nlink != 1 or not os.path.samestat(info, os.lstat(made)):
        raise Unfit(f"{path}: was tampered with while it was made")
    _make_folders(os.path.dirname(path))
    if os.path.lexists(path):
        raise Unfit(f"{path}: is there already")
    os.rename(made, path)
    if not os.path.samestat(info, os.lstat(path)):
        os.unlink(path)
        raise Unfit(f"{path}: was tampered with while it was made")
    return log


def _make_folders(folder: str) -> None:
    """logs/ID, and logs/ID/attempt-N below it, which have to be the account's."""
    above = [] if os.path.basename(folder).isdigit() else [os.path.dirname(folder)]
    for directory in (*above, folder):
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            info = os.lstat(directory)
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != post().account.uid:
                raise Unfit(f"{directory}: is not a directory of the spool's own") from None


def make_notes(attempt: Attempt, owner: Account) -> None:
    """The file `containers`, empty: the owner's to write, and the account's to see whether there is anything in it."""
    gid = post().account.gid
    path = attempt.file("containers")
    try:
        with acting_as(owner.uid, gid, (gid,)):
            os.close(os.open(path, CREATE, 0o640))
    except FileExistsError:
        if os.lstat(path).st_uid != owner.uid:  # of the stage before, it is the owner's
            raise Unfit(f"{path}: is somebody else's") from None


def complete(attempt: Attempt, order: dict[str, Any]) -> dict[str, Any]:
    """As the owner: the order with what the accepted text says. Unfit, InvalidTask, OSError."""
    assignment = msgspec.convert(order["assignment"], Assignment)
    task = accepted(assignment, order["max_file"])
    owner = owner_of(os.getuid())
    host = Host(**order["host"])._replace(
        spool=post().spool,
        spool_id=attempt.spool_id,
        wrappers=os.path.join(os.path.dirname(__file__), "wrappers"),
        attempt_dir=attempt.path,
    )
    clone = clone_of(attempt, owner.home, assignment.rank)
    taken = {name: order[name] for name in TAKEN if name in order}
    scripts = {"setup": task.setup, "run": task.run}
    return {**taken, **of_task(assignment, task, owner, host, clone, login_of(clone)), "scripts": scripts}


def clone_of(attempt: Attempt, home: str, rank: int) -> str:
    """Where a workdir from git goes."""
    return os.path.join(home, CLONES, attempt.spool_id, f"{attempt.key}-{rank}")


def login_of(clone: str) -> str:
    """Where what nobody may see of its address does, for as long as the job runs."""
    return f"{clone}.git-config"


def forget_login(attempt: Attempt, order: dict[str, Any]) -> None:
    """Nothing of the job is left: become its owner, for good, and remove the login. Where that cannot be (a home that
    does not answer), it is told in the starter's log."""
    try:
        become_owner(order)
        rank = int(order["assignment"]["rank"])
        gitlogin.forget(login_of(clone_of(attempt, owner_of(os.getuid()).home, rank)))
    except (Unfit, OSError) as error:
        print(f"the login to the clone of job {attempt.key} stays: {error}", file=sys.stderr, flush=True)


def accepted(assignment: Assignment, limit: int) -> TaskSpec:
    """The task that was accepted, by its owner's own file."""
    if os.path.basename(assignment.file) != assignment.file:
        raise Unfit("its file has no name")
    path = Spool(post().spool).started(assignment.file)
    seen = Disk().inspect(path, limit)
    if seen.uid != os.getuid():
        raise Unfit("its file in running/ is somebody else's")
    if history.digest(seen.data) != assignment.digest:
        raise Unfit("its file in running/ was changed after it was accepted")
    return parse_task(seen.data)
