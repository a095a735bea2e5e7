"""Whether a head may lead on this host's mount: asked once, before it stands by for the lock.

Two things are asked, and neither costs more than reading a small file: what the mount's options say now
(spool_layout/mounts.py), and what `skyspool doctor` measured on this host, if it was this mount (diagnosis.py). Where
that is unsafe the head refuses, unless it is told to lead all the same.
"""

from __future__ import annotations

import logging
import shlex
import socket

from spool_layout import diagnosis, mounts
from spool_layout.diagnosis import Finding
from spool_layout.errors import Damaged, UnsafeMount
from spool_layout.mounts import Mount
from spool_layout.paths import Spool
from spool_layout.storage import Disk

log = logging.getLogger("spoold.head")


def admit(spool: Spool, disk: Disk, *, force: bool) -> None:
    """UnsafeMount where a head should not lead here. force: only a warning is logged."""
    mount = mounts.mount_of(spool.root)
    troubles = _troubles(spool, disk, mount)
    if not troubles:
        return
    if force:
        for finding in troubles:
            log.warning("leads all the same (--force): %s: %s", finding.check, finding.line)
        return
    raise UnsafeMount(
        "\n".join(f"{spool.root} is unsafe ({finding.check}): {finding.line}" for finding in troubles),
        f"skyspool doctor {shlex.quote(spool.root)}      # when that is done; spoold head --force leads all the same",
    )


def _troubles(spool: Spool, disk: Disk, mount: Mount) -> list[Finding]:
    now = [finding for finding in mounts.judge(mount) if finding.verdict == "unsafe"]
    return now + [finding for finding in _measured(spool, disk, mount) if finding not in now]


def _measured(spool: Spool, disk: Disk, mount: Mount) -> list[Finding]:
    """What makes it unsafe by what was measured on this host, on this mount."""
    try:
        found = diagnosis.of_host(spool, disk, socket.gethostname())
    except Damaged as error:
        log.warning("what the doctor found on this host cannot be read: %s", error)
        return []
    if found is None or not found.applies(mount.kind, mount.source, mount.options):
        return []
    return found.refusals
