"""lint: check task files without submitting them; all problems at once, with line and column."""

from __future__ import annotations

import click


@click.command("lint")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--env", multiple=True, metavar="KEY[=VALUE]", help="A value that the file leaves open.")
@click.option("--env-file", help="File of KEY=VALUE lines.")
@click.option("--dropped", is_flag=True, help="Check it as a file that is dropped by hand: workdir must be absolute.")
def command(files: tuple[str, ...], env: tuple[str, ...], env_file: str | None, dropped: bool) -> int:
    """Check task FILEs. Exit code 0: all are tasks; 1: some are not."""
    from skyspool import variables
    from skyspool.say import note
    from skyspool.task import placed
    from spool_layout.taskfile import InvalidTask, parse_task

    values = variables.gather(env, env_file, (), None).all()
    bad = False
    for path in files:
        try:
            with open(path, "rb") as file:
                spec = parse_task(file.read(), overrides=values, require_absolute_workdir=dropped)
        except OSError as error:
            click.echo(f"{path}: {error.strerror}")
            bad = True
        except InvalidTask as error:
            for problem in error.problems:
                click.echo(placed(path, problem))
            bad = True
        else:
            note(f"{path}: is a task" + (f"; ignored: {', '.join(spec.ignored)}" if spec.ignored else ""))
    return 1 if bad else 0
