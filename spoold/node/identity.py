"""Which machine this is, and that a node name belongs to it.

A node name is bound to the machine that used it first, by nodes/NODE/owner.json, put there if absent. Two machines with
one name would take each other's work; so the second is refused, and told where the first one is.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import socket
import time

from spool_layout.errors import Taken, UsageError
from spool_layout.paths import Spool, is_node_name
from spool_layout.records import NodeOwner, NodeStatus, decode, encode
from spool_layout.storage import Disk
from spoold.local import boot_id
from spoold.node.workplace import Workplace, boot_time, read, read_json, write

LONGEST_WATCH = 30.0  # seconds that a node's beat is watched


@functools.cache
def machine_id() -> str:
    """What tells this machine from others: machine-id(5) and the host name (clones share the first)."""
    said = (read("/etc/machine-id") or "").strip()
    return hashlib.sha256(f"skyspool {said} {socket.gethostname()}".encode()).hexdigest()[:32]


def node_name(given: str | None) -> str:
    """The node's name: `given`, else the first part of the host's name."""
    name = given or socket.gethostname().split(".")[0]
    if not is_node_name(name):
        raise UsageError(f"{name!r} is no name for a node", "letters, digits, '.', '_' and '-': --name NODE")
    return name


def bind(spool: Spool, disk: Disk, node: str) -> None:
    """Bind the name to this machine. Taken where it belongs to another one."""
    disk.make_dir(spool.node(node))
    mine = NodeOwner(machine_id(), socket.gethostname())
    path = spool.owner(node)
    if disk.publish_new(path, encode(mine)):
        return
    data = disk.read(path) or (disk.list(spool.node(node)) and disk.read(path))  # NFS believes again after a listing
    if not data:
        raise OSError(errno.ESTALE, "is there and cannot be read", path)
    owner = decode(data, NodeOwner, path)
    if owner.machine != mine.machine:
        raise Taken(
            f"the node name {node!r} belongs to host {owner.host}",
            f"start this one under another name (--name NODE), or, if {owner.host} is gone for good, remove {path}",
        )


def refuse_second(spool: Spool, disk: Disk, said: NodeStatus, place: Workplace) -> None:
    """Taken where the runner that wrote this status.json lives: it is not ours, since its local state is another one.

    On this machine, in this boot, its process tells. Elsewhere (a clone of this machine, a container with a process
    list of its own) only its beat can: it is watched for a while, that of one which cron drives from run to run.
    """
    elsewhere = said.machine != machine_id() or said.boot != boot_id()
    where = f"host {said.host}" if elsewhere else "this host"
    if beats(spool, disk, said) if elsewhere or not is_runner(said.pid) else True:
        raise Taken(
            f"the node {said.node!r} already has a runner on {where}, pid {said.pid}, with local state of its own",
            "stop it, or start this one under another name: spoold node DIR --name NAME",
        )
    if (left := silence_left(place, said)) > 0:
        raise Taken(
            f"the node {said.node!r} is driven by cron on {where}, with local state of its own; this one takes over "
            f"when that has been silent for {left:.0f} s more",
            "stop that one and wait, or start this one under another name: spoold node DIR --name NAME",
        )


def silence_left(place: Workplace, said: NodeStatus) -> float:
    """Seconds for which a node that cron drives has to be silent yet before it is believed to be gone.

    Since when its beat has not moved is kept in our own local state, so each of our runs goes on from the last one.
    """
    if said.left or said.driven != "once":
        return 0.0
    path = os.path.join(place.path, "rival")
    seen = {"boot": boot_id(), "memory": said.memory, "beat": said.beat}
    noted = read_json(path) or {}
    if {**noted, "at": 0} != {**seen, "at": 0}:
        noted = {**seen, "at": boot_time()}
        write(path, noted)
    return max(said.timeout, 3 * said.interval) - (boot_time() - float(noted["at"]))


def is_runner(pid: int) -> bool:
    """Whether a process of this host is a runner."""
    line = (read(f"/proc/{pid}/cmdline") or "").split("\0")
    return any("spoold" in word for word in line) and "node" in line


def beats(spool: Spool, disk: Disk, said: NodeStatus) -> bool:
    """Whether a node's beat moves within three of its intervals. One that cron drives is not waited for here."""
    if said.left or said.driven == "once":
        return False
    end = time.monotonic() + min(3 * said.interval, LONGEST_WATCH)
    while time.monotonic() < end:
        time.sleep(0.25)
        data = disk.read(spool.status(said.node))
        if data is not None and decode(data, NodeStatus, said.node).beat != said.beat:
            return True
    return False
