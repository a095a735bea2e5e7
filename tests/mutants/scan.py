"""Which safeguards the code has: found in its text, so that none is forgotten when one is added.

A finding is a file, its lines and the text there. Orders of steps cannot be found like that; they are listed by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ROOMS = ("spool_layout", "spoold", "skyspool")
SYNC = re.compile(r"^(os\.fsync|os\.fdatasync|.*\.syncfs|[\w.]*\bdisk\.sync(_all|_file)?|self\.sync)$")
EPOCH = re.compile(r"epoch|\.version\b|\.seen\b|seen\[0\]|found < seen|incarnation|lapses|awaited|\btop\b|newest [>=]")
LINKS = re.compile(r"st_nlink|\.links\b")


class Safeguard(NamedTuple):
    """One place. first, last: lines."""

    group: str
    file: str
    first: int
    last: int
    text: str


def safeguards() -> Iterator[Safeguard]:
    """Every fsync, every comparison of epochs, versions and incarnations, every comparison of link counts."""
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        text = path.read_bytes()
        lines = text.splitlines(keepends=True)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call | ast.Compare) and (group := _group(node, lines)):
                file, last = str(path.relative_to(ROOT)), node.end_lineno or node.lineno
                yield Safeguard(group, file, node.lineno, last, _segment(node, lines))


def _group(node: ast.Call | ast.Compare, lines: list[bytes]) -> str:
    if isinstance(node, ast.Call):
        called = _segment(node.func, lines)
        return "fsync" if SYNC.match(called) else "epoch" if called.endswith("epoch.check") else ""
    if all(isinstance(way, ast.Is | ast.IsNot) for way in node.ops):
        return ""
    told = _segment(node, lines)
    return "links" if LINKS.search(told) else "epoch" if EPOCH.search(told) else ""


def _segment(node: ast.expr, lines: list[bytes]) -> str:
    """The text of a node; ast's own function splits the whole text each time."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    found = lines[node.lineno - 1 : node.end_lineno]
    found[-1] = found[-1][: node.end_col_offset]
    found[0] = found[0][node.col_offset :]
    return b"".join(found).decode()


def lines_of(file: str, old: str) -> range:
    """The lines of a file in which a text stands that it has once; none where it does not."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if old not in text:
        return range(0)
    first = text[: text.index(old)].count("\n") + 1
    return range(first, first + old.rstrip("\n").count("\n") + 1)
