"""`spoold fsck DIR [--repair]`: look several times, tell what stays so, mend it.

Exit codes: 0, nothing is wrong, or nothing is any more; 1, faults are left. Unlike fsck(8) of a file system it does not
tell "mended" by its code: after --repair a script wants to know whether it may go on.
"""

from __future__ import annotations

import json
import sys
import time

from spool_layout.paths import Spool
from spool_layout.settings import Settings, load
from spool_layout.storage import Disk
from spoold.account import settle
from spoold.fsck.facts import Facts, gather
from spoold.fsck.judging import Finding, judge
from spoold.fsck.mending import hold_lock, mend

LOOKS = 3  # of which each has to say the same
PAUSE = 1.0  # seconds between two: longer than any step of a head


def look(spool: Spool, disk: Disk, settings: Settings, looks: int = LOOKS) -> tuple[list[Finding], Facts]:
    """What is wrong and stays so; and the last look."""
    facts = gather(spool, disk, settings.id, settings.users, settings.max_file)
    found = judge(facts)
    for _ in range(looks - 1):
        if not found:
            break
        time.sleep(PAUSE)
        facts = gather(spool, disk, settings.id, settings.users, settings.max_file)
        again = set(judge(facts))
        found = [finding for finding in found if finding in again]
    return found, facts


def run_fsck(root: str, *, repair: bool, output: str) -> int:
    """`spoold fsck ROOT`. The exit code."""
    spool, disk = Spool(root), Disk()
    settings = load(spool, disk)
    settle(spool, settings)
    found, facts = look(spool, disk, settings)
    mended: list[Finding] = []
    if repair and found:
        lock = hold_lock(spool, settings)
        try:
            mended = mend(spool, disk, settings, damaged=bool(facts.damage) and "is missing" not in facts.damage)
        finally:
            lock.release()
        found, facts = look(spool, disk, settings)
    tell(spool, found, mended, output)
    return int(any(finding.fault for finding in found))


def tell(spool: Spool, found: list[Finding], mended: list[Finding], output: str) -> None:
    """The findings, on standard output."""
    faults = sum(finding.fault for finding in found)
    if output == "json":
        told = {"spool": spool.root, "sound": not faults, "findings": [f._asdict() for f in found]}
        json.dump({**told, "mended": [f._asdict() for f in mended]}, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    for finding in mended:
        print(f"mended      {finding.place}: {finding.text}")
    for finding in found:
        print(f"{'fault' if finding.fault else 'unfinished':11} {finding.place}: {finding.text}")
        print(f"            {'--repair: ' if finding.mend else ''}{finding.remedy}")
    print(f"{spool.root}: {faults} faults" if faults else f"{spool.root} is sound")
