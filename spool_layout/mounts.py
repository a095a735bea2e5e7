"""Which file system is under a spool, how it is mounted, and what can be said of that without measuring.

/proc/self/mountinfo tells type, source and options of every mount, for NFS also the options that client and server
agreed on. Two questions are answered from it: whether other hosts may change files here untold (`is_network`), and
which of the options take away what the spool relies on (`judge`, by mountrules.py). What only measuring can tell is
told by `skyspool doctor` and kept (diagnosis.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from spool_layout.storage import read_without_delegations

if TYPE_CHECKING:
    from spool_layout.diagnosis import Finding

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
        "glusterfs",
        "afs",
        "9p",
        "hostfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.juicefs",
        "orangefs",
        "pvfs2",
        "panfs",
        "wekafs",
    }
)
OF_ONE_KERNEL: Final = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "tmpfs", "ramfs", "overlay"}
)
IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})


class Mount(NamedTuple):
    """What is mounted under a path. options: of the mount and of its file system, joined by commas. "": unknown."""

    kind: str
    options: str
    source: str
    point: str

    @property
    def network(self) -> bool:
        """Whether changes made by other hosts may come here untold."""
        return self.kind in NETWORK_FILE_SYSTEMS

    @property
    def of_one_kernel(self) -> bool:
        """Whether surely no other kernel has it mounted, and this one's locks (flock) hold for all who have."""
        return self.kind in OF_ONE_KERNEL

    def has(self, option: str) -> bool:
        """Whether an option stands among those of the mount, as it is written there: "soft", "proto=udp"."""
        return option in self.options.split(",")


def mount_of(path: str) -> Mount:
    """What is mounted under a path, links followed."""
    path = os.path.realpath(path)
    best = Mount("", "", "", "")
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                mount = _parsed(line)
                if (path + "/").startswith(mount.point.rstrip("/") + "/") and len(mount.point) >= len(best.point):
                    best = mount  # a later line of the same point lies above the earlier one
    except OSError:
        pass
    return best


def _parsed(line: str) -> Mount:
    fields = line.split()
    dash = fields.index("-")
    options = dict.fromkeys([*fields[5].split(","), *fields[dash + 3].split(",")])
    return Mount(fields[dash + 1], ",".join(options), _unescaped(fields[dash + 2]), _unescaped(fields[4]))


def _unescaped(field: str) -> str:
    """Blanks, tabs, newlines and backslashes stand as \\040 and the like."""
    return field.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in field else field


def is_network(path: str) -> bool:
    """Whether changes made by other hosts may come to this path untold."""
    return mount_of(path).network


def read_on(root: str) -> Mount:
    """What is mounted under a spool that this process is about to read; and read there as its kind wants it."""
    mount = mount_of(root)
    if mount.kind == "nfs4":
        read_without_delegations(root)
    return mount


def judge(mount: Mount) -> list[Finding]:
    """What the type and the options alone say: one line for each thing amiss, or one that says that all is fine."""
    from spool_layout import mountrules  # no client needs them

    return mountrules.judge(mount)
