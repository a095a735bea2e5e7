"""Making a failing plan smaller: leave out faults, deeds, heads and nodes as long as a run still fails in the same way.

A run with one part less takes other turns, so this is a search that may miss: what is left is small, not the smallest.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.simulation.cluster import Cluster, Outcome
from tests.simulation.plan import DAY, Plan

RUNS = 250  # at most
LINES = 60  # of the story


def run(plan: Plan) -> Outcome:
    """One run of a plan. Cycles are collected only when it is over, on the way that costs a tenth of its time; and only
    among what the run has made (freeze): a tool for tests holds much else."""
    gc.disable()
    gc.freeze()
    try:
        return Cluster(plan).run()
    finally:
        gc.enable()
        gc.collect()
        gc.unfreeze()


def kind(outcome: Outcome) -> str:
    """What went wrong first, without names and numbers; "" for nothing."""
    if not outcome.faults:
        return ""
    return re.sub(r"[0-9]+|'.*'|\{.*\}|\[.*\]|@\w+|\b[a-e]\b", "", outcome.faults[0].partition("\n")[0])[:60]


class Shrinker:
    """One search."""

    def __init__(self, failed: Outcome) -> None:
        self.best, self.wanted, self.left = failed, kind(failed), RUNS

    def smallest(self) -> Outcome:
        """The smallest failing run that was found."""
        self.shorter()
        before = None
        while before is not self.best and self.left > 0:
            before = self.best
            for part in ("faults", "deeds"):
                self.without(part)
        return self.best

    def _fails(self, plan: Plan) -> bool:
        if self.left <= 0:
            return False
        self.left -= 1
        outcome = run(plan)
        if kind(outcome) != self.wanted:
            return False
        self.best = outcome
        return True

    def shorter(self) -> None:
        """End it soon after what went wrong."""
        for share in (0.25, 0.5, 0.75):
            days = self.best.plan.days * share
            if self._fails(until(self.best.plan, days)):
                return

    def without(self, part: str) -> None:
        """Leave out ever smaller pieces of a list."""
        size = len(getattr(self.best.plan, part))
        while size:
            for piece in self._pieces(part, size):
                self._fails(piece())
            size = size // 2

    def _pieces(self, part: str, size: int) -> Iterator[Callable[[], Plan]]:
        start = 0
        while start < len(getattr(self.best.plan, part)):
            items = getattr(self.best.plan, part)
            left = items[:start] + items[start + size :]
            yield lambda left=left: _replaced(self.best.plan, part, left)
            if getattr(self.best.plan, part) == items:
                start += size


def _replaced(plan: Plan, part: str, items: Any) -> Plan:
    return plan._replace(**{part: items})


def until(plan: Plan, days: float) -> Plan:
    """The same, over sooner."""
    return plan._replace(
        days=days,
        deeds=tuple(deed for deed in plan.deeds if deed.at < days * DAY),
        faults=tuple(fault for fault in plan.faults if fault.at < days * DAY),
    )


def story(outcome: Outcome) -> str:
    """A failing run, to be read: what it was made of, what went wrong, what happened last."""
    plan = outcome.plan
    parts = [
        f"seed {plan.seed}, {plan.days:g} days: nodes {plan.nodes}, heads on {', '.join(plan.heads)}"
        f"{f' (cron: {plan.cron[0]})' if plan.cron else ''}, NFS {plan.version}, caches {plan.cached:.0f} s",
        *sorted(str(part) for part in (*plan.faults, *plan.deeds)),
        "",
        *outcome.faults[:5],
        "",
        *outcome.story[-LINES:],
    ]
    return "\n".join(parts)
