"""The command line of the daemons, `spoold head DIR` and `spoold node DIR`, and of what mends their spool."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from spool_layout.errors import EXIT_IO, SpoolError


class _Commands(click.Group):
    """Tells a SpoolError as people read it: what, where, and a hint."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpoolError as error:
            print(f"spoold: {error.message}", file=sys.stderr)
            if error.hint:
                print(f"hint: {error.hint}", file=sys.stderr)
            sys.exit(error.exit_code)
        except OSError as error:
            print(f"spoold: {error.filename or ''}: {error.strerror or error}".replace(": : ", ": "), file=sys.stderr)
            sys.exit(EXIT_IO)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skyspool")
@click.option("-v", "--verbose", is_flag=True, help="Tell more.")
@click.option("-q", "--quiet", is_flag=True, help="Tell warnings and errors only.")
def main(verbose: bool, quiet: bool) -> None:
    """The daemons of a spool: the head decides, a node runs."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname).1s %(message)s")
    logging.getLogger("filelock").setLevel(logging.WARNING)


@main.command()
@click.argument("directory", metavar="DIR")
@click.option("--once", is_flag=True, help="One round, then end: for cron.")
@click.option("--force", is_flag=True, help="Lead even where the file system is unsafe for a spool.")
@click.option(
    "--state",
    metavar="DIR",
    help="Where this host keeps what it remembers (default: /var/lib/skyspool, or /var/tmp/skyspool-UID).",
)
def head(directory: str, once: bool, force: bool, state: str | None) -> None:
    """Claim what is dropped, give out slots, write down what happened.

    Any number of heads may be started, on any hosts: one leads, the others stand by.
    """
    from spoold.head.loop import run_head

    sys.exit(run_head(directory, once=once, state=state, force=force))


@main.command()
@click.argument("directory", metavar="DIR")
@click.option("--once", is_flag=True, help="One round, then end: for cron.")
@click.option("--name", metavar="NODE", help="The node's name (default: the host's).")
@click.option("--gpus", metavar="SPEC", help="What to offer, e.g. H100:8, A100:2,L4:1 or none (default: ask NVML).")
@click.option("--cpus", type=float, metavar="N", help="CPUs to offer (default: all).")
@click.option("--memory", type=float, metavar="GB", help="Memory to offer (default: all).")
@click.option("--address", metavar="IP", help="The address that other nodes reach this one by.")
@click.option("--state", metavar="DIR", help="Where this host keeps what it remembers.")
def node(
    directory: str,
    once: bool,
    name: str | None,
    gpus: str | None,
    cpus: float | None,
    memory: float | None,
    address: str | None,
    state: str | None,
) -> None:
    """Run on this host what the head assigns to it."""
    from spoold.node.runner import run_node

    sys.exit(
        run_node(directory, once=once, name=name, gpus=gpus, cpus=cpus, memory_gb=memory, address=address, state=state)
    )


@main.command()
@click.argument("directory", metavar="DIR")
@click.option("--repair", is_flag=True, help="Mend what can be mended; no head may lead meanwhile.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to tell it.")
def fsck(directory: str, repair: bool, output: str) -> None:
    """Check a spool, live or dead; changes nothing, unless it is to repair."""
    from spoold.fsck.checking import run_fsck

    sys.exit(run_fsck(directory, repair=repair, output=output))


@main.command()
@click.argument("directory", metavar="DIR")
@click.option("--without", multiple=True, metavar="NODE", help="A node that cannot say what it ran (repeat it).")
@click.option("--force", is_flag=True, help="Even where nothing tells that the spool went back in time.")
@click.option("--state", metavar="DIR", help="Where this host keeps what it remembers.")
def recover(directory: str, without: tuple[str, ...], force: bool, state: str | None) -> None:
    """Go on with a spool that was restored from a backup."""
    from spoold.fsck.restoring import run_recover

    sys.exit(run_recover(directory, without=without, force=force, state=state))


if __name__ == "__main__":
    main()
