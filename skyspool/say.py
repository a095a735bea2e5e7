"""Telling things to people: data on stdout; notes and hints on stderr, so that stdout can be piped.

What is told may hold words of others: names of files and jobs, reasons, what a node says of itself. Nothing in them
reaches a terminal but what can be printed: no escape sequence, no name that looks like another line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice


def clean(text: str) -> str:
    """A text without what is no character to be seen; its lines stay lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def _write(text: str, err: bool = False) -> None:
    """One line, at once. To nobody where the stream is closed; `?` for what the locale has no letter for."""
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        print(text.encode(stream.encoding, "replace").decode(stream.encoding), file=stream, flush=True)


def tell(text: str) -> None:
    """Lines of data."""
    _write(clean(text))


def note(text: str) -> None:
    """One line about what happened or what to know."""
    _write(clean(text), err=True)


def hint(command: str) -> None:
    """A command that can be run."""
    _write(f"hint: {clean(command)}", err=True)


def show_json(data: object) -> None:
    """Print data as JSON on stdout, indented, in ASCII."""
    _write(_json(data))


def show_lists(told: Mapping[str, Iterable[object]]) -> None:
    """Print lists by their names as show_json would, some items at a time: a text of megabytes takes longer to find
    room for than to make."""
    if sys.stdout is not None:
        for text in _pieces(told):
            print(text, end="")
        print(flush=True)


AT_ONCE = 50  # items: some 40 KB


def _pieces(told: Mapping[str, Iterable[object]]) -> Iterator[str]:
    between = "{\n  "
    for name, items in told.items():
        yield f"{between}{_json(name)}: ["
        between, comma, left = ",\n  ", "", iter(items)
        while some := list(islice(left, AT_ONCE)):
            yield comma + _json({"": some})[len('{\n  "": [') : -len("\n  ]\n}")]
            comma = ","
        yield "\n  ]" if comma else "]"
    yield "\n}"


def _json(data: object) -> str:
    import msgspec

    try:
        return msgspec.json.format(msgspec.json.encode(data), indent=2).decode("ascii")
    except UnicodeError:  # what is no ASCII, or no text at all, as bytes of a name that are no UTF-8
        import json  # 300 ms for 2,000 jobs, where msgspec takes 5

        return json.dumps(msgspec.to_builtins(data), indent=2)
