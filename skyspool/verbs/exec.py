"""exec: submit a task file or a command; what `launch` prepares (setup, file_mounts) is skipped."""

from __future__ import annotations

from typing import Any

import click

from skyspool.options import Entrypoint, carry_out, options


@click.command("exec", cls=Entrypoint)
@options
def command(**values: Any) -> int:
    """Submit a task file or a command; its setup is skipped.

    Without -d its output is shown until it ends, and the exit code says how: 0 succeeded, 100 failed, 103 cancelled.
    Options of your own COMMAND go behind `--`.
    """
    return carry_out(values)
