"""exec: submit a task file or a command."""

from __future__ import annotations

from typing import Any

import click

from skyspool.submitting import Entrypoint, options, submit


@click.command("exec", cls=Entrypoint)
@options
def command(**values: Any) -> int:
    """Submit a task file or a command."""
    return submit(values, keep_setup=False)
