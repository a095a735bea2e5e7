"""Cgroups: a directory of the kernel's for each attempt, in which its processes and all that they fork stay.

What can be had is found once, when a runner starts (hierarchies.py).

    skyspool-SPOOL-NODE-KEY     the cgroup of an attempt: in v2, and in v1 where memory is limited there

The supervisor names an attempt's cgroups in the marker, makes them when that is its own, and stays outside; the child
that becomes the job is forked into that of v2 (`fork_into`: moving a process takes an idle kernel 7 ms), or moves
itself in before anything else. Cut anywhere, nothing but an empty directory is left. The supervisor removes it at its
end, else whoever ends the attempt in its place, else the next starter (`tidy`).

A cgroup that cannot be made or entered after all costs the job nothing but what the cgroup was for: its processes are
found as they are elsewhere (containment.py).
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import signal
import sys
from typing import NamedTuple

from spoold.node.cgroupfs import keyed, kill_frozen, make, members, put, remove
from spoold.node.hierarchies import NONE, find
from spoold.node.rights import raised
from spoold.node.workplace import Attempt

KILL = "cgroup.kill"
PEAKS = ("memory.max_usage_in_bytes", "memory.memsw.max_usage_in_bytes")  # v1 no longer tells that a limit was reached
NEARLY = 0.9  # of a limit: what was asked for when it was reached is not in the peak
SYS_CLONE3, CLONE_INTO_CGROUP = 435, 1 << 33  # asm-generic/unistd.h (of all architectures), linux/sched.h


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


@functools.cache
def here() -> Place:
    """Where this process can make cgroups, or the one could that it was forked from."""
    with raised():
        return Place(*find())


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


def amount(size: int) -> str:
    """Bytes as people asked for them: 4 GB, 512 MB."""
    return f"{size / 2**30:g} GB" if size >= 1 << 30 else f"{size >> 20} MB"
