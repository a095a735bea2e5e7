"""Every command line, as click reads it. One verb is one file in skyspool/verbs/, imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from spool_layout.errors import UsageError

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


def misread(error: click.UsageError) -> UsageError:
    """What click says of a command line, in our words: what is wrong, then the command that tells what is right."""
    message = error.format_message().rstrip(".").replace(". (Did you", " (did you")
    verb = error.ctx.command_path if error.ctx else "skyspool"
    of_a_command = verb.endswith(("exec", "launch")) and isinstance(error, click.NoSuchOption)
    more = "      # options of your own command go behind `--`" if of_a_command else ""
    return UsageError(message[:1].lower() + message[1:], f"{verb} --help{more}")


def carry_out(words: Sequence[str]) -> int:
    """Run one command line; the exit code of its verb. UsageError, KeyboardInterrupt, BrokenPipeError."""
    try:
        return int(cli.main(args=words, prog_name="skyspool", standalone_mode=False) or 0)
    except click.UsageError as error:
        raise misread(error) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except ReaderGone as error:
        raise BrokenPipeError from error
