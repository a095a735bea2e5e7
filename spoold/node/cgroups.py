"""Cgroups: a directory of the kernel's for each attempt, in which its processes and all that they fork stay.

What can be had is found once, when a runner starts (`find`), and nothing of it is assumed. Where the hierarchies of v2
and of v1's memory controller are mounted, and which part of them is to be seen there, stands in /proc/self/mountinfo;
where this process is in them, in /proc/self/cgroup. Neither is believed before this process is listed there, a child
could be made, and a process could move into it. So it does not matter whether v2 is mounted at /sys/fs/cgroup or below
it (hybrid), who gave the runner its cgroup, or which namespace hides what is above it.

    skyspool-SPOOL-NODE-KEY     the cgroup of an attempt: in v2, and in v1 where memory is limited there

They are made below the cgroup that the runner is in. In v2 a cgroup whose children have controllers holds no processes
of its own, so memory is to be had there only where the runner sits in the root of the hierarchy, or in a subgroup of
what it was delegated (systemd's DelegateSubgroup=): then they are made beside that subgroup. The runner moves neither
itself nor others out of the way: under systemd the unit could not be started again while its jobs run.

The supervisor names an attempt's cgroups in the marker, makes them when that is its own, and stays outside; the child
that becomes the job is forked into that of v2 (`fork_into`: moving a process takes an idle kernel 7 ms), or moves
itself in before anything else. Cut anywhere, nothing but an empty directory is left. The supervisor removes it at its
end, else whoever ends the attempt in its place, else the next starter (`tidy`).

A cgroup that cannot be made or entered after all costs the job nothing but what the cgroup was for: its processes are
found as they are elsewhere (containment.py).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from spoold.node.rights import raised
from spoold.node.workplace import Attempt, read

KILL = "cgroup.kill"
PEAKS = ("memory.max_usage_in_bytes", "memory.memsw.max_usage_in_bytes")  # v1 no longer tells that a limit was reached
NEARLY = 0.9  # of a limit: what was asked for when it was reached is not in the peak
NONE = "no memory controller for this node"
SHARED = "its cgroup holds processes of its own: see CONTAINMENT in spoold(8)"
PROBE = "skyspool-probe-"  # and a pid
UNITS = (".service", ".scope", ".slice")  # what systemd calls its own cgroups
SYS_CLONE3, CLONE_INTO_CGROUP = 435, 1 << 33  # asm-generic/unistd.h (of all architectures), linux/sched.h
SETTLING = 1.0  # seconds within which what was killed must be gone


class Group(NamedTuple):
    """The cgroups of one attempt: directories, "" where there is none; one and the same where v2 has memory.

    limit: bytes; 0: none."""

    processes: str = ""
    memory: str = ""
    limit: int = 0

    @property
    def directories(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys(filter(None, (self.processes, self.memory))))

    def make(self) -> Group:
        """Make them, and set the limit. What could be made; of what could not, a word on standard error."""
        made = {directory for directory in self.directories if make(directory, self.limit * (directory == self.memory))}
        return Group(self.processes * (self.processes in made), self.memory * (self.memory in made), self.limit)

    def fork(self) -> tuple[int, Group]:
        """fork(2), and what of them the child has still to enter. OSError: no process can be started."""
        if self.processes:
            try:
                with raised():
                    return fork_into(self.processes), self._replace(processes="", memory=self._only_memory())
            except OSError:
                pass  # before Linux 5.7, or a filter of system calls: as everywhere
        return os.fork(), self

    def _only_memory(self) -> str:
        return "" if self.memory == self.processes else self.memory

    def enter(self) -> None:
        """Move this process in. Where that cannot be, it stays outside, and says so on standard error."""
        for directory in self.directories:
            try:
                with raised():
                    put(directory, "cgroup.procs", "0")
            except OSError as error:
                print(f"{directory}: {error.strerror}; the job stays outside", file=sys.stderr, flush=True)

    def members(self) -> set[int]:
        """Pids of all that are in them, and in cgroups that these made below."""
        return {pid for directory in self.directories for pid in members(directory)}

    def is_empty(self) -> bool:
        """Whether nobody is in them. Zombies are not counted."""
        if keyed(self.processes, "cgroup.events").get("populated"):
            return False
        return self.memory == self.processes or next(members(self.memory), None) is None

    def kill(self) -> None:
        """SIGKILL all that are in them, those too that are being forked just now."""
        if not self.processes:
            return
        try:
            with raised():
                put(self.processes, KILL, "1")
        except FileNotFoundError:
            if os.path.isdir(self.processes):  # before Linux 5.14
                with raised():
                    kill_frozen(self.processes)
        except OSError:
            pass  # it has just been removed

    def remove(self) -> None:
        """Remove them, unless somebody is in them."""
        for directory in self.directories:
            with raised():
                remove(directory)

    def killed_for_memory(self) -> int:
        """How many processes of theirs the kernel killed for memory so far, as far as it tells."""
        return self._memory_events().get("oom_kill", 0)

    def why_killed(self) -> str:
        """For what memory that was, as the reason of a job's end."""
        counts = self._memory_events()
        peak = max(counts.get(name, 0) for name in PEAKS)
        if self.limit and (counts.get("oom") or peak >= NEARLY * self.limit):
            return f"was killed at its memory limit of {amount(self.limit)}"
        return "was killed as its node ran out of memory"

    def _memory_events(self) -> dict[str, int]:
        if not self.memory:
            return {}
        files = ("memory.events", "memory.oom_control", *PEAKS)
        return {key or name: count for name in files for key, count in keyed(self.memory, name).items()}


class Place(NamedTuple):
    """Below what cgroups of attempts can be made: directories, "" where none can. why: why memory is not limited."""

    processes: str = ""
    memory: str = ""
    why: str = NONE

    def group(self, attempt: str, memory_mb: int) -> Group:
        """The cgroups that an attempt is to have. attempt: its local directory; memory_mb: what it asked for, MiB."""
        prefix, key = prefix_of(os.path.dirname(os.path.dirname(attempt))), os.path.basename(attempt)
        wanted = self.memory and (memory_mb or self.memory == self.processes)
        return Group(
            os.path.join(self.processes, prefix + key) if self.processes else "",
            os.path.join(self.memory, prefix + key) if wanted else "",
            memory_mb << 20 if wanted else 0,
        )

    def groups(self, node: str) -> dict[str, Group]:
        """The cgroups that are there of a node's attempts, by their keys. node: its local directory."""
        prefix, keys = prefix_of(node), set[str]()
        for base in {self.processes, self.memory} - {""}:
            names = [name.removeprefix(prefix) for name in os.listdir(base) if name.startswith(prefix)]
            keys.update(name for name in names if re.fullmatch(r"\d+\.\d+", name))
        return {key: self.group(os.path.join(node, "attempts", key), 1) for key in sorted(keys)}


def prefix_of(node: str) -> str:
    """How the names of the cgroups of a node's attempts begin. node: its local directory, …/SPOOL-ID/node-NODE."""
    folder, name = os.path.split(node)
    return f"skyspool-{os.path.basename(folder)}-{name.removeprefix('node-')}-"


def tidy(node: str) -> None:
    """Remove what is left of the cgroups of attempts that are over or forgotten. node: its local directory."""
    for key, group in here().groups(node).items():
        names = Attempt(os.path.join(node, "attempts", key)).names()
        if not names or "outcome" in names:
            group.remove()


# ---- finding


class Mount(NamedTuple):
    """A mounted hierarchy. root: the cgroup that is to be seen at `point`; controllers: of v1, and its options."""

    kind: str
    root: str
    point: str
    controllers: tuple[str, ...]


@functools.cache
def here() -> Place:
    """Where this process can make cgroups, or the one could that it was forked from."""
    with raised():
        return find()


def find() -> Place:
    """Look where this process can make cgroups."""
    found, own = mounts(read("/proc/self/mountinfo") or ""), memberships(read("/proc/self/cgroup") or "")
    processes = next((base for base in chain.from_iterable(map(bases, _own(found, own, ""))) if admits(base)), "")
    why = give_memory(processes) if processes else NONE
    if not why:
        return Place(processes, processes, "")
    memory = next((directory for directory in _own(found, own, "memory") if admits(directory)), "")
    return Place(processes, memory, "" if memory else why)


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


# ---- a cgroup


def fork_into(directory: str) -> int:
    """os.fork, with the child in a cgroup of v2 from its first moment on. OSError: it was not forked.

    Only where one thread runs: what the C library does for others in a fork is left out; Python's own part is not.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        wanted = (ctypes.c_uint64 * 11)(CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, descriptor)
        ctypes.pythonapi.PyOS_BeforeFork()
        pid: int = _SYSCALL(SYS_CLONE3, wanted, ctypes.sizeof(wanted))
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
    finally:
        os.close(descriptor)
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
    return pid


_SYSCALL = ctypes.PyDLL(None, use_errno=True).syscall  # with the interpreter held, as a fork needs it
_SYSCALL.restype = ctypes.c_long
_SYSCALL.argtypes = (ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t)


def put(directory: str, name: str, text: str) -> None:
    """Write to a file of a cgroup."""
    descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def keyed(directory: str, name: str) -> dict[str, int]:
    """What a file of a cgroup counts, by its keys; a lone number stands under "". Empty where there is no such file."""
    if not directory:
        return {}
    try:
        lines = (read(os.path.join(directory, name), at_once=True) or "").splitlines()
    except OSError:  # ENODEV: it is being removed
        return {}
    return {key.strip(): int(value) for line in lines for key, _, value in [line.rpartition(" ")]}


def members(directory: str, below: bool = True) -> Iterator[int]:
    """Pids of a cgroup, with those of the cgroups below it; none of other pid namespaces, which are told as 0."""
    for path, names, _ in os.walk(directory):
        try:
            yield from filter(None, map(int, (read(os.path.join(path, "cgroup.procs")) or "").split()))
        except OSError:
            pass  # it is being removed; or of threads only: what they are threads of is listed above
        if not below:
            names.clear()


def make(directory: str, size: int) -> bool:
    """Make a cgroup whose memory is limited. size: bytes; 0: not limited. Whether that was done."""
    try:
        with raised():
            try:
                os.mkdir(directory)
            except FileExistsError:
                pass  # of a starter that was killed
            if size:
                set_limit(directory, size)
    except OSError as error:
        print(f"{directory}: {error.strerror}; the job goes without", file=sys.stderr, flush=True)
        return False
    return True


def set_limit(directory: str, size: int) -> None:
    """Limit the memory of a cgroup, swap included where it is counted. size: bytes."""
    if os.path.exists(os.path.join(directory, "memory.max")):
        put(directory, "memory.max", str(size))
        swap, most = "memory.swap.max", 0
    else:
        put(directory, "memory.limit_in_bytes", str(size))
        swap, most = "memory.memsw.limit_in_bytes", size
    if os.path.exists(os.path.join(directory, swap)):
        put(directory, swap, str(most))


def remove(directory: str) -> None:
    """Remove a cgroup and those below it, as far as nobody is in them."""
    for path, _, _ in os.walk(directory, topdown=False):
        try:
            os.rmdir(path)
        except OSError:
            pass


def kill_frozen(directory: str) -> None:
    """SIGKILL all that are in a cgroup of a kernel that cannot do it in one go: frozen they fork nothing, and die."""
    end = time.monotonic() + SETTLING
    try:
        put(directory, "cgroup.freeze", "1")
    except OSError:
        pass  # before Linux 5.2: as fast as we can
    while keyed(directory, "cgroup.events").get("populated") and time.monotonic() < end:
        for pid in members(directory):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    try:
        put(directory, "cgroup.freeze", "0")
    except OSError:
        pass


def amount(size: int) -> str:
    """Bytes as people asked for them: 4 GB, 512 MB."""
    return f"{size / 2**30:g} GB" if size >= 1 << 30 else f"{size >> 20} MB"
