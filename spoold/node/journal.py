"""What a node began, in `begun` of its local directory: one line of JSON an attempt, with the version that named it.

Nobody reads it until the spool went back in time (spoold/restored.py): then the runner tells in status.json which
attempts it began later than what stands there, and, if the spool was recovered without this node, whose those are that
it runs and that the head does not name. It is written before the attempt is ordered, so that nothing runs that
is not in it. The last hundred thousand or so are kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from spool_layout.records import Assignment, Remnant
from spoold.node.workplace import Workplace, write_text

LONGEST = 16 << 20  # bytes; then the older half is dropped


def note(place: Workplace, assignment: Assignment, version: tuple[int, int]) -> None:
    """An attempt is about to be ordered."""
    a = assignment
    line = {"version": version, "id": a.id, "attempt": a.attempt, "name": a.name, "user": a.user, "uid": a.uid}
    path = _path(place)
    write_text(path, json.dumps(line) + "\n", how=os.O_APPEND)
    if os.stat(path).st_size > LONGEST:
        _shorten(path)


def later_than(place: Workplace, version: tuple[int, int]) -> list[Remnant]:
    """The attempts that were begun by a later version than this one, each once, as they were begun."""
    return list({(told.id, told.attempt): told for begun, told in _begun(place) if begun > version}.values())


def of(place: Workplace, keys: set[str]) -> list[Remnant]:
    """What is known of these attempts."""
    return list({key: told for _, told in _begun(place) if (key := f"{told.id}.{told.attempt}") in keys}.values())


def _begun(place: Workplace) -> Iterator[tuple[tuple[int, int], Remnant]]:
    for line in _lines(_path(place)):
        try:
            told = json.loads(line)
            epoch, number = told["version"]
            yield (
                (epoch, number),
                Remnant(told["id"], told["attempt"], name=told["name"], user=told["user"], uid=told["uid"]),
            )
        except (ValueError, TypeError, LookupError):
            continue  # a line that a crash cut: its attempt was not ordered


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
