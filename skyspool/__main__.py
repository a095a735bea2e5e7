"""skyspool: the command line. One verb is one file in skyspool/verbs/, imported when it is called.

What goes wrong is told on stderr in up to three parts: what, where, and a `hint:` with a command that can be run.
Exit codes: those of the verb; 2 for a command line that cannot be read; 130 after Ctrl-C; else the error's own
(spool_layout/errors.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from spool_layout.errors import SpoolError

# verb -> what the list of verbs says of it. Kept here, so that the list needs none of their modules.
VERBS = {
    "exec": "Submit a task file or a command; skips its setup.",
    "launch": "Submit a task file or a command; runs its setup first.",
    "queue": "Show jobs.",
    "logs": "Show what a job printed, or wait for its end.",
    "cancel": "Cancel jobs.",
    "status": "Show the head, the nodes and who holds which GPU.",
    "why": "Tell what a pending job waits for.",
    "lint": "Check task files without submitting them.",
    "up": "Start a head and a node on this machine.",
    "down": "Stop this machine's head and node.",
    "init": "Make a spool.",
    "use": "Name a spool as the default one.",
    "prune": "Remove what is left of jobs that ended long ago.",
    "demo": "Play a short story with four simulated GPUs.",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Verbs(click.Group):
    """The group of all verbs; each is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order in which people meet them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of one verb."""
        if name not in VERBS:
            return None
        command: click.Command = import_module(f"skyspool.verbs.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; for a word that is no verb, with the nearest one."""
        name = args[0]
        if not name.startswith("-") and name not in VERBS:
            from difflib import get_close_matches

            near = get_close_matches(name, VERBS, 1)
            ctx.fail(f"there is no verb {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing one."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"skyspool {version('skyspool')}")
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Tell the version.")
def cli() -> None:
    """A GPU batch queue that lives in one directory."""


def tell(error: SpoolError) -> None:
    """An error as people read it, on stderr."""
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    try:
        return int(cli.main(args=args, prog_name="skyspool", standalone_mode=False) or 0)
    except SpoolError as error:
        tell(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return BROKEN_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}", err=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
