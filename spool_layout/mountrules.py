"""Which mount options take away what the spool relies on, and what to mount with instead: mounts.judge."""

from __future__ import annotations

from typing import Final, NamedTuple

from spool_layout.diagnosis import Finding, Verdict
from spool_layout.mounts import IN_MEMORY, Mount

CHECK: Final = "mount"


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
