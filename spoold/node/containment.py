"""Which processes belong to an attempt, and ending them.

Three ways to find them, all used together:

- descendants of its recorded processes;
- children of the starter (the subreaper that orphans fall to) and their descendants, if they carry the attempt's mark
in
  their environment or are in its session;
- where the starter that spawned the attempt is dead, every process of the host that carries the mark.

The mark is SKYSPOOL_ATTEMPT_DIR=<the attempt's local directory>, which is in no other process's environment. A process
is known by pid and start time, and signalled through a pidfd, so that a pid that was given anew is never hit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from spoold.node.workplace import read

MARK = "SKYSPOOL_ATTEMPT_DIR"


class Process(NamedTuple):
    """A process: pid and start time in clock ticks."""

    pid: int
    start: int


def of_attempt(directory: str, roots: Iterable[int], starter: int | None) -> list[Process]:
    """Every live process of the attempt with this directory. roots: pids recorded for it; starter: pid if it lives."""
    roots = list(roots)
    found: dict[int, Process] = {}
    for root in roots:
        _add_tree(root, found)
    for pid in children(starter) if starter is not None else all_pids():
        if pid not in found and (marked(pid, directory) or session(pid) in roots):
            _add_tree(pid, found)
    found.pop(os.getpid(), None)
    return [process for process in found.values() if process.pid > 1]


def _add_tree(pid: int, found: dict[int, Process]) -> None:
    stack = [pid]
    while stack:
        pid = stack.pop()
        fields = stat_fields(pid)
        if pid in found or fields is None:
            continue
        if fields[0] not in "ZX":
            found[pid] = Process(pid, int(fields[19]))
        stack += children(pid)


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, ppid, pgrp, session, …"""
    text = read(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2 :].split() if text else None


def session(pid: int) -> int:
    """The session of a process; 0 where there is none."""
    fields = stat_fields(pid)
    return int(fields[3]) if fields else 0


def children(pid: int) -> list[int]:
    """Children of all threads of a process."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []
    for thread in threads:
        found += map(int, (read(f"/proc/{pid}/task/{thread}/children") or "").split())
    return found


def all_pids() -> Iterator[int]:
    """Every process of the host."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def marked(pid: int, directory: str) -> bool:
    """Whether a process carries the attempt's mark in the environment that it was started with."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{MARK}={directory}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def signal_process(process: Process, number: int) -> None:
    """Signal a process if it still is the one that was found."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        fields = stat_fields(process.pid)
        if fields and int(fields[19]) == process.start:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)
