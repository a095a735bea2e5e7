"""launch: submit a task file or a command, with its setup. It never makes machines."""

from __future__ import annotations

from typing import Any

import click

from skyspool.options import Entrypoint, carry_out, options


@click.command("launch", cls=Entrypoint)
@options
@click.option("--no-setup", is_flag=True, help="Skip the setup commands.")
def command(**values: Any) -> int:
    """Submit a task file or a command; its setup runs first, on each of its nodes.

    Without -d its output is shown until it ends, and the exit code says how: 0 succeeded, 100 failed, 103 cancelled.
    Options of your own COMMAND go behind `--`. No machine is ever made: CLUSTER must exist.
    """
    return carry_out(values)
