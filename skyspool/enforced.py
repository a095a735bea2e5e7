"""What nodes hold jobs to, and by what, as they say it themselves: one line for all that say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spool_layout.records import Enforced

NAMED = 40  # columns of names; more nodes than that are counted


def enforced_lines(told: Mapping[str, Enforced]) -> list[str]:
    """For people. told: by node; one that says nothing, since its program is older, is left out."""
    nodes: dict[Enforced, list[str]] = {}
    for node, what in told.items():
        if what.processes:
            nodes.setdefault(what, []).append(node)
    return [line for what, names in nodes.items() for line in _lines(what, names)]


def _lines(what: Enforced, names: list[str]) -> list[str]:
    where = ", ".join(names)
    where = where if len(where) <= NAMED else f"{len(names)} nodes"
    line = f"Enforced: processes by {what.processes}, memory by {what.memory or 'nothing'} ({where})"
    return [line, f"          {what.why}"] if what.why else [line]


def enforced_data(what: Enforced | None) -> dict[str, Any] | None:
    """For -o json; None: the node says nothing of it."""
    if what is None or not what.processes:
        return None
    return {"processes": what.processes, "memory": what.memory or None, "why": what.why or None}
