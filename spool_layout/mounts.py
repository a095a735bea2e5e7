"""Which file system is under a spool, how it is mounted, and what can be said of that without measuring.

/proc/self/mountinfo tells type, source and options of every mount, for NFS also the options that client and server
agreed on. Two questions are answered from it: whether other hosts may change files here untold (`is_network`), and
which of the options take away what the spool relies on (`judge`). What only measuring can tell is told by
`skyspool doctor` and kept (diagnosis.py).
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from spool_layout.diagnosis import Finding, Verdict
from spool_layout.storage import read_without_delegations

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
CHECK: Final = "mount"


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


# ---- judging


class _Rule(NamedTuple):
    """What an option means for a spool."""

    option: str
    verdict: Verdict
    text: str
    change: str


_ANYWHERE = (_Rule("ro", "unsafe", "ro: nothing can be written", "mount it with rw"),)
_SOFT = "a call gives up when the server is away, and a write may be lost half way"
_LOCKS = "the spool needs no such lock, but jobs may (SQLite, HDF5)"
_NETWORK = (
    _Rule("soft", "unsafe", f"soft: {_SOFT}", "mount it with hard"),
    _Rule("softerr", "unsafe", f"softerr: {_SOFT}", "mount it with hard"),
    _Rule("nocto", "unsafe", "nocto: a file opened anew may show what it held a minute ago", "mount it without nocto"),
    _Rule("cache=loose", "unsafe", "cache=loose: old content of files is shown", "mount it with cache=strict"),
    _Rule("proto=udp", "unsafe", "UDP: data may be mixed up unseen", "mount it with proto=tcp"),
    _Rule("softreval", "slow", "softreval: old names are shown while the server is away", "mount it without softreval"),
    _Rule("noac", "slow", "noac: nothing is cached, so each look costs the server more", "mount it without noac"),
    _Rule("sync", "slow", "sync: each write waits for the server, also those of logs", "mount it without sync"),
    _Rule("nolock", "slow", f"nolock: locks keep to this host; {_LOCKS}", "mount it without nolock"),
    _Rule("local_lock=all", "slow", f"local_lock: locks keep to this host; {_LOCKS}", "mount it with local_lock=none"),
    _Rule("nobrl", "slow", f"nobrl: locks keep to this host; {_LOCKS}", "mount it without nobrl"),
)
_DISK = (
    _Rule("nobarrier", "slow", "nobarrier: a power loss may take what fsync promised", "mount it without nobarrier"),
    _Rule("barrier=0", "slow", "barrier=0: a power loss may take what fsync promised", "mount it with barrier=1"),
    _Rule("volatile", "slow", "volatile: fsync does nothing", "mount it without volatile"),
)
_IMPLIED = {"noac": "sync", "nolock": "local_lock=all"}  # the first brings the second along: told once


def judge(mount: Mount) -> list[Finding]:
    """What the type and the options alone say: one line for each thing amiss, or one that says that all is fine."""
    if not mount.kind:
        return [Finding(CHECK, "slow", "the file system under this directory is unknown", "mount /proc")]
    rules = _ANYWHERE + (_NETWORK if mount.network else _DISK)
    found = [rule for rule in rules if mount.has(rule.option)]
    implied = {_IMPLIED[rule.option] for rule in found if rule.option in _IMPLIED}
    lines = [Finding(CHECK, r.verdict, r.text, r.change) for r in found if r.option not in implied]
    if mount.kind in IN_MEMORY:
        lines.append(
            Finding(CHECK, "slow", f"{mount.kind}: in memory, nothing outlives a reboot", "use a directory on a disk")
        )
    return lines or [Finding(CHECK, "fine", _praise(mount))]


def _praise(mount: Mount) -> str:
    if mount.kind in ("nfs", "nfs4"):
        version = next((word for word in mount.options.split(",") if word.startswith("vers=")), "")
        return f"NFS{version.replace('vers=', ' ')}, hard, fresh at each open"
    if mount.network:
        return f"{mount.kind}, shared between hosts"
    return f"{mount.kind}, taken for a disk of this host alone"
