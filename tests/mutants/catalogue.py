"""What is taken away from the code, one at a time: catalogue.txt as data.

It has every fsync, every check of an epoch, a version or an incarnation, every check of a link count, and every order
of two steps of which a cut in between may be seen. An entry is

    GROUP: NAME
    without: what is taken away
    in: FILE
    ask: the tests to ask until one goes red, the cheap ones first
    (a change as diff(1) writes it: lines that go with -, that come with +, that stay with a space)

The lines that go and that stay, together, stand exactly once in the file. Entries are separated by an empty line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

GROUPS = ("fsync", "epoch", "links", "order")
TEXT = Path(__file__).with_name("catalogue.txt")
ENTRY = re.compile(rf"({'|'.join(GROUPS)}): (\S+)\nwithout: (.*)\nin: (.*)\nask: (.*)\n((?:.*\n)+)")


class Mutant(NamedTuple):
    """One of GROUPS, a name, what is taken away, where, the tests; `new` stands in place of `old`."""

    group: str
    name: str
    what: str
    file: str
    tests: tuple[str, ...]
    old: str
    new: str


def parse(text: str) -> list[Mutant]:
    """The entries of a catalogue. ValueError for one that cannot be read."""
    found = []
    for entry in re.split(rf"\n\n(?=(?:{'|'.join(GROUPS)}): )", text.rstrip("\n")):
        match = ENTRY.fullmatch(f"{entry}\n")
        if match is None:
            raise ValueError(f"cannot be read: {entry}")
        group, name, what, file, tests, change = match.groups()
        lines = change.splitlines(keepends=True)
        old = "".join(line[1:] or line for line in lines if line[0] in " -\n")
        new = "".join(line[1:] or line for line in lines if line[0] in " +\n")
        found.append(Mutant(group, name, what, file, tuple(tests.split()), old, new))
    return found


MUTANTS = parse(TEXT.read_text(encoding="utf-8"))
