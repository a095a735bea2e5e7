"""What the words of `exec` and `launch` mean: which spool, and which task.

The first word is the spool if it names one, unless --cluster did; what follows is the task, which skyspool/task.py
reads. What was typed in the wrong order, or is more than can be used, is an error that tells the right command line:
run as a command it would fail on a node, later and less clearly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from skyspool.say import hint, note

if TYPE_CHECKING:
    from skyspool.clusters import Cluster


class Typed(NamedTuple):
    """A command line as it was typed. words: what stands behind the verb."""

    verb: str
    words: Sequence[str]

    @property
    def after(self) -> int | None:
        """How many words stand behind `--`; None: there is none."""
        return len(self.words) - self.words.index("--") - 1 if "--" in self.words else None


def place(words: tuple[str, ...], cluster: str | None, after: int | None) -> tuple[Cluster, tuple[str, ...]]:
    """(cluster, entrypoint). A first word that could only have been meant as a cluster, and is none, is an error."""
    from skyspool import clusters

    if cluster is not None:
        return clusters.named(cluster), words
    found = clusters.lookup(words[0]) if words else None
    if found is not None:
        return found, words[1:]
    if words and _meant_as_cluster(words, after):
        raise clusters.unknown(words[0])
    return clusters.default(), words


def _meant_as_cluster(words: tuple[str, ...], after: int | None) -> bool:
    """`NAME -- COMMAND` and `NAME FILE.yaml`, where NAME is no file and no program."""
    from skyspool.task import which
    from spool_layout.paths import TASK_ENDINGS

    if after is not None and len(words) == after + 1:
        return not os.path.isfile(words[0])
    return len(words) == 2 and words[1].endswith(TASK_ENDINGS) and os.path.isfile(words[1]) and which(words[0]) is None


def check_words(typed: Typed, cluster: Cluster, words: tuple[str, ...], named: bool) -> None:
    """UsageError for a task file that other words follow: they could only be lost. named: the cluster was."""
    from skyspool import clusters, task
    from spool_layout.errors import UsageError

    file = task.leading_file(words)
    if not file:
        return
    import shlex

    verb, place = f"skyspool {typed.verb}", f" {cluster.word}" if named else ""
    command = f"{verb}{place} -- {shlex.join(words)}      # if it is a command"
    if not os.path.exists(os.path.expanduser(file)):
        raise UsageError(f"there is no task file {file}", command)
    if len(words) == 2 and not named and clusters.lookup(words[1]) is not None:
        right = shlex.join([words[1], *_without(typed.words, words[1], file)])
        message = f"{file!r} was taken for the task, and {words[1]!r} for more of it: the cluster comes first"
        raise UsageError(message, f"{verb} {right}")
    told = ", ".join(map(repr, words[1:]))
    raise UsageError(
        f"{file!r} is a task file, and nothing can be done with what follows it: {told}",
        f"{verb}{place} {shlex.quote(file)}      # values for its envs: --env KEY=VALUE\n  or: {command}",
    )


def _without(typed: Sequence[str], word: str, behind: str) -> list[str]:
    """What was typed, without a word that follows another one."""
    at = typed.index(word, typed.index(behind))
    return [*typed[:at], *typed[at + 1 :]]


def tell_script(typed: Typed, cluster: Cluster, command: str) -> None:
    """How a script is run, where the command is one that bash will hardly find. SkyPilot takes it too: no error."""
    from skyspool import clusters
    from skyspool.task import script

    if name := script(command):
        note(f"note: {name} is a file here, but no program that bash finds and may run")
        hint(f"skyspool {typed.verb}{clusters.typed(cluster)} -- bash {command}      # runs it as a script")
