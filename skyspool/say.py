"""Telling things to people: data on stdout; notes and hints on stderr, so that stdout can be piped.

What is told may hold words of others: names of files and jobs, reasons, what a node says of itself. Nothing in them
reaches a terminal but what can be printed: no escape sequence, no name that looks like another line.
"""

from __future__ import annotations

import click


def clean(text: str) -> str:
    """A text without what is no character to be seen; its lines stay lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def tell(text: str) -> None:
    """Lines of data."""
    click.echo(clean(text))


def note(text: str) -> None:
    """One line about what happened or what to know."""
    click.echo(clean(text), err=True)


def hint(command: str) -> None:
    """A command that can be run."""
    click.echo(f"hint: {clean(command)}", err=True)


def show_json(data: object) -> None:
    """Print data as JSON on stdout, indented, in ASCII."""
    import msgspec

    try:
        text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode("ascii")
    except UnicodeError:  # what is no ASCII, or no text at all, as bytes of a name that are no UTF-8
        import json  # 300 ms for 2,000 jobs, where msgspec takes 5

        text = json.dumps(data, indent=2)
    click.echo(text)
