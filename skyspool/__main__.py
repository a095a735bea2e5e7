"""skyspool: the command line. One verb is one file in skyspool/verbs/, imported when it is called.

What goes wrong is told on stderr in up to three parts: what, where, and a `hint:` with a command that can be run.
Exit codes: those of the verb; 2 for a command line that cannot be read; 130 after Ctrl-C; else the error's own
(spool_layout/errors.py).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from spool_layout.errors import SpoolError, UsageError

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
    "doctor": "Measure whether a directory can hold a spool.",
    "prune": "Remove what is left of jobs that ended long ago.",
    "demo": "Play a short story with four simulated GPUs.",
}
# what other queues call it -> what it is here
ELSEWHERE = {
    **dict.fromkeys(("run", "submit", "sbatch", "srun", "qsub", "bsub", "add", "enqueue", "start"), "exec"),
    **dict.fromkeys(("ls", "list", "ps", "jobs", "squeue", "sacct", "qstat", "bjobs"), "queue"),
    **dict.fromkeys(("stop", "kill", "rm", "remove", "delete", "scancel", "qdel", "bkill"), "cancel"),
    **dict.fromkeys(("log", "tail", "follow", "output", "attach", "wait"), "logs"),
    **dict.fromkeys(("nodes", "gpus", "sinfo", "show-gpus", "info", "top"), "status"),
    **dict.fromkeys(("explain", "reason"), "why"),
    **dict.fromkeys(("check", "validate"), "lint"),
    **dict.fromkeys(("clean", "purge", "gc"), "prune"),
    "create": "init",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
OBJECTS = 100_000  # more of them than before, and what refers to itself alone is looked for: for `logs -f` and the like
BROKEN_PIPE = 141  # 128 + SIGPIPE


class ReaderGone(Exception):
    """Whoever read our stdout has gone, as in `skyspool queue | head`: no error, and nobody to tell."""


class Verbs(click.Group):
    """The group of all verbs; each is imported when it is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but for a closed pipe, which click would end with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error

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
        """As click does; for a word that is no verb, with the one that was meant."""
        name = args[0]
        if not name.startswith("-") and name not in VERBS:
            near = nearest_verb(name)
            ctx.fail(f"there is no verb {name!r}" + (f"; did you mean {near!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing one."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def nearest_verb(name: str) -> str:
    """The verb that was meant: what other queues call so, or else what is written almost so; or ""."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), (*VERBS, *ELSEWHERE), 1)
    return ELSEWHERE.get(near[0], near[0]) if near else ""


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"skyspool {version('skyspool')}")
        ctx.exit()


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Tell the version.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A GPU batch queue that lives in one directory."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def tell(error: SpoolError) -> None:
    """An error as people read it, on stderr."""
    from skyspool.say import hint, note

    note(f"error: {error.message}")
    if error.hint:
        hint(error.hint)


def misread(error: click.UsageError) -> UsageError:
    """What click says of a command line, in our words: what is wrong, then the command that tells what is right."""
    message = error.format_message().rstrip(".").replace(". (Did you", " (did you")
    verb = error.ctx.command_path if error.ctx else "skyspool"
    of_a_command = verb.endswith(("exec", "launch")) and isinstance(error, click.NoSuchOption)
    more = "      # options of your own command go behind `--`" if of_a_command else ""
    return UsageError(message[:1].lower() + message[1:], f"{verb} --help{more}")


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    try:
        code = int(cli.main(args=args, prog_name="skyspool", standalone_mode=False) or 0)
        sys.stdout.flush()
        return code
    except SpoolError as error:
        tell(error)
        return error.exit_code
    except click.UsageError as error:
        tell(misread(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("", err=True)
        return INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return BROKEN_PIPE
    except OSError as error:
        from skyspool.say import note

        where = f"{error.filename}: " if error.filename else ""
        note(f"error: {where}{error.strerror or error}")
        return 1


def run() -> NoReturn:
    """Be the command `skyspool`: a short life. What it made is not cleaned up one by one, neither on the way (a tenth
    of the time of `queue`) nor at the end (another tenth): the system takes it all."""
    gc.set_threshold(OBJECTS)
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # of what was told before an error, to somebody who is gone or a disk that is full
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
