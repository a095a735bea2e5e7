"""When a spool counts as full: while there is still room for the jobs that run to end and report.

Below the reserve nothing new is submitted or accepted, so that what is left serves events, reports and outcomes. What
is refused stays where it is. Quotas do not show here; they show as EDQUOT, which every caller tells as well.
"""

from __future__ import annotations

from spool_layout.storage import Space

BYTES = 16 << 20  # kept free; of a small file system, a twentieth
INODES = 200  # kept free: a job that ends needs a handful


def lack(space: Space) -> str:
    """What a spool's file system lacks to take new jobs, as half a sentence; "" where it lacks nothing."""
    kept = min(BYTES, space.total // 20)
    if space.free < kept:
        return f"{space.free >> 10} KiB are free, and {kept >> 10} KiB are kept for the jobs that run"
    if space.inodes < min(INODES, space.inodes_total // 20):
        return f"{space.inodes} more files can be made, and {INODES} are kept for the jobs that run"
    return ""
