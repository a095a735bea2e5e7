"""/proc of a host, as far as the product reads it: which processes there are, whose children, with what marks."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tests.simulation.local import Node

if TYPE_CHECKING:
    from tests.simulation.hosts import Host
    from tests.simulation.world import Process

MOMENT = 0.001  # seconds that a look for children takes: some look until nothing new comes


def listdir(host: Host, path: str) -> list[str]:
    """Names in /proc and in /proc/PID/task."""
    words = path.strip("/").split("/")
    if len(words) == 1:
        return [str(pid) for pid in host.processes]
    _find(host, words[1], path)
    return [words[1]]


def file(host: Host, path: str) -> Node:
    """A file in it, as it is now."""
    node = Node(host.world.now)
    node.data = read(host, path)
    return node


def read(host: Host, path: str) -> bytes:
    """What such a file says."""
    words = path.strip("/").split("/")
    process = _find(host, words[1], path)
    what = words[-1]
    if what == "stat":
        return _stat(process).encode()
    if what == "children":
        host.world.pass_time(MOMENT)
        return " ".join(str(child.pid) for child in process.children).encode()
    if what == "environ":
        return "\0".join(process.environ).encode()
    assert what == "cmdline", path
    return "\0".join(process.command).encode() if process.alive else b""


def _find(host: Host, pid: str, path: str) -> Process:
    process = host.processes.get(int(pid)) if pid.isdigit() else None
    if process is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return process


def _stat(process: Process) -> str:
    """proc(5): state, ppid, pgrp, session; num_threads is field 18 after the name, starttime 20."""
    state = "S" if process.alive else "Z"
    parent = process.parent.pid if process.parent is not None else 1
    before = [state, str(parent), str(process.pid), str(process.pid), *["0"] * 13, "1", "0", str(process.start)]
    return f"{process.pid} ({process.name.replace(')', '')}) {' '.join(before)} 0 0"
