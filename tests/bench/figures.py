"""What the bench measures, and how it is shown: each figure of ours beside what the others give in the same run.

A contest runs everybody in turn, A B C A B C …, so that what the machine does meanwhile befalls all. A ratio is made
round by round, of two neighbours, and shown as its median and spread. Nothing here is ever asserted.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

OURS = "skyspool"


@dataclass
class Figure:
    """Values of every contestant, one a round. best: "high" or "low"; goal: in the issue's words."""

    name: str
    unit: str
    best: str
    values: dict[str, list[float]]
    goal: str = ""
    note: str = ""
    durability: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # contestant -> why it could not be had

    @property
    def others(self) -> list[str]:
        """Those who have values, the best one first."""
        names = [name for name in self.values if name != OURS and self.values[name]]
        return sorted(names, key=lambda name: statistics.median(self.values[name]), reverse=self.best == "high")

    def ratios(self, other: str) -> list[float]:
        """Ours by another's, round by round, but where theirs is nothing at all."""
        pairs = zip(self.values.get(OURS, []), self.values[other], strict=False)
        return [ours / theirs for ours, theirs in pairs if theirs]

    def plain(self) -> dict[str, object]:
        """For --json."""
        return {**self.__dict__, "ratios": {other: self.ratios(other) for other in self.others}}


def spread(values: list[float]) -> str:
    """Median and (min..max), in three digits."""
    if not values:
        return "-"
    middle = short(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({short(min(values))}..{short(max(values))})"


def short(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def contest(
    rounds: int, runs: dict[str, Callable[[], float]], missing: dict[str, str] | None = None
) -> dict[str, list[float]]:
    """Everybody once in each round. Who fails is out, and is told, in missing as well."""
    values: dict[str, list[float]] = {name: [] for name in runs}
    out: set[str] = set()
    for number in range(rounds):
        for name, run in runs.items():
            if name in out:
                continue
            try:
                values[name].append(run())
            except Exception as error:
                if name == OURS:
                    raise
                say(f"{name} is out: {error!r}")
                out.add(name)
                if missing is not None:
                    missing[name] = f"out in round {number + 1}: {shown(error)}"
        say(f"  round {number + 1}: " + ", ".join(f"{n} {short(v[-1])}" for n, v in values.items() if v))
    return values


def shown(error: Exception) -> str:
    """An error in a cell of the table."""
    return repr(error)[:200]


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not below this share of all."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def say(text: str) -> None:
    """How far the bench is, on stderr."""
    print(text, file=sys.stderr, flush=True)


def rows(figures: list[Figure]) -> list[tuple[str, ...]]:
    """The table: what, who, value, ours by theirs, what it keeps when the power goes, goal."""
    table: list[tuple[str, ...]] = [("figure", "who", "median (min..max)", "ours : theirs", "durable", "goal")]
    for figure in figures:
        title = f"{figure.name}, {figure.unit}" if figure.unit else figure.name
        ours = spread(figure.values.get(OURS, []))
        table.append((title, OURS, ours, "", figure.durability.get(OURS, ""), figure.goal))
        for position, other in enumerate(figure.others):
            mark = " best" if position == 0 and len(figure.others) > 1 else ""
            ratio = spread(figure.ratios(other)) + mark
            table.append(("", other, spread(figure.values[other]), ratio, figure.durability.get(other, ""), ""))
        table += [("", name, "-", "", f"not measured: {why}", "") for name, why in figure.missing.items()]
        if figure.note:
            table.append((f"  {figure.note}", "", "", "", "", ""))
    return table


def show(figures: list[Figure]) -> str:
    """The table as text."""
    table = rows(figures)
    widths = [max((len(row[i]) for row in table if row[1]), default=0) for i in range(6)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines)
