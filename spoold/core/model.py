"""What a head saw in one look at the spool: the input of a decision, as plain data."""

from __future__ import annotations

from typing import NamedTuple

from spool_layout.records import NodeStatus, Task


class NewFile(NamedTuple):
    """A file in the head's own claim directory, read: a task to be accepted, or what is wrong with it."""

    claim: str  # where it stands: EPOCH.TOKEN/new-N-NAME
    drop: str  # the name under which it was dropped
    uid: int
    user: str
    inode: int
    digest: str
    submitted: float  # change time when it was dropped; order of acceptance
    name: str = ""  # the task's own name, "" for none
    task: Task | None = None
    problem: str = ""  # why it is no task
    aside: str = ""  # the name it gets in rejected/


class Change(NamedTuple):
    """What happened to the file of a waiting job."""

    id: int
    deleted: bool = False
    inode: int = 0
    digest: str = ""
    name: str = ""
    task: Task | None = None
    problem: str = ""


class Request(NamedTuple):
    """A request in the head's own claim directory, read."""

    claim: str
    key: str  # tells this file from any other, now and later
    uid: int
    user: str
    what: str = ""  # "cancel"
    targets: tuple[int | str, ...] = ()  # IDs, names or handles
    everything: str = ""  # "mine" or "all"
    problem: str = ""


class Report(NamedTuple):
    """What a node said last, and how well it is heard."""

    status: NodeStatus
    heard: str  # "up", "lost contact" or "down", by the head's own clock


class Silent(NamedTuple):
    """A node of the ledger that says nothing now: its status.json is missing or cannot be read."""

    node: str
    heard: str  # as in Report
    listed: bool  # whether it has a directory in nodes/


class Look(NamedTuple):
    """One look."""

    now: float  # by the file server's clock
    day: str  # the same as a UTC date
    new: tuple[NewFile, ...] = ()  # in the order in which they shall be accepted
    changes: tuple[Change, ...] = ()
    requests: tuple[Request, ...] = ()
    reports: tuple[Report, ...] = ()
    silent: tuple[Silent, ...] = ()
    ahead: frozenset[str] = frozenset()  # nodes that have seen a later epoch: the spool may just have gone back


class Policy(NamedTuple):
    """The settings that decisions go by."""

    uid: int = 0  # of the head
    admins: frozenset[int] = frozenset()  # who may cancel everybody's jobs, as root and the head's user may
    unsatisfiable_after: float = 600.0
