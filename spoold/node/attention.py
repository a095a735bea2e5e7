"""What a runner's pass has to look at, by what woke it, and how soon it has to report.

Supervisors ring the bell with the key of their attempt, the disk tells that assigned.json may have changed: only what
that concerns is looked at then. Both are hints. By the clock, and once a second at least, everything is looked at: who
was killed rings no bell.
"""

from __future__ import annotations

import msgspec

from spool_layout.records import GONE, NodeStatus, Phase

EVERYTHING = 1.0  # seconds after which all is looked at again
FULL = 60_000  # bytes in a bell of 64 KiB that may have lost some
SOON = 0.1  # seconds within which is reported what nobody waits for: what was begun, read or forgotten
APART, MOST_APART = 0.00002, 0.095  # seconds for each attempt and each other one, and at most, between two reports
PART, MOST_PART = 0.01, 0.5  # the same of an interval in which a head looks once, for each attempt that still runs
AWAITED = frozenset({"ready", "exited", "ended", "lost", "never"})  # phases on which a head acts


class Attention:
    """Of one runner. At first, and where nobody says what woke it, all is looked at."""

    def __init__(self) -> None:
        self.everything = self.disk = True  # whether all is to be looked at; whether assigned.json is, among that
        self.told = True  # whether the disk told of that, so that it is to be read
        self.by_clock = True  # whether nobody woke us
        self._keys: frozenset[str] = frozenset()
        self._all_seen = float("-inf")

    def woken(self, now: float, by_disk: bool, bell: bytes) -> None:
        """The next pass was woken at `now` (monotonic clock), by the disk, by supervisors, or by neither."""
        self._keys = frozenset(bell.decode("ascii", "replace").split())
        self.told = by_disk
        told = by_disk or bool(self._keys)
        self.by_clock = not told
        self.everything = not told or len(bell) >= FULL or now - self._all_seen >= EVERYTHING
        self.disk = by_disk or self.everything
        if self.everything:
            self._all_seen = now

    def forget(self) -> None:
        """A pass has failed: the next one looks at everything, whoever wakes it."""
        self._all_seen = float("-inf")

    def is_due(self, key: str) -> bool:
        """Whether to look where an attempt stands."""
        return self.everything or key in self._keys


def awaited(new: NodeStatus, old: NodeStatus | None) -> bool:
    """Whether somebody waits for what has changed since the last report. False also where nothing has."""
    if is_other(new, old):
        return True
    assert old is not None
    return any(phase.phase in AWAITED and old.attempts.get(key) != phase for key, phase in new.attempts.items())


def is_other(new: NodeStatus, old: NodeStatus | None) -> bool:
    """Whether anything has changed but where attempts stand, and what was read."""
    return old is None or _without_attempts(new) != _without_attempts(old)


def apart(attempts: int) -> float:
    """Seconds from one report to the next where many attempts end one after the other: each report costs a tick of the
    head and several calls to the spool, and can tell of many. Of few each is told nearly at once, since slots wait."""
    return min(APART * attempts * attempts, MOST_APART)


def apart_by_looks(status: NodeStatus, interval: float) -> float:
    """The same where heads look for reports, at most so many seconds apart. The last attempts end alone."""
    running = sum(phase.phase not in GONE for phase in status.attempts.values())
    return interval * min(PART * running, MOST_PART)


def _without_attempts(status: NodeStatus) -> NodeStatus:
    """The report without what every new assigned.json changes."""
    nothing: dict[str, Phase] = {}
    return msgspec.structs.replace(status, attempts=nothing, seen=(0, 0), read=(0, 0), beat=0)
