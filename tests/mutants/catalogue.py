"""What is taken away from the code, one at a time: catalogue.txt as data.

It has every fsync, every check of an epoch, a version or an incarnation, every check of a link count, and every order
of two steps of which a cut in between may be seen; and what is kept beside the state, by which it is asked. An entry is

    GROUP: NAME
    without: what is taken away
    in: FILE
    ask: the tests to ask until one goes red, the cheap ones first
    story: the stories of kills, power losses or simulated faults to ask as well, until one goes red; or: none, WHY
    (a change as diff(1) writes it: lines that go with -, that come with +, that stay with a space)

Only an fsync and an order of steps have `story`: what they are for is a moment between two steps, and a test that looks
at the calls one by one does not show that such a moment matters.

The lines that go and that stay, together, stand exactly once in the file. Entries are separated by an empty line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

GROUPS = ("fsync", "epoch", "links", "order", "state")
TEXT = Path(__file__).with_name("catalogue.txt")
NONE = "none, "
ENTRY = re.compile(rf"({'|'.join(GROUPS)}): (\S+)\nwithout: (.*)\nin: (.*)\nask: (.*)\n(?:story: (.*)\n)?((?:.*\n)+)")


class Mutant(NamedTuple):
    """One of GROUPS, a name, what is taken away, where, the tests; `new` stands in place of `old`. story: tests, or
    why there is none."""

    group: str
    name: str
    what: str
    file: str
    tests: tuple[str, ...]
    old: str
    new: str
    stories: tuple[str, ...] = ()
    without_story: str = ""


def parse(text: str) -> list[Mutant]:
    """The entries of a catalogue. ValueError for one that cannot be read."""
    found = []
    for entry in re.split(rf"\n\n(?=(?:{'|'.join(GROUPS)}): )", text.rstrip("\n")):
        match = ENTRY.fullmatch(f"{entry}\n")
        if match is None:
            raise ValueError(f"cannot be read: {entry}")
        group, name, what, file, tests, story, change = match.groups()
        lines = change.splitlines(keepends=True)
        old = "".join(line[1:] or line for line in lines if line[0] in " -\n")
        new = "".join(line[1:] or line for line in lines if line[0] in " +\n")
        why = story.removeprefix(NONE) if story and story.startswith(NONE) else ""
        stories = () if why else tuple((story or "").split())
        found.append(Mutant(group, name, what, file, tuple(tests.split()), old, new, stories, why))
    return found


MUTANTS = parse(TEXT.read_text(encoding="utf-8"))
