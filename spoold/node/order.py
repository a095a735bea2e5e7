"""What a supervisor needs to run one rank of an attempt: the accepted text, and everything around it, as plain data."""

from __future__ import annotations

import os
import pwd
import time
from typing import Any

import msgspec

from spool_layout import history
from spool_layout.paths import Spool, run_log, setup_log
from spool_layout.records import Assignment
from spool_layout.settings import Settings
from spool_layout.storage import Disk, NotRegular
from spool_layout.taskfile import InvalidTask, TaskSpec, parse_task
from spoold.node.environment import Host, Owner, run_environment, setup_environment
from spoold.node.gitlogin import has_login
from spoold.node.inventory import Inventory
from spoold.node.rcfile import RCFILE
from spoold.node.workplace import Workplace

TOGETHER = 1.0  # seconds


class Orders:
    """Makes the orders of one node."""

    def __init__(
        self, spool: Spool, disk: Disk, settings: Settings, node: str, place: Workplace, inventory: Inventory
    ) -> None:
        self.spool, self.disk, self.settings, self.node = spool, disk, settings, node
        self.place, self.inventory = place, inventory
        self.rcfile = self._write_rcfile()
        self._asked, self._as_given = float("-inf"), False  # when it was asked what logs/ gives; the answer

    def _write_rcfile(self) -> str:
        path = os.path.join(self.place.path, "bashrc")
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(RCFILE)
        os.replace(f"{path}.new", path)
        return path

    def text_of(self, assignment: Assignment) -> TaskSpec | str:
        """The task whose digest was accepted, or why it is not there. OSError: it cannot be told now."""
        path = self.spool.started(assignment.file)

        def is_accepted(data: bytes) -> bool:
            return history.digest(data) == assignment.digest

        try:
            data = self.disk.text(path, self.settings.max_file, is_accepted)
        except FileNotFoundError:
            if assignment.file in {entry.name for entry in self.disk.list(self.spool.running)}:
                raise  # NFS tells of a missing name for a while after it is there: the next pass tries again
            return "its file in running/ was deleted before it started"
        except (NotRegular, PermissionError) as error:
            return f"its file in running/ cannot be read: {error.strerror}"
        if not is_accepted(data):
            return "its file in running/ was changed after it was accepted"
        try:
            return parse_task(data)
        except InvalidTask as error:
            return error.message

    def make(self, key: str, a: Assignment, task: TaskSpec) -> dict[str, Any]:
        """The order itself; who takes it adds version and lapses.

        In a spool of several users it says whose job it is, and what the owner needs to complete it (owner.py): of the
        commands only which there are.
        """
        logs = self.spool.log_dir(a.id, a.attempt)
        host = self._host(key)
        rank = (a.rank, len(a.nodes), self.node)
        order: dict[str, Any] = {
            "spool_id": self.settings.id,
            "node": self.node,
            "shell": self.settings.shell,
            "rcfile": self.rcfile,
            "restartable": a.restartable,
            "memory_mb": a.memory_mb if self.settings.memory == "enforced" else 0,
            "run_log": os.path.join(logs, run_log(*rank)),
            "scripts": {stage: text for stage, text in (("setup", task.setup), ("run", task.run)) if text},
            "log_modes": self._gives_modes(),
        }
        if task.setup:
            order["setup_log"] = os.path.join(logs, setup_log(*rank))
        if self.place.shared:
            told = {"uid": a.uid, "assignment": msgspec.to_builtins(a), "host": host._asdict()}
            with_login = task.git is not None and has_login(task.git.url)
            order["scripts"] = dict.fromkeys(order["scripts"], "")
            return {**order, **told, "max_file": self.settings.max_file, "login": with_login}
        clone = os.path.join(logs, f"workdir-{a.rank}")
        login = os.path.join(host.attempt_dir, "git-config")  # on the local disk, and gone with the attempt
        return {**order, **of_task(a, task, owner_of(os.getuid()), host, clone, login)}

    def _gives_modes(self) -> bool:
        """Whether a log has the mode with which it is made; asked once for jobs that begin together."""
        now = time.monotonic()
        if now - self._asked >= TOGETHER:
            self._asked, self._as_given = now, self.disk.gives_modes(self.spool.logs)
        return self._as_given

    def _host(self, key: str) -> Host:
        return Host(
            self.node,
            self.settings.name,
            self.spool.root,
            self.settings.id,
            {gpu.uuid: gpu.index for gpu in self.inventory.gpus},
            self.settings.gpu_ids == "uuid" or not self.inventory.indexed,
            os.path.join(os.path.dirname(__file__), "wrappers"),
            self.place.attempt(key).path,
        )


def of_task(a: Assignment, task: TaskSpec, owner: Owner, host: Host, clone: str, login: str) -> dict[str, Any]:
    """What an order says of a task: variables, workdir, mounts. clone: where a workdir from git goes; login: where what
    nobody may see of its address does."""
    told: dict[str, Any] = {
        "workdir": clone if task.git else expand(task.workdir or "~", owner.home),
        "run_env": run_environment(a, task, owner, host),
        "file_mounts": {expand(t, owner.home): expand(s, owner.home) for t, s in task.file_mounts.items()},
        "own": [*task.envs, *task.secrets],
    }
    if task.setup:
        told["setup_env"] = setup_environment(a, task, owner, host)
    if task.git:
        told["git"] = {"url": task.git.url, "ref": task.git.ref, "login": login}
    return told


def owner_of(uid: int) -> Owner:
    """A user as the password database knows them."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Owner(uid, str(uid), "/", "/bin/bash")
    return Owner(uid, entry.pw_name, entry.pw_dir, entry.pw_shell)


def expand(path: str, home: str) -> str:
    """`~` and `~/…` are the owner's home."""
    return home + path[1:] if path == "~" or path.startswith("~/") else path
