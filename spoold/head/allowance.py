"""How much more of one user is taken now: jobs that wait, requests in a minute. 0 in spool.yaml: as many as there are.

What is above waits where it stands, in pending/ or requests/, and is taken when there is room; nothing is refused for
coming in numbers (docs/decisions/0009-limits.md). limits.py says the same to clients.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque

from spool_layout.limits import MINUTE, pending_of
from spool_layout.replay import State
from spool_layout.users import user_name

log = logging.getLogger("spoold.head")


class Pending:
    """Jobs of each user that wait. most: so many of one user may."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._count: Counter[int] = Counter()

    def count(self, state: State) -> None:
        """Take in the present state."""
        self._count = pending_of(state) if self.most else Counter()

    def note(self, uid: int) -> None:
        """One more was taken."""
        self._count[uid] += 1

    def may(self, uid: int) -> bool:
        """Whether one more of this user may be taken."""
        return not self.most or self._count[uid] < self.most


class PerMinute:
    """Requests of each user that were taken in the last minute. most: so many of one user may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: dict[int, deque[float]] = {}

    def note(self, uid: int) -> None:
        """One more was taken."""
        self._taken.setdefault(uid, deque()).append(time.monotonic())

    def may(self, uid: int) -> bool:
        """Whether one more of this user may be taken."""
        times = self._taken.get(uid)
        while times and time.monotonic() - times[0] >= MINUTE:
            times.popleft()
        return not self.most or not times or len(times) < self.most

    def again(self, uids: set[int]) -> float | None:
        """Seconds until one more of one of these users may be taken."""
        firsts = [times[0] for uid in uids if (times := self._taken.get(uid))]
        return max(0.0, min(firsts) + MINUTE - time.monotonic()) if firsts else None


class HeldBack:
    """Whose files wait for a limit; says in the log when that begins and ends."""

    def __init__(self, what: str) -> None:
        self.what = what  # "files in pending/ of %s wait: …"
        self.uids: set[int] = set()

    def are(self, uids: set[int]) -> None:
        """Take in whose files wait now."""
        for uid in sorted(uids - self.uids):
            log.warning(self.what, user_name(uid))
        for uid in sorted(self.uids - uids):
            log.info("nothing of %s waits for a limit any more", user_name(uid))
        self.uids = uids
