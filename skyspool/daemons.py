"""This host's head and node: starting them in the background, finding them, ending them.

They are started as `python -m spoold head DIR` and `python -m spoold node DIR`, each in a session of its own, so that
they outlive the terminal; what they say goes to a file in ~/.local/state/skyspool (XDG_STATE_HOME is honoured), whose
name holds the host's, since a home may be shared. They are found by what they write into the spool (heads/NAME.json,
nodes/NODE/status.json: host and process number), and nothing is signalled whose command line is not such a daemon's.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from skyspool.clusters import Cluster
from skyspool.heads import INTERVALS, RECORD_BYTES, heads, server_now
from skyspool.present import look
from spool_layout.errors import Damaged, SpoolError
from spool_layout.records import NodeStatus, decode
from spool_layout.storage import Disk

STARTING = 30.0  # seconds within which a daemon must show itself
KNOWN = 3.0  # seconds within which a head that leads takes in a new node
ENDING = 20.0  # seconds within which one must be gone after SIGTERM
POLL = 0.05
LOG_LINES = 12


class Daemon(NamedTuple):
    """A daemon of this host. kind: "head" or "node"; what: its role or its node name."""

    kind: str
    pid: int
    what: str


class NotStarted(SpoolError):
    """A daemon that was started did not show itself."""


def host() -> str:
    """What the daemons call this host."""
    return socket.gethostname()


def local_file(cluster: Cluster, name: str) -> str:
    """A file about this host's daemons of a spool, outside the spool."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "skyspool", f"{cluster.name}-{host()}-{name}")


def log_of(pid: int) -> str | None:
    """The file to which a process of this host says what it does; None where that is no file: a terminal, a journal."""
    try:
        place = os.readlink(f"/proc/{pid}/fd/2")
    except OSError:
        return None
    return place if os.path.isfile(place) else None


# ---- finding


def running(cluster: Cluster, disk: Disk) -> list[Daemon]:
    """This host's daemons that live, heads first."""
    found = [
        Daemon("head", head.status.pid, head.status.role) for head in heads(cluster, disk) if head.status.host == host()
    ]
    found += [
        Daemon("node", status.pid, status.node) for status, _ in node_statuses(cluster, disk) if status.host == host()
    ]
    return [daemon for daemon in found if is_daemon(daemon.pid, daemon.kind)]


def node_statuses(cluster: Cluster, disk: Disk) -> list[tuple[NodeStatus, float]]:
    """What each node said last, and when."""
    found = []
    try:
        names = sorted(entry.name for entry in disk.list(cluster.spool.nodes))
    except OSError:
        return []
    for name in names:
        path = cluster.spool.status(name)
        try:
            seen = disk.inspect(path, 64 * RECORD_BYTES)
            found.append((decode(seen.data, NodeStatus, path), seen.changed))
        except (OSError, Damaged):
            continue
    return found


def is_daemon(pid: int, kind: str) -> bool:
    """Whether a process of this host is `spoold KIND`, and no zombie."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    names = {os.path.basename(word) for word in words} | {os.path.basename(os.path.dirname(word)) for word in words}
    return b"spoold" in names and kind.encode() in words and state not in (b"Z", b"X")


# ---- starting


class Started(NamedTuple):
    """A daemon that was just started."""

    kind: str
    process: subprocess.Popen[bytes]
    log: str


def start(cluster: Cluster, kind: str, options: Sequence[str] = ()) -> Started:
    """Start a daemon in the background; it may not be ready yet."""
    log = local_file(cluster, f"{kind}.log")
    os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "spoold", kind, cluster.spool.root, *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
        )
    return Started(kind, process, log)


def await_all(cluster: Cluster, disk: Disk, started: list[Started], patience: float = STARTING) -> None:
    """Until each has shown itself in the spool. NotStarted where one ended or is too late, with its last words."""
    end = time.monotonic() + patience
    for daemon in started:
        while not shows_itself(cluster, disk, daemon):
            code = daemon.process.poll()
            if code is not None:
                raise NotStarted(
                    f"the {daemon.kind} ended at once with {code}:\n{last_words(daemon.log)}", f"less {daemon.log}"
                )
            if time.monotonic() > end:
                raise NotStarted(
                    f"the {daemon.kind} (pid {daemon.process.pid}) has not shown itself for "
                    f"{patience:.0f} s:\n{last_words(daemon.log)}",
                    f"less {daemon.log}",
                )
            time.sleep(POLL)


def shows_itself(cluster: Cluster, disk: Disk, daemon: Started) -> bool:
    """Whether the daemon wrote what it is, and lately."""
    pid = daemon.process.pid
    if daemon.kind == "head":
        return any(
            head.alive and head.status.pid == pid and head.status.host == host() for head in heads(cluster, disk)
        )
    now = server_now(cluster.spool, disk)
    return any(
        status.pid == pid and status.host == host() and now - seen < INTERVALS * max(1.0, status.interval)
        for status, seen in node_statuses(cluster, disk)
    )


def await_known(cluster: Cluster, disk: Disk) -> bool:
    """Until the ledger tells this host's nodes as up, and their GPUs: then jobs can be judged by it. False: too late.

    A head takes over from one that was killed only after the lock's threshold.
    """
    end = time.monotonic() + cluster.threshold + KNOWN
    while not _is_known(cluster, disk):
        if time.monotonic() > end:
            return False
        time.sleep(POLL)
    return True


def _is_known(cluster: Cluster, disk: Disk) -> bool:
    here = {daemon.what for daemon in running(cluster, disk) if daemon.kind == "node"}
    known = look(cluster, disk).state.nodes
    return all(
        (node := known.get(status.node)) is not None
        and node.state == "up"
        and {gpu.uuid for gpu in status.gpus} == {slot.gpu.uuid for slot in node.gpus if slot.present}
        for status, _ in node_statuses(cluster, disk)
        if status.node in here
    )


def last_words(log: str) -> str:
    """The end of a log."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            return "".join(f"  {line}" for line in file.readlines()[-LOG_LINES:]).rstrip("\n")
    except OSError:
        return ""


# ---- ending


def stop(daemons: list[Daemon], patience: float = ENDING) -> list[Daemon]:
    """SIGTERM to each, and wait; those that live on are given back."""
    for daemon in daemons:
        if is_daemon(daemon.pid, daemon.kind):
            os.kill(daemon.pid, signal.SIGTERM)
    end = time.monotonic() + patience
    left = daemons
    while left := [daemon for daemon in left if is_daemon(daemon.pid, daemon.kind)]:
        if time.monotonic() > end:
            break
        time.sleep(POLL)
    return left
