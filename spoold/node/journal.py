"""What a node began, in `begun` of its local directory: one line of JSON an attempt, with the version that named it.

Nobody reads it until the spool went back in time (spoold/restored.py): then the runner tells in status.json which
attempts it began later than what stands there. It is written before the attempt is ordered, so that nothing runs that
is not in it. The last hundred thousand or so are kept.
"""

from __future__ import annotations

import json
import os

from spool_layout.records import Assignment, Remnant
from spoold.node.workplace import Workplace

LONGEST = 16 << 20  # bytes; then the older half is dropped


def note(place: Workplace, assignment: Assignment, version: tuple[int, int]) -> None:
    """An attempt is about to be ordered."""
    a = assignment
    line = {"version": version, "id": a.id, "attempt": a.attempt, "name": a.name, "user": a.user, "uid": a.uid}
    path = _path(place)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        size = file.tell()
    if size > LONGEST:
        _shorten(path)


def later_than(place: Workplace, version: tuple[int, int]) -> list[Remnant]:
    """The attempts that were begun by a later version than this one, each once, as they were begun."""
    found: dict[tuple[int, int], Remnant] = {}
    for line in _lines(_path(place)):
        try:
            told = json.loads(line)
            if tuple(told["version"]) > version:
                key = told["id"], told["attempt"]
                found[key] = Remnant(*key, name=told["name"], user=told["user"], uid=told["uid"])
        except (ValueError, TypeError, LookupError):
            continue  # a line that a crash cut: its attempt was not ordered
    return list(found.values())


def _path(place: Workplace) -> str:
    return os.path.join(place.path, "begun")


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except FileNotFoundError:
        return []


def _shorten(path: str) -> None:
    lines = _lines(path)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.writelines(lines[len(lines) // 2 :])
    os.replace(f"{path}.new", path)
