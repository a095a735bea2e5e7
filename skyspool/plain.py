"""Reading the simplest YAML without a YAML parser: `key: value` lines, and one level of them below a key.

spool.yaml and config.yaml, as `init` writes them and as most people leave them, are nothing else; importing a YAML
parser would cost each `queue` more than all of its own work. What is not that simple gives None here, and the caller
takes the real parser: this reader is never wrong, it only gives up.
"""

from __future__ import annotations

import re

Simple = dict[str, "str | dict[str, str]"]

_LINE = re.compile(
    r"""^(?P<indent>[ ]*)(?P<key>[A-Za-z][A-Za-z0-9._-]*):
                       (?:[ ]+(?P<value>[A-Za-z0-9/~.][A-Za-z0-9/~._+@=,-]*(?:[ ][A-Za-z0-9/~._+@=,-]+)*))?
                       [ ]*(?:[ ]\#.*)?$""",
    re.VERBOSE,
)
_NOTHING = re.compile(r"^\s*(?:#.*)?$")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


def read(data: bytes) -> Simple | None:
    """The mapping, each value as it is written; None where the text is not that simple."""
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    found: Simple = {}
    below: dict[str, str] | None = None
    for line in lines:
        if _NOTHING.match(line):
            continue
        match = _LINE.match(line)
        value = (match["value"] or "") if match else ""
        if not match or value in _NULLS - {""} or not _place(found, below, match["indent"], match["key"], value):
            return None
        if not match["indent"]:
            child = found[match["key"]]
            below = child if isinstance(child, dict) else None
    return found


def _place(found: Simple, below: dict[str, str] | None, indent: str, key: str, value: str) -> bool:
    """Put one line where it belongs. False: it is not that simple."""
    if indent:
        if below is None or key in below or not value or len(indent) != 2:
            return False
        below[key] = value
    else:
        if key in found:
            return False
        found[key] = value or {}
    return True
