"""Where this process can make cgroups: found out by trying, with nothing assumed of the host.

Where the hierarchies of v2 and of v1's memory controller are mounted, and which part of them is to be seen there, is in
/proc/self/mountinfo; where this process is in them, in /proc/self/cgroup. Neither is believed before this process is
listed there, a child could be made, and a process could move into it. So it does not matter whether v2 is mounted at
/sys/fs/cgroup or below it (hybrid), who gave the runner its cgroup, or which namespace hides what is above it.

They are made below the cgroup that the runner is in. In v2 a cgroup whose children have controllers holds no processes
of its own, so memory is to be had there only where the runner sits in the root of the hierarchy, or in a subgroup of
what it was delegated (systemd's DelegateSubgroup=): then they are made beside that subgroup. The runner moves neither
itself nor others out of the way: under systemd the unit could not be started again while its jobs run.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from spoold.node.cgroupfs import SETTLING, members, put, remove
from spoold.node.workplace import read

NONE = "no memory controller for this node"
SHARED = "its cgroup holds processes of its own: see CONTAINMENT in spoold(8)"
PROBE = "skyspool-probe-"  # and a pid
UNITS = (".service", ".scope", ".slice")  # what systemd calls its own cgroups


class Mount(NamedTuple):
    """A mounted hierarchy. root: the cgroup that is to be seen at `point`; controllers: of v1, and its options."""

    kind: str
    root: str
    point: str
    controllers: tuple[str, ...]


def find() -> tuple[str, str, str]:
    """Look below what this process can make cgroups: for processes, and with memory limited, directories, "" where
    there is none; and why memory is not limited, or ""."""
    found, own = mounts(read("/proc/self/mountinfo") or ""), memberships(read("/proc/self/cgroup") or "")
    processes = next((base for base in chain.from_iterable(map(bases, _own(found, own, ""))) if admits(base)), "")
    why = give_memory(processes) if processes else NONE
    if not why:
        return processes, processes, ""
    memory = next((directory for directory in _own(found, own, "memory") if admits(directory)), "")
    return processes, memory, "" if memory else why


def mounts(text: str) -> list[Mount]:
    """The hierarchies in a /proc/PID/mountinfo, the last mounted first: it lies above the others."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        dash = fields.index("-")
        if fields[dash + 1] in ("cgroup", "cgroup2"):
            options = tuple(fields[dash + 3].split(","))
            found.append(Mount(fields[dash + 1], _unescaped(fields[3]), _unescaped(fields[4]), options))
    return found[::-1]


def _unescaped(field: str) -> str:
    """Blanks and the like stand as \\040."""
    return re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), field)


def memberships(text: str) -> dict[str, str]:
    """Controller to cgroup, of a /proc/PID/cgroup; v2 stands under ""."""
    return {
        name: path for line in text.splitlines() for _, names, path in [line.split(":", 2)] for name in names.split(",")
    }


def directory_of(mount: Mount, path: str) -> str | None:
    """Where a cgroup is to be seen below a mount; None: nowhere. A path that begins with /.. is outside of what this
    process's cgroup namespace shows."""
    root = mount.root.rstrip("/")
    if (path != mount.root and not path.startswith(f"{root}/")) or "/.." in path:
        return None
    return os.path.normpath(mount.point + path[len(root) :])


def _own(found: list[Mount], own: dict[str, str], controller: str) -> Iterator[str]:
    """Directories of this process's cgroup in a hierarchy: where it is listed. controller: "": v2."""
    for mount in found:
        fits = controller in mount.controllers if controller else mount.kind == "cgroup2"
        directory = directory_of(mount, own[controller]) if fits and controller in own else None
        if directory and os.getpid() in members(directory, below=False):
            yield directory


def bases(own: str) -> Iterator[str]:
    """Below what to make cgroups in v2, the best first: what was delegated, where this process is in a subgroup of it;
    its own cgroup."""
    parent = os.path.dirname(own)
    if not own.endswith(UNITS) and is_delegated(parent) and not any(members(parent, below=False)):
        yield parent
    yield own


def is_delegated(directory: str) -> bool:
    """Whether systemd left a cgroup to its unit."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            continue
    return False


def admits(base: str) -> bool:
    """Whether a child can be made, and a process of ours can move into it."""
    probe = os.path.join(base, f"{PROBE}{os.getpid()}")
    try:
        os.mkdir(probe)
    except OSError:
        return False
    try:
        words = ["/bin/sh", "-c", 'exec 2> /dev/null; echo 0 > "$0/cgroup.procs"', probe]
        return os.waitpid(os.posix_spawn(words[0], words, {}), 0)[1] == 0
    finally:
        _discard(probe)


def _discard(probe: str) -> None:
    """Remove a probe, and those of processes that were killed meanwhile."""
    base, name = os.path.split(probe)
    for other in os.listdir(base):
        pid = other.removeprefix(PROBE)
        if other != name and other.startswith(PROBE) and not os.path.exists(f"/proc/{pid}"):
            remove(os.path.join(base, other))
    end = time.monotonic() + SETTLING
    while os.path.isdir(probe) and time.monotonic() < end:  # who has just ended may count for a moment still
        remove(probe)


def give_memory(base: str) -> str:
    """Let children of a cgroup of v2 have the memory controller. Why they cannot, or ""."""
    if "memory" not in (read(os.path.join(base, "cgroup.controllers")) or "").split():
        return NONE
    if "memory" in (read(os.path.join(base, "cgroup.subtree_control")) or "").split():
        return ""
    try:
        put(base, "cgroup.subtree_control", "+memory")
    except OSError as error:
        return SHARED if error.errno == errno.EBUSY else f"{base}: {error.strerror}"
    return ""
