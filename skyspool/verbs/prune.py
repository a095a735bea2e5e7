"""prune: remove what is left of my jobs that ended long ago.

What the head prunes by itself, once a day, is what `keep:` in spool.yaml says.
"""

from __future__ import annotations

import click

from skyspool.clusters import default, named
from spool_layout.remains import Piece


@click.command("prune")
@click.argument("cluster", required=False)
@click.option("--older", default="30d", show_default=True, metavar="AGE", help="What is older: 90d, 12h.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
def command(cluster: str | None, older: str, dry_run: bool) -> int:
    """Remove old task files, logs and rejected files of mine; never of a live job."""
    from skyspool import heads, jobs, pruning
    from skyspool.ages import parse
    from skyspool.present import look
    from skyspool.room import amount
    from spool_layout.storage import Disk

    disk, target = Disk(), named(cluster) if cluster else default()
    limit = heads.server_now(target.spool, disk) - parse(older)
    found = pruning.victims(target.spool, disk, look(target, disk).state, limit, jobs.me())
    if dry_run:
        found = (_tell(piece) for piece in found)
    done = pruning.prune(disk, found, really=not dry_run)
    verb = "Would remove" if dry_run else "Removed"
    click.echo(f"{verb} {done.files} files, {amount(done.size)}, older than {older}, of {target.name}.")
    for path in done.failed:
        click.echo(f"note: {path} could not be removed", err=True)
    if done.more:
        click.echo("note: there is more; run it again", err=True)
    return 1 if done.failed else 0


def _tell(piece: Piece) -> Piece:
    """Print a path that would be removed."""
    if not piece.is_dir:
        click.echo(piece.path)
    return piece
