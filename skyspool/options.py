"""The options that `exec` and `launch` share, as click reads them. What is typed most of them is read without this: see
shortcut.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from skyspool.submitting import submit

# options that only mean something in a cloud: taken, and told once
CLOUD_VALUES = (
    "--infra",
    "--cloud",
    "--region",
    "--zone",
    "--instance-type",
    "--image-id",
    "--network-tier",
    "--disk-size",
    "--disk-tier",
    "--local-disk",
    "--ports",
    "--config",
    "--priority",
    "--idle-minutes-to-autostop",
    "--wait-for",
    "--clone-disk-from",
    "--clone",
    "--workspace",
)
CLOUD_FLAGS = ("--use-spot/--no-use-spot", "--down", "--retry-until-up", "--resize", "--fast", "--docker")
SHORT = {"--instance-type": "-t", "--idle-minutes-to-autostop": "-i", "--retry-until-up": "-r", "--workspace": "-w"}

F = TypeVar("F", bound=Callable[..., Any])


def options(function: F) -> F:
    """All options that exec and launch share."""
    for decorate in reversed(_shared()):
        function = decorate(function)
    return function


def _shared() -> list[Callable[[F], F]]:
    option = click.option
    return [
        click.argument("words", nargs=-1, metavar="[CLUSTER] [FILE | -- COMMAND...]"),
        option("-c", "--cluster", metavar="CLUSTER", help="The spool; then all words are the task's."),
        option("-d", "--detach-run", "--detach", "detach", is_flag=True, help="Return once submitted."),
        option("-no-d", "--no-detach-run", "attach", is_flag=True, hidden=True),
        option("-n", "--name", metavar="NAME", help="Name of the job."),
        option("--workdir", metavar="DIR", help="Where to run.  [default: the task's workdir, else this directory]"),
        option("--git-url", metavar="URL", help="Repository to clone and run in."),
        option("--git-ref", metavar="REF", help="Its branch, tag or commit."),
        option("--num-nodes", metavar="N", type=click.IntRange(min=1), help="On how many nodes at once."),
        option("--gpus", metavar="SPEC", help="Of each node: H100:8, H100 (one), H100:0.5, none."),
        option("--cpus", metavar="N", help="CPUs of each node."),
        option("--memory", metavar="GB", help="Memory of each node."),
        option("--env", multiple=True, metavar="KEY[=VALUE]", help="A variable of the job; KEY alone: as it is here."),
        option("--env-file", metavar="FILE", help="File of KEY=VALUE lines."),
        option("--secret", multiple=True, metavar="KEY[=VALUE]", help="As --env; never shown."),
        option("--secret-file", metavar="FILE", help="File of KEY=VALUE lines, never shown."),
        option("--wait", is_flag=True, help="Submit even what no known node could serve."),
        option("--no-wait", is_flag=True, help="Do not wait for the ID."),
        option("--async/--no-async", "asynchronous", default=False, help="As --no-wait -d."),
        option("-y", "--yes", is_flag=True, hidden=True),
        option("--dryrun", is_flag=True, help="Show what would be submitted."),
        *(option(name, *([SHORT[name]] if name in SHORT else []), _key(name), hidden=True) for name in CLOUD_VALUES),
        *(
            option(name, *([SHORT[name]] if name in SHORT else []), _key(name), is_flag=True, default=None, hidden=True)
            for name in CLOUD_FLAGS
        ),
    ]


def _key(option: str) -> str:
    return "cloud_" + option.split("/")[0].strip("-").replace("-", "_")


def ignored_options(values: dict[str, Any]) -> list[str]:
    """The cloud options that were given, as they were typed."""
    return [name.split("/")[0] for name in (*CLOUD_VALUES, *CLOUD_FLAGS) if values.get(_key(name)) is not None]


# ---- the command


class Entrypoint(click.Command):
    """A command that knows what was typed: click itself drops `--`, and so how many words stand behind it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember it."""
        ctx.meta["typed"] = list(args)
        return super().parse_args(ctx, args)


def carry_out(values: dict[str, Any]) -> int:
    """Submit what click has read."""
    context = click.get_current_context()
    return submit(str(context.info_name), context.meta["typed"], values, ignored_options(values))
