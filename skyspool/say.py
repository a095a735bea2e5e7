"""What is told beside the data: notes and hints, on stderr, so that stdout can be piped."""

from __future__ import annotations

import click


def note(text: str) -> None:
    """One line about what happened or what to know."""
    click.echo(text, err=True)


def hint(command: str) -> None:
    """A command that can be run."""
    click.echo(f"hint: {command}", err=True)
