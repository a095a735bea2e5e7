"""Whether a node is heard. Pure: the caller says what time it is on its own monotonic clock.

A node lives while its beat counter moves, by the observer's clock; no two hosts' clocks are compared. T is the larger
of the setting and three of the runner's own longest intervals (a runner driven by cron beats once a minute).

    up              its beat moved less than T minus the margin ago
    lost contact    since then it is quiet, but less than T: its supervisors have ended what may run elsewhere
    down            quiet for T: its jobs may be given up

What was observed, and since when, may be kept between runs of `spoold head --once` (`remember`, `recall`). An observer
that has not yet seen a beat move takes a report that is younger than T, by the file server's clock, for a sign of life,
but never an old one for a sign of death: then the node stays what the ledger says.
"""

from __future__ import annotations

from typing import NamedTuple

from spool_layout.records import NodeStatus


class Heard(NamedTuple):
    """The last beat of a node, and since when (seconds of the observer's monotonic clock) it is the last."""

    beat: int
    incarnation: int
    since: float
    moved: bool  # this observer has seen it move, or saw it young
    limit: float  # T for this node, seconds


class Hearing:
    """What one observer heard."""

    def __init__(self, timeout: float, margin: float) -> None:
        self.timeout, self.margin = timeout, margin
        self.heard: dict[str, Heard] = {}
        self._expected: float | None = None  # by when the observer will look again

    def limit(self, status: NodeStatus) -> float:
        """T for this node, seconds: never less than what its runner goes by, whose settings may be others'."""
        return max(self.timeout, status.timeout, 3 * status.interval)

    def expect(self, by: float) -> None:
        """The observer will look by then, on its clock. If it comes later, a file server held it up (`_excuse`)."""
        self._expected = by

    def _excuse(self, now: float) -> None:
        """Time in which the observer was kept from looking counts for nobody: the nodes may have been kept from
        beating just as well. Waiting longer is always safe: their own limit runs from their last renewal."""
        if self._expected is not None and now - self._expected > self.margin:
            late = now - self._expected
            self.heard = {node: heard._replace(since=heard.since + late) for node, heard in self.heard.items()}
            self._expected = now

    def judge(self, status: NodeStatus, age: float, now: float, recorded: str) -> str:
        """ "up", "lost contact" or "down". age: of status.json by the server's clock; recorded: what the ledger
        says."""
        self._excuse(now)
        last = self.heard.get(status.node)
        if last is None or (last.beat, last.incarnation) != (status.beat, status.incarnation):
            limit = self.limit(status)
            last = Heard(status.beat, status.incarnation, now, last is not None or age < limit, limit)
            self.heard[status.node] = last
        return self._verdict(last, now, recorded)

    def miss(self, node: str, now: float, recorded: str) -> str:
        """The same for a node whose status.json is missing or cannot be read now: unknown is not dead, for T."""
        self._excuse(now)
        last = self.heard.setdefault(node, Heard(-1, 0, now, False, self.timeout))
        return self._verdict(last, now, recorded)

    def _verdict(self, last: Heard, now: float, recorded: str) -> str:
        quiet = now - last.since
        if quiet >= last.limit:
            return "down"
        if not last.moved:
            return recorded or "down"
        return "up" if quiet < last.limit - self.margin else "lost contact"

    def next_change(self, now: float) -> float:
        """Seconds until some node may change from up to lost contact or to down; a minute where none may."""
        times = [h.since + t - now for h in self.heard.values() for t in (h.limit - self.margin, h.limit)]
        return min((t for t in times if t > 0), default=60.0)

    def slack(self) -> float:
        """Seconds for which no node is missed though nobody reads what it says: of the time after which one is, what
        its own longest interval (a third of T, at most) leaves."""
        limit = min([self.timeout, *(heard.limit for heard in self.heard.values())])
        return max(0.0, limit - self.margin - limit / 3)

    def remember(self) -> dict[str, Heard]:
        """What to keep until the next run; times are of a clock that does not stop between runs (CLOCK_BOOTTIME)."""
        return dict(self.heard)

    def recall(self, kept: dict[str, Heard]) -> None:
        """Take up what an earlier run on this host, in this boot, had observed."""
        self.heard = dict(kept)
