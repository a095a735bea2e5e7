"""Modes of a spool's directories in both modes of use. `init` makes them so, `doctor` and `spoold fsck` look.

single: what holds task files is its user's alone. multi: users put files into the drop boxes and cannot list them, so
that nobody learns a name before its file is accepted; the sticky bit keeps them from each other's files, the setgid bit
gives the account's group to what they drop. All else is the account's to write and everybody's to read.
"""

from __future__ import annotations

import os

from spool_layout.paths import Spool

PRIVATE = ("tmp", "pending", "requests", "claims")  # hold task files, with their secrets
DROP = 0o3733
BOXES = ("tmp", "pending", "requests", os.path.join("logs", ".new"))  # of multi


def wanted(spool: Spool, users: str) -> dict[str, int]:
    """Every directory that a spool has, relative to it (parents first), with its mode. users: as in spool.yaml."""
    places = [os.path.relpath(path, spool.root) for path in spool.directories]
    if users == "multi":
        places.append(os.path.relpath(spool.new_logs, spool.root))
    return {place: mode_of(place, users) for place in places}


def mode_of(place: str, users: str) -> int:
    """The mode of one of them."""
    if users == "multi" and place in BOXES:
        return DROP
    return 0o700 if place in PRIVATE else 0o755


def trouble(place: str, mode: int, users: str) -> str:
    """What is wrong with the mode that a directory has, for people; "" for nothing. A closer one is the admin's wish,
    but for a drop box that users have to write to."""
    want = mode_of(place, users)
    if want == DROP:
        if mode & 0o044:
            return "others may look into it"
        return "" if mode == want else "not everybody can drop files, or not safely"
    if mode & ~want & 0o077:
        return "others may look into it" if place in PRIVATE else "others may write to it"
    if users == "multi" and want & ~mode & 0o555:
        return "users cannot read it"
    return ""
