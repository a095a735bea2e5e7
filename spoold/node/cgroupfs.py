"""One cgroup, of v2 or of v1, by the files that the kernel has in its directory.

Each of them may be missing, since the kernel is older or the controller is another one's, and each may go at any moment
with the cgroup.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

from spoold.node.rights import raised
from spoold.node.workplace import read

SETTLING = 1.0  # seconds within which what was killed must be gone


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
