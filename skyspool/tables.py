"""Tables as `sky queue` prints them: no borders, left aligned, two spaces after each column.

Piped, a table is plain text and nothing is cut off. On a terminal it is coloured (unless NO_COLOR says otherwise) and
fitted to the width: columns give way in the order that the table itself names. Colour never tells anything alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

GAP = "  "
COLUMNS = 80  # of a terminal that does not tell
COLOURS = {
    "RUNNING": "green",
    "SETTING_UP": "cyan",
    "PENDING": "yellow",
    "FAILED": "red",
    "FAILED_SETUP": "red",
    "FAILED_DRIVER": "red",
    "CANCELLED": "magenta",
    "SUCCEEDED": "blue",
    "up": "green",
    "down": "red",
    "stopped": "yellow",
    "lost contact": "yellow",
    "refused": "red",
}


def one_line(text: str) -> str:
    """Somebody's text as one line: no control characters, lines joined."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in "; ".join(text.splitlines()))


class Table(NamedTuple):
    """Headings and rows of equal length."""

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def without(self, heading: str) -> Table:
        """The table without one column, if it has it."""
        if heading not in self.headings:
            return self
        at = self.headings.index(heading)
        return Table(self.headings[:at] + self.headings[at + 1 :], [row[:at] + row[at + 1 :] for row in self.rows])

    def changed(self, heading: str, change: Callable[[str], str]) -> Table:
        """The table with the cells of one column changed, if it has it."""
        if heading not in self.headings:
            return self
        at = self.headings.index(heading)
        return self._replace(rows=[(*row[:at], change(row[at]), *row[at + 1 :]) for row in self.rows])

    def widths(self) -> list[int]:
        """Of each column, in characters."""
        return [max(map(len, column)) for column in zip(self.headings, *self.rows, strict=True)]

    @property
    def width(self) -> int:
        """Of the widest line."""
        return 1 + sum(self.widths()) + len(GAP) * (len(self.headings) - 1)


def plain(table: Table) -> str:
    """The table as text, one line a row."""
    table = _seen(table)
    line = " " + GAP.join(f"%-{width}s" for width in table.widths())
    return "\n".join([(line % row).rstrip() for row in (table.headings, *table.rows)])


def _seen(table: Table) -> Table:
    """The table with what is no character to be seen made one: a name may hold anything."""
    return table._replace(rows=[r if "".join(r).isprintable() else tuple(map(one_line, r)) for r in table.rows])


def fitted(table: Table, width: int, steps: Sequence[Callable[[Table], Table]]) -> Table:
    """The table after as many of the steps as it needs to be no wider than `width`."""
    for step in steps:
        if table.width <= width:
            break
        table = step(table)
    return table


def cut(text: str, width: int) -> str:
    """The text in at most `width` characters, with an ellipsis where some are missing."""
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"


def scrolls(lines: int) -> bool:
    """Whether so many lines are more than a terminal shows at once, a line for the prompt aside."""
    return sys.stdout.isatty() and lines >= os.get_terminal_size(sys.stdout.fileno()).lines > 0


def show(table: Table, steps: Sequence[Callable[[Table], Table]] = ()) -> None:
    """Print a table on stdout."""
    if not sys.stdout.isatty():
        print(plain(table))
        return
    table = fitted(_seen(table), os.get_terminal_size(sys.stdout.fileno()).columns or COLUMNS, steps)
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        print(plain(table))
    else:
        _draw(table)


def _draw(table: Table) -> None:
    """On a terminal, with colours."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    for heading, width in zip(table.headings, table.widths(), strict=True):
        drawn.add_column(heading, no_wrap=True, min_width=width)
    for row in table.rows:
        drawn.add_row(*(Text(cell, style=COLOURS.get(cell.split(" (")[0], "")) for cell in row))
    console = Console(highlight=False, markup=False, emoji=False, width=table.width + len(GAP))  # never to be shrunk
    console.print(Padding(drawn, (0, 0, 0, 1), expand=False), crop=False, soft_wrap=True)
