"""Reading the simplest command lines of `queue` without click, whose import takes a fifth of what `queue` takes.

This reader is never wrong, it only gives up: what it is not sure of, errors and help too, click reads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

FLAGS = {"-s": "s", "--skip-finished": "s", "-u": "u", "--all-users": "u"}
OUTPUT = ("-o", "--output")
FORMATS = ("table", "json")
COMPLETES = "_SKYSPOOL_COMPLETE"  # in the environment: a shell asks for words


class Queue(NamedTuple):
    """What queueing.show is asked."""

    clusters: tuple[str, ...] = ()
    skip_finished: bool = False
    all_users: bool = False
    output: str = "table"


def read(words: Sequence[str]) -> Queue | None:
    """What a `queue` asks for; None: click has to read it."""
    if not words or words[0] != "queue" or COMPLETES in os.environ:
        return None
    clusters, flags, output = [], set(), "table"
    left = iter(words[1:])
    for word in left:
        if word in FLAGS:
            flags.add(FLAGS[word])
        elif word in OUTPUT:
            output = next(left, "")
        elif not word or word.startswith("-"):
            return None
        else:
            clusters.append(word)
    return Queue(tuple(clusters), "s" in flags, "u" in flags, output) if output in FORMATS else None
