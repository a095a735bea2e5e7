"""The head's own claim directory, claims/EPOCH.TOKEN/, and what stands in it.

Files are moved in under names that are never used twice there: new-N-NAME (to be accepted), request-N-NAME (to be
carried out), ID.NAME (a waiting file that starts). So a name in a claim directory means one file for ever, and the
event that accepts a file can name it exactly.

What was claimed and not yet read and committed is remembered in `held`; a file that cannot be read now (EIO, a lease
that somebody else holds) stays there and is tried again.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from spool_layout.errors import Deposed
from spool_layout.leadership import Epoch
from spool_layout.storage import Disk, Seen

NAME_BYTES = 200  # of a claimed file's name: a prefix has to fit in front
NEW, REQUEST = "new", "request"
_CLAIMED = re.compile(r"^(new|request)-(\d+)-(.*)$", re.DOTALL)


class Ready(NamedTuple):
    """A complete file in a drop box, and what it was when looked at. seen: what it said, until it is read here."""

    name: str
    inode: int
    changed: float
    seen: Seen | None = None


def kind_of(claim: str) -> str:
    """NEW or REQUEST; "" for the file of an accepted job."""
    match = _CLAIMED.match(claim)
    return match[1] if match else ""


def dropped_name(claim: str) -> str:
    """NAME of new-N-NAME and request-N-NAME, as far as it was kept."""
    match = _CLAIMED.match(claim)
    return match[3] if match else claim


def is_removed(name: str) -> bool:
    """Whether a name is what an NFS client made of a file that was removed while a process on it had it open."""
    return name.startswith(".nfs")


def in_turn(claim: str) -> tuple[int, str]:
    """Sorts claims in the order in which they were taken."""
    match = _CLAIMED.match(claim)
    return (int(match[2]) if match else 0), claim


def shortened(name: str) -> str:
    """The end of a name, so that a prefix fits in front."""
    raw = os.fsencode(name)
    return name if len(raw) <= NAME_BYTES else raw[-NAME_BYTES:].decode("utf-8", "ignore")


class Claims:
    """One head's directory. held: what was taken and is not yet committed, with what it was in the drop box."""

    def __init__(self, disk: Disk, epoch: Epoch) -> None:
        self.disk, self.epoch = disk, epoch
        self.folder = os.path.basename(epoch.claims)
        self.held: dict[str, Ready | None] = {}
        self._count = 0

    def path(self, claim: str) -> str:
        """Where a claimed file stands."""
        return os.path.join(self.epoch.claims, claim)

    def full(self, claim: str) -> str:
        """EPOCH.TOKEN/CLAIM, which names the file among those of all heads."""
        return f"{self.folder}/{claim}"

    def take(self, kind: str, source: str, name: str, ready: Ready | None = None) -> str | None:
        """Move a file in: its name here. None: there was none at source."""
        self._count += 1
        claim = f"{kind}-{self._count}-{shortened(name)}"
        moved = self.disk.move(source, self.path(claim), ready.inode if ready and ready.inode else None)
        if not moved and claim not in self._listed():
            return None  # by a listing: after a lost reply the file is here all the same
        self.held[claim] = ready
        return claim

    def _listed(self) -> set[str]:
        try:
            return {entry.name for entry in self.disk.list(self.epoch.claims)}
        except FileNotFoundError as error:
            raise Deposed(f"{self.epoch.claims} is gone: a newer head removed it") from error

    def hand_out(self, claim: str) -> Ready | None:
        """What a held file was in the drop box; what it said is handed out once, then it is forgotten."""
        ready = self.held[claim]
        if ready is not None:
            self.held[claim] = ready._replace(seen=None)
        return ready

    def of_kind(self, kind: str) -> list[str]:
        """Held files of a kind, in the order in which they were taken."""
        return [claim for claim in self.held if kind_of(claim) == kind]

    def drop(self, claim: str) -> None:
        """It is no longer here."""
        self.held.pop(claim, None)
