"""Reading the simplest command lines of `queue`, `exec` and `launch` without click, whose import takes a fifth of what
`queue` takes, and a quarter of what `exec` takes.

This reader is never wrong, it only gives up: what it is not sure of, errors and help too, click reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

FORMATS = ("table", "json")
COMPLETES = "_SKYSPOOL_COMPLETE"  # in the environment: a shell asks for words

# For each verb: what its plain words are called, and what each option is called. As in verbs/queue.py and options.py.
_QUEUE = {
    "-s": "skip_finished", "--skip-finished": "skip_finished", "-u": "all_users", "--all-users": "all_users",
    "-o": "output", "--output": "output",
}  # fmt: skip
_SUBMIT = {
    "-c": "cluster", "--cluster": "cluster", "-d": "detach", "--detach": "detach", "--detach-run": "detach",
    "-n": "name", "--name": "name", "--workdir": "workdir", "--gpus": "gpus", "--cpus": "cpus", "--memory": "memory",
    "--env": "env", "--env-file": "env_file", "--secret": "secret", "--secret-file": "secret_file",
    "--wait": "wait", "--no-wait": "no_wait", "--async": "asynchronous", "--dryrun": "dryrun",
}  # fmt: skip
_VERBS = {"queue": ("clusters", _QUEUE), "exec": ("words", _SUBMIT), "launch": ("words", _SUBMIT)}


def _unsaid(verb: str) -> dict[str, Any]:
    """What holds where no option says otherwise: False for a flag, () for what may be said often."""
    if verb == "queue":
        return {"skip_finished": False, "all_users": False, "output": "table"}
    texts = ("cluster", "name", "workdir", "git_url", "git_ref", "num_nodes", "gpus", "cpus", "memory", "env_file",
             "secret_file")  # fmt: skip
    flags = ("detach", "attach", "wait", "no_wait", "asynchronous", "yes", "dryrun")
    more = {"no_setup": False} if verb == "launch" else {}
    return {**dict.fromkeys(texts), **dict.fromkeys(flags, False), "env": (), "secret": (), **more}


def read(line: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The verb, and what its options and words are, by the names by which click gives them; None: click has to read."""
    if not line or line[0] not in _VERBS or COMPLETES in os.environ:
        return None
    verb = line[0]
    called, names = _VERBS[verb]
    values = _unsaid(verb)
    words: list[str] = []
    left = iter(line[1:])
    for word in left:
        if word == "--" and names is _SUBMIT:
            words += left
        elif not word.startswith("-"):
            words.append(word)
        elif word not in names or not _take(values, names[word], left):
            return None
    if "" in words or values.get("output", "table") not in FORMATS:
        return None
    return verb, {**values, called: tuple(words)}


def _take(values: dict[str, Any], name: str, left: Iterator[str]) -> bool:
    """Take in one option, with the word that belongs to it. False: that is not there, or may be an option."""
    if values[name] is False or values[name] is True:
        values[name] = True
        return True
    said = next(left, "")
    values[name] = (*values[name], said) if isinstance(values[name], tuple) else said
    return bool(said) and not said.startswith("-")
