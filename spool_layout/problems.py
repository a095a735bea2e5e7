"""What is wrong with a file that a person wrote: every problem at once, each with its place and what to do.

A path says where a value stands: words and numbers from the top, such as ("resources", "any_of", 0, "cpus"). Places
form the same tree as the values. A problem whose own place is not known (what is missing has none) gets the nearest
one above it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from spool_layout.errors import SpoolError

Path = tuple[str | int, ...]

MOST = 50  # problems that are told; more help nobody, and a hostile file has as many as it likes
LONGEST = 60  # characters of a word or value that a message repeats


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a task file. line, column: from 1."""

    message: str
    key: str = ""
    line: int | None = None
    column: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{where}{self.key + ': ' if self.key else ''}{self.message}{f' ({self.hint})' if self.hint else ''}"


class InvalidTask(SpoolError):
    """A file that is no task. problems: all of them; message: one a line."""

    fault = "user"

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class Place(NamedTuple):
    """Where a key or an item stands, from 1, and the places inside its value."""

    line: int
    column: int
    inner: Places


Places = dict[str | int, Place]


class Problems:
    """Collects problems while a file is read."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.found: list[Problem] = []
        self.untold = 0

    def add(self, path: Path, message: str, hint: str = "", hidden: bool = False) -> None:
        """Note a problem with the value at path. hidden: the path's last step is not repeated, it may hold a value."""
        if len(self.found) >= MOST:
            self.untold += 1
            return
        problem = Problem(message, dotted(path[:-1] if hidden else path), *self._where(path), hint)
        if problem not in self.found:
            self.found.append(problem)

    def add_all(self, path: Path, complaints: Iterable[tuple[Path, str, str]]) -> None:
        """Note what a shape complains of in the value at path."""
        for inner, message, hint in complaints:
            self.add((*path, *inner), message, hint)

    def check_names(
        self, raw: Mapping[Any, Any], path: Path, known: Collection[str], former: Mapping[str, str]
    ) -> None:
        """Note every field that does not exist, with the nearest that does. former: names of old, and today's."""
        for word in raw:
            if word not in known:
                near = former.get(word) or (nearest(word, known) if len(self.found) < MOST else "")
                self.add((*path, word), "there is no such field", f"did you mean {near!r}?" if near else "")

    def check(self) -> None:
        """InvalidTask if there are any, in the order of the file."""
        if not self.found:
            return
        told = sorted(self.found, key=lambda problem: (problem.line or 0, problem.column or 0))
        if self.untold:
            told.append(Problem(f"and {self.untold} more problems"))
        raise InvalidTask(told)

    def _where(self, path: Path) -> tuple[int | None, int | None]:
        line, column, places = None, None, self.places
        for step in path:
            if step not in places:
                break
            line, column, places = places[step]
        return line, column


def dotted(path: Path) -> str:
    """resources.any_of[0].cpus"""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{short(step)}"
    return text


def short(word: str) -> str:
    """A word as a message repeats it: cut where it is long, on one line."""
    cut = word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"
    return cut if cut.isprintable() else repr(cut)[1:-1]


def nearest(word: str, known: Collection[str]) -> str:
    """The name that somebody may have meant, or ""."""
    if len(word) > LONGEST:
        return ""
    import difflib  # here, since a file without faults does not need it

    public = [name for name in known if not name.startswith("_")]
    return next(iter(difflib.get_close_matches(word, public, 1)), "")


def told(value: Any) -> str:
    """A value as a message names it: what it is where it is large, else as it is written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{short(value)}'"
    if isinstance(value, (int, float)):
        return short(str(value))
    return kind(value)


def kind(value: Any) -> str:
    """What kind of value it is, where the value itself must not be told."""
    if isinstance(value, (bool, int, float)):
        return "true or false" if isinstance(value, bool) else "a number"
    if isinstance(value, str):
        return "text"
    return "nothing" if value is None else "a list" if isinstance(value, list) else "a mapping"
