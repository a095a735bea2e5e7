"""Which processes belong to an attempt, and signalling them.

All that are in its cgroup, where it has one (cgroups.py). And, with one or without: while its supervisor lives, what is
below it: it is a subreaper, so nothing that the job starts leaves. Where the supervisor was killed, they are looked for
among all processes of the host: descendants of the recorded ones, those in their sessions, and those that carry the
attempt's mark, SKYSPOOL_ATTEMPT_DIR=<the attempt's local directory>, in the environment that they were started with.

What goes on by forking and ending may be gone before a list of processes has been worked off. The kernel ends it with
its cgroup. Without one its supervisor kills it each time that one of its ends wakes it; where that was killed, the
newest processes are looked at first, and again. Only what has also cleared its environment and left its session is not
found then: without a cgroup, nothing tells whose it is.

A process is known by pid and start time, and signalled through a pidfd, so that a pid that was given anew is never hit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from spoold.node.cgroups import Group
from spoold.node.rights import raised
from spoold.node.workplace import read

MARK = "SKYSPOOL_ATTEMPT_DIR"
SUPERVISOR = "skyspool-job"  # what supervisors call themselves
LOOKS = 5  # at which processes have come meanwhile
HAS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # not without CONFIG_PROC_CHILDREN


class Process(NamedTuple):
    """A process: pid and start time in clock ticks."""

    pid: int
    start: int


def below(pid: int, but: int = 0) -> list[Process]:
    """Every live process below one, itself left out. but: a child that is left out with all that is below it."""
    found: dict[int, Process] = {}
    for child in children(pid):
        if child != but:
            _add_tree(child, found)
    return list(found.values())


def of_attempt(directory: str, roots: Iterable[int]) -> list[Process]:
    """Every live process of an attempt whose supervisor was killed. directory: its own; roots: pids recorded for it."""
    roots = set(roots)
    found: dict[int, Process] = {}
    for root in roots:
        _add_tree(root, found)
    for pid in sightings(LOOKS):
        if pid not in found and (marked(pid, directory) or session(pid) in roots):
            _add_tree(pid, found)
    found.pop(os.getpid(), None)
    return [process for process in found.values() if process.pid > 1]


def of_groups(groups: Iterable[Group]) -> list[Process]:
    """Every live process in the cgroups of attempts."""
    pids = {pid for group in groups for pid in group.members()}
    return [found for pid in pids if (found := _live(pid, stat_fields(pid))) is not None]


def sightings(looks: int) -> Iterator[int]:
    """Every process of the host, the newest first, and then those that have come since, look by look."""
    known: set[int] = set()
    for _ in range(looks):
        pids = set(all_pids())
        yield from sorted(pids - known, reverse=True)
        known = pids


def of_node(spool_id: str, node: str) -> list[Process]:
    """Every live process of this host that runs or supervises an attempt of a node, whatever its local directory is:
    supervisors first, what is below them, and what carries a mark of the node."""
    place, found = f"/{spool_id}/node-{node}", dict[int, Process]()
    for pid in all_pids():
        words = (read(f"/proc/{pid}/cmdline") or "").split("\0")
        if "spoold.node.starter" in words and any(word.endswith(place) for word in words):
            _add_tree(pid, found)
    for pid in all_pids():
        if pid not in found and any(_is_of_node(environ, spool_id, place) for environ in _environs(pid)):
            _add_tree(pid, found)
    found.pop(os.getpid(), None)
    return list(found.values())


def is_supervisor(pid: int) -> bool:
    """Whether a process supervises an attempt, or was just forked by one that does."""
    words = (read(f"/proc/{pid}/cmdline") or "").split("\0")
    return "spoold.node.starter" in words and read(f"/proc/{pid}/comm") == f"{SUPERVISOR}\n"


def _is_of_node(environ: bytes, spool_id: str, place: str) -> bool:
    words = environ.split(b"\0")
    ours = f"SKYSPOOL_SPOOL_ID={spool_id}".encode() in words
    return ours and any(word.startswith(MARK.encode()) and f"{place}/attempts/".encode() in word for word in words)


def _add_tree(pid: int, found: dict[int, Process]) -> None:
    stack = [pid]
    while stack:
        pid = stack.pop()
        fields = stat_fields(pid)
        if pid in found or fields is None:
            continue
        if (process := _live(pid, fields)) is not None:
            found[pid] = process
        stack += children(pid)


def _live(pid: int, fields: list[str] | None) -> Process | None:
    if fields is None or (fields[0] in "ZX" and int(fields[17]) <= 1):  # num_threads: its main thread ended, others run
        return None
    return Process(pid, int(fields[19]))


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, ppid, pgrp, session, …"""
    text = read(f"/proc/{pid}/stat", at_once=True)
    return text[text.rindex(")") + 2 :].split() if text else None


def session(pid: int) -> int:
    """The session of a process; 0 where there is none."""
    fields = stat_fields(pid)
    return int(fields[3]) if fields else 0


def children(pid: int) -> list[int]:
    """Children of all threads of a process."""
    if not HAS_CHILDREN:
        return [child for child in all_pids() if (fields := stat_fields(child)) and int(fields[1]) == pid]
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
    mark = f"{MARK}={directory}".encode()
    return any(mark in environ.split(b"\0") for environ in _environs(pid))


def _environs(pid: int) -> Iterator[bytes]:
    """The environment of a process, by each of its threads: one that has ended shows none."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        try:
            with raised(), open(f"/proc/{pid}/task/{thread}/environ", "rb") as file:
                if environ := file.read():
                    yield environ
                    return
        except OSError:
            continue


def signal_process(process: Process, number: int) -> None:
    """Signal a process if it still is the one that was found."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        fields = stat_fields(process.pid)
        if fields and int(fields[19]) == process.start:
            with raised():
                signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)
